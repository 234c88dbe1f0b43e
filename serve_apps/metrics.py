"""What the ingress counts. Labels are bounded: models and groups of the plan, a few outcomes."""

from __future__ import annotations

import enum

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

NONE = "none"
"""Label value where a request never reached a model or group."""

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300)


class Outcome(enum.StrEnum):
    """How a request ended."""

    OK = "ok"
    CLIENT_ERROR = "client_error"  # 4xx, ours or the engine's
    ENGINE_ERROR = "engine_error"  # 5xx that the engine answered
    UNAVAILABLE = "unavailable"  # no replica, or none that could be reached
    OVERLOADED = "overloaded"  # every replica stayed full
    CUT = "cut"  # the engine went away after the first byte
    CANCELLED = "cancelled"  # the client went away
    INTERNAL_ERROR = "internal_error"  # a bug of ours


class Metrics:
    """The ingress's own Prometheus metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ("model", "group")
        self.requests = Counter(
            "orchestrator_requests",
            "Requests by how they ended",
            (*labels, "outcome"),
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "orchestrator_requests_in_flight",
            "Requests that are waiting for a replica or being answered",
            labels,
            registry=self.registry,
        )
        self.ttft = Histogram(
            "orchestrator_time_to_first_token_seconds",
            "Arrival to the first byte of a streamed answer",
            labels,
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.duration = Histogram(
            "orchestrator_request_duration_seconds",
            "Arrival to the last byte of the answer",
            labels,
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.retries = Counter(
            "orchestrator_retries",
            "Requests sent to a second replica because the first could not be reached",
            labels,
            registry=self.registry,
        )

    def render(self) -> tuple[bytes, str]:
        """The exposition text and its content type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST
