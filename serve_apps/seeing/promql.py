"""PromQL made from metric definitions, so that no query can name what is not exposed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from serve_apps.seeing.definitions import Definition, Kind, Scope


@dataclass(frozen=True, slots=True)
class Query:
    """Builds expressions. ``selector`` is put on every metric; ``window`` is that of rates."""

    selector: str = ""
    window: str = "5m"

    def over(self, window: str) -> Query:
        """The same over another window."""
        return Query(self.selector, window)

    def rate(self, metric: Definition, by: Iterable[str] = (), **where: str | Iterable[str]) -> str:
        """Per second, of all ingress processes together."""
        return self._all(metric, self._per_second(metric, "_total", where), by)

    def spent(
        self, metric: Definition, window: str, step: str, per_hour: int, by: Iterable[str] = ()
    ) -> str:
        """USD from a gauge of USD per hour, sampled ``per_hour`` times at ``step``.

        A counter would not do: when ingress processes come and go, none has seen the whole window.
        """
        return f"sum_over_time(({self.value(metric, by)})[{window}:{step}]) / {per_hour}"

    def value(
        self, metric: Definition, by: Iterable[str] = (), **where: str | Iterable[str]
    ) -> str:
        """A gauge now: summed over ingress processes, or as one of them sees the fleet."""
        return self._all(metric, metric.name + self._where(where), by)

    def quantile(self, share: float, metric: Definition, by: Iterable[str] = ()) -> str:
        """A histogram's quantile."""
        buckets = self._per_second(metric, "_bucket", {})
        return f"histogram_quantile({share:g}, sum by ({', '.join((*by, 'le'))}) ({buckets}))"

    def mean(self, metric: Definition, by: Iterable[str] = ()) -> str:
        """Sum over count."""
        total, count = (self._per_second(metric, end, {}) for end in ("_sum", "_count"))
        return f"{_sum(by, total)} / {_sum(by, count)}"

    def _all(self, metric: Definition, series: str, by: Iterable[str]) -> str:
        """Figures of one ingress process each, as one figure."""
        if metric.scope is Scope.PROCESS:
            return _sum(by, series)
        own = tuple(label for label in metric.labels if label not in by)
        seen = f"max by ({', '.join((*by, *own))}) ({series})"
        return _sum(by, seen) if own else seen

    def _per_second(
        self, metric: Definition, suffix: str, where: Mapping[str, str | Iterable[str]]
    ) -> str:
        assert metric.kind is not Kind.GAUGE, metric.name
        return f"rate({metric.name}{suffix}{self._where(where)}[{self.window}])"

    def _where(self, where: Mapping[str, str | Iterable[str]]) -> str:
        told = [self.selector] if self.selector else []
        for label, values in where.items():
            if isinstance(values, str):
                told.append(f'{label}="{values}"')
            else:
                told.append(f'{label}=~"{"|".join(values)}"')
        return "{" + ", ".join(told) + "}" if told else ""


def or_zero(expression: str) -> str:
    """Zero where nothing was counted yet: nothing happened is a figure too."""
    return f"({expression}) or vector(0)"


def _sum(by: Iterable[str], series: str) -> str:
    labels = ", ".join(by)
    return f"sum by ({labels}) ({series})" if labels else f"sum({series})"
