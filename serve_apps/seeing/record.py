"""What is known of one request when it is over: the one source of all that is shown of it."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import NamedTuple

ANONYMOUS = "anonymous"


class Outcome(enum.StrEnum):
    """How a request ended."""

    OK = "ok"
    CLIENT_ERROR = "client_error"  # 4xx, ours or the engine's
    ENGINE_ERROR = "engine_error"  # 5xx that the engine answered
    UNAVAILABLE = "unavailable"  # no replica, or none that could be reached
    OVERLOADED = "overloaded"  # 429: it could not have been answered in time
    LIMITED = "limited"  # 429: the caller's own limit or budget
    TIMEOUT = "timeout"  # the deadline passed while it was answered
    CUT = "cut"  # the engine went away after the first byte
    CANCELLED = "cancelled"  # the client went away
    INTERNAL_ERROR = "internal_error"  # a bug of ours


_ENDS = {
    outcome: outcome.value
    for outcome in (
        Outcome.CLIENT_ERROR,
        Outcome.ENGINE_ERROR,
        Outcome.TIMEOUT,
        Outcome.CUT,
        Outcome.CANCELLED,
    )
}
"""What became of a try that began to answer, where not all went well; in flow's words."""


class Refusal(enum.StrEnum):
    """Why a request never reached an engine."""

    OVERLOAD = "overload"  # no model could have answered inside the SLO
    QUEUE_FULL = "queue_full"
    DEADLINE = "deadline"  # the caller's own deadline could not be met
    UNAVAILABLE = "unavailable"  # no replica is left
    UNAUTHENTICATED = "unauthenticated"  # no key, or an unknown one
    FORBIDDEN = "forbidden"  # a key that may not do this
    RATE_LIMIT = "rate_limit"  # the key's requests or tokens per minute
    BUDGET = "budget"  # the key's money is spent
    UNKNOWN_MODEL = "unknown_model"
    INVALID = "invalid"  # malformed body or header
    TOO_LARGE = "too_large"


class Candidate(NamedTuple):
    """A model that was weighed; price in USD for this request, quality in 0..1 (None: unknown)."""

    model: str
    quality: float | None
    price_usd: float
    feasible: bool


class Attempt(NamedTuple):
    """One try at one replica; times are monotonic seconds, ``first_byte_s`` None without one.

    ``result`` is the value of flow's ``Result``.
    """

    group: str
    replica: str
    started_s: float
    first_byte_s: float | None
    finished_s: float
    result: str
    status: int = 0


@dataclass(slots=True)
class RequestRecord:
    """One request. Filled on the way, told to `Seeing.finished` once at the end.

    ``*_s`` times of the course are monotonic (the same clock for all), None where the request did
    not come that far. Strings are empty where nothing was decided. ``model_asked`` is the client's
    word and unbounded: it is never a label. ``input_tokens`` is estimated, ``output_tokens``
    counted or read from the engine's usage. ``traceparent`` is the client's header as it came; the
    ids after it are set by `Seeing`. ``tried`` grows by one `Attempt` when a try has failed, or has
    begun to answer; `tries` has the end of the latter.
    """

    request_id: str
    arrived_unix_s: float
    arrived_s: float
    path: str = ""
    tenant: str = ANONYMOUS
    key_id: str | None = None
    model_asked: str = ""
    stream: bool = False
    model: str = ""
    group: str = ""
    replica: str = ""
    reason: str = ""
    outcome: Outcome = Outcome.INTERNAL_ERROR
    refusal: Refusal | None = None
    status: int = 0
    dispatched_s: float | None = None
    first_byte_s: float | None = None
    finished_s: float | None = None
    waited_s: float = 0.0
    input_tokens: int = 0
    output_tokens: int | None = None
    predicted_ttft_s: float | None = None
    predicted_tpot_s: float | None = None
    predicted_output_tokens: float | None = None
    predicted_quality: float | None = None
    predicted_cost_usd: float | None = None
    shed: bool = False
    attempts: int = 0
    router_s: float | None = None
    router_fallback: bool = False
    candidates: tuple[Candidate, ...] = ()
    traceparent: str = ""
    trace_id: int = 0
    span_id: int = 0
    tried: list[Attempt] = field(default_factory=list)

    @property
    def ttft_s(self) -> float | None:
        """Arrival to first byte; of a plain answer that is the whole answer, so None there."""
        if self.first_byte_s is None or not self.stream:
            return None
        return self.first_byte_s - self.arrived_s

    def tries(self) -> list[Attempt]:
        """All tries; of one that began to answer, with what became of it since."""
        if not self.tried or self.tried[-1].result != "ok" or self.finished_s is None:
            return self.tried
        last = self.tried[-1]._replace(
            first_byte_s=self.first_byte_s,
            finished_s=self.finished_s,
            result=self.end,
        )
        return [*self.tried[:-1], last]

    @property
    def end(self) -> str:
        """What became of a try that began to answer, in the words of `Attempt.result`."""
        return _ENDS.get(self.outcome, "ok")

    @property
    def duration_s(self) -> float | None:
        """Arrival to last byte, or to the refusal."""
        return None if self.finished_s is None else self.finished_s - self.arrived_s

    @property
    def tpot_s(self) -> float | None:
        """(last byte - first byte) / (output tokens - 1), of streams with two tokens or more."""
        if self.first_byte_s is None or self.finished_s is None or not self.stream:
            return None
        if self.output_tokens is None or self.output_tokens < 2:
            return None
        return (self.finished_s - self.first_byte_s) / (self.output_tokens - 1)
