"""The router of a plan: each request class goes to the groups in the shares the plan gives it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

from placement.plan import AUTO, Plan, Route
from serve_apps.router.base import Decision, NoGroupLeftError, RouteRequest, UnknownModelError
from serve_apps.router.quota import Quota

Range = tuple[int, int]
Cell = tuple[str, Range | None, frozenset[Range]]


class RouteTable:
    """Routes by a plan's shares.

    The length of the answer is unknown when a request arrives, so the shares of a class are the
    mean over the output lengths that its ``max_tokens`` allows, weighted by how often the plan
    expects each. Inside a class the turns are dealt by `Quota`, not drawn: the realised shares
    stay within one request of the plan's.

    A request that must avoid a group goes to the others of its class, by their shares among
    themselves; when none of those is left, to any group that may answer and has the context for
    it, by replicas. The plan's shares are dealt on as if it had gone where it was meant to.
    """

    def __init__(self, plan: Plan) -> None:
        self._model_of = {g.name: g.config.model for g in plan.groups}
        self._replicas = {g.name: g.replicas for g in plan.groups}
        self._context_tokens = {g.name: g.profile.max_model_len for g in plan.groups}
        self._routes = _streams(plan.routes)
        self._ranges: dict[str, dict[Range, set[Range]]] = {}
        self._planned: dict[Cell, dict[str, float]] = {}
        self._quotas: dict[tuple[Cell, frozenset[str]], Quota] = {}
        auto = (AUTO,) if AUTO in self._routes else ()
        self.models: tuple[str, ...] = (*auto, *sorted(set(self._model_of.values())))
        """What a client may ask for: the models hosted, and ``auto`` where the plan routes it."""

    def input_ranges(self, model: str) -> list[Range]:
        """What tells the classes of a model's requests apart, where ``max_tokens`` is not given.

        A request belongs to the range nearest to its input tokens, the smaller at a tie. Empty
        when the plan routes no such request: they are one class.
        """
        return list(self._ranges_for(model))

    def shares(self, request: RouteRequest) -> dict[str, float]:
        """In which shares the turns of the request's class are dealt, in the order of `Quota`.

        Raises:
            UnknownModelError: the pool does not serve the model asked for.
        """
        self._require(request.model)
        return Quota(self._planned_for(self._cell(request))).shares

    def candidates(self, request: RouteRequest) -> set[str]:
        """All groups that may be asked to answer a request, stand-ins included."""
        planned = _without(self._planned_for(self._cell(request)), ())
        return planned.keys() | _without(self._spare(request), ()).keys()

    def route(self, request: RouteRequest, avoid: Collection[str] = ()) -> Decision:
        """Pick the group whose turn it is in the request's class.

        Raises:
            UnknownModelError: the pool does not serve the model asked for.
            NoGroupLeftError: every group that could take the request is to be avoided.
        """
        self._require(request.model)
        cell = self._cell(request)
        planned = _without(self._planned_for(cell), avoid)
        spare = _without(self._spare(request), avoid)
        quota = self._quota(cell, planned or spare)
        group = quota.next()
        reason = self._reason(cell, quota, group)
        if avoid:
            reason += f"; not {', '.join(sorted(avoid))}"
        others = planned.keys() | spare.keys() != {group}
        return Decision(group, self._model_of[group], reason, others)

    def _require(self, model: str) -> None:
        if model not in self.models:
            raise UnknownModelError("model", model, self.models)

    def _planned_for(self, cell: Cell) -> Mapping[str, float]:
        if cell not in self._planned:
            self._planned[cell] = self._weights(cell)
        return self._planned[cell]

    def _quota(self, cell: Cell, weights: Mapping[str, float]) -> Quota:
        """The turns of these groups among a class; each set of groups has turns of its own."""
        if not weights:
            raise NoGroupLeftError
        key = cell, frozenset(weights)
        if key not in self._quotas:
            self._quotas[key] = Quota(weights)
        return self._quotas[key]

    def _spare(self, request: RouteRequest) -> dict[str, float]:
        """Groups that may stand in for those the plan gives the request, by their replicas."""
        tokens = request.input_tokens + (request.max_output_tokens or 0)
        return {
            g: float(self._replicas[g])
            for g, model in self._model_of.items()
            if request.model in (AUTO, model) and tokens <= self._context_tokens[g]
        }

    def _cell(self, request: RouteRequest) -> Cell:
        ranges = self._ranges_for(request.model)
        if not ranges:
            return request.model, None, frozenset()
        inputs = nearest_range(ranges, request.input_tokens)
        return request.model, inputs, _possible(ranges[inputs], request.max_output_tokens)

    def _ranges_for(self, model: str) -> Mapping[Range, set[Range]]:
        """The output ranges that a model's routes have in each input range, ascending."""
        if model not in self._ranges:
            ranges: dict[Range, set[Range]] = defaultdict(set)
            for route in self._routes_for(model):
                ranges[route.bucket.input_range].add(route.bucket.output_range)
            self._ranges[model] = dict(sorted(ranges.items()))
        return self._ranges[model]

    def _routes_for(self, model: str) -> Sequence[Route]:
        """The model's own stream, else the automatic one as far as it uses this model."""
        routes = self._routes.get(model) or self._routes.get(AUTO, [])
        return [r for r in routes if any(self._shares(r, model).values())]

    def _shares(self, route: Route, model: str) -> dict[str, float]:
        """A route's shares, restricted to groups that may answer for the model."""
        return {g: share for g, share in route.shares.items() if model in (AUTO, self._model_of[g])}

    def _weights(self, cell: Cell) -> dict[str, float]:
        model, inputs, outputs = cell
        if inputs is None:  # the plan routes no such request: by size of the groups that could
            return {g: float(self._replicas[g]) for g, m in self._model_of.items() if m == model}
        weights: dict[str, float] = defaultdict(float)
        for route in self._routes_for(model):
            if route.bucket.input_range == inputs and route.bucket.output_range in outputs:
                for group, share in self._shares(route, model).items():
                    weights[group] += route.rate_rps * share
        return weights

    def _reason(self, cell: Cell, quota: Quota, group: str) -> str:
        model, inputs, outputs = cell
        share = f"{quota.shares[group]:.0%}"
        if inputs is None:
            return f"{share} of {model}, by replicas: the plan has no route for it"
        longest = max(high for _, high in outputs)
        return f"{share} of {model} with in<={inputs[1]}, out<={longest}"


def _without(weights: Mapping[str, float], avoid: Collection[str]) -> dict[str, float]:
    return {group: w for group, w in weights.items() if w > 0 and group not in avoid}


def _streams(routes: Iterable[Route]) -> dict[str, list[Route]]:
    streams: dict[str, list[Route]] = defaultdict(list)
    for route in routes:
        if any(route.shares.values()):
            streams[route.stream].append(route)
    return dict(streams)


def nearest_range(ranges: Collection[Range], tokens: float) -> Range:
    """The (low, high] range that holds a count, else the nearest one, the first at a tie."""
    for found in ranges:  # most counts lie in one, and this is asked several times a request
        if found[0] + 1 <= tokens <= found[1]:
            return found

    def distance(r: Range) -> float:
        return max(r[0] + 1 - tokens, tokens - r[1], 0)

    return min(ranges, key=distance)


def _possible(outputs: set[Range], max_tokens: int | None) -> frozenset[Range]:
    """The output ranges an answer limited to ``max_tokens`` can fall into, never none."""
    possible = {r for r in outputs if max_tokens is None or r[0] < max_tokens}
    return frozenset(possible or {min(outputs)})
