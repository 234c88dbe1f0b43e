"""A dispatcher with a clock that a test moves, over plans of one or more groups."""

from __future__ import annotations

from dataclasses import dataclass, field

from placement.plan import Plan, ReplicaGroup
from profiler.core import Slo
from serve_apps.flow.dispatcher import Dispatcher
from serve_apps.flow.nouns import Anyone, Lease, Refused, Replica, Result, Wait
from serve_apps.flow.settings import FlowSettings
from serve_apps.router.base import Router, RouteRequest
from serve_apps.router.table import RouteTable
from tests import builders, plan_builders

ANYONE = Anyone()


def group(
    name: str = "a",
    model: str = "m1",
    replicas: int = 2,
    max_num_seqs: int = 8,
    base_s: float = 0.01,
    kv_tokens: int = 100_000,
) -> ReplicaGroup:
    profile = builders.profile(
        model,
        "cpu",
        kv_capacity_tokens=kv_tokens,
        max_model_len=4096,
        max_num_seqs=max_num_seqs,
        law=builders.step_time(base_s=base_s),
    )
    made = plan_builders.group(name, model, replicas=replicas)
    return made.model_copy(update={"profile": profile})


def plan(
    *groups: ReplicaGroup, slo: Slo | None = None, streams: dict[str, str] | None = None
) -> Plan:
    """Every group's share of ``auto`` is its share of the replicas."""
    groups = groups or (group(),)
    total = sum(g.replicas for g in groups)
    routes = (
        plan_builders.route(
            {g.name: g.replicas / total for g in groups},
            inputs=(0, 200),
            outputs=(0, 50),
            rate_rps=10.0,
        ),
    )
    made = plan_builders.plan(groups, routes)
    return made.model_copy(update={"slo": slo or builders.slo(ttft_s=1.0, tpot_s=0.1)})


@dataclass
class Flow:
    """``now`` is the time; replicas are named ``<group>/<number>``."""

    plan: Plan
    now: float = 0.0
    router: Router | None = None
    settings: FlowSettings = field(default_factory=FlowSettings)

    def __post_init__(self) -> None:
        self.dispatcher = Dispatcher(
            self.plan,
            self.router or RouteTable(self.plan),
            lambda: self.now,
            settings=self.settings,
        )
        self.found = [
            Replica(f"{g.name}/{i}", g.name, f"http://{g.name}/{i}")
            for g in self.plan.groups
            for i in range(g.replicas)
        ]
        self.dispatcher.replicas(self.found)

    def ask(
        self,
        model: str = "auto",
        tokens: int = 100,
        caller: Anyone = ANYONE,
        deadline_s: float | None = None,
        **fields: object,
    ) -> Lease | Wait | Refused:
        asked = RouteRequest(model, tokens, **fields)  # type: ignore[arg-type]
        return self.dispatcher.try_dispatch(asked, caller, deadline_s)

    def lease(self, **kwargs: object) -> Lease:
        answer = self.ask(**kwargs)  # type: ignore[arg-type]
        assert isinstance(answer, Lease), answer
        return answer

    def fail(self, lease: Lease, result: Result = Result.UNREACHABLE) -> None:
        lease.done(result)

    def probe(self, **ok: bool) -> list[str]:
        """Answer the probes that are due, all well unless ``ok`` names a group as dead."""
        due = self.dispatcher.due_probes()
        for replica in due:
            self.dispatcher.probed(replica, ok.get(replica.group, True))
        return [r.id for r in due]

    def fill(self, most: int = 1000, **kwargs: object) -> list[Lease]:
        """Leases until a request has to wait or is refused."""
        leases = []
        while isinstance(answer := self.ask(**kwargs), Lease) and len(leases) < most:  # type: ignore[arg-type]
            leases.append(answer)
        if isinstance(answer, Wait):
            answer.cancel()
        return leases
