"""What each model's answer to a request costs: by the plan, and now."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from placement.plan import AUTO, Plan
from profiler.core import Slo
from serve_apps.router.base import RouteRequest
from serve_apps.router.classes import SECONDS_PER_HOUR, mean_output_tokens
from serve_apps.router.clumps import Clumps
from serve_apps.router.live import FlowView, LivePrices
from serve_apps.router.loads import LoadGrid
from serve_apps.router.quick import Estimate
from serve_apps.router.risk import left_by_load
from serve_apps.router.sessions import LastTurn, Sessions


@dataclass(slots=True)  # not frozen: that would take three times as long to make
class Offer:
    """One model's answer: expected quality and length, and its price in dollars.

    ``groups`` are those that would answer inside the SLO and need not be avoided, with what each
    takes now; ``price`` is the least of them, ``planned_price`` the least by the plan's prices.
    ``loads`` are the replica-seconds that it takes of each group inside the SLO, with nothing
    cached. ``best`` is the group of that price, the first to begin among equals; where none is
    left, the one that would begin first. ``ttft_s`` and ``in_time`` are of that group: predicted
    seconds to the first token, and what load and clumps of arrivals leave of the chance to keep the
    SLO. Without a dispatcher to ask nobody waits.
    """

    quality: float
    output_tokens: float
    price: float
    planned_price: float
    groups: Mapping[str, float]
    loads: Mapping[str, float]
    best: str = ""
    ttft_s: float = 0.0
    in_time: float = 1.0


class Market:
    """The hosted models' offers: load of the request's own size times the price of load.

    A session's prompt is cached where it was answered last, in one replica of that group: there
    the group's price counts the fewer tokens to prefill, by the chance to meet that replica.
    """

    def __init__(
        self, plan: Plan, pool: Iterable[str], slos: Iterable[Slo], clock: Callable[[], float]
    ) -> None:
        """``pool``: the models in the order of estimates; ``slos``: all that are asked about."""
        self._groups: dict[str, list[str]] = {}
        for g in plan.groups:
            self._groups.setdefault(g.config.model, []).append(g.name)
        self.position = {m: i for i, m in enumerate(pool) if m in self._groups}
        self.prices = LivePrices(plan, clock)
        self.sessions = Sessions()
        self._replicas = {g.name: g.replicas for g in plan.groups}
        self._prefill_s = {
            g.name: g.profile.step_time.per_prefill_token_s / g.replicas for g in plan.groups
        }
        """Per prompt token that comes to a group, what it stalls an answer in a replica of it."""
        output = mean_output_tokens(plan)[AUTO]
        self.clumps = Clumps(
            {g.name: output * max(g.profile.step_time.base_s, 1e-6) for g in plan.groups}
        )
        self._loads = {
            slo: {g.name: LoadGrid(g.profile, slo) for g in plan.groups} for slo in set(slos)
        }
        self._last = next(iter(self._loads.items()))

    @property
    def models(self) -> tuple[str, ...]:
        """Those hosted, in the pool's order."""
        return tuple(self.position)

    def load_s(self, group: str, input_tokens: float, output_tokens: float, slo: Slo) -> float:
        """Replica-seconds of a request; infinite where the SLO cannot be kept."""
        return self._loads_of(slo)[group](input_tokens, output_tokens)

    def _loads_of(self, slo: Slo) -> Mapping[str, LoadGrid]:
        """By group. Most ask for the same as the one before, and hashing a noun takes long."""
        if self._last[0] is not slo:
            self._last = slo, self._loads[slo]
        return self._last[1]

    def planned_price(
        self, model: str, input_tokens: float, output_tokens: float, slo: Slo
    ) -> float:
        """Dollars by the plan's prices; infinite where no group keeps the SLO."""
        loads = self._loads_of(slo)
        cheapest = min(
            loads[g](input_tokens, output_tokens) * self.prices.planned[g]
            for g in self._groups[model]
        )
        return cheapest / SECONDS_PER_HOUR

    def offers(
        self, request: RouteRequest, estimate: Estimate, slo: Slo, avoid: Collection[str]
    ) -> tuple[dict[str, Offer], bool]:
        """One offer per hosted model; and whether every group's price is the plan's."""
        cached = self.sessions.cached(request.session, request.input_tokens)
        prices, calm = self.prices.current()
        offers = {
            model: self._offer(model, request, estimate, slo, avoid, cached, prices)
            for model in self.position
        }
        return offers, calm

    def _offer(
        self,
        model: str,
        request: RouteRequest,
        estimate: Estimate,
        slo: Slo,
        avoid: Collection[str],
        cached: tuple[str, float] | None,
        now: Mapping[str, float],
    ) -> Offer:
        at, loads, prices = self.position[model], self._loads_of(slo), self.prices
        output = limited(estimate.output_tokens[at], request)
        groups: dict[str, float] = {}
        plain: dict[str, float] = {}
        price = planned = math.inf
        for name in self._groups[model]:
            load = loads[name](request.input_tokens, output)
            if load == math.inf:
                continue
            plain[name] = load
            at_plan = load * prices.planned[name]
            planned = at_plan if at_plan < planned else planned
            if name in avoid:
                continue
            if cached is not None and cached[0] == name:
                prefill = request.input_tokens - cached[1] / self._replicas[name]
                load = min(load, loads[name](prefill, output))
            groups[name] = usd = load * now[name] / SECONDS_PER_HOUR
            price = usd if usd < price else price
        quality, planned_price = estimate.quality[at], planned / SECONDS_PER_HOUR
        if prices.flow is None:
            best = min(groups, key=groups.__getitem__, default="")
            return Offer(quality, output, price, planned_price, groups, plain, best)
        best, ttft_s, in_time = self._outlook(model, request, output, slo, groups, prices.flow)
        return Offer(quality, output, price, planned_price, groups, plain, best, ttft_s, in_time)

    def _outlook(
        self,
        model: str,
        request: RouteRequest,
        output_tokens: float,
        slo: Slo,
        groups: Mapping[str, float],
        flow: FlowView,
    ) -> tuple[str, float, float]:
        """The best group, when it begins, and what that leaves of the chance to be in time."""
        best, least, lone_s = "", (math.inf, math.inf), 0.0
        for name in groups or self._groups[model]:
            begins_s, alone_s = flow.begins_in_s(request, name)
            standing = groups.get(name, 0.0), begins_s
            if not best or standing < least:
                best, least, lone_s = name, standing, alone_s
        ttft_s = least[1]
        met_s = flow.gateways * self.clumps.excess_tokens(best) * self._prefill_s[best]
        return best, ttft_s, left_by_load(ttft_s, lone_s, output_tokens, slo, met_s)

    def occupancy(self, model: str) -> tuple[int, int, int]:
        """In flight, queued and slots of all the model's groups, at all gateways."""
        flow = self.prices.flow
        if flow is None:
            return 0, 0, 0
        of = [flow.occupancy(g) for g in self._groups[model]]
        in_flight, queued, slots = (flow.gateways * sum(part) for part in zip(*of, strict=True))
        return in_flight, queued, slots

    def took(self, request: RouteRequest, group: str, load_s: float, output_tokens: float) -> None:
        """Note that a group got the request."""
        self.prices.add(group, load_s)
        if self.prices.flow is not None:
            self.clumps.came(self.prices.flow.now(), request.input_tokens, group)
        if request.session:
            context = request.input_tokens + output_tokens
            turn = LastTurn(group, request.input_tokens, context)
            self.sessions.remember(request.session, turn)


def limited(output_tokens: float, request: RouteRequest) -> float:
    """An expected answer, within the client's limit."""
    limit = request.max_output_tokens
    if limit is None or output_tokens <= limit:
        return output_tokens
    return limit if limit > 1 else min(output_tokens, 1)
