"""One line of JSON per request: who, where to, why, how long; never a body, header or key."""

from __future__ import annotations

import datetime as dt
import json
import logging
import random
import re
from collections.abc import Callable
from typing import Any, TextIO

from profiler.secret_text import redact
from serve_apps.seeing.plain import finite
from serve_apps.seeing.record import Outcome, RequestRecord
from serve_apps.seeing.settings import SeeingSettings

LOGGER = "orchestrator.requests"
MOST_TEXT = 120
_SECRET = re.compile(
    r"(?i)\b(sk|pk|key|hf|ghp|xox[abp]|akia)[-_][\w-]{6,}|\bbearer\s+\S+|\beyJ[\w-]+\.[\w.-]+"
)


class RequestLog:
    """Writes finished requests to the logger ``orchestrator.requests``, within a rate.

    What went wrong is written before what went well: the latter is sampled by ``log_share``. Above
    ``log_per_s`` lines are left out; the next line says how many.
    """

    def __init__(
        self,
        settings: SeeingSettings,
        dropped: Callable[[], None] = lambda: None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """``dropped`` is told of each line left out; ``draw`` gives numbers in [0, 1)."""
        self._share = settings.log_share
        self._per_s = settings.log_per_s
        self._room = self._burst = max(settings.log_per_s, 1.0)
        self._dropped = dropped
        self._draw = draw
        self._left_out = 0
        self._last_s: float | None = None
        self._logger = logging.getLogger(LOGGER)

    def write(self, record: RequestRecord) -> None:
        """Log a finished request, or leave it out."""
        if not self._per_s or not self._logger.isEnabledFor(logging.INFO):
            return
        if record.outcome is Outcome.OK and self._share < 1 and self._draw() >= self._share:
            return
        if not self._takes(record.finished_s or record.arrived_s):
            self._left_out += 1
            self._dropped()
            return
        fields = line(record)
        if self._left_out:
            fields["left_out_before"] = self._left_out
            self._left_out = 0
        self._logger.info("%s", json.dumps(finite(fields), separators=(",", ":")))

    def _takes(self, now_s: float) -> bool:
        """A token bucket on the records' own clock."""
        elapsed_s = 0.0 if self._last_s is None else max(now_s - self._last_s, 0.0)
        self._last_s = now_s
        self._room = min(self._room + elapsed_s * self._per_s, self._burst)
        if self._room < 1:
            return False
        self._room -= 1
        return True


def write_lines_to(stream: TextIO) -> None:
    """Send request lines there, one JSON object each and nothing around it; a second call moves it.

    For the process that serves: a library must not decide where logs go.
    """
    logger = logging.getLogger(LOGGER)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False


def line(record: RequestRecord) -> dict[str, Any]:
    """What is logged of a request; fields without a value are left out."""
    at = dt.datetime.fromtimestamp(record.arrived_unix_s, dt.UTC)
    fields = {
        "at": at.isoformat(timespec="milliseconds"),
        "event": "request",
        "request_id": record.request_id,
        "trace_id": f"{record.trace_id:032x}" if record.trace_id else None,
        "tenant": record.tenant,
        "key_id": record.key_id,
        "path": record.path,
        "model_asked": redacted(record.model_asked),
        "stream": record.stream,
        "model": record.model,
        "group": record.group,
        "replica": record.replica,
        "reason": record.reason,
        "outcome": str(record.outcome),
        "refusal": None if record.refusal is None else str(record.refusal),
        "status": record.status,
        "input_tokens": record.input_tokens,
        "output_tokens": record.output_tokens,
        "waited_s": round(record.waited_s, 6),
        "ttft_s": _rounded(record.ttft_s),
        "tpot_s": _rounded(record.tpot_s),
        "duration_s": _rounded(record.duration_s),
        "predicted_ttft_s": _rounded(record.predicted_ttft_s),
        "predicted_quality": _rounded(record.predicted_quality),
        "predicted_cost_usd": record.predicted_cost_usd,
        "attempts": record.attempts,
        "shed": record.shed or None,
        "router_fallback": record.router_fallback or None,
    }
    return {name: value for name, value in fields.items() if value not in (None, "")}


def redacted(text: str) -> str:
    """Text that a client chose: cut, and without anything that looks like a credential."""
    return redact(_SECRET.sub("[redacted]", text[: 4 * MOST_TEXT]))[:MOST_TEXT]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
