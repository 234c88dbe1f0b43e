"""Counters without locks: dictionaries and lists that one event loop adds to.

Prometheus's own client takes a lock and builds label objects at every increment. Here a request
costs some dictionary look-ups; the client library formats what is found when it is asked for.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    SummaryMetricFamily,
)
from prometheus_client.metrics_core import Metric

from serve_apps.seeing.definitions import CONSTANT, Definition

Labels = tuple[str, ...]


class Counter:
    """Sums per combination of labels (values in the order of the definition)."""

    __slots__ = ("_definition", "values")

    def __init__(self, definition: Definition) -> None:
        self._definition = definition
        self.values: dict[Labels, float] = {}
        if not definition.labels:
            self.values[()] = 0.0

    def add(self, labels: Labels, amount: float = 1.0) -> None:
        """Count."""
        values = self.values
        values[labels] = values.get(labels, 0.0) + amount

    def family(self, constant: Labels) -> Metric:
        """As the client library takes it."""
        told = self._definition
        family = CounterMetricFamily(told.name, told.help, labels=(*CONSTANT, *told.labels))
        for labels, value in self.values.items():
            family.add_metric((*constant, *labels), value)
        return family


class Histogram:
    """Counts per bucket and a sum, per combination of labels."""

    __slots__ = ("_bounds", "_definition", "_edges", "series")

    def __init__(self, definition: Definition) -> None:
        self._definition = definition
        self._bounds = definition.buckets
        self._edges = [*(str(float(b)) for b in definition.buckets), "+Inf"]
        self.series: dict[Labels, list[float]] = {}

    def observe(self, labels: Labels, value: float) -> None:
        """Count a value into its bucket; the last number of a series is the sum."""
        series = self.series.get(labels)
        if series is None:
            series = self.series[labels] = [0.0] * (len(self._bounds) + 2)
        series[bisect_left(self._bounds, value)] += 1
        series[-1] += value

    def pooled(self) -> list[float]:
        """Counts per bucket over all labels."""
        width = len(self._bounds) + 1
        return [sum(s[i] for s in self.series.values()) for i in range(width)]

    def family(self, constant: Labels) -> Metric:
        """As the client library takes it: cumulative counts."""
        told = self._definition
        family = HistogramMetricFamily(told.name, told.help, labels=(*CONSTANT, *told.labels))
        for labels, (*counts, total) in self.series.items():
            seen, buckets = 0.0, []
            for edge, count in zip(self._edges, counts, strict=True):
                seen += count
                buckets.append((edge, seen))
            family.add_metric((*constant, *labels), buckets, total)
        return family


class Summary:
    """A sum and a count per combination of labels."""

    __slots__ = ("_definition", "series")

    def __init__(self, definition: Definition) -> None:
        self._definition = definition
        self.series: dict[Labels, list[float]] = {}

    def observe(self, labels: Labels, value: float) -> None:
        """Count a value."""
        series = self.series.get(labels)
        if series is None:
            series = self.series[labels] = [0.0, 0.0]
        series[0] += 1
        series[1] += value

    def family(self, constant: Labels) -> Metric:
        """As the client library takes it."""
        told = self._definition
        family = SummaryMetricFamily(told.name, told.help, labels=(*CONSTANT, *told.labels))
        for labels, (count, total) in self.series.items():
            family.add_metric((*constant, *labels), int(count), total)
        return family


def gauge(
    definition: Definition, constant: Labels, values: Iterable[tuple[Labels, float]]
) -> Metric:
    """A gauge that is read now."""
    family = GaugeMetricFamily(
        definition.name, definition.help, labels=(*CONSTANT, *definition.labels)
    )
    for labels, value in values:
        family.add_metric((*constant, *labels), value)
    return family


def quantile(bounds: tuple[float, ...], counts: list[float], share: float) -> float | None:
    """The value below which ``share`` of the counted lie, interpolated in its bucket.

    As Prometheus's ``histogram_quantile``: beyond the last bound the last bound; None of nothing.
    """
    total = sum(counts)
    if total <= 0:
        return None
    wanted, seen, low = share * total, 0.0, 0.0
    for bound, count in zip(bounds, counts, strict=False):
        if count and seen + count >= wanted:
            return low + (bound - low) * (wanted - seen) / count
        seen, low = seen + count, bound
    return bounds[-1]
