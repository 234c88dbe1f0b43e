"""A service with a learned router: classes by difficulty, its estimates as quality, its hash."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from orchestrator.learned_router import checked_artefact, located
from orchestrator.loading import load_service
from orchestrator.planning import build_problem
from orchestrator.report import plan_tables, router_line
from placement.plan import Plan
from placement.planner import make_plan
from profiler import documents
from profiler.errors import InputError
from profiler.files import sha256_of
from serve_apps.router.artefact import Artefact
from tests import router_builders
from tests.orchestrator.conftest import Orchestrate
from tests.plan_builders import plan

SERVICE = """\
name: chat
models: [{model: llama-3.1-8b, outcome: small}, {model: llama-3.1-70b, outcome: big}]
gpus: [A100-80GB]
slo: {ttft_s: 4.0, tpot_s: 0.15}
workload:
  rate_rps: 20.0
  sizes: {input_tokens: {kind: fixed, tokens: 600}, output_tokens: {kind: fixed, tokens: 200}}
quality: {mean: 0.8}
router: {artefact: router.npz, difficulty_bins: 3}
"""
RNG = np.random.default_rng(0)
HARD = RNG.random(600)
QUALITY = np.column_stack([0.95 - 0.6 * HARD, 0.95 - 0.1 * HARD])


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A service file beside an artefact file, whose content a test wrote down itself."""

    def load(path: Path, pool: object = None) -> Artefact:
        return router_builders.artefact(("small", "big"), QUALITY)

    monkeypatch.setattr("serve_apps.router.artefact.load_artefact", load)
    (tmp_path / "router.npz").write_bytes(b"an artefact")
    path = tmp_path / "service.yaml"
    path.write_text(SERVICE, encoding="utf-8")
    return path


def test_classes_are_split_by_difficulty_and_have_the_routers_quality(service: Path) -> None:
    problem = build_problem(load_service(service))
    assert {c.difficulty for c in problem.classes} == {0, 1, 2}
    assert sum(c.rate_rps for c in problem.classes) == pytest.approx(20.0)
    assert problem.quality is not None
    small = next(j for j, o in enumerate(problem.options) if o.model == "llama-3.1-8b")
    by_bin = {c.difficulty: problem.quality[i, small] for i, c in enumerate(problem.classes)}
    edges = np.quantile(HARD, [0, 1 / 3, 2 / 3, 1])
    for k in range(3):
        inside = (edges[k] <= HARD) & (edges[k + 1] >= HARD)
        assert by_bin[k] == pytest.approx(QUALITY[inside, 0].mean(), abs=0.01)
    assert any("33%, 33%, 33%" in note for note in problem.notes)


def test_the_plan_holds_router_prices_and_shares_by_difficulty(service: Path) -> None:
    found = make_plan(build_problem(load_service(service)), "chat", gap=0.02)
    assert found.router is not None
    assert found.router.models == {"llama-3.1-8b": "small", "llama-3.1-70b": "big"}
    assert found.router.sha256 == sha256_of(service.parent / "router.npz")
    assert len(found.router.edges) == 2
    assert found.prices is not None
    assert "auto" in found.prices.quality
    groups = {g.name: g.config.model for g in found.groups}
    to_big = {
        k: sum(
            r.rate_rps * share
            for r in found.routes
            for g, share in r.shares.items()
            if r.difficulty == k and groups[g] == "llama-3.1-70b"
        )
        for k in range(3)
    }
    assert to_big[2] > to_big[0]
    assert found.quality is not None
    assert found.quality.mean >= 0.8 - 1e-6
    assert router_line(found.router) in "\n".join(str(part) for part in plan_tables(found))


def test_a_plan_file_names_the_artefact_from_where_it_stands(service: Path) -> None:
    path = service.parent / "router.npz"
    router = router_builders.planned_router(["m1"], artefact=str(path), sha256=sha256_of(path))
    (service.parent / "plans").mkdir()
    moved = located(plan().model_copy(update={"router": router}), service.parent / "plans")
    assert moved.router is not None
    assert moved.router.artefact == "../router.npz"
    found = checked_artefact(moved, service.parent / "plans")
    assert found is not None
    assert found.resolve() == path.resolve()


def test_a_changed_artefact_is_refused(service: Path) -> None:
    path = service.parent / "router.npz"
    router = router_builders.planned_router(["m1"], sha256=sha256_of(path))
    p = plan().model_copy(update={"router": router})
    path.write_bytes(b"another")
    with pytest.raises(InputError, match=f"expected {router.version}.*plan again"):
        checked_artefact(p, service.parent)
    path.unlink()
    with pytest.raises(InputError, match="no such file"):
        checked_artefact(p, service.parent)


def test_plans_without_a_router_need_no_artefact(tmp_path: Path) -> None:
    assert checked_artefact(plan(), tmp_path) is None
    assert located(plan(), tmp_path) == plan()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("router.npz", "other.npz", r"service.yaml:9: router.artefact: .*orchestrator router"),
        ("outcome: small", "outcome: tiny", "trained for small, big; found 'tiny'"),
        (SERVICE[SERVICE.index("workload") : SERVICE.index("router:")], "", "no traffic"),
        ("difficulty_bins: 3", "difficulty_bins: 0", "difficulty_bins"),
        ("difficulty_bins: 3", "policy: best", "policy"),
    ],
)
def test_mistakes_are_named(service: Path, old: str, new: str, message: str) -> None:
    service.write_text(SERVICE.replace(old, new), encoding="utf-8")
    with pytest.raises(InputError, match=message):
        build_problem(load_service(service))


def test_a_dry_run_names_the_artefact_and_deploy_refuses_another(
    service: Path, orchestrate: Orchestrate
) -> None:
    path = service.parent / "router.npz"
    router = router_builders.planned_router(["m1"], sha256=sha256_of(path))
    p = plan().model_copy(update={"router": router})
    documents.write(service.parent / "plan.yaml", documents.dump(p))
    told = orchestrate("deploy", str(service.parent / "plan.yaml"), "--dry-run")
    assert told.returncode == 0, told.stderr
    assert f"router: router.npz {router.version}" in told.stderr
    path.write_bytes(b"another")
    refused = orchestrate("deploy", str(service.parent / "plan.yaml"), "--dry-run")
    assert refused.returncode == InputError.exit_code
    assert router.version in refused.stderr


def test_plan_writes_the_artefact_relative_to_the_plan_file(
    service: Path, orchestrate: Orchestrate
) -> None:
    (service.parent / "plans").mkdir()
    done = orchestrate("plan", str(service), "--save", "plans/plan.yaml", "--gap", "0.05")
    assert done.returncode == 0, done.stderr
    saved = documents.read(service.parent / "plans" / "plan.yaml", Plan)
    assert saved.router is not None
    assert saved.router.artefact == "../router.npz"
    assert f"router: router.npz {saved.router.version}" in done.stdout
