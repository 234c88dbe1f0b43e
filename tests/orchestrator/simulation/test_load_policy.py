"""What the simulator decides, the gateway decides: the same model and group in the same state."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.simulation.load_policy import PolicyRouter, Priced
from placement.explanation import Prices
from placement.plan import Plan
from profiler.core import Slo
from serve_apps.flow.lengths import Lengths
from serve_apps.flow.nouns import Lease, Refused, Result, Wait
from serve_apps.router.base import Router
from serve_apps.router.learned import LearnedRouter
from tests.router_builders import artefact, planned_router, prompt
from tests.serve_apps.flow import flows

POOL = ("large", "small")
REFERENCE = np.random.default_rng(0).random((60, 2))
GROUPS = (
    flows.group("slow", "large", replicas=1, max_num_seqs=4, base_s=0.04),
    flows.group("other", "large", replicas=1, max_num_seqs=2, base_s=0.02),
    flows.group("fast", "small", replicas=1, max_num_seqs=8),
)


def plan(share: float, worth: float) -> Plan:
    """The large model answers that share of all requests."""
    made = flows.plan(*GROUPS, slo=Slo(ttft_s=0.5, tpot_s=0.1, attainment=0.95))
    shares = {"slow": share / 2, "other": share / 2, "fast": 1 - share}
    route = made.routes[0].model_copy(update={"shares": shares})
    prices = Prices(quality={"auto": worth}, load={"slow": 0.2, "other": 0.3, "fast": 0.1})
    return made.model_copy(
        update={"prices": prices, "routes": (route,), "router": planned_router(POOL)}
    )


steps = st.lists(
    st.tuples(
        st.floats(0.0, 1.0),
        st.floats(0.0, 1.0),
        st.sampled_from([0.0, 0.0, 0.001, 0.02, 0.3, 2.0]),
        st.booleans(),
    ),
    min_size=10,
    max_size=60,
)


class _Side:
    """One of the two, fed with the same requests at the same times."""

    def __init__(self, p: Plan) -> None:
        self.now, self._plan = 0.0, p
        self.asked: list[Lease | Wait | Refused] = []

    def follow(self, router: Router) -> None:
        self.flow = flows.Flow(self._plan, router=router)

    def ask(self, quality: tuple[float, float], tokens: float) -> tuple[object, ...]:
        self.flow.now = self.now
        answer = self.flow.ask(prompt=prompt(*quality, output_tokens=tokens))
        self.asked.append(answer)
        if isinstance(answer, Refused):
            return (answer.kind,)
        decision = answer.decision if isinstance(answer, Lease) else answer.task.decision
        return decision.group, decision.model, decision.shed, decision.reason

    def finish_one(self) -> None:
        leases = [a for a in self.asked if isinstance(a, Lease) and not a.ended]
        if leases:
            leases[0].first_byte()
            leases[0].done(Result.OK)


@settings(max_examples=6, deadline=None)
@given(steps, st.sampled_from([0.0, 0.4, 1.0]), st.sampled_from([0.0, 0.5, 50.0]))
def test_simulator_and_gateway_decide_alike(
    asked: list[tuple[float, float, float, bool]], share: float, worth: float
) -> None:
    p = plan(share, worth)
    tokens = Lengths(p).expected("auto", 100, None)
    simulated, live = _Side(p), _Side(p)
    quality = np.array([[large, small] for large, small, _, _ in asked])
    both = np.concatenate([quality, REFERENCE])
    router = PolicyRouter(p, Priced(), both)
    simulated.follow(router)
    router.heed_flow(simulated.flow.dispatcher)
    live.follow(LearnedRouter(p, artefact(POOL, both), clock=lambda: live.now))
    for i, (large, small, pause_s, ends) in enumerate(asked):
        for side in (simulated, live):
            side.now += pause_s
            if ends:
                side.finish_one()
        router.at(i)
        told = [side.ask((large, small), tokens) for side in (simulated, live)]
        assert told[0] == told[1]


def chosen_after(clump: int) -> str:
    """Who answers on idle engines when the large model had two requests a second in clumps of
    this size, each answered at once, and the next clump is due. The plan says the large one.
    """
    p = plan(share=1.0, worth=20.0)
    side = _Side(p)
    router = PolicyRouter(p, Priced(), {"large": 0.8, "small": 0.75})
    side.follow(router)
    for i in range(200):
        side.flow.now = clump * (i // clump) / 2
        lease = side.flow.lease(model="large", tokens=1000)
        lease.first_byte()
        lease.done(Result.OK)
    side.now = 100.0
    return str(side.ask((0.8, 0.75), 50.0)[1])


def test_clumps_are_expected_again_and_a_steady_stream_goes_by_the_plan() -> None:
    assert chosen_after(1) == "large"
    assert chosen_after(40) == "small"
