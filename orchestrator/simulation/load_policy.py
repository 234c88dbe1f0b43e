"""Policies that choose the model by load, behind one protocol, so that they can be compared.

A policy sees what each model would cost now, how good its answer would be and how soon it would
begin; all else (groups, replicas, queues, refusals) is the dispatcher's, the same for each.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from orchestrator.simulator import Floats
from placement.plan import AUTO, Plan
from serve_apps.flow.dispatcher import Dispatcher
from serve_apps.flow.lengths import Lengths
from serve_apps.flow.nouns import Anyone
from serve_apps.router.base import Decision, NoGroupLeftError, RouteRequest, UnknownModelError
from serve_apps.router.classes import SECONDS_PER_HOUR
from serve_apps.router.live import LivePrices
from serve_apps.router.load_values import LoadValues
from serve_apps.router.loads import LoadGrid
from serve_apps.router.risk import in_time

RATE_MEMORY_S = 10.0


@dataclass(frozen=True, slots=True)
class ModelOption:
    """One model's answer to one request, by its best group.

    ``price_usd`` is load times the price of load now, ``planned_price_usd`` by the plan's price;
    ``predicted_ttft_s`` counts from now, queue included, and is infinite where no engine is left;
    ``feasible``: it would begin in time; ``in_time``: the chance that it keeps the SLO, see
    `serve_apps.router.risk`. ``in_flight`` and ``queued`` are of all the model's
    groups, ``slots`` what their engines hold at most.
    """

    model: str
    quality: float
    price_usd: float
    planned_price_usd: float
    predicted_ttft_s: float
    feasible: bool
    group: str
    in_flight: int
    queued: int
    slots: int
    in_time: float = 1.0


@dataclass(frozen=True, slots=True)
class LoadState:
    """What else a policy may look at; ``arrival_rate_rps`` is a mean over about ten seconds."""

    now_s: float
    arrival_rate_rps: float
    asked: RouteRequest


class LoadPolicy(Protocol):
    """Chooses a model for each request; called in order of arrival."""

    def choose(self, options: Sequence[ModelOption], state: LoadState) -> str | None:
        """A model's name, None to refuse. One that is not feasible is refused as well."""
        ...


@dataclass(frozen=True, slots=True)
class Always:
    """One model for everything."""

    model: str

    def choose(self, options: Sequence[ModelOption], state: LoadState) -> str | None:  # noqa: ARG002
        """See `LoadPolicy.choose`."""
        return self.model


@dataclass(frozen=True, slots=True)
class Priced:
    """The product's own: worth of quality, if it comes in time, less the price of load now."""

    worth_usd: float

    def choose(self, options: Sequence[ModelOption], state: LoadState) -> str | None:  # noqa: ARG002
        """See `LoadPolicy.choose`."""
        able = [o for o in options if o.feasible]
        if not able:
            return None
        return max(able, key=self._utility).model

    def _utility(self, option: ModelOption) -> float:
        return self.worth_usd * option.quality * option.in_time - option.price_usd


@dataclass(frozen=True, slots=True)
class Learned:
    """What was learned by reinforcement: the feasible model that the network thinks most of."""

    values: LoadValues

    def choose(self, options: Sequence[ModelOption], state: LoadState) -> str | None:
        """See `LoadPolicy.choose`."""
        return self.values.best(options, state.arrival_rate_rps, state.asked.input_tokens)


def policy_of(values: LoadValues) -> LoadPolicy:
    """What its verdict allows: the network where it won its trial, else the priced policy."""
    if values.verdict.better:
        return Learned(values)
    return Priced(values.verdict.worth_usd)


class PolicyRouter:
    """`serve_apps.router.base.Router` by a `LoadPolicy`, for `simulate_flow`."""

    weighs_load = True

    def __init__(
        self, plan: Plan, policy: LoadPolicy, quality: Mapping[str, float] | Floats
    ) -> None:
        """``quality``: expected score by model, or ``[requests, models]`` in order of arrival
        and of the plan's models as they come in its groups.
        """
        self._policy = policy
        self._quality = quality
        self._lengths = Lengths(plan)
        self._groups = {g.name: g.config.model for g in plan.groups}
        self.models = tuple(dict.fromkeys(self._groups.values()))
        """In the order of ``quality``'s columns."""
        self._loads = {g.name: LoadGrid(g.profile, plan.slo) for g in plan.groups}
        self._context_tokens = {g.name: g.profile.max_model_len for g in plan.groups}
        self._plan = plan
        self._request = self._arriving = 0
        self._known: dict[int, tuple[RouteRequest, int]] = {}
        self._rate_rps = self._seen_s = 0.0

    def heed_flow(self, dispatcher: Dispatcher) -> None:
        """See `dispatching.FlowAware`."""
        self._dispatcher = dispatcher
        self.prices = LivePrices(self._plan, dispatcher.now)
        self.prices.heed(dispatcher)

    @property
    def request(self) -> int:
        """The place of the request asked about, in the order of arrival."""
        return self._request

    def _recall(self, asked: RouteRequest) -> None:
        """Those that are moved from queue to queue are asked about again, out of order."""
        known = self._known.setdefault(id(asked), (asked, self._arriving))
        self._request = known[1]

    def at(self, request: int) -> None:
        """See `dispatching.PerRequest`."""
        self._arriving = request
        now_s = self._dispatcher.now()
        left = math.exp(-(now_s - self._seen_s) / RATE_MEMORY_S)
        self._rate_rps = self._rate_rps * left + 1 / RATE_MEMORY_S
        self._seen_s = now_s

    def route(self, request: RouteRequest, avoid: Collection[str] = ()) -> Decision:
        """See `serve_apps.router.base.Router.route`."""
        if request.model != AUTO and request.model not in self.models:
            raise UnknownModelError("model", request.model, self.models)
        self._recall(request)
        self.prices.tick()
        options = self._options(request, avoid)
        if request.model != AUTO:
            chosen: str | None = request.model
        else:
            state = LoadState(self._dispatcher.now(), self._rate_rps, request)
            chosen = self._policy.choose(options, state)
        found = next((o for o in options if o.model == chosen and o.feasible), None)
        if found is None:
            raise NoGroupLeftError
        calm = self._policy_in_calm(options)
        output = self._lengths.expected(AUTO, request.input_tokens, request.max_output_tokens)
        self.prices.add(found.group, self._loads[found.group](request.input_tokens, output))
        shed = request.model == AUTO and calm is not None and found.model != calm
        return Decision(found.group, found.model, "by policy", quality=found.quality, shed=shed)

    def _policy_in_calm(self, options: Sequence[ModelOption]) -> str | None:
        """What `Priced` would choose at the plan's prices; others have no calm choice."""
        if not isinstance(self._policy, Priced):
            return None
        worth = self._policy.worth_usd
        return max(options, key=lambda o: worth * o.quality - o.planned_price_usd).model

    def _options(self, request: RouteRequest, avoid: Collection[str]) -> list[ModelOption]:
        begins = self._dispatcher.begins_in_s(request, Anyone())
        output = self._lengths.expected(AUTO, request.input_tokens, request.max_output_tokens)
        row = (
            [self._quality[m] for m in self.models]
            if isinstance(self._quality, Mapping)
            else self._quality[self._request].tolist()
        )
        return [
            self._option(m, q, request, output, begins, avoid)
            for m, q in zip(self.models, row, strict=True)
        ]

    def _option(
        self,
        model: str,
        quality: float,
        request: RouteRequest,
        output_tokens: float,
        begins_s: Mapping[str, float],
        avoid: Collection[str],
    ) -> ModelOption:
        names = [g for g, m in self._groups.items() if m == model]
        load = {g: self._loads[g](request.input_tokens, output_tokens) for g in names}
        now = {g: load[g] * self.prices.now(g) / SECONDS_PER_HOUR for g in names}
        planned = min(load[g] * self.prices.planned[g] / SECONDS_PER_HOUR for g in names)
        able = [
            g for g in names if g not in avoid and request.input_tokens < self._context_tokens[g]
        ]
        group = min(able or names, key=lambda g: (now[g], begins_s.get(g, math.inf)))
        flights = [self._dispatcher.occupancy(g) for g in names]
        return ModelOption(
            model=model,
            quality=float(quality),
            price_usd=now[group],
            planned_price_usd=planned,
            predicted_ttft_s=begins_s.get(group, math.inf),
            feasible=bool(able),
            group=group,
            in_flight=sum(f[0] for f in flights),
            queued=sum(f[1] for f in flights),
            slots=sum(f[2] for f in flights),
            in_time=in_time(begins_s.get(group, math.inf), output_tokens, self._plan.slo),
        )
