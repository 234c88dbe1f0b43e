"""One prompt's estimates on the request's path: as plain numbers, and never at any price."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from serve_apps.router.estimates import Estimates
from serve_apps.router.prompts import Prompt

log = logging.getLogger("orchestrator.router")

MOST_AHEAD = 1024
SLOW_S = 0.02
SLOW_IN_A_ROW = 3
REST_S = 30.0
TELL_S = 1.0
"""A failure is told with its traceback at most so often: telling takes longer than estimating."""


class SourceOfEstimates(Protocol):
    """An artefact, or a part of one."""

    def expected(self, prompts: list[Prompt]) -> Estimates:
        """What each model is expected to make of each prompt."""
        ...


@dataclass(slots=True)
class Estimate:
    """Of one prompt; an entry per model of the pool, in its order."""

    quality: tuple[float, ...]
    output_tokens: tuple[float, ...]

    @property
    def difficulty(self) -> float:
        """1 - the mean expected score, as `router.difficulty` has it."""
        return 1 - sum(self.quality) / len(self.quality)


class QuickEstimates:
    """Estimates of single prompts; after a failure or while too slow, a reason why there are none.

    A code that blocks cannot be broken off, but it need not be called again: after a few slow
    calls in a row the estimator rests.
    """

    def __init__(
        self,
        source: SourceOfEstimates,
        *,
        slow_s: float = SLOW_S,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._source = source
        self._slow_s = slow_s
        self._clock = clock
        self._slow = 0
        self._rests_until = float("-inf")
        self._last: tuple[Prompt, Estimate | str] | None = None
        self._ahead: dict[int, tuple[Prompt, Estimate | str]] = {}
        self._told_s = float("-inf")
        self._untold = 0
        self.failures = 0
        self.only_prepared = False
        """Estimate nothing when asked, but what was prepared: whoever asks must not be held up."""

    @property
    def bounded(self) -> bool:
        """Whether the source says that it is sure to return soon."""
        return getattr(self._source, "bounded", False) is True

    def prepare(self, prompts: Sequence[Prompt]) -> None:
        """Estimate these together, which takes little longer than one of them alone.

        Each is asked for by itself afterwards. May run in another thread than all the rest.
        """
        began = self._clock()
        if began < self._rests_until:
            return
        if len(self._ahead) > MOST_AHEAD:  # of requests that went away
            self._ahead.clear()
        try:
            found = self._source.expected(list(prompts))
            quality, tokens = found.quality.tolist(), found.output_tokens.tolist()
        except Exception:  # noqa: BLE001 - one fails, and says so when it is asked for alone
            for prompt in prompts:
                self._ahead[id(prompt)] = prompt, self._alone(prompt)
            return
        for prompt, q, n in zip(prompts, quality, tokens, strict=True):
            self._ahead[id(prompt)] = prompt, self._checked(Estimate(tuple(q), tuple(n)))
        self._watch(began)

    def __call__(self, prompt: Prompt) -> Estimate | str:
        """The estimate, or why there is none. The same prompt again is not estimated again."""
        if self._last is not None and self._last[0] is prompt:
            return self._last[1]
        ahead = self._ahead.pop(id(prompt), None)
        if ahead is not None and ahead[0] is prompt:
            self._last = ahead
            return ahead[1]
        if self._clock() < self._rests_until:
            return f"estimates take over {self._slow_s * 1e3:.0f} ms"
        if self.only_prepared:
            return "no estimate in time"
        estimate = self._alone(prompt)
        if not isinstance(estimate, str):
            self._last = prompt, estimate
        return estimate

    def _alone(self, prompt: Prompt) -> Estimate | str:
        began = self._clock()
        try:
            found = self._source.expected([prompt])
            estimate = Estimate(
                tuple(found.quality[0].tolist()),
                tuple(found.output_tokens[0].tolist()),
            )
        except Exception as error:  # noqa: BLE001 - features may be anybody's code
            self.failures += 1
            self._tell(began)
            return f"no estimate: {type(error).__name__}"
        self._watch(began)
        return self._checked(estimate)

    def _tell(self, now: float) -> None:
        """Log the exception at hand, and how many were not logged before it."""
        if now - self._told_s < TELL_S:
            self._untold += 1
            return
        more = f" (nor {self._untold} before it)" if self._untold else ""
        log.exception("a prompt could not be estimated%s", more)
        self._told_s, self._untold = now, 0

    def _checked(self, estimate: Estimate) -> Estimate | str:
        if _finite(estimate):
            return estimate
        self.failures += 1
        return "no estimate: not a finite number"

    def _watch(self, began: float) -> None:
        now = self._clock()
        self._slow = self._slow + 1 if now - began > self._slow_s else 0
        if self._slow >= SLOW_IN_A_ROW:
            self._slow, self._rests_until = 0, now + REST_S


def _finite(estimate: Estimate) -> bool:
    return all(map(math.isfinite, (*estimate.quality, *estimate.output_tokens)))
