"""Whatever happens, everything in flight is counted once, and nothing is left at rest."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from serve_apps.flow.nouns import Anyone, Lease, Refused, Result, Wait
from tests.serve_apps.flow import flows
from tests.serve_apps.flow.flows import Flow

PLAN = flows.plan(
    flows.group("a", replicas=2, max_num_seqs=2),
    flows.group("b", "m2", replicas=1, max_num_seqs=3),
    flows.group("c", "m2", replicas=1, max_num_seqs=1),
)
SMALLER = flows.plan(*PLAN.groups[:2])


class Anything(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.flow = Flow(PLAN)
        self.leases: list[Lease] = []
        self.waits: list[Wait] = []

    def take(self, answer: Lease | Wait | Refused | None) -> None:
        if isinstance(answer, Lease):
            self.leases.append(answer)
        elif isinstance(answer, Wait):
            answer.settle = self.take
            self.waits.append(answer)

    @rule(
        model=st.sampled_from(["auto", "m1", "m2"]),
        tokens=st.integers(1, 3000),
        tenant=st.sampled_from("xyz"),
        priority=st.integers(-1, 1),
        deadline_s=st.none() | st.floats(0.001, 20.0),
        stream=st.booleans(),
        session=st.none() | st.sampled_from("pq"),
    )
    def ask(
        self,
        model: str,
        tokens: int,
        tenant: str,
        priority: int,
        deadline_s: float | None,
        stream: bool,
        session: str | None,
    ) -> None:
        caller = Anyone(tenant, priority=priority)
        self.take(
            self.flow.ask(
                model, tokens, caller, deadline_s=deadline_s, stream=stream, session=session
            )
        )

    @rule(seconds=st.floats(0.0, 3.0))
    def pass_time(self, seconds: float) -> None:
        self.flow.now += seconds
        self.flow.dispatcher.tick()

    @rule(k=st.integers(0, 100))
    def begin(self, k: int) -> None:
        if self.leases:
            self.leases[k % len(self.leases)].first_byte()

    @rule(
        k=st.integers(0, 100),
        result=st.sampled_from(Result),
        tokens=st.none() | st.integers(0, 500),
        twice=st.booleans(),
    )
    def end(self, k: int, result: Result, tokens: int | None, twice: bool) -> None:
        if self.leases:
            lease = self.leases.pop(k % len(self.leases))
            lease.done(result, tokens)
            if twice:
                lease.done(Result.CANCELLED)
                lease.first_byte()
            if result in (Result.UNREACHABLE, Result.ENGINE_ERROR, Result.TIMEOUT):
                self.take(self.flow.dispatcher.retry(lease))

    @rule(k=st.integers(0, 100))
    def cancel(self, k: int) -> None:
        if self.waits:
            wait = self.waits.pop(k % len(self.waits))
            wait.cancel()
            self.leases = [x for x in self.leases if x is not wait.answer]

    @rule(healthy=st.booleans())
    def probe(self, healthy: bool) -> None:
        self.flow.probe(a=healthy, b=healthy, c=healthy)

    @rule(kept=st.sets(st.integers(0, 3)))
    def discover(self, kept: set[int]) -> None:
        self.flow.dispatcher.replicas(r for k, r in enumerate(self.flow.found) if k in kept)

    @rule(smaller=st.booleans())
    def configure(self, smaller: bool) -> None:
        chosen = SMALLER if smaller else PLAN
        self.flow.dispatcher.configure(chosen, flows.RouteTable(chosen))

    @invariant()
    def every_lease_is_counted_once(self) -> None:
        assert self.flow.dispatcher.in_flight == len(self.leases)
        for group in self.flow.dispatcher.snapshot().groups:
            for replica in group.replicas:
                here = [x for x in self.leases if x.replica.id == replica.id]
                assert replica.in_flight == len(here)
                assert replica.backlog_tokens >= -1e-6
                assert replica.context_tokens >= -1e-6

    @invariant()
    def every_wait_is_queued_once(self) -> None:
        assert self.flow.dispatcher.queued == sum(w.pending for w in self.waits)

    def teardown(self) -> None:
        for wait in self.waits:
            wait.cancel()
        for lease in self.leases:
            lease.done(Result.OK, 10)
        snapshot = self.flow.dispatcher.snapshot()
        assert self.flow.dispatcher.in_flight == 0
        assert self.flow.dispatcher.queued == 0
        for group in snapshot.groups:
            assert (group.in_flight, group.queued, group.queued_load_s) == (0, 0, 0.0)
            for replica in group.replicas:
                assert (replica.in_flight, replica.backlog_tokens) == (0, 0.0)


Anything.TestCase.settings = settings(max_examples=12, stateful_step_count=30, deadline=None)
TestAnything = Anything.TestCase
