"""The brain of the data plane: which replica takes a request, when, and whether at all.

    arrive -> groups that can begin to answer in time -> router (model, group) -> replica
                                                           | no slot: fair queue -> replica
                                                           | no group left: refuse, and say when

A request is counted in flight by its `Lease` alone, from dispatch to `Lease.done`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace

from placement.plan import Plan
from serve_apps.flow.desk import Desk
from serve_apps.flow.nouns import (
    Anyone,
    Asker,
    Lease,
    Refused,
    Replica,
    Result,
    Wait,
)
from serve_apps.flow.retries import RetryBudget
from serve_apps.flow.settings import FlowSettings
from serve_apps.flow.snapshot import FlowSnapshot
from serve_apps.flow.waiting import Heartbeat, settled, until
from serve_apps.router.base import (
    Router,
    RouteRequest,
)

UPKEEP_S = 0.05
MOST_PATIENCES = 4.0
"""Beyond so many times its patience a request without a byte is given up in any case."""
DEFAULTS = FlowSettings()


class Dispatcher(Desk):
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
        super().__init__(clock, settings, random.Random(seed))
        self._budget = RetryBudget(settings.retry_share, settings.retry_start, settings.retry_most)
        self._heartbeat = Heartbeat(self._beat)
        self._draining = False
        self._ticked_s = clock()
        self._arrived = self._retried = 0
        self.configure(plan, router)

    # What is there.

    def configure(self, plan: Plan, router: Router) -> None:
        """Serve by another plan from now on; what is in flight stays counted.

        Groups that the plan has no more take nothing new; who waits for them goes elsewhere.
        """
        self._adopt(plan, router)

    def replicas(self, found: Iterable[Replica]) -> None:
        """Take in what discovery sees now; those that stay keep their counts and health."""
        now = self._clock()
        self._pool.found(found, now)
        for group in self._pool.groups.values():
            self._pump(group, now)
            self._move_on_if_closed(group)

    def scaled(self, wanted: Mapping[str, int], cold_start_s: float | None = None) -> None:
        """So many replicas are wanted of these groups; ``cold_start_s``: what a start takes."""
        now = self._clock()
        for name, group in self._pool.groups.items():
            if name in wanted:
                group.waking.tell(wanted[name], cold_start_s, now)

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
        now = self._clock()
        if not self._in_time(lease, now):
            return None
        task, tried = lease.task, (*lease.tried, lease.replica.id)
        found = self._elsewhere(task, tried, now)
        if found is None or not (lease.result is Result.UNREACHABLE or self._budget.spend()):
            return None
        group, engine, decision = found
        again = self._lease(group, engine, replace(task, decision=decision), now)
        again.attempt, again.tried, again.waited_s = lease.attempt + 1, tried, lease.waited_s
        self._retried += 1
        return again

    def more_patience_s(self, lease: Lease) -> float:
        """Seconds for which to wait on for a first byte that is overdue; 0: give the engine up.

        Who could not be sent elsewhere gains nothing by that: on a host without a core to spare
        all engines are late together. Asked again and again it ends after some patiences more.
        """
        now = self._clock()
        overlong = now - lease.dispatched_s > MOST_PATIENCES * lease.patience_s
        if overlong or not self._in_time(lease, now):
            return 0.0
        tried = (*lease.tried, lease.replica.id)
        if self._budget.enough and self._elsewhere(lease.task, tried, now) is not None:
            return 0.0
        return self._settings.least_silence_s

    def _in_time(self, lease: Lease, now: float) -> bool:
        """Whether another engine may try at all."""
        if lease.first_byte_s is not None or lease.attempt >= self._settings.attempts:
            return False
        return not lease.task.given or now < lease.task.deadline_s

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
            group.queue.pass_time(now)
            self._pump(group, now)
            for wait in [w for w in group.queue if w.task.last_s <= now]:
                self._turn_away(group, wait)

    # Health.

    def stalled(self, seconds: float) -> None:
        """This process did not run for so long, until now: no engine is late by that."""
        now = self._clock()
        for _, engine in self._pool.engines.values():
            engine.excuse(seconds, now)

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
    def arrived(self) -> int:
        """Requests so far, those included that were refused."""
        return self._arrived

    @property
    def gateways(self) -> int:
        """How many dispatchers share the engines."""
        return self._settings.gateways

    @property
    def in_flight(self) -> int:
        """Leases that are not done."""
        return self._in_flight

    @property
    def queued(self) -> int:
        """Requests that wait for a slot."""
        return sum(len(g.queue) for g in self._pool.groups.values())

    def occupancy(self, group: str) -> tuple[int, int, int]:
        """In flight, queued, and what the group's open engines hold at most."""
        found = self._pool.groups[group]
        return found.in_flight, len(found.queue), found.slots

    def begins_in_s(self, asked: RouteRequest, group: str) -> tuple[float, float]:
        """See `router.live.FlowView`."""
        found, request = self._pool.groups[group], self._asking
        if request is None or request.asked is not asked:
            request = self._request(asked, Anyone(), self._clock(), None)
        begins_s = request.begins.get(group)
        if begins_s is None:
            begins_s = self._admission.begins_in_s(request, found, self._clock())
        return begins_s, found.law.lone_ttft_s(float(asked.input_tokens))

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

    # Inside.

    def _beat(self) -> bool:
        self.tick()
        return self.queued > 0
