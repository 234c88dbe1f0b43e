"""`deploy --load-policy` says what becomes of the policy before anything is deployed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.cli.load_policy_options import LoadPolicy
from placement.plan import Plan
from profiler import documents
from profiler.errors import InputError
from serve_apps.router.load_values import LoadValues, Verdict, pool_of
from tests.plan_builders import group, plan, route
from tests.router_builders import planned_router

WON = Verdict(0.97, 0.95, 0.005, 0.99, 0.99, 24, 1.0)


def two_models() -> Plan:
    groups = group("a", "m1"), group("b", "m2")
    made = plan(groups, (route({"a": 0.5, "b": 0.5}),))
    return made.model_copy(update={"router": planned_router(("m1", "m2"))})


def saved(path: Path, verdict: Verdict = WON) -> Path:
    layers = ((np.zeros((12, 2)), np.zeros(2)),)
    LoadValues(pool_of(two_models()), layers, verdict).save(path)
    return path


@pytest.mark.parametrize(
    ("learned", "insist", "said"),
    [
        (0.97, False, "it chooses the model"),
        (0.9, False, "prices go on"),
        (0.9, True, "you insist"),
    ],
)
def test_the_verdict_is_said_and_the_plan_brings_the_policy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], learned: float, insist: bool, said: str
) -> None:
    path = saved(tmp_path / "policy.npz", replace(WON, learned=learned))
    changed = LoadPolicy(path, insist=insist).applied(two_models())
    assert said in " ".join(capsys.readouterr().err.split())
    assert changed.router is not None
    assert changed.router.load_policy is not None
    assert (changed.router.load_policy.file, changed.router.load_policy.insist) == (
        "policy.npz",
        insist,
    )


def test_without_a_policy_the_plan_stays_as_it_is() -> None:
    assert LoadPolicy().applied(two_models()) == two_models()
    with pytest.raises(InputError, match="--load-policy"):
        LoadPolicy(insist=True).applied(two_models())


@pytest.mark.parametrize("target", ["local", "ray", "kubernetes"])
def test_a_plan_without_a_learned_router_is_refused_on_every_target(
    tmp_path: Path, target: str
) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(documents.dump(two_models().model_copy(update={"router": None})))
    (tmp_path / "kubernetes.yaml").write_text("namespace: default\nimage: example/image:1\n")
    policy = saved(tmp_path / "policy.npz")
    arguments = ["deploy", str(file), "--target", target, "--load-policy", str(policy)]
    result = CliRunner().invoke(app, [*arguments, "--dry-run", "--address", "http://127.0.0.1:9"])
    assert isinstance(result.exception, InputError)
    assert "no learned router" in str(result.exception)
