"""The dispatcher's state and the plan, as the metrics and the live page want them."""

from __future__ import annotations

from collections.abc import Mapping

from placement.plan import Plan
from serve_apps.flow.snapshot import FlowSnapshot, GroupSnapshot, ReplicaSnapshot
from serve_apps.seeing.snapshot import GroupNow, ReplicaNow, ReplicaState, Snapshot

_STATES = {
    "open": ReplicaState.READY,
    "hanging": ReplicaState.READY,
    "warming": ReplicaState.PROBING,
    "ejected": ReplicaState.EJECTED,
}


def snapshot_of(plan: Plan, flow: FlowSnapshot, wanted: Mapping[str, int]) -> Snapshot:
    """The fleet at one moment; ``wanted`` are replicas of groups that were scaled."""
    found = {g.name: g for g in flow.groups}
    return Snapshot(
        service=plan.service,
        plan_digest=plan.digest,
        router=plan.router.policy if plan.router is not None else "",
        groups=tuple(_group(plan, found.get(g.name), g.name, wanted) for g in plan.groups),
        replicas=tuple(_replica(r, g.name) for g in flow.groups for r in g.replicas),
        queued=sum(g.queued for g in flow.groups),
        planned_usd_per_hour=sum(g.usd_per_hour * g.replicas for g in plan.groups),
        ttft_slo_s=plan.slo.ttft_s,
        tpot_slo_s=plan.slo.tpot_s,
        attainment_slo=plan.slo.attainment,
    )


def _group(plan: Plan, now: GroupSnapshot | None, name: str, wanted: Mapping[str, int]) -> GroupNow:
    planned = next(g for g in plan.groups if g.name == name)
    return GroupNow(
        name=name,
        model=planned.config.model,
        gpu=planned.config.gpu,
        wanted=wanted.get(name, planned.replicas),
        usd_per_hour=planned.usd_per_hour,
        price_usd_per_hour=now.price if now is not None else 0.0,
        planned_price_usd_per_hour=now.planned_price if now is not None else 0.0,
        queued=now.queued if now is not None else 0,
    )


def _replica(now: ReplicaSnapshot, group: str) -> ReplicaNow:
    tokens = int(now.context_tokens + now.backlog_tokens)
    return ReplicaNow(
        id=now.id,
        group=group,
        url=now.url,
        state=_STATES[now.state],
        in_flight=now.in_flight,
        tokens_in_flight=tokens,
    )
