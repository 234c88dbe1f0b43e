"""One request's course as data and in plain words: weighed, chosen, predicted, measured."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from serve_apps.seeing.log import redacted
from serve_apps.seeing.record import Candidate, Outcome, Refusal, RequestRecord

_REFUSED = {
    Refusal.OVERLOAD: "no model could have answered inside the latency targets",
    Refusal.QUEUE_FULL: "the queue was full",
    Refusal.DEADLINE: "its deadline could not be met",
    Refusal.UNAVAILABLE: "no replica was left",
    Refusal.UNAUTHENTICATED: "it carried no key, or one that is not known",
    Refusal.FORBIDDEN: "its key may not do this",
    Refusal.RATE_LIMIT: "its key's rate was used up",
    Refusal.BUDGET: "its key's budget was spent",
    Refusal.UNKNOWN_MODEL: "this pool serves no such model",
    Refusal.INVALID: "it was malformed",
    Refusal.TOO_LARGE: "it was too large",
}
_ENDED = {
    Outcome.OK: "it was answered",
    Outcome.CLIENT_ERROR: "the request was at fault",
    Outcome.ENGINE_ERROR: "the engine answered with an error",
    Outcome.UNAVAILABLE: "no engine could be reached",
    Outcome.OVERLOADED: "the pool was too busy",
    Outcome.LIMITED: "the caller's own limit was reached",
    Outcome.TIMEOUT: "its deadline passed",
    Outcome.CUT: "the engine went away in the middle of the answer",
    Outcome.CANCELLED: "the client went away",
    Outcome.INTERNAL_ERROR: "the ingress failed; that is a bug",
}


def explanation(record: RequestRecord) -> dict[str, Any]:
    """Everything that may be shown of a request; ``words`` tells it in sentences."""
    return {
        "request_id": record.request_id,
        "arrived_unix_s": record.arrived_unix_s,
        "tenant": record.tenant,
        "path": record.path,
        "model_asked": redacted(record.model_asked),
        "stream": record.stream,
        "outcome": str(record.outcome),
        "refusal": None if record.refusal is None else str(record.refusal),
        "status": record.status,
        "model": record.model or None,
        "group": record.group or None,
        "replica": record.replica or None,
        "reason": record.reason,
        "shed": record.shed,
        "router_s": record.router_s,
        "router_fallback": record.router_fallback,
        "waited_s": record.waited_s,
        "input_tokens": record.input_tokens,
        "predicted": {
            "ttft_s": record.predicted_ttft_s,
            "tpot_s": record.predicted_tpot_s,
            "output_tokens": record.predicted_output_tokens,
            "quality": record.predicted_quality,
            "cost_usd": record.predicted_cost_usd,
        },
        "measured": {
            "ttft_s": record.ttft_s,
            "tpot_s": record.tpot_s,
            "output_tokens": record.output_tokens,
            "duration_s": record.duration_s,
        },
        "candidates": [
            c._asdict() | {"chosen": c.model == record.model} for c in record.candidates
        ],
        "attempts": [
            {
                "group": a.group,
                "replica": a.replica,
                "after_s": a.started_s - record.arrived_s,
                "first_byte_s": None if a.first_byte_s is None else a.first_byte_s - a.started_s,
                "took_s": a.finished_s - a.started_s,
                "result": a.result,
                "status": a.status,
            }
            for a in record.tries()
        ],
        "words": list(words(record)),
    }


def words(record: RequestRecord) -> Iterator[str]:
    """The request's course, one sentence or two a line."""
    kind = "a stream" if record.stream else "a whole answer"
    asked = redacted(record.model_asked) or "no model"
    yield (
        f"{record.tenant} asked for {asked} as {kind}, about {_count(record.input_tokens, 'token')}"
        " in the prompt."
    )
    if record.refusal is not None:
        yield f"It was refused with {record.status}: {_REFUSED[record.refusal]}."
    if record.model:
        yield from _choice(record)
    if record.attempts:
        yield from _course(record)
    if record.refusal is None:
        yield from _end(record)


def _choice(record: RequestRecord) -> Iterator[str]:
    yield f"Model {record.model} in group {record.group} was chosen: {record.reason}."
    if record.router_fallback:
        yield "The learned router failed or was late, so the plan's shares decided."
    elif record.router_s is not None:
        yield f"The decision took {record.router_s * 1e6:,.0f} µs."
    others = [c for c in record.candidates if c.model != record.model]
    if others:
        yield f"Also weighed: {'; '.join(_candidate(c) for c in others)}."
    if record.shed:
        yield "In a quiet hour it would have gone to a better model: load had raised the prices."


def _candidate(c: Candidate) -> str:
    quality = "quality unknown" if c.quality is None else f"quality {c.quality:.2f}"
    price = f"${c.price_usd:.3g}" if math.isfinite(c.price_usd) else "no price"
    kept = "" if c.feasible else ", outside the latency targets"
    return f"{c.model} ({quality}, {price}{kept})"


def _course(record: RequestRecord) -> Iterator[str]:
    if record.waited_s >= 0.001:
        yield f"It waited {_time(record.waited_s)} for a slot."
    for a in record.tried[:-1]:
        yield (
            f"Replica {a.replica} gave {a.result} after "
            f"{_time(a.finished_s - a.started_s)}; another was taken."
        )
    if record.replica:
        yield f"Replica {record.replica} had it."


def _end(record: RequestRecord) -> Iterator[str]:
    took = "" if record.duration_s is None else f" after {_time(record.duration_s)}"
    status = f" with {record.status}" if record.status else ""
    yield f"It ended{status}{took}: {_ENDED[record.outcome]}."
    if record.ttft_s is not None:
        yield f"First token after {_against(record.ttft_s, record.predicted_ttft_s)}."
    if record.tpot_s is not None:
        yield f"Each further token took {_against(record.tpot_s, record.predicted_tpot_s)}."
    if record.output_tokens is not None:
        told = record.predicted_output_tokens
        expected = "" if told is None else f", {told:,.0f} expected"
        yield f"{_count(record.output_tokens, 'output token')}{expected}."
    if record.predicted_cost_usd is not None:
        yield f"It took about ${record.predicted_cost_usd:.3g} of the fleet at the plan's prices."


def _against(measured_s: float, predicted_s: float | None) -> str:
    if not predicted_s:
        return _time(measured_s)
    off = measured_s / predicted_s - 1
    if abs(off) < 0.005:
        return f"{_time(measured_s)}, as predicted"
    side = "more" if off > 0 else "less"
    return f"{_time(measured_s)} ({_time(predicted_s)} predicted, {abs(off):.0%} {side})"


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"
