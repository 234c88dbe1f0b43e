"""Rules that choose a model, to set beside the priced policy: blind, by threshold, by queue.

All see the models in one order, the large one first, and none sees the future but `Scripted`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.simulation.load_policy import LoadState, ModelOption


def best_feasible(options: Sequence[ModelOption], first: int) -> str | None:
    """The model at a place in the order, else the next smaller, else the next larger that can."""
    for option in (*options[first:], *reversed(options[:first])):
        if option.feasible:
            return option.model
    return None


class Random:
    """A model by chance, in a mix; one that cannot answer in time is replaced by another."""

    def __init__(self, mix: Sequence[float], seed: int = 0) -> None:
        self._mix = [max(share, 0.0) for share in mix]
        self._rng = random.Random(seed)

    def choose(self, options: Sequence[ModelOption], state: LoadState) -> str | None:  # noqa: ARG002
        """See `LoadPolicy.choose`."""
        places = range(len(options))
        weights = self._mix if sum(self._mix) > 0 else [1.0] * len(options)
        return best_feasible(options, self._rng.choices(places, weights)[0])


@dataclass(frozen=True, slots=True)
class Threshold:
    """By predicted quality alone: the smallest model that loses at most ``margin`` to the best.

    Blind to load but for what the dispatcher refuses: then the next smaller model answers.
    """

    margin: float

    def choose(self, options: Sequence[ModelOption], state: LoadState) -> str | None:  # noqa: ARG002
        """See `LoadPolicy.choose`."""
        return best_feasible(options, smallest_within(options, 0, self.margin))


def smallest_within(options: Sequence[ModelOption], first: int, margin: float) -> int:
    """The last place, from ``first`` on, whose quality is within the margin of the best there."""
    floor = max(o.quality for o in options[first:]) - margin
    return max(k for k in range(first, len(options)) if options[k].quality >= floor)


@dataclass(frozen=True)
class QueueSettings:
    """Of `QueueRule`: both thresholds are fill levels, in full batches inside the SLO."""

    high: float
    low: float
    hold_s: float
    margin: float


class QueueRule:
    """Give a model nothing while it is too full, and again once it was emptier for a while.

    Each model but the last closes when what it holds and what waits exceed ``high`` and opens
    when they were below ``low`` for ``hold_s``: hysteresis by two thresholds and a timer. Among
    those open, the smallest within ``margin`` of the best predicted quality (below 0: the first).
    """

    def __init__(self, settings: QueueSettings, full_batch: Mapping[str, float]) -> None:
        """``full_batch``: requests that all replicas of a model hold at saturation in the SLO."""
        self._settings = settings
        self._full = full_batch
        self._closed: set[str] = set()
        self._low_since_s: dict[str, float] = {}

    def choose(self, options: Sequence[ModelOption], state: LoadState) -> str | None:
        """See `LoadPolicy.choose`."""
        for option in options[:-1]:
            self._judge(option, state.now_s)
        open_ = [o for o in options if o.model not in self._closed]
        margin = self._settings.margin
        place = 0 if margin < 0 else smallest_within(open_, 0, margin)
        wanted = options.index(open_[place])
        return best_feasible(options, wanted)

    def _judge(self, option: ModelOption, now_s: float) -> None:
        model = option.model
        fill = (option.in_flight + option.queued) / self._full[model]
        if fill > self._settings.high:
            self._closed.add(model)
        if fill >= self._settings.low:
            self._low_since_s.pop(model, None)
        elif now_s - self._low_since_s.setdefault(model, now_s) >= self._settings.hold_s:
            self._closed.discard(model)


class Scripted:
    """What was decided beforehand for each request: how hindsight speaks."""

    def __init__(self, places: Sequence[int], request: Callable[[], int]) -> None:
        """``places``: for each request, in the order of arrival, a place among the models."""
        self._places = places
        self._request = request

    def choose(self, options: Sequence[ModelOption], state: LoadState) -> str | None:  # noqa: ARG002
        """See `LoadPolicy.choose`."""
        return best_feasible(options, self._places[self._request()])
