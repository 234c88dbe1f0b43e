"""The plan again for another load: cheaper groups are found, moves paid for, stock-outs kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.loading import load_service
from orchestrator.planning import build_problem
from orchestrator.replanning import Ask, replan, survey
from placement.plan import Plan
from placement.planner import mix, without_unservable
from profiler.errors import InputError

SERVICE = """
version: 1
name: chat
models: [{model: llama-3.1-8b, tensor_parallel: [1]}]
gpus: [L40S, H100]
slo: {ttft_s: 2.0, tpot_s: 0.06, attainment: 0.95}
workload:
  rate_rps: 20
  sizes: azure-chat
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("service") / "service.yaml"
    path.write_text(SERVICE)
    return path


@pytest.fixture(scope="module")
def plan(service: Path) -> Plan:
    """For the load of the service file, on H100s alone."""
    problem = build_problem(load_service(service)).only("H100")
    found = mix(without_unservable(problem), "chat").plan
    return found.model_copy(update={"gateway": {"processes": 2}})


def ask(service: Path, plan: Plan, factor: float = 1.0, **more: object) -> Ask:
    rates = {(r.stream, r.bucket.key): factor * r.rate_rps for r in plan.routes}
    running = {g.name: g.replicas for g in plan.groups}
    return replace(Ask(service, plan, rates, running), **more)  # type: ignore[arg-type]


def fleet(plan: Plan) -> dict[str, int]:
    return {g.config.gpu: g.replicas for g in plan.groups}


def test_a_load_that_fell_is_served_by_a_type_that_the_plan_has_not(
    service: Path, plan: Plan
) -> None:
    found = replan(ask(service, plan, 0.05))
    assert found is not None
    assert set(fleet(found.plan)) == {"L40S"}
    assert found.stay_usd_per_hour is not None
    assert found.saving_usd == pytest.approx(
        4 * (found.stay_usd_per_hour - found.usd_per_hour)
        + found.stay_moving_usd
        - found.moving_usd
    )
    assert found.saving_usd > 0
    assert found.plan.gateway == plan.gateway


def test_moves_that_cost_more_than_they_save_are_not_made(service: Path, plan: Plan) -> None:
    found = replan(ask(service, plan, 0.05, horizon_h=0.02))
    assert found is not None
    assert set(fleet(found.plan)) == {"H100"}


def test_what_is_out_of_stock_is_kept_and_no_more_of_it_bought(service: Path, plan: Plan) -> None:
    out = tuple(g.name for g in plan.groups)
    found = replan(ask(service, plan, 8.0, out=out, horizon_h=1000.0))
    assert found is not None
    assert found.stay_usd_per_hour is None
    assert found.saving_usd == float("inf")
    assert fleet(found.plan).get("H100", 0) <= fleet(plan)["H100"]
    assert fleet(found.plan)["L40S"] > 1


def test_requests_cost_what_the_plan_says(service: Path, plan: Plan) -> None:
    market = survey(service, plan)
    (group,) = plan.groups
    assert set(market.model.values()) == {"llama-3.1-8b"}
    assert len(market.model) == 2
    planned = sum(r.rate_rps * market.request_usd[group.name][r.stream, r.bucket.key]
                  for r in plan.routes)  # fmt: skip
    assert planned * 3600 == pytest.approx(group.load * group.total_usd_per_hour, rel=1e-3)


def test_another_services_file_is_refused(service: Path, plan: Plan) -> None:
    other = plan.model_copy(update={"service": "code"})
    with pytest.raises(InputError, match="found the service 'chat', expected 'code'"):
        survey(service, other)


def test_a_service_file_that_is_gone_is_named(tmp_path: Path, plan: Plan) -> None:
    with pytest.raises(InputError, match="no such file"):
        survey(tmp_path / "service.yaml", plan)
