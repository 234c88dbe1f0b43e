"""A simulated fleet behind the production dispatcher: `simulate_flow`.

Here a request is not sent to the least busy replica of the group that a router names, but goes
through `serve_apps.flow.Dispatcher` itself, on the simulation's clock: it predicts, places, lets
wait, refuses and retries as in production, and is told of first tokens, ends and deaths.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from orchestrator.simulation import kernel
from orchestrator.simulation.events import Autoscaler, Event, GroupState, check_events
from orchestrator.simulation.load import Load, load_of
from orchestrator.simulation.result import FleetTimings, Outcome
from orchestrator.simulation.run import Conditions, _Run
from orchestrator.simulation.scaling import Scaling
from orchestrator.simulator import Arrivals, Floats, Ints
from placement.plan import Plan
from profiler.errors import InputError
from serve_apps.flow.dispatcher import DEFAULTS, Dispatcher
from serve_apps.flow.nouns import Anyone, Asker, Lease, Refused, Replica, Result, Wait
from serve_apps.flow.settings import FlowSettings
from serve_apps.router.base import Router, RouteRequest, UnknownModelError
from serve_apps.router.table import RouteTable

BEAT_S = 0.05
"""How often the dispatcher looks at its queues while anyone waits."""
NOBODY = (Anyone(),)


@dataclass(frozen=True)
class FlowTimings(FleetTimings):
    """`FleetTimings`, and what the dispatcher did; all arrays have one entry per request.

    ``shed``: load moved it to another model. ``waited_s``: time in the queue, NaN for those that
    never left it. ``refused_s``: when it was refused, infinite for those that were not.
    ``attempts`` counts the replicas that it was sent to.
    """

    shed: NDArray[np.bool_] = field(repr=False)
    waited_s: Floats = field(repr=False)
    refused_s: Floats = field(repr=False)
    attempts: Ints = field(repr=False)


@runtime_checkable
class PerRequest(Protocol):
    """A router that is told which request of the trace it is asked about next."""

    def at(self, request: int) -> None:
        """The request's place in the order of arrival."""


@runtime_checkable
class FlowAware(Protocol):
    """A router that looks at the dispatcher; it is shown it once, before it routes."""

    def heed_flow(self, dispatcher: Dispatcher) -> None:
        """Keep it for the decisions to come."""


def simulate_flow(
    plan: Plan,
    traces: Arrivals | Mapping[str, Arrivals],
    *,
    router: Router | None = None,
    askers: Sequence[Asker] = NOBODY,
    asker: Ints | None = None,
    deadline_s: float | None = None,
    events: Iterable[Event] = (),
    autoscaler: Autoscaler | None = None,
    interval_s: float = 10.0,
    conditions: Conditions = Conditions(),  # noqa: B008 - frozen
    settings: FlowSettings = DEFAULTS,
    seed: int = 0,
) -> FlowTimings:
    """Let a plan's fleet answer a trace behind the dispatcher; see `run.simulate` for the rest.

    ``asker`` indexes ``askers``, one entry per request in order of arrival; all are the first
    without it. ``deadline_s`` is what every request gives. A replica that starts or leaves is
    discovered at once; one that dies by the failures of its requests.

    Raises:
        InputError, UnknownNameError: as `run.simulate`; or ``asker`` does not fit the trace.
    """
    load = load_of(plan, traces)
    who = np.zeros(len(load), dtype=np.int64) if asker is None else np.asarray(asker)
    if len(who) != len(load) or (len(who) and not 0 <= who.min() <= who.max() < len(askers)):
        raise InputError(
            f"found {len(who)} askers of {len(askers)}, expected one for each of {len(load)} "
            "requests"
        )
    events = tuple(events)
    check_events(plan, events)
    chosen = router if router is not None else RouteTable(plan)
    run = _FlowRun(plan, load, chosen, conditions, [askers[k] for k in who.tolist()])
    run.begin(Dispatcher(plan, chosen, lambda: run.now_s, settings=settings, seed=seed))
    return run.serve(events, autoscaler, interval_s, deadline_s)


class _FlowRun(_Run):
    """One simulation under way: the fleet lives as in `_Run`, requests as the dispatcher says."""

    def __init__(
        self,
        plan: Plan,
        load: Load,
        router: Router,
        conditions: Conditions,
        askers: list[Asker],
    ) -> None:
        super().__init__(plan, load, router, conditions)
        self._askers = askers
        self._at = router.at if isinstance(router, PerRequest) else None
        self._leases: dict[int, Lease] = {}
        self._seen: list[int] = []
        count = len(load)
        self._shed = np.zeros(count, dtype=np.bool_)
        self._waited_s = np.full(count, np.nan)
        self._refused_s = np.full(count, np.inf)
        self._attempts = np.zeros(count, dtype=np.int64)
        most = int(self._fleet.state.finishing.shape[1]) + 1
        self._begun, self._ended = np.zeros((2, most), dtype=np.int64)

    def begin(self, dispatcher: Dispatcher) -> None:
        """Let the dispatcher see the fleet, and the router the dispatcher."""
        self._dispatcher = dispatcher
        if isinstance(self._router, FlowAware):
            self._router.heed_flow(dispatcher)
        self._discover()

    def group(self, name: str) -> GroupState:
        """See `FleetView`."""
        return self.observe(self._now_s)[name]

    def observe(self, at_s: float) -> dict[str, GroupState]:
        """All groups at a time."""
        queued = {g.name: g.queued for g in self._dispatcher.snapshot().groups}
        return {n: self._fleet.observe(g, at_s, queued[n]) for n, g in self._index.items()}

    def serve(
        self,
        events: tuple[Event, ...],
        autoscaler: Autoscaler | None,
        interval_s: float,
        deadline_s: float | None,
    ) -> FlowTimings:
        """Run to the end of the last request."""
        for event in sorted(events, key=lambda e: e.time_s):
            self.agenda.at(event.time_s, partial(self._befall, event))
        if autoscaler is not None and len(self._load):
            scaling = Scaling(self, self._plan, self._load, autoscaler, interval_s)
            self.agenda.at(interval_s, scaling.turn)
        arrivals = [*self._load.arrival_s.tolist(), math.inf]
        sent, dispatcher = 0, self._dispatcher
        while True:
            arrival_s, due_s = arrivals[sent], self.agenda.next_s
            beat_s = self._now_s + BEAT_S if dispatcher.queued else math.inf
            until_s = min(arrival_s, due_s, beat_s)
            if self._tell_news(until_s):
                continue
            if until_s == math.inf:
                break
            self._now_s = until_s
            if due_s <= until_s:
                self.agenda.do_next()
                self._discover()
            elif arrival_s <= until_s:
                self._ask(sent, deadline_s)
                sent += 1
            else:
                dispatcher.tick()
        timings = self._result()
        parts = {f.name: getattr(timings, f.name) for f in fields(timings)}
        return FlowTimings(
            **parts,
            shed=self._shed,
            waited_s=self._waited_s,
            refused_s=self._refused_s,
            attempts=self._attempts,
        )

    def _tell_news(self, until_s: float) -> bool:
        """Commit the next first tokens or ends, and tell the dispatcher; whether there were any."""
        at_s, begun, ended = kernel.next_news(
            self._fleet.state, len(self._fleet.lives), until_s, self._begun, self._ended
        )
        if at_s == math.inf:
            return False
        self._now_s = at_s
        starts, ends = self._begun[:begun].tolist(), self._ended[:ended].tolist()
        for i in starts:
            self._leases[i].first_byte()
        for i in ends:
            self._leases.pop(i).done(Result.OK, int(self._load.output_tokens[i]))
        return True

    def _ask(self, i: int, deadline_s: float | None) -> None:
        if self._at is not None:
            self._at(i)
        try:
            answer = self._dispatcher.try_dispatch(self._asked(i), self._askers[i], deadline_s)
        except UnknownModelError:
            self._requests[i]["outcome"] = Outcome.REJECTED
            return
        if isinstance(answer, Wait):
            answer.settle = partial(self._settled, i)
        else:
            self._settled(i, answer)

    def _settled(self, i: int, answer: Lease | Refused) -> None:
        if isinstance(answer, Refused):
            gone = answer.kind == "unavailable"
            outcome = Outcome.UNAVAILABLE if gone else Outcome.OVERLOADED
            self._requests[i]["outcome"] = outcome
            self._refused_s[i] = self._now_s
            return
        self._shed[i] = answer.shed
        self._waited_s[i] = answer.waited_s
        self._send(i, answer)

    def _send(self, i: int, lease: Lease) -> None:
        """Submit to the replica of the lease; a dead one is found to be so, and left."""
        replica = int(lease.replica.id)
        self._attempts[i] += 1
        self._requests[i]["group"] = self._index[lease.replica.group]
        if self._fleet.lives[replica].ended_s < math.inf:
            self._lost(i, lease, Result.UNREACHABLE)
        elif kernel.submit(self._fleet.state, i, replica, self._now_s) == kernel.SENT:
            self._leases[i] = lease
        else:
            lease.done(Result.CLIENT_ERROR)

    def _lost(self, i: int, lease: Lease, result: Result) -> None:
        lease.done(result)
        again = None if result is Result.CUT else self._dispatcher.retry(lease)
        if again is not None:
            self._send(i, again)
        else:
            cut = result is Result.CUT
            self._requests[i]["outcome"] = Outcome.CUT if cut else Outcome.UNAVAILABLE

    def _kill(self, replica: int, at_s: float) -> None:
        for i in self._fleet.kill(replica, at_s):
            self._last_loss_s = at_s
            row = self._requests[i]
            row["losses"] += 1
            answered = row["first_token_s"] <= at_s
            if not answered:
                row["computed"] = 0
            self._lost(i, self._leases.pop(i), Result.CUT if answered else Result.UNREACHABLE)

    def _discover(self) -> None:
        """Let the dispatcher see who takes requests, if that has changed."""
        members = [r for g in range(len(self._fleet.names)) for r in self._fleet.members(g)]
        if members != self._seen:
            self._seen = members
            names, lives = self._fleet.names, self._fleet.lives
            self._dispatcher.replicas(Replica(str(r), names[lives[r].group], "") for r in members)

    def _asked(self, i: int) -> RouteRequest:
        stream = self._load.streams[self._load.stream[i]]
        return RouteRequest(stream, int(self._load.input_tokens[i]))
