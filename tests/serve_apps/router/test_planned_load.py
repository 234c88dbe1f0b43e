"""A trained load policy chooses in the gateway's router where it may, and prices where it fails."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from placement.explanation import Prices
from placement.plan import Plan
from profiler.core import Slo
from profiler.errors import InputError
from serve_apps.router.base import RouteRequest
from serve_apps.router.learned import LearnedRouter
from serve_apps.router.load_policies import Priced
from serve_apps.router.load_values import LoadValues, Verdict, features, pool_of
from serve_apps.router.planned_load import in_a_line, planned_policy, with_load_policy
from tests.router_builders import artefact, planned_router, prompt
from tests.serve_apps.flow import flows

WON = Verdict(0.97, 0.95, 0.005, 0.99, 0.99, 24, 1.0)
LOST = replace(WON, learned=0.9)
POOL = ("large", "small")


def plan(replicas: int = 1) -> Plan:
    large = flows.group("slow", "large", replicas=replicas, max_num_seqs=2, base_s=0.04)
    made = flows.plan(large, flows.group("fast", "small", replicas=1), slo=Slo(
        ttft_s=1.0, tpot_s=0.1, attainment=0.95
    ))  # fmt: skip
    route = made.routes[0].model_copy(update={"shares": {"slow": 1.0}})
    prices = Prices(quality={"auto": 50.0}, load={"slow": 0.1, "fast": 0.1})
    return made.model_copy(
        update={"router": planned_router(POOL), "prices": prices, "routes": (route,)}
    )


def values(verdict: Verdict = WON, weight: float = 0.0) -> LoadValues:
    """Thinks most of the small model, whatever it sees."""
    layers = ((np.full((12, 2), weight), np.array([0.0, 1.0])),)
    return LoadValues(pool_of(plan()), layers, verdict)


def shipped(tmp_path: Path, made: LoadValues, *, insist: bool = False) -> Plan:
    made.save(tmp_path / "policy.npz")
    return with_load_policy(plan(), tmp_path / "policy.npz", insist=insist)[0]


def routed(p: Plan) -> tuple[str, str]:
    """Model and reason of a request that prices would send to the large model."""
    flow = flows.Flow(p)
    policy = planned_policy(p, lambda: flow.now)
    router = LearnedRouter(
        p, artefact(POOL, [[0.9, 0.2]] * 20), clock=lambda: flow.now, load_policy=policy
    )
    flow = flows.Flow(p, router=router)
    lease = flow.lease(prompt=prompt(0.9, 0.2, output_tokens=30))
    return lease.decision.model, lease.decision.reason


def test_a_policy_that_won_its_trial_chooses_and_the_reason_says_so(tmp_path: Path) -> None:
    p = shipped(tmp_path, values())
    assert p.router is not None
    assert p.router.load_policy is not None
    model, reason = routed(p)
    assert model == "small"
    assert reason.startswith(f"load policy {p.router.load_policy.version}; ")
    assert Plan.model_validate_json(p.model_dump_json()) == p


def test_one_that_did_not_win_chooses_only_where_the_operator_insists(tmp_path: Path) -> None:
    assert routed(shipped(tmp_path, values(LOST)))[0] == "large"
    assert routed(shipped(tmp_path, values(LOST), insist=True))[0] == "small"
    assert "prices go on choosing" in in_a_line(values(LOST), insist=False)
    assert "you insist" in in_a_line(values(LOST), insist=True)


def test_a_pool_it_was_not_trained_for_is_refused_and_left_alone_live(tmp_path: Path) -> None:
    values().save(tmp_path / "policy.npz")
    with pytest.raises(InputError, match=r"policy\.npz: trained for .*train-load"):
        with_load_policy(plan(replicas=2), tmp_path / "policy.npz")
    grown = plan(replicas=2).model_copy(update={"router": shipped(tmp_path, values()).router})
    assert isinstance(planned_policy(grown, float), Priced)


def test_a_file_that_is_another_than_its_hash_leaves_prices(tmp_path: Path) -> None:
    p = shipped(tmp_path, values())
    assert p.router is not None
    assert p.router.load_policy is not None
    for change in ({"content": "AAAA"}, {"content": "no base64!"}, {"sha256": "0" * 64}):
        told = p.router.load_policy.model_copy(update=change)
        router = p.router.model_copy(update={"load_policy": told})
        other = p.model_copy(update={"router": router})
        assert isinstance(planned_policy(other, float), Priced)


def test_a_plan_without_a_learned_router_or_with_a_bandit_is_refused(tmp_path: Path) -> None:
    values().save(tmp_path / "policy.npz")
    with pytest.raises(InputError, match="no learned router"):
        with_load_policy(plan().model_copy(update={"router": None}), tmp_path / "policy.npz")
    bandit = plan().model_copy(update={"router": planned_router(POOL, policy="lin_ucb")})
    with pytest.raises(InputError, match="lin_ucb"):
        with_load_policy(bandit, tmp_path / "policy.npz")


def test_the_state_is_the_one_it_was_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the network is given live is `features` of the dispatcher's own figures."""
    seen: list[np.ndarray] = []
    made = values()

    def look(self: LoadValues, found: np.ndarray) -> np.ndarray:
        seen.append(found)
        return np.array([1.0, 0.0])

    monkeypatch.setattr(LoadValues, "values", look)
    from serve_apps.router.load_policies import Learned

    p = plan()
    router = LearnedRouter(
        p, artefact(POOL, [[0.9, 0.2]] * 20), clock=lambda: 0.0, load_policy=Learned(made)
    )
    flow = flows.Flow(p, router=router)
    flow.ask(prompt=prompt(0.9, 0.2, output_tokens=30))
    asked = RouteRequest("auto", 100)

    class Now:
        """An option, read off the dispatcher."""

        def __init__(self, model: str, group: str, quality: float) -> None:
            self.model, self.quality, self.feasible = model, quality, True
            self.predicted_ttft_s = flow.dispatcher.begins_in_s(asked, group)[0]
            self.in_flight, self.queued, _ = flow.dispatcher.occupancy(group)

    options = [Now("large", "slow", 0.9), Now("small", "fast", 0.2)]
    assert [o.in_flight for o in options] == [1, 0]
    assert options[0].predicted_ttft_s > options[1].predicted_ttft_s > 0
    flow.ask(prompt=prompt(0.9, 0.2, output_tokens=30))
    expected = features(made.pool, options, 0.2, 100)
    np.testing.assert_allclose(seen[-1], expected)


def test_a_policy_that_fails_leaves_its_place_to_prices(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    p = shipped(tmp_path, values())

    def fail(*_: object) -> str:
        raise RuntimeError("no")

    monkeypatch.setattr(LoadValues, "best", fail)
    model, reason = routed(p)
    assert (model, "load policy" in reason) == ("large", False)


def test_after_failures_in_a_row_it_rests_for_a_while() -> None:
    from serve_apps.router.load_policies import FAILURES, REST_S, LoadState, ModelOption, Supervised

    calls, now = [], [0.0]

    class Refuses:
        def choose(self, options: object, state: object) -> None:
            calls.append(now[0])

    made = Supervised("load policy x", Refuses(), Priced(1.0), lambda: now[0])
    option = ModelOption("m", 0.9, 0.0, 0.0, 0.1, True, "m", 0, 0, 8)
    state = LoadState(0.0, 1.0, RouteRequest("auto", 100))
    assert [made.choose([option], state) for _ in range(FAILURES + 2)] == ["m"] * (FAILURES + 2)
    assert len(calls) == made.failures == FAILURES
    now[0] = REST_S + 1
    made.choose([option], state)
    assert len(calls) == FAILURES + 1
    assert not made.acted


def test_a_request_that_is_not_being_routed_is_looked_up_anew() -> None:
    flow = flows.Flow(plan())
    begins_s, lone_s = flow.dispatcher.begins_in_s(RouteRequest("auto", 100), "slow")
    assert begins_s == pytest.approx(lone_s)
    flow.dispatcher.replicas([])
    assert flow.dispatcher.begins_in_s(RouteRequest("auto", 100), "slow")[0] == float("inf")
