"""What clients say of answers: kept for a while, written down, and told to a router that learns."""

from __future__ import annotations

import json
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serve_apps.api_error import ApiError
from serve_apps.openai_api import parse_object
from serve_apps.router.base import Decision

MOST_ANSWERS = 10_000
MOST_BYTES = 64 * 1024 * 1024
"""Of the file; the one before is kept beside it."""


@dataclass(frozen=True, slots=True)
class Given:
    """One piece of feedback and the decision that it is about."""

    request_id: str
    score: float
    decision: Decision


class Feedback:
    """The decisions that may still be judged: the most recent ones, each once."""

    def __init__(
        self,
        path: Path | None = None,
        *,
        most: int = MOST_ANSWERS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``path``: a JSON object per line is added there; no text of prompt or answer."""
        self.path = path
        self._most = most
        self._clock = clock
        self._decided: OrderedDict[str, Decision | None] = OrderedDict()

    def note(self, request_id: str, decision: Decision) -> None:
        """Remember who answers a request; the last to be named counts."""
        self._decided[request_id] = decision
        self._decided.move_to_end(request_id)
        if len(self._decided) > self._most:
            self._decided.popitem(last=False)

    def give(self, body: bytes) -> Given:
        """Take in a ``/v1/feedback`` body.

        Raises:
            ApiError: 400, malformed; 404, no such request, or too long ago; 409, judged before.
        """
        request_id, score = _read(body)
        if request_id not in self._decided:
            raise ApiError(
                404,
                f"no answer {request_id!r} is known here; expected the x-request-id of one of the "
                f"last {self._most:,} answers",
                param="request_id",
                code="unknown_request",
            )
        decision = self._decided[request_id]
        if decision is None:
            message = f"the answer {request_id!r} was judged already"
            raise ApiError(409, message, param="request_id", code="already_judged")
        self._decided[request_id] = None
        given = Given(request_id, score, decision)
        self._write(given)
        return given

    def _write(self, given: Given) -> None:
        if self.path is None:
            return
        line = {
            "time_s": round(self._clock(), 3),
            "request_id": given.request_id,
            "model": given.decision.model,
            "group": given.decision.group,
            "score": given.score,
            "predicted_quality": given.decision.quality,
        }
        if self.path.exists() and self.path.stat().st_size > MOST_BYTES:
            self.path.replace(self.path.with_suffix(".1.jsonl"))
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def _read(body: bytes) -> tuple[str, float]:
    fields = parse_object(body)
    unknown = sorted(fields.keys() - {"request_id", "score"})
    if unknown:
        raise _bad(unknown[0], f"unknown parameter {unknown[0]!r}; expected request_id and score")
    request_id, score = fields.get("request_id"), fields.get("score")
    if not isinstance(request_id, str) or not request_id:
        raise _bad("request_id", f"'request_id' is {_shown(request_id)}, expected text")
    number = score if isinstance(score, int | float) and not isinstance(score, bool) else math.nan
    if not 0 <= number <= 1:
        raise _bad("score", f"'score' is {_shown(score)}, expected a number from 0 to 1")
    return request_id, float(number)


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _bad(param: str, message: str) -> ApiError:
    return ApiError(400, message, param=param, code="invalid_value")
