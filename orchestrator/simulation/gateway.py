"""A plain, quick model of what becomes of a request that its group cannot take at once.

A group without replicas is passed over at once, one that is full after a second's wait; who is
turned away everywhere waits once more for the first that was full; 429 and 503 are told apart.
Each group serves those that wait in order of arrival. Clients stream: an engine that dies before
the first token costs one retry, after it the answer is cut.

The data plane refuses sooner, by predicted deadline: `dispatching` simulates its own code, at a
fiftieth of the speed. In a fleet that keeps its SLO nobody waits here: plans are tried with this.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from orchestrator.simulation import kernel
from orchestrator.simulation.agenda import Agenda
from orchestrator.simulation.fleet import Fleet
from orchestrator.simulation.result import Outcome
from serve_apps.router.base import Decision, NoGroupLeftError, Router, RouteRequest

SPILL_AFTER_S = 1.0
QUEUE_TIMEOUT_S = 60.0
ATTEMPTS = 2
"""Engines that a request may lose before it is given up."""


@dataclass(eq=False, slots=True)
class Call:
    """A request that could not be sent at once."""

    request: int
    decision: Decision
    avoid: set[str] = field(default_factory=set)
    full: Decision | None = None
    last: bool = False
    waiting: bool = False


class Gateway:
    """Sends requests on, and keeps those that wait for a slot."""

    def __init__(
        self,
        fleet: Fleet,
        agenda: Agenda,
        router: Router,
        asked: Callable[[int], RouteRequest],
    ) -> None:
        self._fleet = fleet
        self._agenda = agenda
        self._router = router
        self._asked = asked
        self._queues: list[deque[Call]] = [deque() for _ in fleet.names]
        self._waiting = [0] * len(fleet.names)
        self._room_s = [math.inf] * len(fleet.names)
        self._index = {name: g for g, name in enumerate(fleet.names)}

    def queued(self, group: int) -> int:
        """Requests that wait for a slot in a group."""
        return self._waiting[group]

    def place(self, request: int, decision: Decision, at_s: float) -> None:
        """Send a request to the group decided on, or do what becomes of it if that cannot be."""
        self._try(Call(request, decision), decision, at_s)

    def lose(self, request: int, decision: Callable[[], Decision], at_s: float) -> None:
        """A request's replica died: cut, sent again to its group, or given up."""
        row = self._fleet.state.requests[request]
        row["losses"] += 1
        if row["first_token_s"] <= at_s:
            row["outcome"] = Outcome.CUT
            return
        if row["losses"] == ATTEMPTS:
            row["outcome"] = Outcome.UNAVAILABLE
            return
        row["computed"] = 0
        self.place(request, decision(), at_s)

    def next_room_s(self, until_s: float) -> float:
        """When a slot comes free in a group that someone waits for, no later than a time."""
        for g in range(len(self._queues)):
            if self._room_s[g] == math.inf and self._waiting[g]:
                slots = self._fleet.slots[g]
                self._room_s[g] = kernel.next_room(self._fleet.state, g, slots, until_s)
        return min(self._room_s)

    def admit(self, at_s: float) -> None:
        """Give free slots to those that wait."""
        for g, queue in enumerate(self._queues):
            if self._room_s[g] > at_s and self._room_s[g] < math.inf:
                continue
            self._room_s[g] = math.inf
            self._fleet.state.slots[g] = self._fleet.slots[g]
            while queue and (not queue[0].waiting or self._sent(queue[0], g, at_s)):
                queue.popleft()
            self._close_if_queued(g)

    def _sent(self, call: Call, group: int, at_s: float) -> bool:
        if kernel.offer(self._fleet.state, call.request, group, at_s) != kernel.SENT:
            return False
        call.waiting = False
        self._waiting[group] -= 1
        return True

    def _try(self, call: Call, decision: Decision | None, at_s: float) -> None:
        """As `Completions._answer`: the groups that may take it, last the first full one."""
        while decision is not None:
            call.decision = decision
            answer = self._offer(call, decision, at_s)
            if answer == kernel.SENT:
                return
            if answer == kernel.FULL:
                self._wait(call, at_s, SPILL_AFTER_S if decision.others else QUEUE_TIMEOUT_S)
                return
            call.avoid.add(decision.group)
            decision = self._decide(call)
        answer = kernel.NO_REPLICA
        if call.full is not None:
            call.decision, call.last = call.full, True
            answer = self._offer(call, call.full, at_s)
        if answer == kernel.FULL:
            self._wait(call, at_s, QUEUE_TIMEOUT_S)
        elif answer == kernel.NO_REPLICA:
            self._end(call, Outcome.UNAVAILABLE)

    def _timed_out(self, call: Call, at_s: float) -> None:
        if not call.waiting:
            return
        call.waiting = False  # its queue passes it over from now on
        self._waiting[self._index[call.decision.group]] -= 1
        if call.last or not call.decision.others:
            self._end(call, Outcome.OVERLOADED)
            return
        avoid = {*call.avoid, call.decision.group}
        again = Call(call.request, call.decision, avoid, call.full or call.decision)
        self._try(again, self._decide(again), at_s)

    def _offer(self, call: Call, decision: Decision, at_s: float) -> int:
        return kernel.offer(self._fleet.state, call.request, self._index[decision.group], at_s)

    def _decide(self, call: Call) -> Decision | None:
        try:
            return self._router.route(self._asked(call.request), call.avoid)
        except NoGroupLeftError:
            return None

    def _wait(self, call: Call, at_s: float, wait_s: float) -> None:
        group = self._index[call.decision.group]
        call.waiting = True
        self._queues[group].append(call)
        self._waiting[group] += 1
        self._close_if_queued(group)
        self._agenda.at(at_s + wait_s, lambda due_s: self._timed_out(call, due_s))

    def _close_if_queued(self, group: int) -> None:
        """Nobody overtakes those that wait."""
        if self._waiting[group]:
            self._fleet.state.slots[group] = 0

    def _end(self, call: Call, outcome: Outcome) -> None:
        self._fleet.state.requests[call.request]["outcome"] = outcome
