"""Policies that choose the model of a request by load, behind one protocol.

A policy sees what each model would cost now, how good its answer would be and how soon it would
begin; all else (groups, replicas, queues, refusals) is the router's and the dispatcher's, the
same for each. The gateway and the simulator ask them through the same code (`router.deciding`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from serve_apps.router.base import RouteRequest
from serve_apps.router.load_values import LoadValues

log = logging.getLogger("orchestrator.router")

FAILURES = 3
REST_S = 30.0


@dataclass(slots=True)  # not frozen: that would take three times as long to make
class ModelOption:
    """One model's answer to one request, by its best group.

    ``price_usd`` is load times the price of load now, ``planned_price_usd`` by the plan's price;
    ``predicted_ttft_s`` counts from now, queue included, and is infinite where no engine is left;
    ``feasible``: it would begin in time, and keep the SLO at this size; ``in_time``: how much of
    the chance to keep the SLO load leaves, see `router.risk.left_by_load`. ``in_flight`` and
    ``queued`` are of all the model's groups, ``slots`` what their engines hold at most.
    ``planned``: the plan has it answer such requests; ``bias_usd`` is what it is owed of them.
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
    planned: bool = True
    bias_usd: float = 0.0


@dataclass(slots=True)
class LoadState:
    """What else a policy may look at.

    ``arrival_rate_rps`` is a mean over about ten seconds; ``worth_usd`` is what the plan pays for
    a unit of quality of such a request; ``quiet``: nothing costs more than planned, and nobody
    would be late.
    """

    now_s: float
    arrival_rate_rps: float
    asked: RouteRequest
    worth_usd: float = 0.0
    quiet: bool = False


class LoadPolicy(Protocol):
    """Chooses a model for each request; called in order of arrival."""

    def choose(self, options: Sequence[ModelOption], state: LoadState) -> str | None:
        """A model's name, None to refuse. One that is not feasible is refused as well."""
        ...


@dataclass(frozen=True, slots=True)
class Priced:
    """The product's own: worth of quality, if it comes in time, less the price of load now.

    In a quiet hour the models that the plan has for such requests share them by what each is
    owed. Otherwise any model may answer: at the plan's prices one that the plan does not use
    stands no better than those that it uses, so it comes in by what load costs them.
    ``worth_usd``: of a unit of quality; None: the plan's.
    """

    worth_usd: float | None = None

    def choose(self, options: Sequence[ModelOption], state: LoadState) -> str | None:
        """See `LoadPolicy.choose`."""
        worth = state.worth_usd if self.worth_usd is None else self.worth_usd
        able = [o for o in options if o.feasible]
        if not able:
            return None
        standing = {o.model: _planned_utility(o, worth) for o in able if o.planned}
        if not state.quiet or not standing:
            most = max(standing.values(), default=float("inf"))
            for o in able:
                if not o.planned:
                    standing[o.model] = min(_planned_utility(o, worth), most)

        best, most, importance = "", 0.0, state.asked.importance
        for o in able:
            if o.model not in standing:
                continue
            # Late is late for everybody, but prices are divided by importance.
            rise = o.price_usd - o.planned_price_usd
            late = worth * o.quality * (1 - o.in_time)
            now = standing[o.model] - late - rise / importance
            if not best or now > most:
                best, most = o.model, now
        return best


def _planned_utility(option: ModelOption, worth_usd: float) -> float:
    return worth_usd * option.quality - option.planned_price_usd + option.bias_usd


@dataclass(frozen=True, slots=True)
class Learned:
    """What was learned by reinforcement: the feasible model that the network thinks most of."""

    values: LoadValues

    def choose(self, options: Sequence[ModelOption], state: LoadState) -> str | None:
        """See `LoadPolicy.choose`."""
        return self.values.best(options, state.arrival_rate_rps, state.asked.input_tokens)


class Supervised:
    """A policy that another stands by for: where it fails or names nobody who can answer.

    After a few failures in a row it rests for a while.
    """

    def __init__(
        self,
        name: str,
        first: LoadPolicy,
        second: LoadPolicy,
        clock: Callable[[], float],
    ) -> None:
        """``name``: what a decision of the first is called where reasons are given."""
        self.name = name
        self.acted = False
        """Whether the last choice was the first's own."""
        self.failures = 0
        self._first, self._second, self._clock = first, second, clock
        self._bad = 0
        self._rests_until = float("-inf")

    def choose(self, options: Sequence[ModelOption], state: LoadState) -> str | None:
        """See `LoadPolicy.choose`."""
        chosen = self._tried(options, state) if self._clock() >= self._rests_until else None
        self.acted = chosen is not None
        return chosen if chosen is not None else self._second.choose(options, state)

    def _tried(self, options: Sequence[ModelOption], state: LoadState) -> str | None:
        try:
            chosen = self._first.choose(options, state)
        except Exception:  # whoever made the policy, requests are answered
            log.exception("%s failed; the priced policy stands in", self.name)
            chosen = None
        if any(o.model == chosen and o.feasible for o in options):
            self._bad = 0
            return chosen
        self.failures += 1
        self._bad += 1
        if self._bad >= FAILURES:
            self._bad, self._rests_until = 0, self._clock() + REST_S
            log.warning("%s rests for %.0f s", self.name, REST_S)
        return None


def policy_of(values: LoadValues) -> LoadPolicy:
    """What its verdict allows: the network where it won its trial, else the priced policy."""
    if values.verdict.better:
        return Learned(values)
    return Priced(values.verdict.worth_usd)
