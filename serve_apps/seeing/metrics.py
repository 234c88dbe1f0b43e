"""What requests add up to, and its exposition for Prometheus."""

from __future__ import annotations

import math
from collections import Counter as Tally
from collections.abc import Callable, Iterator, Mapping
from typing import TypeGuard

from prometheus_client import CollectorRegistry, exposition
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from profiler.core import Slo
from serve_apps.seeing import definitions as d
from serve_apps.seeing.counters import Counter, Histogram, Labels, Summary, gauge
from serve_apps.seeing.names import Names
from serve_apps.seeing.record import ANONYMOUS, Outcome, RequestRecord
from serve_apps.seeing.snapshot import ReplicaState, Snapshot

SECONDS_PER_HOUR = 3600
_RESULTS = frozenset(d.LABELS["result"].values)


class Metrics:
    """Counts finished requests; everything is plain numbers until somebody asks."""

    def __init__(self) -> None:
        self.models, self.groups = Names(d.MOST_NAMES), Names(d.MOST_NAMES)
        self.tenants = Names(d.MOST_TENANTS, [ANONYMOUS])
        self.slo: Slo | None = None
        self.requests, self.slo_requests = Counter(d.REQUESTS), Counter(d.SLO_REQUESTS)
        self.arrivals = Counter(d.ARRIVALS)
        self.shed, self.fallbacks = Counter(d.SHED), Counter(d.FALLBACKS)
        self.ttft, self.tpot = Histogram(d.TTFT), Histogram(d.TPOT)
        self.duration, self.wait = Histogram(d.DURATION), Histogram(d.QUEUE_WAIT)
        self.decision = Histogram(d.DECISION)
        self.ttft_ratio, self.tpot_ratio = Histogram(d.TTFT_RATIO), Histogram(d.TPOT_RATIO)
        self.length_ratio = Histogram(d.LENGTH_RATIO)
        self.quality, self.cost = Summary(d.QUALITY), Counter(d.REQUEST_COST)
        self.tokens, self.retries = Counter(d.TOKENS), Counter(d.RETRIES)
        self.attempts = Counter(d.ATTEMPTS)
        self.tenant_requests = Counter(d.TENANT_REQUESTS)
        self.tenant_tokens, self.tenant_cost = Counter(d.TENANT_TOKENS), Counter(d.TENANT_COST)
        self.rent, self.log_dropped = Counter(d.RENT), Counter(d.LOG_DROPPED)

    @property
    def counted(self) -> tuple[Counter | Histogram | Summary, ...]:
        """Everything that is counted, as opposed to sampled."""
        kinds = (Counter, Histogram, Summary)
        return tuple(v for v in vars(self).values() if isinstance(v, kinds))

    def count(self, record: RequestRecord) -> None:
        """Take in a finished request."""
        model, outcome, refusal = self.models[record.model], record.outcome, record.refusal
        group = self.groups[record.group]
        tenant, where = self.tenants[record.tenant], (model, group)
        self.requests.add((model, group, outcome, d.NONE if refusal is None else refusal))
        self.tenant_requests.add((tenant, outcome))
        if record.router_s is not None:
            self.decision.observe((model,), record.router_s)
            if record.router_fallback:
                self.fallbacks.add(())
        if self.slo is not None and outcome not in d.NOT_HELD:
            self.slo_requests.add((model, "yes" if met(record, self.slo) else "no"))
        if record.attempts:
            self._tried(record, where, tenant)
        if outcome is Outcome.OK:
            self._answered(record, where)

    def _tried(self, record: RequestRecord, where: Labels, tenant: str) -> None:
        """A request that reached an engine, whatever came of it."""
        model, group = where
        self.wait.observe(where, record.waited_s)
        if record.shed:
            self.shed.add(where)
        if record.attempts > 1:
            self.retries.add(where, record.attempts - 1)
        for tried in record.tried:
            result = record.end if tried.result == "ok" else tried.result
            result = result if result in _RESULTS else d.OTHER
            self.attempts.add((self.groups[tried.group], result))
        output = record.output_tokens or 0
        for direction, tokens in (("input", record.input_tokens), ("output", output)):
            self.tokens.add((model, group, direction), tokens)
            self.tenant_tokens.add((tenant, direction), tokens)
        if _sound(record.predicted_cost_usd):
            self.cost.add(where, record.predicted_cost_usd)
            self.tenant_cost.add((tenant,), record.predicted_cost_usd)

    def _answered(self, record: RequestRecord, where: Labels) -> None:
        duration_s, ttft_s, tpot_s = record.duration_s, record.ttft_s, record.tpot_s
        if duration_s is not None:
            self.duration.observe(where, duration_s)
        if ttft_s is not None:
            self.ttft.observe(where, ttft_s)
            if _sound(record.predicted_ttft_s) and record.predicted_ttft_s:
                self.ttft_ratio.observe(where, ttft_s / record.predicted_ttft_s)
        if tpot_s is not None:
            self.tpot.observe(where, tpot_s)
            if _sound(record.predicted_tpot_s) and record.predicted_tpot_s:
                self.tpot_ratio.observe(where, tpot_s / record.predicted_tpot_s)
        expected = record.predicted_output_tokens
        if record.output_tokens and _sound(expected) and expected:
            self.length_ratio.observe(where, record.output_tokens / expected)
        if _sound(record.predicted_quality):
            self.quality.observe(where, record.predicted_quality)

    def pay(self, snapshot: Snapshot, elapsed_s: float) -> None:
        """Add the rent of the replicas found, for the time since the last call."""
        for group, usd_per_hour in rents(snapshot):
            self.rent.add((self.groups[group],), usd_per_hour * elapsed_s / SECONDS_PER_HOUR)


def _sound(value: float | None) -> TypeGuard[float]:
    """A figure that may be added up: one NaN would spoil a sum for good."""
    return value is not None and 0 <= value < math.inf


def met(record: RequestRecord, slo: Slo) -> bool:
    """Whether an answer kept both targets; a plain one must be whole when a stream would be."""
    if record.outcome is not Outcome.OK or record.finished_s is None:
        return False
    ttft_s, tpot_s = record.ttft_s, record.tpot_s
    if ttft_s is not None:
        return ttft_s <= slo.ttft_s and (tpot_s is None or tpot_s <= slo.tpot_s)
    more = max((record.output_tokens or 1) - 1, 0)
    return record.finished_s - record.arrived_s <= slo.ttft_s + slo.tpot_s * more


def rents(snapshot: Snapshot) -> list[tuple[str, float]]:
    """Per group, USD per hour of the replicas that were found; those only wanted cost nothing."""
    found = Tally(r.group for r in snapshot.replicas if r.state is not ReplicaState.STARTING)
    return [(g.name, found[g.name] * g.usd_per_hour) for g in snapshot.groups]


class Exposition(Collector):
    """All metrics in Prometheus's text format: those counted, and those sampled just now."""

    def __init__(
        self,
        metrics: Metrics,
        sample: Callable[[], tuple[Snapshot, int, int]],
        ingress: str,
    ) -> None:
        """``sample`` gives the fleet, the open requests, and how many the journal holds."""
        self._metrics = metrics
        self._sample = sample
        self._ingress = ingress
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def describe(self) -> list[Metric]:
        """Nothing: metrics are not collected when this is registered."""
        return []

    def collect(self) -> Iterator[Metric]:
        """See `prometheus_client.registry.Collector`."""
        snapshot, open_, journal = self._sample()
        constant = (snapshot.service, self._ingress)
        for counted in self._metrics.counted:
            yield counted.family(constant)
        for definition, values in sampled(self._metrics, snapshot, open_, journal):
            yield gauge(definition, constant, values)

    def render(self) -> tuple[bytes, str]:
        """The text and its content type."""
        return exposition.generate_latest(self.registry), exposition.CONTENT_TYPE_LATEST


def sampled(
    metrics: Metrics, snapshot: Snapshot, open_: int, journal: int
) -> list[tuple[d.Definition, list[tuple[Labels, float]]]]:
    """Every gauge and its values now."""
    models, groups = metrics.models, metrics.groups
    model_of = {g.name: g.model for g in snapshot.groups}
    in_flight: dict[Labels, float] = {(models[g.model], groups[g.name]): 0 for g in snapshot.groups}
    tokens, states = dict(in_flight), _no_replicas(metrics, snapshot)
    for r in snapshot.replicas:
        where = (models[model_of.get(r.group, "")], groups[r.group])
        in_flight[where] = in_flight.get(where, 0) + r.in_flight
        tokens[where] = tokens.get(where, 0) + r.tokens_in_flight
        state = (groups[r.group], r.state.value)
        states[state] = states.get(state, 0) + 1
    prices = {
        (groups[g.name], kind): price
        for g in snapshot.groups
        for kind, price in (
            ("now", g.price_usd_per_hour),
            ("planned", g.planned_price_usd_per_hour),
        )
    }
    targets: dict[Labels, float | None] = {
        ("ttft",): snapshot.ttft_slo_s,
        ("tpot",): snapshot.tpot_slo_s,
    }
    fleet = sum(usd for _, usd in rents(snapshot))
    return [
        (d.OPEN, [((), open_)]),
        (d.JOURNAL, [((), journal)]),
        (d.IN_FLIGHT, list(in_flight.items())),
        (d.TOKENS_IN_FLIGHT, list(tokens.items())),
        (d.QUEUED, [((), snapshot.queued)]),
        (d.OLDEST_QUEUED, [((), snapshot.oldest_queued_s)]),
        (d.RETRY_BUDGET, [((), snapshot.retry_budget)]),
        (d.REPLICAS, list(states.items())),
        (d.WANTED, [((groups[g.name],), g.wanted) for g in snapshot.groups]),
        (d.PRICE, list(prices.items())),
        (d.PLANNED_RENT, [((), snapshot.planned_usd_per_hour)]),
        (d.FLEET_RENT, [((), fleet)]),
        (d.SPEND_LIMIT, _known({(): snapshot.budget_usd})),
        (d.SLO_TARGET, _known(targets)),
        (d.SLO_SHARE, _known({(): snapshot.attainment_slo})),
        (d.INFO, [((snapshot.plan_digest or d.NONE, snapshot.router or d.NONE), 1)]),
    ]


def _no_replicas(metrics: Metrics, snapshot: Snapshot) -> dict[Labels, float]:
    """A zero per group and state, so that a state that nobody is in is seen to be empty."""
    return {(metrics.groups[g.name], s.value): 0 for g in snapshot.groups for s in ReplicaState}


def _known(values: Mapping[Labels, float | None]) -> list[tuple[Labels, float]]:
    return [(labels, value) for labels, value in values.items() if value is not None]
