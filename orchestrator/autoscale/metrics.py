"""What the autoscaler decided, as Prometheus metrics on a port of its own."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from orchestrator.autoscale.decisions import ReplanDecision, ScaleDecision
from profiler.errors import InputError


class ScaleMetrics:
    """Counts and figures of the latest decisions, by group."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        group = ("group",)
        self._changes = Counter(
            "orchestrator_autoscale_changes",
            "Times that a group's number of replicas was changed",
            ("group", "direction"),
            registry=self.registry,
        )
        self._replicas = Gauge(
            "orchestrator_autoscale_replicas",
            "Replicas that a group was last given",
            group,
            registry=self.registry,
        )
        self._forecast = Gauge(
            "orchestrator_autoscale_forecast_requests_per_second",
            "Load of the group's model one cold start ahead, as last decided on",
            group,
            registry=self.registry,
        )
        self._fleet = Gauge(
            "orchestrator_autoscale_fleet_usd_per_hour",
            "Rent of all groups after the last change",
            registry=self.registry,
        )
        self._replans = Counter(
            "orchestrator_autoscale_replans",
            "Plans that were found to be cheaper, by what was done about them",
            ("action",),
            registry=self.registry,
        )
        self._saving = Gauge(
            "orchestrator_autoscale_replan_saving_usd_per_hour",
            "What the last such plan saves an hour, moves paid",
            registry=self.registry,
        )

    def tell(self, decision: ScaleDecision | ReplanDecision) -> None:
        """Take in a decision."""
        if isinstance(decision, ReplanDecision):
            self._replans.labels(decision.action).inc()
            if decision.saving_usd is not None:
                self._saving.set(decision.saving_usd / decision.horizon_h)
            return
        direction = "up" if decision.after > decision.before else "down"
        self._changes.labels(decision.group, direction).inc()
        self._replicas.labels(decision.group).set(decision.after)
        self._forecast.labels(decision.group).set(decision.forecast_rps)
        self._fleet.set(decision.usd_per_hour)

    def serve(self, port: int, host: str = "127.0.0.1") -> None:
        """Answer ``GET /metrics`` in a thread until the process ends.

        Raises:
            InputError: the port is taken.
        """
        try:
            start_http_server(port, host, self.registry)
        except OSError as error:
            raise InputError(
                f"--metrics-port {port}: {error.strerror}; expected a free port"
            ) from None
