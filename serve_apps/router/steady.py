"""A router that always answers: where the first fails or is slow, the second stands in."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from placement.plan import AUTO
from serve_apps.router.base import (
    Decision,
    NoGroupLeftError,
    Router,
    RouteRequest,
    UnknownModelError,
)
from serve_apps.router.learned import LearnedRouter
from serve_apps.router.live import LivePrices
from serve_apps.router.prompts import Prompt

log = logging.getLogger("orchestrator.router")

SLOW_S = 0.05
FAILURES = 3
REST_S = 30.0


class SteadyRouter:
    """`base.Router` over two: a learned one, and another whenever that one fails.

    After a few failures or slow decisions in a row the first rests for a while.
    """

    weighs_load = True

    def __init__(
        self,
        first: LearnedRouter,
        second: Router,
        *,
        slow_s: float = SLOW_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._first = first
        self._second = second
        self._slow_s = slow_s
        self._clock = clock
        self._bad = 0
        self._rests_until = float("-inf")
        self.failures = 0

    @property
    def prices(self) -> LivePrices:
        """Of the learned router."""
        return self._first.prices

    def prepare(self, prompts: Sequence[Prompt]) -> None:
        """See `LearnedRouter.prepare`; nothing while it rests."""
        if self._clock() >= self._rests_until:
            self._first.prepare(prompts)

    def route(self, request: RouteRequest, avoid: Collection[str] = ()) -> Decision:
        """See `base.Router.route`."""
        began_s = self._clock()
        if began_s < self._rests_until:
            return self._stand_in(request, avoid)
        try:
            decision = self._first.route(request, avoid)
        except (UnknownModelError, NoGroupLeftError):
            raise
        except Exception:  # estimators and policies may be anybody's code
            log.exception("the learned router failed; the plan's shares stand in")
            self.failures += 1
            self._note(bad=True)
            return self._stand_in(request, avoid)
        self._note(bad=self._clock() - began_s > self._slow_s)
        return decision

    def _stand_in(self, request: RouteRequest, avoid: Collection[str]) -> Decision:
        """Who names a model gets it either way."""
        decision = self._second.route(request, avoid)
        return replace(decision, fallback=True) if request.model == AUTO else decision

    def _note(self, *, bad: bool) -> None:
        self._bad = self._bad + 1 if bad else 0
        if self._bad >= FAILURES:
            self._bad, self._rests_until = 0, self._clock() + REST_S
            log.warning("the learned router rests for %.0f s", REST_S)
