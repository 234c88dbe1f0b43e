"""Who waits for a slot in a group, and who goes next: fair between tenants, no one starves.

Start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996) over flows, one per tenant and
priority, in replica-seconds of load: the flow whose virtual start is least goes next, and each
request moves its flow's start on by load / weight. The virtual time is the start of the one that
went last, so a flow that was idle starts level with the others, and saves nothing up. A priority
up counts as a larger weight, so it is first and gets most, but never all. Inside a flow the
earliest deadline goes first.

Who was refused of late is not idle, though nothing of it waits (`Claims`): it keeps its place.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator
from operator import attrgetter

from serve_apps.flow.claims import Claims, FlowKey
from serve_apps.flow.nouns import Asker, Wait

MOST_IDLE = 1024
"""Idle tenants whose virtual time is remembered."""
MEMORY = 1 / 64
"""Weight of the latest request in what part of the service each flow had."""
LEAST_PART = 0.01
"""A flow of less is not reckoned with before it asks."""
ROUNDS = 3
"""The more is ahead, the longer it takes, the more comes in between: solved step by step."""

_by_deadline = attrgetter("task.deadline_s")


class Flow:
    """One tenant's requests of one priority."""

    __slots__ = ("key", "load_s", "start", "waits", "weight")

    def __init__(self, key: FlowKey, weight: float, start: float) -> None:
        self.key = key
        self.weight = weight
        self.start = start
        self.waits: list[Wait] = []
        self.load_s = 0.0


class FairQueue:
    """The requests that wait for one group."""

    def __init__(self, priority_step: float) -> None:
        self._priority_step = priority_step
        self._flows: dict[FlowKey, Flow] = {}
        self._idle: dict[FlowKey, float] = {}
        self._parts: dict[FlowKey, list[float]] = {}
        """By flow the part of the service that it had of late, and its weight."""
        self._virtual = 0.0
        self._claims = Claims()
        self.count = 0
        """How many wait; what `len` says, for those who ask with each request."""
        self.load_s = 0.0
        """Replica-seconds of all that wait."""

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Wait]:
        for flow in self._flows.values():
            yield from flow.waits

    def ahead_s(self, asker: Asker, deadline_s: float) -> float:
        """Replica-seconds that are served before one more request of this asker.

        That is not only what waits now. Flows that had a part of the service go on asking, and
        those of a smaller virtual start come before it though they arrive later.
        """
        if not self.count:
            return 0.0
        key = asker.priority, asker.tenant
        own, weight = self._flows.get(key), self._weight(asker)
        if own is None:
            before, start = 0.0, self._start(key)
        else:
            before = _load_before(own, deadline_s)
            start = own.start + before / weight
        ahead = before
        comes: list[tuple[float, float, float]] = []
        for flow in self._flows.values():
            if flow is own:
                continue
            if flow.start < start or (flow.start == start and flow.key[0] >= asker.priority):
                first = flow.waits[0].task.load_s  # whoever has begun is served whole
                most = max((start - flow.start) * flow.weight, first)
                waits = min(flow.load_s, most)
                ahead += waits
                part = self._parts.get(flow.key)
                if part is not None and waits < most:
                    comes.append((part[0], waits, most))
        for name, (share, weight) in self._parts.items():
            if name != key and name not in self._flows:
                begins = self._start(name)
                if begins < start:
                    comes.append((share, 0.0, (start - begins) * weight))
        return _with_those_to_come(ahead, comes) if comes else ahead

    def push(self, wait: Wait) -> None:
        """Let a request wait."""
        asker = wait.task.asker
        key = asker.priority, asker.tenant
        flow = self._flows.get(key)
        if flow is None:
            flow = self._flows[key] = Flow(key, self._weight(asker), self._start(key))
            self._idle.pop(key, None)
        flow.weight = self._weight(asker)
        insort(flow.waits, wait, key=_by_deadline)
        flow.load_s += wait.task.load_s
        self.load_s += wait.task.load_s
        self.count += 1

    def head(self) -> Wait | None:
        """Who goes next; None when nobody waits."""
        flow = self._next()
        return flow.waits[0] if flow is not None else None

    def pop(self) -> Wait:
        """Take out who goes next, and let its flow pay for it."""
        flow = self._next()
        assert flow is not None, "nobody waits"
        wait = flow.waits[0]
        self._virtual = max(self._virtual, flow.start)
        flow.start += wait.task.load_s / flow.weight
        self._served(flow.key, flow.weight)
        self._take(flow, 0)
        return wait

    @property
    def contested(self) -> bool:
        """Whether anyone was refused of late, so that it matters who gets what."""
        return bool(self._claims)

    def refused(self, asker: Asker, load_s: float, until_s: float) -> None:
        """Nothing more of this asker may wait: until then it keeps its place among the flows."""
        key = asker.priority, asker.tenant
        waits = key in self._flows
        if self._claims.add(key, load_s / self._weight(asker), until_s, waits=waits) and not waits:
            self._idle.setdefault(key, self._virtual)

    def went_past(self, asker: Asker, load_s: float) -> None:
        """A request of this asker is served that did not wait."""
        key, weight = (asker.priority, asker.tenant), self._weight(asker)
        start = self._start(key)
        self._virtual = max(self._virtual, start)
        self._idle[key] = start + load_s / weight
        self._served(key, weight)

    def claimed_before(self, asker: Asker) -> int:
        """How many requests that were refused of late would go before one of this asker."""
        key = asker.priority, asker.tenant
        start = self._start(key)
        return sum(
            claim.of(start - self._start(name))
            for name, claim in self._claims.others(key)
            if name not in self._flows
        )

    def pass_time(self, now: float) -> None:
        """Forget who was refused too long ago."""
        for key in self._claims.expire(now):
            if self._idle.get(key, self._virtual) < self._virtual:
                del self._idle[key]

    def remove(self, wait: Wait) -> bool:
        """Take one out that is no longer to be served; whether it was here."""
        asker = wait.task.asker
        flow = self._flows.get((asker.priority, asker.tenant))
        if flow is None or wait not in flow.waits:
            return False
        self._take(flow, flow.waits.index(wait))
        return True

    def last(self) -> Wait | None:
        """Who would be served last of all; None when nobody waits."""
        flows = self._flows.values()
        if not flows:
            return None
        return max(flows, key=lambda f: (f.start + f.load_s / f.weight, -f.key[0])).waits[-1]

    def _next(self) -> Flow | None:
        flows = self._flows
        if len(flows) == 1:
            return next(iter(flows.values()))
        return min(flows.values(), key=lambda f: (f.start, -f.key[0]), default=None)

    def _take(self, flow: Flow, at: int) -> None:
        load_s = flow.waits.pop(at).task.load_s
        flow.load_s -= load_s
        self.load_s -= load_s
        self.count -= 1
        if not flow.waits:
            del self._flows[flow.key]
            if flow.start > self._virtual or flow.key in self._claims:
                self._idle[flow.key] = flow.start
                self._forget()
        if not self.count:
            self.load_s = 0.0

    def _start(self, key: FlowKey) -> float:
        """The virtual start of a flow's next request, of one that waits the first's."""
        flow = self._flows.get(key)
        if flow is not None:
            return flow.start
        behind = self._claims.most_behind(key)
        return max(self._virtual - behind, self._idle.get(key, self._virtual))

    def _served(self, key: FlowKey, weight: float) -> None:
        parts = self._parts
        for part in parts.values():
            part[0] -= MEMORY * part[0]
        own = parts.setdefault(key, [0.0, weight])
        own[0] += MEMORY
        own[1] = weight
        self._claims.used(key)
        if own[0] >= 1.0 - LEAST_PART or len(parts) > 1 / LEAST_PART:
            self._parts = {k: p for k, p in parts.items() if p[0] >= LEAST_PART}

    def _forget(self) -> None:
        if len(self._idle) > MOST_IDLE:
            kept = self._claims
            self._idle = {k: s for k, s in self._idle.items() if s > self._virtual or k in kept}
        while len(self._idle) > MOST_IDLE:
            self._idle.pop(next(iter(self._idle)))

    def _weight(self, asker: Asker) -> float:
        weight = max(asker.weight, 1e-6)
        return weight * self._priority_step**asker.priority if asker.priority else weight


def _with_those_to_come(ahead: float, comes: list[tuple[float, float, float]]) -> float:
    """Load ahead with what flows will ask for meanwhile: each its part of all that is served
    until then, beyond what of it waits already, and no more than goes before.
    """
    found = ahead
    for _ in range(ROUNDS):
        found = ahead + sum(
            min(max(part * found - waits, 0.0), most - waits) for part, waits, most in comes
        )
    return found


def _load_before(flow: Flow, deadline_s: float) -> float:
    """Of a flow's requests, those whose deadline is no later."""
    if flow.waits[-1].task.deadline_s <= deadline_s:
        return flow.load_s
    return sum(w.task.load_s for w in flow.waits if w.task.deadline_s <= deadline_s)
