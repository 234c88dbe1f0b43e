"""Which groups could begin to answer a request in time, and what to say when none can."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from serve_apps.flow.affinity import Cached
from serve_apps.flow.group import Group
from serve_apps.flow.nouns import Asker, RefusalKind, Refused
from serve_apps.flow.settings import FlowSettings
from serve_apps.router.base import RouteRequest

SHORTEST_RETRY_S, LONGEST_RETRY_S = 0.1, 60.0
LONE_SLACK = 2.0
"""Who gives no deadline gets at least so many times what the prompt takes on an idle engine."""


@dataclass(slots=True)
class Request:
    """A request while it is decided on.

    ``deadline_s``: seconds that its sender gives it, None for the plan's; ``output_tokens`` is
    expected; ``avoid``: ids of replicas; ``blocked``: groups that cannot take it, with the
    seconds by which each would be late (infinite where no engine is left).
    """

    asked: RouteRequest
    asker: Asker
    arrived_s: float
    deadline_s: float | None
    avoid: Collection[str]
    output_tokens: float
    cached: Cached | None
    cached_group: Group | None
    blocked: dict[str, float]
    begins: dict[str, float] = field(default_factory=dict)
    """Predicted seconds to the first token by group, as of the last look."""
    moves: int = 0
    crowded: bool = False
    """A queue that it could have waited in has no place left."""


class Admission:
    """Predicts the first byte, queue included, and compares it with the time there is."""

    def __init__(self, settings: FlowSettings) -> None:
        self._settings = settings

    def block(self, request: Request, groups: Iterable[Group], now: float) -> None:
        """Note the groups that could not begin to answer in time."""
        for group in groups:
            late_s = self.late_s(request, group, now)
            if late_s > 0:
                request.blocked[group.name] = late_s

    def late_s(self, request: Request, group: Group, now: float, *, waits: bool = False) -> float:
        """Seconds by which the group would be too late; infinite where it has no engine.

        ``waits``: it is known not to get a slot at once.
        """
        engines = group.open
        if not engines:
            return math.inf
        if request.avoid and all(e.replica.id in request.avoid for e in engines):
            return math.inf
        prefill = float(request.asked.input_tokens)
        if request.cached_group is group and request.cached is not None:
            prefill = max(prefill - request.cached.tokens, 1.0)
        allowed_s = self.allowed_s(request, group, prefill)
        passed_s = now - request.arrived_s
        if not (waits or group.busy):
            predicted_s = request.begins[group.name] = group.ttft_s(prefill, now)
            return passed_s + predicted_s - allowed_s
        predicted_s = self.wait_s(request, group) + group.admitted_ttft_s(prefill)
        request.begins[group.name] = predicted_s
        return passed_s + predicted_s - self._settings.margin * allowed_s

    def begins_in_s(self, request: Request, group: Group, now: float) -> float:
        """Predicted seconds from now to the first token; infinite where no engine is left."""
        if group.name not in request.begins:
            self.late_s(request, group, now)
        return request.begins.get(group.name, math.inf)

    def wait_s(self, request: Request, group: Group) -> float:
        """Predicted seconds in the group's queue."""
        load_s = group.load_s(request.asked.input_tokens, request.output_tokens)
        deadline_s = request.arrived_s + self.allowed_s(
            request, group, float(request.asked.input_tokens)
        )
        return group.wait_s(group.queue.ahead_s(request.asker, deadline_s), load_s)

    def allowed_s(self, request: Request, group: Group, prefill_tokens: float) -> float:
        """Seconds from arrival within which the first token has to come.

        An answer that is not streamed comes as a whole, so a deadline of its sender's is for all
        of it. The plan's SLO speaks of first tokens either way.
        """
        given_s = request.deadline_s
        if given_s is None:
            lone_s, slo_s = LONE_SLACK * group.law.lone_ttft_s(prefill_tokens), group.slo.ttft_s
            return self._settings.patience * (lone_s if lone_s > slo_s else slo_s)
        if request.asked.stream:
            return given_s
        context = prefill_tokens + request.output_tokens / 2
        return given_s - request.output_tokens * group.law.lone_tpot_s(context)

    def claim(self, request: Request, groups: Iterable[Group], until_s: float) -> None:
        """Until then one that is refused for want of room is remembered where it lacked least."""
        blocked = request.blocked
        full = [g for g in groups if g.busy and blocked.get(g.name, math.inf) < math.inf]
        if full:
            group = min(full, key=lambda g: blocked[g.name])
            load_s = group.load_s(request.asked.input_tokens, request.output_tokens)
            group.queue.refused(request.asker, load_s, until_s)

    def refusal(self, request: Request, groups: Collection[Group], now: float) -> Refused:
        """Why nobody serves the request, and when it would be served."""
        asked = request.asked
        if not any(g.open for g in groups):
            return _unavailable(asked.model, groups, now)
        late = [s for s in request.blocked.values() if s < math.inf]
        after_s = min(max(min(late, default=0.0), SHORTEST_RETRY_S), LONGEST_RETRY_S)
        kind: RefusalKind = "overload" if request.deadline_s is None else "deadline"
        if request.crowded:
            kind, why = "queue_full", f"too many requests wait for {asked.model!r}"
        elif request.deadline_s is None:
            why = f"every engine for {asked.model!r} is busy"
        else:
            why = f"no engine for {asked.model!r} can answer within {request.deadline_s:g} s"
        return Refused(kind, after_s, f"{why}; try again in {after_s:.1f} s")


def _unavailable(model: str, groups: Collection[Group], now: float) -> Refused:
    """Engines that were lost are probed all the time; those that are not there have to start."""
    if not groups or any(g.engines for g in groups):
        return Refused("unavailable", 1.0, f"no engine for {model!r} can be reached")
    after_s = min(g.waking.ready_in_s(now) for g in groups)
    why = f"no engine for {model!r} runs at present; try again in {after_s:.0f} s"
    return Refused("unavailable", after_s, why)
