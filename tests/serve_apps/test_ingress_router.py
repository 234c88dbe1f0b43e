"""The ingress takes up a plan's learned router, and does without one that is gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.plan_builders import plan
from tests.router_builders import artefact, planned_router

pytestmark = pytest.mark.usefixtures("serve")


def test_an_artefact_that_is_gone_leaves_the_plans_shares(tmp_path: Path) -> None:
    from serve_apps.ingress import learned_router

    p = plan().model_copy(update={"router": planned_router(["m1"])})
    assert learned_router(p, tmp_path / "gone.npz") is None


def test_an_artefact_makes_a_learned_router(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from serve_apps import ingress

    def load(path: Path, pool: Any = None) -> Any:
        return artefact(["m1"], [[0.5]])

    monkeypatch.setattr(ingress, "load_artefact", load)
    p = plan().model_copy(update={"router": planned_router(["m1"])})
    made = ingress.learned_router(p, tmp_path / "router.npz")
    assert made is not None
    assert made.settings == p.router


def test_the_application_hands_the_files_to_the_ingress() -> None:
    from serve_apps.app import ingress_application
    from serve_apps.pool import IngressSettings, RouterFiles

    files = RouterFiles(artefact="/a.npz", feedback="/f.jsonl")
    config = ingress_application(plan(), IngressSettings(), files)._bound_deployment.user_config
    assert config["router"] == {"artefact": "/a.npz", "feedback": "/f.jsonl"}
