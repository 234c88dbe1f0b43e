"""The brain of the data plane: which replica takes a request, when, and whether at all.

    arrive -> groups that can begin to answer in time -> router (model, group) -> replica
                                                           | no slot: fair queue -> replica
                                                           | no group left: refuse, and say when

A request is counted in flight by its `Lease` alone, from dispatch to `Lease.done`.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace

from placement.plan import Plan
from serve_apps.flow.admission import Admission, Request
from serve_apps.flow.affinity import Affinity
from serve_apps.flow.engine import Engine
from serve_apps.flow.group import Group
from serve_apps.flow.health import Health
from serve_apps.flow.lengths import Lengths
from serve_apps.flow.nouns import (
    Asker,
    Lease,
    RefusalKind,
    Refused,
    Replica,
    Result,
    Task,
    Wait,
)
from serve_apps.flow.pool import Pool
from serve_apps.flow.retries import RetryBudget
from serve_apps.flow.settings import FlowSettings
from serve_apps.flow.snapshot import FlowSnapshot
from serve_apps.flow.waiting import Heartbeat, settled, until
from serve_apps.router.base import (
    Decision,
    NoGroupLeftError,
    Router,
    RouteRequest,
    WeighsLoad,
)
from serve_apps.router.live import LivePrices

UPKEEP_S = 0.05
DEFAULTS = FlowSettings()
MOST_MOVES = 2
"""From queue to queue; who is displaced once more is refused."""


class Dispatcher:
    """Decides which replica takes a request, when, and whether at all.

    Called from one thread. In asyncio `dispatch` does all; elsewhere use `try_dispatch`, and call
    `tick` every 50 ms or so while requests wait.
    """

    def __init__(
        self,
        plan: Plan,
        router: Router,
        clock: Callable[[], float] = time.monotonic,
        *,
        settings: FlowSettings = DEFAULTS,
        seed: int = 0,
    ) -> None:
        rng = random.Random(seed)
        self._clock = clock
        self._settings = settings
        self._pool = Pool(settings, rng)
        self._affinity = Affinity()
        self._health = Health(settings, rng)
        self._admission = Admission(settings)
        self._budget = RetryBudget(settings.retry_share, settings.retry_start, settings.retry_most)
        self._heartbeat = Heartbeat(self._beat)
        self._draining = False
        self._ticked_s = clock()
        self._arrived = self._dispatched = self._shed = self._retried = self._in_flight = 0
        self._refused: Counter[RefusalKind] = Counter()
        self.configure(plan, router)

    # What is there.

    def configure(self, plan: Plan, router: Router) -> None:
        """Serve by another plan from now on; what is in flight stays counted.

        Groups that the plan has no more take nothing new; who waits for them goes elsewhere.
        """
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

    def replicas(self, found: Iterable[Replica]) -> None:
        """Take in what discovery sees now; those that stay keep their counts and health."""
        now = self._clock()
        self._pool.found(found, now)
        for group in self._pool.groups.values():
            self._pump(group, now)
            self._move_on_if_closed(group)

    # A request's way.

    async def dispatch(
        self,
        asked: RouteRequest,
        caller: Asker,
        deadline_s: float | None = None,
        avoid: Collection[str] = (),
    ) -> Lease:
        """As `try_dispatch`, and waits; when cancelled, the request leaves no trace.

        Raises:
            Refused: it is not served; says why, and when to ask again.
            UnknownModelError: the pool does not serve the model asked for.
        """
        answer = self.try_dispatch(asked, caller, deadline_s, avoid)
        if isinstance(answer, Wait):
            self._heartbeat.start()
        return await settled(answer)

    def try_dispatch(
        self,
        asked: RouteRequest,
        caller: Asker,
        deadline_s: float | None = None,
        avoid: Collection[str] = (),
    ) -> Lease | Wait | Refused:
        """Place a request now, or let it wait, or refuse it; never blocks.

        ``deadline_s``: seconds from now by which the first byte is to come (of an answer that is
        not streamed: all of it); None: the first token by the plan's SLO. ``avoid``: ids of
        replicas not to use.

        Raises:
            UnknownModelError: the pool does not serve the model asked for.
        """
        now = self._clock()
        self._arrived += 1
        if self._draining:
            return self._no(Refused("unavailable", 1.0, "this gateway is shutting down"))
        if now - self._ticked_s >= UPKEEP_S:
            self.tick()
        self._budget.arrived()
        if caller.priority:
            asked = replace(asked, importance=self._settings.priority_step**caller.priority)
        request = self._request(asked, caller, now, deadline_s, avoid)
        self._admission.block(request, self._pool.serving(asked.model), now)
        return self._place(request, None, now)

    def retry(self, lease: Lease) -> Lease | None:
        """Another replica for a request whose engine failed before the first byte.

        Call it after ``lease.done`` with ``UNREACHABLE``, ``TIMEOUT`` or ``ENGINE_ERROR`` (502,
        503, 504). None: no replica is left, no time, or the retry budget is spent. A connection
        that failed costs no budget: its replica is ejected, so there are few.
        """
        task, now = lease.task, self._clock()
        if lease.first_byte_s is not None or lease.attempt >= self._settings.attempts:
            return None
        if task.given and now >= task.deadline_s:
            return None
        tried = (*lease.tried, lease.replica.id)
        found = self._elsewhere(task, tried, now)
        if found is None or not (lease.result is Result.UNREACHABLE or self._budget.spend()):
            return None
        group, engine, decision = found
        again = self._lease(group, engine, replace(task, decision=decision), now)
        again.attempt, again.tried, again.waited_s = lease.attempt + 1, tried, lease.waited_s
        self._retried += 1
        return again

    def tick(self) -> None:
        """Let time pass: refuse those that waited too long, use room that came free."""
        now = self._clock()
        elapsed_s, self._ticked_s = now - self._ticked_s, now
        self._prices.tick()
        for group in self._pool.groups.values():
            for engine in group.open:
                engine.relax(elapsed_s, now)
                engine.catch_up(now)
            group.full = False
            self._pump(group, now)
            for wait in [w for w in group.queue if w.task.last_s <= now]:
                self._turn_away(group, wait)

    # Health.

    def due_probes(self, now: float | None = None) -> list[Replica]:
        """Replicas to be asked for their health now, each with a short timeout; ask again every
        50 to 100 ms, and tell `probed`.
        """
        groups = self._pool.groups.values()
        return self._health.due(groups, self._clock() if now is None else now)

    def probed(self, replica: Replica, ok: bool) -> None:
        """What a probe said; a replica that is gone meanwhile is left alone."""
        found = self._pool.engines.get(replica.id)
        if found is not None:
            group, engine = found
            now = self._clock()
            self._health.probed(group, engine, ok, now)
            self._pump(group, now)
            self._move_on_if_closed(group)

    # The end.

    def drain(self) -> None:
        """Refuse everything new; what waits or is in flight goes on."""
        self._draining = True

    async def drained(self) -> None:
        """Return when nothing waits and nothing is in flight."""
        await until(lambda: not self.in_flight and not self.queued)

    # What others ask.

    @property
    def in_flight(self) -> int:
        """Leases that are not done."""
        return self._in_flight

    @property
    def queued(self) -> int:
        """Requests that wait for a slot."""
        return sum(len(g.queue) for g in self._pool.groups.values())

    def now(self) -> float:
        """The time in seconds."""
        return self._clock()

    def begins_in_s(self, asked: RouteRequest, caller: Asker) -> dict[str, float]:
        """Predicted seconds to the first token in each group that may answer, queue included."""
        now = self._clock()
        request = self._request(asked, caller, now, None)
        return {
            g.name: self._admission.begins_in_s(request, g, now)
            for g in self._pool.serving(asked.model)
        }

    def occupancy(self, group: str) -> tuple[int, int, int]:
        """In flight, queued, and what the group's open engines hold at most."""
        found = self._pool.groups[group]
        return found.in_flight, len(found.queue), found.slots

    def strain(self, group: str) -> float:
        """See `router.live.LoadView`."""
        return self._pool.groups[group].strain

    def snapshot(self) -> FlowSnapshot:
        """Everything at this moment."""
        now = self._clock()
        return FlowSnapshot(
            time_s=now,
            groups=self._pool.snapshot(self._prices, now),
            arrived=self._arrived,
            dispatched=self._dispatched,
            shed=self._shed,
            retried=self._retried,
            refused=dict(self._refused),
            draining=self._draining,
        )

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
            cached = self._affinity.cached(asked, self._clock())
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
                groups = self._pool.serving(request.asked.model)
                return self._no(self._admission.refusal(request, groups))
            group = self._pool.groups[decision.group]
            task = self._task(request, decision, group)
            if not group.queue:
                engine = group.pick(task, now, request.cached, request.avoid)
                if engine is not None:
                    return self._lease(group, engine, task, now)
                group.full = True
            late_s = self._admission.late_s(request, group, now)
            if late_s <= 0:
                if len(group.queue) < self._settings.most_queued:
                    return self._enqueue(request, group, task, wait)
                request.crowded = True
            request.blocked[group.name] = late_s

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
        """Turn away whoever is served last and would now be too late, because of this one."""
        while (last := group.queue.last()) is not None and last is not newest:
            ahead_s = group.queue.load_s - last.task.load_s
            begins_s = self._clock() + group.wait_s(ahead_s, last.task.load_s)
            if begins_s <= last.task.deadline_s:
                return
            self._turn_away(group, last)

    def _lease(self, group: Group, engine: Engine, task: Task, now: float) -> Lease:
        lease = Lease(self, group, engine, task, now)
        cached = task.request.cached
        if cached is not None and cached.replica == engine.replica.id:
            lease.prefill_tokens = max(lease.prefill_tokens - cached.tokens, 1.0)
        lease.predicted_ttft_s = engine.ttft_s(lease.prefill_tokens, now)
        lease.predicted_tpot_s = engine.tpot_s(lease.prefill_tokens, now)
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
        group.queue.remove(wait)
        self._move(wait, {group.name: group.wait_s(group.queue.load_s, 0.0)})

    def _move_on_if_closed(self, group: Group) -> None:
        if group.queue and not group.open:
            self._move_on(group)

    def _move_on(self, group: Group) -> None:
        """Whoever waits for a group without engines goes elsewhere."""
        for wait in list(group.queue):
            group.queue.remove(wait)
            self._move(wait, {})

    def _move(self, wait: Wait, blocked: dict[str, float]) -> None:
        now, request = self._clock(), wait.task.request
        request.blocked = blocked
        request.moves += 1
        groups = self._pool.serving(request.asked.model)
        if request.moves > MOST_MOVES:
            wait.give(self._no(self._admission.refusal(request, groups)))
            return
        self._admission.block(request, [g for g in groups if g.name not in blocked], now)
        answer = self._place(request, wait, now)
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
            except NoGroupLeftError:
                return None
            group = self._pool.groups.get(decision.group)

    def _no(self, refused: Refused) -> Refused:
        self._refused[refused.kind] += 1
        return refused

    def _beat(self) -> bool:
        self.tick()
        return self.queued > 0
