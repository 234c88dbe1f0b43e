"""A trace through a plan's fleet: `simulate`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from orchestrator.simulation import kernel
from orchestrator.simulation.agenda import Agenda
from orchestrator.simulation.balanced import Balanced
from orchestrator.simulation.events import (
    Autoscaler,
    Event,
    GroupState,
    LoadAware,
    check_events,
)
from orchestrator.simulation.fleet import Fleet
from orchestrator.simulation.gateway import Gateway
from orchestrator.simulation.load import Load, load_of
from orchestrator.simulation.result import FleetTimings, Outcome
from orchestrator.simulation.routing import planned_groups
from orchestrator.simulation.scaling import Scaling
from orchestrator.simulation.state import NONE, new_requests
from orchestrator.simulator import Arrivals
from placement.plan import Plan
from profiler.errors import InputError, UnknownNameError
from serve_apps.pool import DRAIN_TIMEOUT_S, QUEUE_FACTOR
from serve_apps.router.base import (
    Decision,
    NoGroupLeftError,
    Router,
    RouteRequest,
    UnknownModelError,
)
from serve_apps.router.table import RouteTable

COLD_START_S = 104.0
"""From asking for a replica to its first request: an 8B model, as Ray has published."""
RECLAIM_NOTICE_S = 120.0
"""Between a spot reclaim's notice and the end of the machine; AWS gives two minutes."""


@dataclass(frozen=True)
class Conditions:
    """What a fleet's surroundings are like.

    ``cold_start_s`` is one figure, or one a group. ``replace`` starts a replica for each that
    dies or is reclaimed, as Ray Serve does to keep a group's number. A replica takes
    ``queue_factor`` times its engine's ``max_num_seqs`` requests at a time, and an infinite one
    as many as come. ``drain_s`` is how long one that leaves may finish its requests. ``stock`` is
    how many replicas of a group an autoscaler can have at once; any number where it says nothing.
    """

    cold_start_s: float | Mapping[str, float] = COLD_START_S
    replace: bool = True
    queue_factor: float = QUEUE_FACTOR
    drain_s: float = DRAIN_TIMEOUT_S
    reclaim_notice_s: float = RECLAIM_NOTICE_S
    stock: Mapping[str, int] = field(default_factory=dict)

    def cold_s(self, group: str) -> float:
        """The cold start of a group's replicas."""
        if isinstance(self.cold_start_s, Mapping):
            return self.cold_start_s.get(group, COLD_START_S)
        return self.cold_start_s

    def slots(self, max_num_seqs: int) -> int:
        """How many requests a replica takes at a time."""
        return int(min(self.queue_factor * max_num_seqs, float(2**62)))


def simulate(
    plan: Plan,
    traces: Arrivals | Mapping[str, Arrivals],
    *,
    router: Router | None = None,
    events: Iterable[Event] = (),
    autoscaler: Autoscaler | None = None,
    interval_s: float = 10.0,
    conditions: Conditions = Conditions(),
) -> FleetTimings:
    """Let a plan's fleet answer a trace, or one trace a stream (``auto`` or a model's name).

    Each request goes to the group that the router names, there to the replica with the fewest in
    flight, and through an engine that schedules as vLLM V1 does. Without a router the plan's
    `RouteTable` deals the turns, and a `Balanced` one balances, both at machine speed; any other
    object is asked once a request. An
    autoscaler is asked every ``interval_s`` until the last arrival. Nothing is random: equal
    calls give equal results.

    Raises:
        InputError: a trace is out of order, one trace comes for several streams, or an event or
            figure makes no sense.
        UnknownNameError: an event or the autoscaler names no group of the plan.
    """
    if not interval_s > 0:
        raise InputError(f"found {interval_s} s between an autoscaler's turns, expected above 0")
    load = load_of(plan, traces)
    events = tuple(events)
    check_events(plan, events)
    return _Run(plan, load, router, conditions).go(events, autoscaler, interval_s)


class _Run:
    """One simulation under way; its `FleetView` is itself."""

    def __init__(
        self, plan: Plan, load: Load, router: Router | None, conditions: Conditions
    ) -> None:
        self._plan = plan
        self._load = load
        self._conditions = conditions
        self._requests = new_requests(
            load.arrival_s, load.input_tokens, load.output_tokens, load.prefix_hit_tokens
        )
        self._fleet = Fleet(plan, self._requests, conditions.slots)
        self._wanted = [g.replicas for g in plan.groups]
        self._index = {name: g for g, name in enumerate(self._fleet.names)}
        self.agenda = Agenda()
        self._now_s = 0.0
        self._last_loss_s = 0.0
        self._table = RouteTable(plan)
        self._router = router
        self._others = np.zeros(len(load), dtype=np.bool_)
        self._gateway = Gateway(self._fleet, self.agenda, router or self._table, self._asked)
        if router is None:
            self._requests["group"] = planned_groups(self._table, self._fleet.names, load)
            self._requests["outcome"][self._requests["group"] == NONE] = Outcome.REJECTED
        elif isinstance(router, Balanced):
            self._classes = router.classes_of(load)
            self._fleet.slots = router.slots(self._fleet.slots)
            self._fleet.state.slots[:] = self._fleet.slots
        elif isinstance(router, LoadAware):
            router.watch(self)

    @property
    def now_s(self) -> float:
        """See `FleetView`."""
        return self._now_s

    def group(self, name: str) -> GroupState:
        """See `FleetView`."""
        g = self._index[name]
        return self._fleet.observe(g, self._now_s, self._gateway.queued(g))

    def go(
        self, events: tuple[Event, ...], autoscaler: Autoscaler | None, interval_s: float
    ) -> FleetTimings:
        """Run to the end of the last request."""
        for event in sorted(events, key=lambda e: e.time_s):
            self.agenda.at(event.time_s, partial(self._befall, event))
        if autoscaler is not None and len(self._load):
            scaling = Scaling(self, self._plan, self._load, autoscaler, interval_s)
            self.agenda.at(interval_s, scaling.turn)
        send = self._sender()
        sent = 0
        while True:
            due_s = self.agenda.next_s
            room_s = self._gateway.next_room_s(due_s)
            until_s = min(due_s, room_s)
            sent = send(sent, until_s)
            if sent < len(self._load) and self._load.arrival_s[sent] < until_s:
                continue  # one could not be sent: it may be due earlier
            if until_s == math.inf and self.agenda.next_s == math.inf:
                break
            if self.agenda.next_s < until_s:
                continue
            self._now_s = until_s
            if due_s <= room_s:
                self.agenda.do_next()
            self._gateway.admit(until_s)
        kernel.advance_all(self._fleet.state, len(self._fleet.lives), math.inf)
        return self._result()

    def resize(self, name: str, wanted: int, at_s: float) -> int:
        """Start replicas of a group, or let some leave, until it has as many as are wanted.

        Returns how many of them the stock did not have.
        """
        if wanted < 0:
            raise InputError(f"found {wanted} replicas wanted of {name!r}, expected 0 or more")
        group = self._group_index(name)
        staying = self._fleet.staying(group)
        had = max(len(staying), self._conditions.stock.get(name, wanted))
        short, wanted = max(0, wanted - had), min(wanted, had)
        self._wanted[group] = wanted
        for _ in range(wanted - len(staying)):
            self._start(group, at_s)
        for _ in range(len(staying) - wanted):
            replica = self._fleet.spared(group, at_s)
            assert replica is not None, "one of those that stay"
            self._leave(replica, at_s, self._conditions.drain_s)
        return short

    def observe(self, at_s: float) -> dict[str, GroupState]:
        """All groups at a time."""
        queued = self._gateway.queued
        return {name: self._fleet.observe(g, at_s, queued(g)) for name, g in self._index.items()}

    def _group_index(self, name: str) -> int:
        if name not in self._index:
            raise UnknownNameError("group", name, self._index)
        return self._index[name]

    def _sender(self) -> Callable[[int, float], int]:
        if self._router is None:
            return self._send_planned
        return self._send_balanced if isinstance(self._router, Balanced) else self._send_routed

    def _send_balanced(self, first: int, until_s: float) -> int:
        """As `_send_planned`, each where it disturbs least."""
        assert isinstance(self._router, Balanced)
        bias, width = self._router.bias, self._router.width
        last = len(self._load)
        return kernel.serve_balanced(
            self._fleet.state, first, last, until_s, self._classes, bias, width
        )

    def _send_planned(self, first: int, until_s: float) -> int:
        """Send requests until one is not due or cannot be sent; the next one's index."""
        i, answer = kernel.serve(self._fleet.state, first, len(self._load), until_s)
        if answer == kernel.SENT:
            return i
        self._now_s = float(self._load.arrival_s[i])
        self._gateway.place(i, self._decision(i), self._now_s)
        return i + 1

    def _send_routed(self, first: int, until_s: float) -> int:
        """As `_send_planned`, with a router that is asked for each."""
        assert self._router is not None
        for i in range(first, len(self._load)):
            self._now_s = float(self._load.arrival_s[i])
            if self._now_s >= until_s:
                return i
            try:
                decision = self._router.route(self._asked(i))
            except UnknownModelError:
                self._requests[i]["outcome"] = Outcome.REJECTED
                continue
            except NoGroupLeftError:
                self._requests[i]["outcome"] = Outcome.UNAVAILABLE
                continue
            self._others[i] = decision.others
            g = self._group_index(decision.group)
            self._requests[i]["group"] = g
            if kernel.offer(self._fleet.state, i, g, self._now_s) != kernel.SENT:
                self._gateway.place(i, decision, self._now_s)
                return i + 1
        return len(self._load)

    def _asked(self, i: int) -> RouteRequest:
        stream = self._load.streams[self._load.stream[i]]
        return RouteRequest(stream, int(self._load.input_tokens[i]))

    def _decision(self, i: int) -> Decision:
        """Where a request was meant to go, for one that has to go again."""
        group = self._fleet.groups[int(self._requests[i]["group"])]
        others = bool(self._others[i])
        if self._router is None:
            others = self._table.candidates(self._asked(i)) != {group.name}
        return Decision(group.name, group.config.model, "as decided", others)

    def _befall(self, event: Event, at_s: float) -> None:
        group = self._index[event.group]
        if event.kind == "start":
            self._wanted[group] += 1
            self._start(group, at_s)
            return
        replica = self._struck(event, group, at_s)
        if replica is None:
            return
        stays = replica in self._fleet.staying(group)
        if event.kind == "stop":
            self._wanted[group] -= stays
            self._leave(replica, at_s, self._conditions.drain_s)
        elif event.kind == "reclaim":
            self._leave(replica, at_s, self._conditions.reclaim_notice_s)
        else:
            self._kill(replica, at_s)
        if stays and event.kind != "stop" and self._conditions.replace:
            self._start(group, at_s)

    def _struck(self, event: Event, group: int, at_s: float) -> int | None:
        if event.replica is None:
            return self._fleet.spared(group, at_s)
        replica = self._fleet.numbered(group, event.replica)
        if replica is None:
            raise InputError(f"found {event}, but the group has not had so many replicas by then")
        return replica

    def _start(self, group: int, at_s: float) -> None:
        replica = self._fleet.ask(group, at_s)
        cold_s = self._conditions.cold_s(self._fleet.names[group])
        self.agenda.at(at_s + cold_s, partial(self._fleet.make_ready, replica))

    def _leave(self, replica: int, at_s: float, within_s: float) -> None:
        self._fleet.leave(replica, at_s)
        self.agenda.at(at_s + within_s, partial(self._kill, replica))

    def _kill(self, replica: int, at_s: float) -> None:
        for i in self._fleet.kill(replica, at_s):
            self._last_loss_s = at_s
            self._gateway.lose(i, partial(self._decision, i), at_s)

    def _result(self) -> FleetTimings:
        requests, groups = self._requests, self._fleet.groups
        overheads_s = np.array([g.profile.request_overhead_s for g in groups])
        overhead_s = overheads_s[requests["group"]]  # of no group: the times are infinite
        finish_s = requests["finish_s"] + overhead_s
        known_s = np.concatenate([self._load.arrival_s, finish_s[np.isfinite(finish_s)]])
        end_s = float(known_s.max(initial=self._last_loss_s))
        return FleetTimings(
            arrival_s=self._load.arrival_s,
            first_token_s=requests["first_token_s"] + overhead_s,
            finish_s=finish_s,
            output_tokens=self._load.output_tokens,
            rejected=requests["outcome"] != Outcome.OK,
            replica=requests["replica"].copy(),
            preemptions=requests["preemptions"].copy(),
            input_tokens=self._load.input_tokens,
            outcome=requests["outcome"].copy(),
            group=requests["group"].copy(),
            stream=self._load.stream,
            losses=requests["losses"].copy(),
            groups=self._fleet.names,
            streams=self._load.streams,
            replicas=self._fleet.close(end_s),
            end_s=end_s,
        )
