"""A router that balances a whole fleet, at machine speed: each request where it disturbs least.

Beside `RouteTable`, which keeps to the plan's shares whatever happens, this one follows the load:
where the fleet is resized, requests go where there is room. It stands for a production router that
counts what it has in flight.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from orchestrator.autoscale.pools import concurrency, loads_s
from orchestrator.simulation.load import Load, outside
from placement.plan import AUTO, Plan, Route
from profiler.core import SizeBucket
from serve_apps.router.base import Decision, NoGroupLeftError, RouteRequest, UnknownModelError

Floats = NDArray[np.float64]
THRIFT = 0.5
"""Utilisation that a group may lie over another before a request takes e times dearer room."""


class Balanced:
    """Least in flight over what a group can have in hand, leaning towards who serves it cheaply.

    ``width[g]`` is the number of requests a replica has in hand at its highest rate inside the SLO
    (`concurrency`); ``bias[c, g]`` is ``THRIFT`` times the logarithm of what a request of class c
    costs there over where it is cheapest. Classes are by the size of the prompt alone, as no
    router knows the answer's. With ``shed``, a replica takes no more than ``shed`` times its
    width, and who finds no room is refused at once; without it engines queue.
    """

    def __init__(self, plan: Plan, shed: float | None = None) -> None:
        self._plan = plan
        self._shed = shed
        streams = list(dict.fromkeys(r.stream for r in plan.routes))
        self._ranges = [
            (s, span)
            for s in streams
            for span in sorted({r.bucket.input_range for r in plan.routes if r.stream == s})
        ]
        self.bias = np.array([self._bias(*c) for c in self._ranges])
        self.width = np.array([self._width(g) for g in range(len(plan.groups))], dtype=float)

    def slots(self, most: Sequence[int]) -> list[int]:
        """Requests that a replica of each group holds, of at most so many."""
        if self._shed is None:
            return [2**62] * len(most)
        wide = np.maximum(1, np.round(self.width * self._shed)).astype(int)
        return [min(m, w) for m, w in zip(most, wide.tolist(), strict=True)]

    def classes_of(self, load: Load) -> NDArray[np.int64]:
        """The row of ``bias`` of each request.

        Raises:
            UnknownModelError: a stream has no route.
        """
        found = np.zeros(len(load), dtype=np.int64)
        for s, stream in enumerate(load.streams):
            rows = np.flatnonzero(load.stream == s)
            own = [(k, span) for k, (name, span) in enumerate(self._ranges) if name == stream]
            if not own:
                raise UnknownModelError("model", stream, self._plan.models)
            sizes, place = np.unique(load.input_tokens[rows], return_inverse=True)
            far = [outside(sizes, span) for _, span in own]
            found[rows] = np.array([k for k, _ in own])[np.argmin(far, axis=0)][place]
        return found

    def route(self, request: RouteRequest, avoid: Collection[str] = ()) -> Decision:
        """For one whose replica died: where it is cheapest. Raises NoGroupLeftError."""
        costs = {
            g.name: self.bias[:, k].min()
            for k, g in enumerate(self._plan.groups)
            if g.name not in avoid and request.model in (AUTO, g.config.model)
        }
        if not costs:
            raise NoGroupLeftError
        best = min(costs, key=lambda n: float(costs[n]))
        model = self._plan.group(best).config.model
        return Decision(best, model, "least disturbed", len(costs) > 1)

    def _routes(self, stream: str, span: tuple[int, int] | None = None) -> list[Route]:
        return [
            r
            for r in self._plan.routes
            if r.stream == stream and span in (None, r.bucket.input_range)
        ]

    def _bias(self, stream: str, span: tuple[int, int]) -> Floats:
        routes = self._routes(stream, span)
        rates = np.array([r.rate_rps for r in routes])
        costs = np.full(len(self._plan.groups), np.inf)
        for g, group in enumerate(self._plan.groups):
            if stream in (AUTO, group.config.model):
                load = loads_s(group, [r.bucket for r in routes], self._plan.slo)
                costs[g] = group.usd_per_hour * float(rates @ load)
        if not np.isfinite(costs).any():  # nobody keeps the SLO: anybody may try
            return np.array(
                [0.0 if stream in (AUTO, g.config.model) else np.inf for g in self._plan.groups]
            )
        bias: Floats = THRIFT * np.log(costs / costs.min())
        return bias

    def _width(self, number: int) -> int:
        group = self._plan.groups[number]
        mine = [r for r in self._plan.routes if r.stream in (AUTO, group.config.model)]
        buckets: list[SizeBucket] = [r.bucket for r in mine]
        rates = np.array([r.rate_rps for r in mine])
        return concurrency(group, buckets, rates, self._plan.slo) if mine else 1
