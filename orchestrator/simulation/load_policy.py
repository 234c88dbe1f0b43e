"""Policies that choose the model by load, in the simulator: the gateway's own router before it.

What a policy sees, and what becomes of its choice, is `serve_apps.router.deciding`, the same code
as in the gateway. Estimates are given here, one row per request; answers are as long as the plan
expects.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from orchestrator.simulator import Floats
from placement.plan import AUTO, Plan
from serve_apps.flow.dispatcher import Dispatcher
from serve_apps.flow.lengths import Lengths
from serve_apps.router.base import Decision, RouteRequest
from serve_apps.router.deciding import Deciding, Typical
from serve_apps.router.live import LivePrices
from serve_apps.router.load_policies import (
    Learned,
    LoadPolicy,
    LoadState,
    ModelOption,
    Priced,
    policy_of,
)
from serve_apps.router.quick import Estimate

__all__ = [
    "Always",
    "Learned",
    "LoadPolicy",
    "LoadState",
    "ModelOption",
    "PolicyRouter",
    "Priced",
    "policy_of",
]


@dataclass(frozen=True, slots=True)
class Always:
    """One model for everything."""

    model: str

    def choose(self, options: Sequence[ModelOption], state: LoadState) -> str | None:  # noqa: ARG002
        """See `LoadPolicy.choose`."""
        return self.model


class PolicyRouter:
    """`serve_apps.router.base.Router` by a `LoadPolicy`, for `simulate_flow`."""

    weighs_load = True

    def __init__(
        self, plan: Plan, policy: LoadPolicy, quality: Mapping[str, float] | Floats
    ) -> None:
        """``quality``: expected score by model, or ``[requests, models]`` in order of arrival
        and of the plan's models as they come in its groups.

        Raises:
            ValueError: the plan has no route for requests that name no model.
        """
        self.models = tuple(dict.fromkeys(g.config.model for g in plan.groups))
        """In the order of ``quality``'s columns."""
        self._fixed = isinstance(quality, Mapping)
        told = [[quality[m] for m in self.models]] if isinstance(quality, Mapping) else quality
        rows: Floats = np.array(told, dtype=float)
        self._quality: list[list[float]] = rows.tolist()
        edges = plan.router.edges if plan.router is not None else ()
        bins = np.searchsorted(edges, 1 - rows.mean(axis=1), side="right")
        self._lengths = Lengths(plan)
        self._dispatcher: Dispatcher | None = None
        self._core = Deciding(plan, self.models, Typical(rows, bins), self._now_s, policy)
        self._request = self._arriving = 0
        self._known: dict[int, tuple[RouteRequest, int]] = {}

    @property
    def prices(self) -> LivePrices:
        """What load costs on each group, by the plan and now."""
        return self._core.prices

    def heed_flow(self, dispatcher: Dispatcher) -> None:
        """See `dispatching.FlowAware`."""
        self._dispatcher = dispatcher

    @property
    def request(self) -> int:
        """The place of the request asked about, in the order of arrival."""
        return self._request

    def at(self, request: int) -> None:
        """See `dispatching.PerRequest`."""
        self._arriving = request

    def route(self, request: RouteRequest, avoid: Collection[str] = ()) -> Decision:
        """See `serve_apps.router.base.Router.route`."""
        self._recall(request)
        self._core.prices.tick()
        if request.model != AUTO:
            return self._core.by_table(request, avoid, "")
        output = self._lengths.expected(AUTO, request.input_tokens, request.max_output_tokens)
        quality = self._quality[0 if self._fixed else self._request]
        estimate = Estimate(tuple(quality), (output,) * len(quality))
        decision = self._core.decide(request, estimate, avoid)
        return replace(decision, output_tokens=None)  # the dispatcher learns lengths by itself

    def _recall(self, asked: RouteRequest) -> None:
        """Those that are moved from queue to queue are asked about again, out of order."""
        known = self._known.setdefault(id(asked), (asked, self._arriving))
        self._request = known[1]

    def _now_s(self) -> float:
        """The simulation begins at 0, with this router there already."""
        return self._dispatcher.now() if self._dispatcher is not None else 0.0
