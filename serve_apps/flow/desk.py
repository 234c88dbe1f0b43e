"""The way of one request from the router's choice to its replica, its queue, or its refusal."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import replace

from placement.plan import Plan
from serve_apps.flow.admission import Admission, Request
from serve_apps.flow.affinity import Affinity
from serve_apps.flow.claims import claim_s
from serve_apps.flow.engine import Engine
from serve_apps.flow.group import Group
from serve_apps.flow.health import Health
from serve_apps.flow.lengths import Lengths
from serve_apps.flow.nouns import Asker, Lease, RefusalKind, Refused, Result, Task, Wait
from serve_apps.flow.pool import Pool
from serve_apps.flow.settings import FlowSettings
from serve_apps.router.base import (
    Decision,
    NoGroupLeftError,
    Router,
    RouteRequest,
    UnknownModelError,
    WeighsLoad,
)
from serve_apps.router.live import LivePrices

MOST_MOVES = 2
"""From queue to queue; who is displaced once more is refused."""


class Desk:
    """Keeps count of every lease and wait, and gives room that comes free to who is next.

    The part of the `Dispatcher` that nobody calls but itself, its leases and its waits.
    """

    def __init__(
        self, clock: Callable[[], float], settings: FlowSettings, rng: random.Random
    ) -> None:
        self._clock = clock
        self._settings = settings
        self._pool = Pool(settings, rng)
        self._affinity = Affinity()
        self._health = Health(settings, rng)
        self._admission = Admission(settings)
        self._dispatched = self._shed = self._in_flight = 0
        self._refused: Counter[RefusalKind] = Counter()
        self._asking: Request | None = None
        """What the router is asked about; it asks back how soon each group would begin."""

    def now(self) -> float:
        """The time in seconds."""
        return self._clock()

    def strain(self, group: str) -> float:
        """See `router.live.LoadView`."""
        return self._pool.groups[group].strain

    # What leases and waits tell.

    def note_first_byte(self, lease: Lease) -> None:
        """For `Lease` alone."""
        now = self._clock()
        lease.first_byte_s = now
        lease.engine.begin(lease, now)
        self._freed(lease, now)

    def note_done(self, lease: Lease, result: Result, output_tokens: int | None) -> None:
        """For `Lease` alone."""
        now = self._clock()
        known = output_tokens if result is Result.OK else None
        lease.engine.release(lease, now, known)
        lease.group.in_flight -= 1
        self._in_flight -= 1
        asked = lease.task.asked
        if result is Result.OK:
            lease.engine.completions += 1
            if known is not None:
                self._lengths.learn(asked.model, asked.input_tokens, known)
        self._health.note(lease.group, lease.engine, lease, result, now)
        self._freed(lease, now)
        self._move_on_if_closed(lease.group)

    def note_cancelled(self, wait: Wait) -> None:
        """For `Wait` alone."""
        group = self._pool.groups.get(wait.task.decision.group)
        if group is not None:
            group.queue.remove(wait)

    # Inside.

    def _adopt(self, plan: Plan, router: Router) -> None:
        self._router = router
        self._lengths = Lengths(plan)
        self._weighs_load = isinstance(router, WeighsLoad)
        own = getattr(router, "prices", None)
        self._prices = own if isinstance(own, LivePrices) else LivePrices(plan, self._clock)
        self._counts_work = self._prices is not own
        left = self._pool.configure(plan)
        self._prices.heed(self)
        for group in left:
            self._move_on(group)

    def _request(
        self,
        asked: RouteRequest,
        asker: Asker,
        arrived_s: float,
        deadline_s: float | None,
        avoid: Collection[str] = (),
    ) -> Request:
        cached, holder = None, None
        if asked.session or asked.prefix is not None:
            cached = self._affinity.cached(asked, arrived_s)
            found = self._pool.engines.get(cached.replica) if cached is not None else None
            holder = found[0] if found is not None else None
        output = self._lengths.expected(asked.model, asked.input_tokens, asked.max_output_tokens)
        return Request(asked, asker, arrived_s, deadline_s, avoid, output, cached, holder, {})

    def _route(self, request: Request) -> Decision:
        """The router's choice among the groups that are not blocked.

        Raises:
            NoGroupLeftError: there is none.
        """
        asked, blocked = request.asked, request.blocked
        self._asking = request
        if self._weighs_load or not blocked:
            return self._router.route(asked, blocked)
        meant = self._router.route(asked)
        if meant.group not in blocked:
            return meant
        decision = self._router.route(asked, blocked)
        return replace(decision, shed=True) if decision.model != meant.model else decision

    def _place(self, request: Request, wait: Wait | None, now: float) -> Lease | Wait | Refused:
        """A replica, else a place in a queue, in the first group that the router names and that
        can answer in time; ``wait`` is the place in another queue that it had before.
        """
        while True:
            try:
                decision = self._route(request)
            except NoGroupLeftError:
                return self._refuse(request, now)
            group = self._pool.groups[decision.group]
            task = self._task(request, decision, group)
            if not group.queue and not self._kept(request, group, now):
                engine = group.pick(task, now, request.cached, request.avoid)
                if engine is not None:
                    if group.queue.contested:
                        load_s = group.load_s(request.asked.input_tokens, task.output_tokens)
                        group.queue.went_past(request.asker, load_s)
                    return self._lease(group, engine, task, now)
                group.full = True
            late_s = self._admission.late_s(request, group, now, waits=True)
            if late_s <= 0:
                if len(group.queue) < self._settings.most_queued:
                    return self._enqueue(request, group, task, wait)
                request.crowded = True
            request.blocked[group.name] = late_s

    def _kept(self, request: Request, group: Group, now: float) -> bool:
        """Whether what room there is is kept for others; not where they could as well wait for it,
        as this one could.
        """
        kept = group.keeps_from(request.asker)
        return kept and self._admission.late_s(request, group, now, waits=True) > 0

    def _task(self, request: Request, decision: Decision, group: Group) -> Task:
        asked, output = request.asked, decision.output_tokens
        allowed_s = self._admission.allowed_s(request, group, float(asked.input_tokens))
        given = request.deadline_s is not None
        grace = 1.0 if given else 1.0 + self._settings.grace
        return Task(
            asked=asked,
            asker=request.asker,
            arrived_s=request.arrived_s,
            deadline_s=request.arrived_s + allowed_s,
            last_s=request.arrived_s + grace * allowed_s,
            given=given,
            decision=decision,
            output_tokens=request.output_tokens if output is None else output,
            request=request,
        )

    def _enqueue(self, request: Request, group: Group, task: Task, wait: Wait | None) -> Wait:
        task.load_s = group.load_s(task.asked.input_tokens, task.output_tokens)
        predicted_s = self._admission.wait_s(request, group) / group.wait_ratio
        if wait is None:
            wait = Wait(self, task)
        wait.task, wait.uncorrected_s = task, predicted_s
        group.queue.push(wait)
        self._displace(group, wait)
        return wait

    def _displace(self, group: Group, newest: Wait) -> None:
        """Turn away whoever is served last and would now be far too late, because of this one.

        Who was let in is to be served: a newcomer's wait counts those who come before it later, so
        this is for flows that nobody could reckon with.
        """
        while (last := group.queue.last()) is not None and last is not newest:
            ahead_s = group.queue.load_s - last.task.load_s
            begins_s = self._clock() + group.wait_s(ahead_s, last.task.load_s)
            if begins_s <= last.task.last_s:
                return
            self._turn_away(group, last)

    def _lease(self, group: Group, engine: Engine, task: Task, now: float) -> Lease:
        lease = Lease(self, group, engine, task, now)
        cached = task.request.cached
        if cached is not None and cached.replica == engine.replica.id:
            lease.prefill_tokens = max(lease.prefill_tokens - cached.tokens, 1.0)
        engine.take(lease, now)
        if len(group.open) > 1 or len(self._pool.serving(task.asked.model)) > 1:
            lease.patience_s = lease.overdue_s
        group.in_flight += 1
        self._in_flight += 1
        self._dispatched += 1
        self._shed += task.decision.shed
        if task.asked.session or task.asked.prefix is not None:
            self._affinity.remember(task.asked, engine.replica.id, task.output_tokens, now)
        if self._counts_work:
            load_s = task.load_s or group.load_s(task.asked.input_tokens, task.output_tokens)
            self._prices.add(group.name, load_s)
        return lease

    def _freed(self, lease: Lease, now: float) -> None:
        group = lease.group
        group.full = False
        if group.queue:
            self._pump(group, now)
        elif len(self._pool.serving(group.model)) > 1:
            self._help_out(group, now)

    def _pump(self, group: Group, now: float) -> None:
        """Give room to those that wait, in the queue's order."""
        while (wait := group.queue.head()) is not None:
            task = wait.task
            engine = group.pick(task, now, task.request.cached, task.request.avoid)
            if engine is None:
                return
            group.waited(wait.uncorrected_s, now - task.arrived_s)
            if now + engine.ttft_s(task.asked.input_tokens, now) > task.last_s:
                self._turn_away(group, wait)
                continue
            group.queue.pop()
            wait.give(self._lease(group, engine, task, now))

    def _help_out(self, group: Group, now: float) -> None:
        """A group with room and no queue takes over from others that host the same model."""
        for other in self._pool.serving(group.model):
            while other is not group and (wait := other.queue.head()) is not None:
                task = wait.task
                room = group.holds(task.asked.input_tokens + task.output_tokens)
                engine = group.pick(task, now, None, task.request.avoid) if room else None
                if engine is None:
                    break
                other.queue.pop()
                reason = f"{task.decision.reason}; taken over from {other.name}"
                task.decision = replace(task.decision, group=group.name, reason=reason)
                wait.give(self._lease(group, engine, task, now))

    def _turn_away(self, group: Group, wait: Wait) -> None:
        """It would be too late here: another group's turn, else refuse it."""
        if group.queue.remove(wait):  # else moving another has moved or refused it already
            self._move(wait, {group.name: group.wait_s(group.queue.load_s, 0.0)})

    def _move_on_if_closed(self, group: Group) -> None:
        if group.queue and not group.open:
            self._move_on(group)

    def _move_on(self, group: Group) -> None:
        """Whoever waits for a group without engines goes elsewhere."""
        for wait in list(group.queue):
            if group.queue.remove(wait):
                self._move(wait, {})

    def _move(self, wait: Wait, blocked: dict[str, float]) -> None:
        now, request = self._clock(), wait.task.request
        request.blocked = blocked
        request.begins.clear()
        request.moves += 1
        groups = self._pool.serving(request.asked.model)
        if request.moves > MOST_MOVES:
            wait.give(self._refuse(request, now))
            return
        self._admission.block(request, [g for g in groups if g.name not in blocked], now)
        answer: Lease | Wait | Refused
        try:
            answer = self._place(request, wait, now)
        except UnknownModelError:  # a new plan dropped the model while it waited
            answer = self._refuse(request, now)
        if answer is not wait:
            wait.give(answer)  # type: ignore[arg-type]

    def _elsewhere(
        self, task: Task, tried: Collection[str], now: float
    ) -> tuple[Group, Engine, Decision] | None:
        """An engine that was not tried, of the same group if there is one; full ones too."""
        group, decision = self._pool.groups.get(task.decision.group), task.decision
        blocked: set[str] = set()
        while True:
            engines = [e for e in group.open if e.replica.id not in tried] if group else []
            if group is not None and engines:
                engine = group.pick(task, now, None, tried)
                return group, engine or min(engines, key=lambda e: e.in_flight), decision
            blocked.add(decision.group)
            try:
                decision = self._router.route(task.asked, blocked)
            except (NoGroupLeftError, UnknownModelError):
                return None
            group = self._pool.groups.get(decision.group)

    def _refuse(self, request: Request, now: float) -> Refused:
        """Nobody serves it, now; its sender is remembered for a moment."""
        groups = self._pool.serving(request.asked.model)
        refused = self._admission.refusal(request, groups, now)
        self._admission.claim(request, groups, now + claim_s(refused.retry_after_s))
        return self._no(refused)

    def _no(self, refused: Refused) -> Refused:
        self._refused[refused.kind] += 1
        return refused
