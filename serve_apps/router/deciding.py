"""Where a request goes once its answers are estimated: by the plan in a quiet hour, else by load.

The gateway's router and the simulator's are both this, so what one promises the other does. They
differ in where estimates come from (`router.learned`, `orchestrator.simulation.load_policy`).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from placement.plan import AUTO, Plan
from serve_apps.router.base import Decision, NoGroupLeftError, RouteRequest
from serve_apps.router.by_plan import ByPlan, reason
from serve_apps.router.classes import (
    SECONDS_PER_HOUR,
    PlanClass,
    PlanClasses,
    mean_output_tokens,
)
from serve_apps.router.live import FlowView, LivePrices
from serve_apps.router.load_policies import LoadPolicy, LoadState, Priced, Supervised
from serve_apps.router.offers import Market, Offer, limited
from serve_apps.router.quick import Estimate
from serve_apps.router.table import RouteTable

Floats = NDArray[np.float64]
Chooser = Callable[[PlanClass, Mapping[str, Offer]], tuple[str, str]]
"""Another way to choose among offers that have a group: the model, and why."""
RATE_MEMORY_S = 10.0
PRICED = Priced()


@dataclass(frozen=True)
class Typical:
    """Prompts like those to come: ``quality`` [prompts, models] expected, and each one's bin."""

    quality: Floats
    bins: NDArray[np.int64]


class Deciding:
    """Decides by a plan, estimates and load; who cannot be judged goes by the plan's shares."""

    def __init__(
        self,
        plan: Plan,
        models: Sequence[str],
        typical: Typical,
        clock: Callable[[], float],
        policy: LoadPolicy = PRICED,
    ) -> None:
        """``models``: in the order of estimates; ``policy``: who chooses.

        Raises:
            ValueError: the plan has no route for requests that name no model.
        """
        self.table = RouteTable(plan)
        """What stands in where nothing can be estimated: the plan's shares."""
        self.classes = PlanClasses(plan)
        slos = [plan.slo, *(c.slo for c in self.classes.all)]
        self.market = Market(plan, models, slos, clock)
        self._policy = policy
        self._looks_around = not isinstance(policy, Priced)
        self.supervised = policy if isinstance(policy, Supervised) else None
        """The policy, where it is one that others stand by for."""
        self._edges = list(plan.router.edges) if plan.router is not None else []
        self._slo = plan.slo
        self._context_tokens = {g.name: g.profile.max_model_len for g in plan.groups}
        self._output_tokens = mean_output_tokens(plan)
        self._by_plan = ByPlan(self.classes.all, self.market, typical.quality, typical.bins)
        self._rate = _Rate()

    @property
    def prices(self) -> LivePrices:
        """What load costs on each group, by the plan and now."""
        return self.market.prices

    def take_over(self, before: Deciding) -> None:
        """Go on with the sessions and the rate of what this replaces."""
        self.market.sessions = before.market.sessions
        self._rate = before._rate

    def class_of(self, request: RouteRequest, estimate: Estimate) -> PlanClass:
        """By prompt tokens, predicted answer tokens (the pool's mean), and difficulty."""
        output = sum(estimate.output_tokens) / len(estimate.output_tokens)
        hard = bisect_right(self._edges, estimate.difficulty)
        return self.classes.find(request.input_tokens, limited(output, request), hard)

    def decide(
        self,
        request: RouteRequest,
        estimate: Estimate,
        avoid: Collection[str],
        chooser: Chooser | None = None,
    ) -> Decision:
        """Model and group of a request that names none; `prices` must have been ticked.

        Raises:
            NoGroupLeftError: none is left, or the policy refuses.
        """
        found = self.class_of(request, estimate)
        offers, calm = self.market.offers(request, estimate, found.slo, avoid)
        if not any(offer.groups for offer in offers.values()):
            return self.by_table(request, avoid, "no group left keeps the SLO at this size")
        quiet = self._by_plan.quiet(found, offers, calm=calm)
        pressed = bool(avoid) or not quiet
        usual = self._by_plan.calm_choice(found, offers) if pressed else None
        if chooser is not None:
            model, why = chooser(found, offers)
        else:
            model = self._chosen(request, found, offers, quiet=quiet, count=not avoid)
            why = reason(found, model, offers, quiet=quiet)
            if self.supervised is not None and self.supervised.acted:
                why = f"{self.supervised.name}; {why}"
        decision = self._decided(request, found, model, offers, avoid, why)
        return replace(decision, shed=True) if pressed and model != usual else decision

    def by_table(self, request: RouteRequest, avoid: Collection[str], why: str) -> Decision:
        """By the plan's shares alone.

        Raises:
            UnknownModelError, NoGroupLeftError: see `RouteTable.route`.
        """
        decision = self.table.route(request, avoid)
        output = self._output_tokens.get(request.model, self._output_tokens[AUTO])
        load = self.market.load_s(decision.group, request.input_tokens, output, self._slo)
        self.market.took(request, decision.group, load, output)
        return replace(decision, reason=f"{why}; {decision.reason}") if why else decision

    def _chosen(
        self,
        request: RouteRequest,
        found: PlanClass,
        offers: Mapping[str, Offer],
        *,
        quiet: bool,
        count: bool,
    ) -> str:
        flow = self.prices.flow
        options = self._by_plan.options(found, offers, occupied=self._looks_around)
        state = LoadState(
            flow.now() if flow is not None else 0.0,
            self._rate.now_rps(flow) if flow is not None else 0.0,
            request,
            self._by_plan.worth_usd(found),
            quiet,
        )
        model = self._policy.choose(options, state)
        if model is None or not offers[model].groups:
            raise NoGroupLeftError
        if quiet and count:
            self._by_plan.took(found, model, options)
        return model

    def _decided(
        self,
        request: RouteRequest,
        found: PlanClass,
        model: str,
        offers: Mapping[str, Offer],
        avoid: Collection[str],
        why: str,
    ) -> Decision:
        offer, market = offers[model], self.market
        cached = market.sessions.cached(request.session, request.input_tokens)
        if cached is not None and cached[0] in offer.groups:
            group = min(offer.groups, key=offer.groups.__getitem__)
        else:
            group = self._by_plan.group(found, model, offer)
        load = offer.loads.get(group, math.inf)
        market.took(request, group, load, offer.output_tokens)
        if avoid:
            why += f"; not {', '.join(sorted(avoid))}"
        return Decision(
            group,
            model,
            why,
            self._others(request, group, avoid),
            quality=offer.quality,
            cost_usd=load * market.prices.planned[group] / SECONDS_PER_HOUR,
            output_tokens=offer.output_tokens,
            slo=found.slo,
        )

    def _others(self, request: RouteRequest, group: str, avoid: Collection[str]) -> bool:
        """Whether yet another group has room for the request's context."""
        tokens = request.input_tokens + (request.max_output_tokens or 0)
        for name, room in self._context_tokens.items():
            if tokens <= room and name != group and name not in avoid:
                return True
        return False


class _Rate:
    """Arrivals per second at all gateways, a mean that fades over ten seconds."""

    def __init__(self) -> None:
        self._rps = self._seen_s = 0.0
        self._arrived: int | None = None

    def now_rps(self, flow: FlowView) -> float:
        """As of now, the request that asks included; what came before the first is not known."""
        now_s, arrived = flow.now(), flow.arrived
        if self._arrived is None:
            self._arrived = arrived - 1
        left = math.exp(-max(now_s - self._seen_s, 0.0) / RATE_MEMORY_S)
        self._rps = self._rps * left + (arrived - self._arrived) / RATE_MEMORY_S
        self._seen_s, self._arrived = now_s, arrived
        return self._rps * flow.gateways
