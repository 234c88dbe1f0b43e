"""The groups and engines of the plan in force, as discovery sees them."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable

from placement.plan import AUTO, Plan
from serve_apps.flow.engine import Engine
from serve_apps.flow.group import Group
from serve_apps.flow.nouns import Replica
from serve_apps.flow.settings import FlowSettings
from serve_apps.flow.snapshot import GroupSnapshot, ReplicaSnapshot
from serve_apps.router.live import LivePrices


class Pool:
    """Groups by name and by model, engines by id; what is known of those that stay is kept."""

    def __init__(self, settings: FlowSettings, rng: random.Random) -> None:
        self._settings = settings
        self._rng = rng
        self.groups: dict[str, Group] = {}
        self.by_model: dict[str, list[Group]] = {}
        self.engines: dict[str, tuple[Group, Engine]] = {}
        self._left: dict[Replica, Engine] = {}
        """Engines that are gone and had work when they went: who comes back still has it."""

    def configure(self, plan: Plan) -> list[Group]:
        """Have the plan's groups; those that it has no more, without their engines.

        A group of another model is another group, whatever its name.
        """
        before, self.groups = self.groups, {}
        by_model: dict[str, list[Group]] = defaultdict(list)
        for planned in plan.groups:
            group = before.get(planned.name)
            if group is not None and group.model == planned.config.model:
                del before[planned.name]
                group.adopt(planned, plan.slo)
            else:
                group = Group(planned, plan.slo, self._settings, self._rng)
            self.groups[planned.name] = group
            by_model[group.model].append(group)
            by_model[AUTO].append(group)
        self.by_model = dict(by_model)
        for group in before.values():
            for replica_id in tuple(group.engines):
                self.forget(replica_id)
        return list(before.values())

    def found(self, replicas: Iterable[Replica], now: float) -> None:
        """Have these engines, and no others; of groups that the plan has not, none."""
        wanted = {r.id: r for r in replicas if r.group in self.groups}
        for replica_id, (_, engine) in tuple(self.engines.items()):
            if wanted.get(replica_id) != engine.replica:
                self.forget(replica_id)
        self._left = {r: e for r, e in self._left.items() if e.in_flight}
        for replica in wanted.values():
            if replica.id not in self.engines:
                group = self.groups[replica.group]
                group.add(replica, now, self._left.pop(replica, None))
                self.engines[replica.id] = group, group.engines[replica.id]

    def forget(self, replica_id: str) -> None:
        """An engine is gone; what it has in flight stays counted."""
        group, engine = self.engines.pop(replica_id)
        group.remove(replica_id)
        if engine.in_flight:
            self._left[engine.replica] = engine

    def serving(self, model: str) -> list[Group]:
        """The groups that may answer for a model, or for ``auto``."""
        return self.by_model.get(model, [])

    def snapshot(self, prices: LivePrices, now: float) -> tuple[GroupSnapshot, ...]:
        """All groups at this moment."""
        return tuple(_group_snapshot(g, prices, now) for g in self.groups.values())


def _group_snapshot(group: Group, prices: LivePrices, now: float) -> GroupSnapshot:
    replicas = tuple(_replica_snapshot(e, now) for e in group.engines.values())
    return GroupSnapshot(
        name=group.name,
        model=group.model,
        in_flight=group.in_flight,
        queued=len(group.queue),
        queued_load_s=group.queue.load_s,
        wait_s=group.wait_s(group.queue.load_s, 0.0) if group.busy else 0.0,
        slots=group.slots,
        price=prices.now(group.name),
        planned_price=prices.planned[group.name],
        states=dict(Counter(r.state for r in replicas)),
        replicas=replicas,
    )


def _replica_snapshot(engine: Engine, now: float) -> ReplicaSnapshot:
    hangs = not engine.ejected and engine.hangs(now)
    return ReplicaSnapshot(
        id=engine.replica.id,
        url=engine.replica.url,
        state="hanging" if hangs else engine.state,
        in_flight=engine.in_flight,
        backlog_tokens=engine.backlog_tokens,
        context_tokens=engine.context_tokens(now),
        ttft_ratio=engine.ttft_ratio,
        tpot_ratio=engine.tpot_ratio,
        completions=engine.completions,
    )
