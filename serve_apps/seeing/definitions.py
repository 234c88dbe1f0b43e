"""Every metric of the data plane, once: name, unit, meaning, labels, formula.

What is exposed, the dashboards, the alert rules and the documentation are all made from these.
Units are seconds, tokens, ratios and US dollars; rents and prices are per hour, as in a plan.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from serve_apps.seeing.record import Outcome, Refusal
from serve_apps.seeing.snapshot import ReplicaState

NONE = "none"
"""Label value where a request never came so far as to have one."""
OTHER = "other"
"""Label value for names that nobody told us of, or that are too many."""


class Kind(enum.StrEnum):
    """As Prometheus has them; a summary has a sum and a count, no quantiles."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    SUMMARY = "summary"


class Scope(enum.StrEnum):
    """How the figures of several ingress processes make one: sums, or the same thing seen twice."""

    PROCESS = "process"
    FLEET = "fleet"


_SAMPLES: dict[Kind, tuple[str, ...]] = {
    Kind.COUNTER: ("_total",),
    Kind.GAUGE: ("",),
    Kind.HISTOGRAM: ("_bucket", "_sum", "_count"),
    Kind.SUMMARY: ("_sum", "_count"),
}


@dataclass(frozen=True, slots=True)
class Definition:
    """One metric. ``name`` is without the suffixes that Prometheus gives its samples."""

    name: str
    kind: Kind
    unit: str
    help: str
    labels: tuple[str, ...] = ()
    formula: str = ""
    buckets: tuple[float, ...] = ()
    scope: Scope = Scope.PROCESS

    @property
    def samples(self) -> tuple[str, ...]:
        """The names that queries use."""
        return tuple(self.name + suffix for suffix in _SAMPLES[self.kind])


@dataclass(frozen=True, slots=True)
class Label:
    """A label: all its values, or where they come from and how many there are at most."""

    name: str
    help: str
    values: tuple[str, ...] = ()
    most: int = 0


MOST_NAMES = 200
MOST_TENANTS = 100
MOST_BUCKETS = 1000
LABELS = {
    label.name: label
    for label in (
        Label("service", "the service file's name, on every metric", most=1),
        Label("ingress", "the ingress process, on every metric", most=1),
        Label("model", "models of the plans so far, `none`, `other`", most=MOST_NAMES),
        Label("group", "replica groups of the plans so far, `none`, `other`", most=MOST_NAMES),
        Label("stream", "streams of the plans so far: `auto`, models", most=MOST_NAMES),
        Label("bucket", "size buckets of the plans so far", most=MOST_BUCKETS),
        Label("tenant", "names of the keys file, `anonymous`, `other`", most=MOST_TENANTS),
        Label("outcome", "how a request ended", tuple(Outcome)),
        Label("reason", "why it never reached an engine", (NONE, *Refusal)),
        Label("state", "what may be sent to a replica", tuple(ReplicaState)),
        Label("met", "whether both latency targets were met", ("yes", "no")),
        Label("target", "which latency target", ("ttft", "tpot")),
        Label("kind", "price: in force now, or the plan's", ("now", "planned")),
        Label("direction", "of tokens", ("input", "output")),
        Label(
            "result",
            "how a try at a replica ended",
            (
                "ok", "client_error", "engine_error", "unreachable", "timeout", "cut", "cancelled",
                OTHER,
            ),
        ),
        Label("router", "what decides: its name and version", most=1),
        Label("plan", "digest of the plan in force", most=1),
    )
}  # fmt: skip
CONSTANT = ("service", "ingress")
"""Labels that every metric has beside its own."""

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300)
_TPOT = (0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1)
_WAIT = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60)
_DECISION = (1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 5e-2, 0.1)
_RATIO = (0.1, 0.25, 0.5, 0.67, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2, 4, 10)
_WHERE = ("model", "group")
_C, _G, _H, _S = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM, Kind.SUMMARY
_FLEET = Scope.FLEET

REQUESTS = Definition(
    "orchestrator_requests", _C, "requests", "Requests by how they ended",
    (*_WHERE, "outcome", "reason"),
)  # fmt: skip
OPEN = Definition(
    "orchestrator_requests_open", _G, "requests", "Requests that arrived and are not over",
)  # fmt: skip
ARRIVALS = Definition(
    "orchestrator_arrivals", _C, "requests",
    "Demand by the plan's size buckets: requests about to be placed, served or refused; what is "
    "not yet known of an answer's length is spread as answers of late fell", ("stream", "bucket"),
)  # fmt: skip
SLO_REQUESTS = Definition(
    "orchestrator_slo_requests", _C, "requests", "Requests held to the latency targets",
    ("model", "met"),
    "met: answered, TTFT and TPOT inside the targets; a plain answer: all of it within "
    "TTFT + TPOT (output tokens - 1). Not held: the client's own errors, limits and leaving",
)  # fmt: skip
SHED = Definition(
    "orchestrator_shed", _C, "requests",
    "Requests answered by a lesser model than in a quiet hour", _WHERE,
    "shed share = (shed + refused for overload, a full queue or a deadline) / requests",
)  # fmt: skip
TTFT = Definition(
    "orchestrator_time_to_first_token_seconds", _H, "seconds",
    "Arrival to the first byte of a streamed answer", _WHERE, "first byte - arrival", _SECONDS,
)  # fmt: skip
TPOT = Definition(
    "orchestrator_time_per_output_token_seconds", _H, "seconds",
    "Time per output token after the first, of streams", _WHERE,
    "(last byte - first byte) / (output tokens - 1)", _TPOT,
)  # fmt: skip
DURATION = Definition(
    "orchestrator_request_duration_seconds", _H, "seconds",
    "Arrival to the last byte of the answer", _WHERE, "last byte - arrival", _SECONDS,
)  # fmt: skip
QUEUE_WAIT = Definition(
    "orchestrator_queue_wait_seconds", _H, "seconds",
    "Wait for a slot of an engine, in the ingress", _WHERE, buckets=_WAIT,
)  # fmt: skip
DECISION = Definition(
    "orchestrator_router_decision_seconds", _H, "seconds",
    "Time the router took to decide", ("model",), buckets=_DECISION,
)  # fmt: skip
FALLBACKS = Definition(
    "orchestrator_router_fallbacks", _C, "requests",
    "Requests that the plan's shares decided because the router failed or was late",
)  # fmt: skip
TTFT_RATIO = Definition(
    "orchestrator_ttft_measured_to_predicted_ratio", _H, "ratio",
    "Measured over predicted TTFT, of streams", _WHERE,
    "(first byte - arrival) / predicted TTFT", _RATIO,
)  # fmt: skip
TPOT_RATIO = Definition(
    "orchestrator_tpot_measured_to_predicted_ratio", _H, "ratio",
    "Measured over predicted TPOT, of streams", _WHERE, "TPOT / predicted TPOT", _RATIO,
)  # fmt: skip
LENGTH_RATIO = Definition(
    "orchestrator_output_tokens_measured_to_predicted_ratio", _H, "ratio",
    "Output tokens over those predicted", _WHERE, "output tokens / predicted", _RATIO,
)  # fmt: skip
QUALITY = Definition(
    "orchestrator_predicted_quality_ratio", _S, "ratio",
    "Quality that the router expects of the answers given, 0 to 1 (an estimate)", _WHERE,
)  # fmt: skip
REQUEST_COST = Definition(
    "orchestrator_predicted_cost_usd", _C, "usd",
    "What the requests took of the fleet at the plan's prices (an estimate)", _WHERE,
)  # fmt: skip
TOKENS = Definition(
    "orchestrator_tokens", _C, "tokens",
    "Tokens of requests that reached an engine; input is estimated from the text",
    (*_WHERE, "direction"),
)  # fmt: skip
ATTEMPTS = Definition(
    "orchestrator_attempts", _C, "attempts", "Tries at replicas by how they ended",
    ("group", "result"),
)  # fmt: skip
RETRIES = Definition(
    "orchestrator_retries", _C, "attempts", "Tries beyond a request's first", _WHERE,
    "attempts - 1, where above 0",
)  # fmt: skip
TENANT_REQUESTS = Definition(
    "orchestrator_tenant_requests", _C, "requests", "Requests by tenant", ("tenant", "outcome"),
)  # fmt: skip
TENANT_TOKENS = Definition(
    "orchestrator_tenant_tokens", _C, "tokens", "Tokens by tenant", ("tenant", "direction"),
)  # fmt: skip
TENANT_COST = Definition(
    "orchestrator_tenant_predicted_cost_usd", _C, "usd",
    "What a tenant's requests took of the fleet at the plan's prices (an estimate)", ("tenant",),
)  # fmt: skip
JOURNAL = Definition(
    "orchestrator_journal_requests", _G, "requests", "Requests that can be explained",
)  # fmt: skip
LOG_DROPPED = Definition(
    "orchestrator_log_lines_dropped", _C, "lines", "Request log lines left out, to bound their rate"
)

IN_FLIGHT = Definition(
    "orchestrator_requests_in_flight", _G, "requests", "Requests at the engines", _WHERE,
)  # fmt: skip
TOKENS_IN_FLIGHT = Definition(
    "orchestrator_tokens_in_flight", _G, "tokens",
    "Tokens of the requests at the engines, as predicted", _WHERE,
)  # fmt: skip
QUEUED = Definition(
    "orchestrator_requests_queued", _G, "requests", "Requests that wait for a slot of an engine",
)  # fmt: skip
OLDEST_QUEUED = Definition(
    "orchestrator_oldest_queued_seconds", _G, "seconds", "How long the oldest of them waits",
)  # fmt: skip
RETRY_BUDGET = Definition(
    "orchestrator_retry_budget_ratio", _G, "ratio", "Share of the retry budget that is left",
)  # fmt: skip
REPLICAS = Definition(
    "orchestrator_replicas", _G, "replicas", "Replicas by what may be sent to them",
    ("group", "state"), scope=_FLEET,
)  # fmt: skip
WANTED = Definition(
    "orchestrator_replicas_wanted", _G, "replicas", "Replicas that the plan asks for", ("group",),
    scope=_FLEET,
)  # fmt: skip
PRICE = Definition(
    "orchestrator_load_price_usd_per_hour", _G, "usd per hour",
    "Price of a replica kept at saturation (shadow price of load)", ("group", "kind"),
    scope=_FLEET,
)  # fmt: skip
RENT = Definition(
    "orchestrator_rent_usd", _C, "usd", "Rent of the replicas found, since the ingress started",
    ("group",), "integral over time of replicas found x rent per hour / 3600", scope=_FLEET,
)  # fmt: skip
PLANNED_RENT = Definition(
    "orchestrator_planned_usd_per_hour", _G, "usd per hour", "Rent of the plan in force",
    scope=_FLEET,
)  # fmt: skip
FLEET_RENT = Definition(
    "orchestrator_fleet_usd_per_hour", _G, "usd per hour", "Rent of the replicas found now",
    scope=_FLEET,
)  # fmt: skip
SPEND_LIMIT = Definition(
    "orchestrator_budget_usd", _G, "usd", "What may be spent in 30 days; absent without a limit",
    scope=_FLEET,
)  # fmt: skip
SLO_TARGET = Definition(
    "orchestrator_slo_seconds", _G, "seconds", "Latency targets of the plan in force",
    ("target",), scope=_FLEET,
)  # fmt: skip
SLO_SHARE = Definition(
    "orchestrator_slo_attainment_ratio", _G, "ratio",
    "Share of requests that must meet the latency targets", scope=_FLEET,
)  # fmt: skip
INFO = Definition(
    "orchestrator_plan_info", _G, "", "Always 1: the plan in force and what routes by it",
    ("plan", "router"), scope=_FLEET,
)  # fmt: skip

ALL: tuple[Definition, ...] = (
    REQUESTS, OPEN, ARRIVALS, SLO_REQUESTS, SHED, TTFT, TPOT, DURATION, QUEUE_WAIT, DECISION,
    FALLBACKS, TTFT_RATIO, TPOT_RATIO, LENGTH_RATIO, QUALITY, REQUEST_COST, TOKENS, ATTEMPTS,
    RETRIES,
    TENANT_REQUESTS, TENANT_TOKENS, TENANT_COST, JOURNAL, LOG_DROPPED,
    IN_FLIGHT, TOKENS_IN_FLIGHT, QUEUED, OLDEST_QUEUED, RETRY_BUDGET, REPLICAS, WANTED, PRICE,
    RENT, PLANNED_RENT, FLEET_RENT, SPEND_LIMIT, SLO_TARGET, SLO_SHARE, INFO,
)  # fmt: skip

SHED_REASONS = (Refusal.OVERLOAD, Refusal.QUEUE_FULL, Refusal.DEADLINE)
"""Refusals that are shed load: the pool was too busy, the caller did nothing wrong."""
AUTH_REASONS = (Refusal.UNAUTHENTICATED, Refusal.FORBIDDEN)
LIMIT_REASONS = (Refusal.RATE_LIMIT, Refusal.BUDGET)
NOT_HELD = frozenset({Outcome.CLIENT_ERROR, Outcome.LIMITED, Outcome.CANCELLED})
"""Outcomes that say nothing about how the pool does."""
