"""Faults that an emulated engine shows on demand."""

from __future__ import annotations

import random
from typing import Annotated, Literal

from pydantic import Field

from profiler.core import Count, Noun, Positive, Share

FaultKind = Literal["hang", "freeze", "die", "slow", "error", "cut", "refuse"]
OF_REQUESTS: tuple[FaultKind, ...] = ("hang", "error", "cut")


class Fault(Noun):
    """What goes wrong, and for whom.

    ``hang``, ``error`` and ``cut`` strike requests that arrive while the fault is set; the engine
    goes on for the others, and stays healthy. ``error`` before the first token is an HTTP status,
    later an error event in the stream. ``freeze`` stops the whole engine as SIGSTOP would: nobody
    is answered, ``/health`` included. ``slow`` stretches every step. ``refuse`` closes the port to
    new connections. ``die`` ends the engine; with ``after_tokens`` when it has told so many more.
    """

    kind: FaultKind
    after_tokens: Annotated[int, Field(ge=0)] = Field(
        0, description="hang, error, cut: tokens such a request gets first; die: tokens of all"
    )
    factor: Positive = Field(10.0, description="slow: a step takes so many times as long")
    status: Annotated[int, Field(ge=400, le=599)] = Field(500, description="error: HTTP status")
    probability: Share = Field(1.0, description="hang, error, cut: share of requests it strikes")
    requests: Count | None = Field(
        None, description="hang, error, cut: strikes so many requests, then no more"
    )
    for_s: Positive | None = Field(None, description="ends by itself after so many seconds")


class Strikes:
    """Decides which requests a fault strikes; the same seed strikes the same ones."""

    def __init__(self, fault: Fault | None, seed: int = 0) -> None:
        self.fault = fault
        self.struck = 0
        self._random = random.Random(seed)

    def next(self) -> Fault | None:
        """The fault that the next request meets, None when it goes well."""
        fault = self.fault
        if fault is None or fault.kind not in OF_REQUESTS:
            return None
        if fault.requests is not None and self.struck >= fault.requests:
            return None
        if self._random.random() >= fault.probability:
            return None
        self.struck += 1
        return fault
