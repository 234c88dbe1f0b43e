"""A plan's applications on the Ray Serve of this process: applied, watched, changed."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from typing import Any

from orchestrator.deploy.base import GroupState, GroupStatus
from orchestrator.deploy.state import StateDir
from placement.plan import Plan
from profiler import logtail
from profiler.errors import ClusterError, EngineError
from serve_apps.pool import (
    EngineSettings,
    RouterFiles,
    emulated_settings,
    engine_settings,
    local_ingress,
)

log = logging.getLogger("orchestrator.pool")

STATUS_TTL_S = 0.2
DRAIN_TIMEOUT_S = 600.0
"""A pool on one machine waits this long for streams when replicas are replaced or removed; longer
than the longest. Its end is not held up: Serve waits half a minute in all then."""


class LocalPool:
    """The applications that Serve runs for a plan."""

    def __init__(self, state: StateDir, port: int | None = None) -> None:
        """``port``: where clients come; None: only through a proxy of Serve's."""
        self._state = state
        self._port = port
        self._applied: dict[str, EngineSettings] = {}
        self._wanted: set[str] = set()
        """Groups that are to have replicas."""
        self._ingress: Plan | None = None
        self._told: dict[str, int] = {}
        self.cold_start_s: float | None = None
        """How long a replica takes to start, where that is known; the ingress is told with changes
        of replicas."""
        self._status: Any = None
        self._status_at = float("-inf")

    @property
    def serve_status(self) -> Any:
        """What Serve says of its applications; None before Ray runs.

        While Serve's controller is being replaced this is what it said last.
        """
        import ray
        from ray import serve
        from ray.serve.exceptions import RayServeException

        if not ray.is_initialized():
            return None
        if time.monotonic() - self._status_at > STATUS_TTL_S:
            try:
                self._status = serve.status()
            except (ray.exceptions.RayError, RayServeException):
                log.exception("Serve does not tell its status")
            self._status_at = time.monotonic()
        return self._status

    def settings(self, plan: Plan, *, emulate: bool = False) -> dict[str, EngineSettings]:
        """What each group's engines are started with; fetches or converts weights if need be."""
        logs = str(self._state.engine_logs)
        if emulate:
            settings = emulated_settings(plan, logs)
        else:
            from profiler.weights import local_weights

            weights = {name: local_weights(model) for name, model in plan.models.items()}
            cores = sorted(os.sched_getaffinity(0))
            settings = engine_settings(plan, weights, logs, cores)
        short = {"drain_timeout_s": DRAIN_TIMEOUT_S}
        return {name: s.model_copy(update=short) for name, s in settings.items()}

    def apply(self, plan: Plan, settings: dict[str, EngineSettings]) -> None:
        """Start new groups and change those that differ; those no longer wanted still run.

        A group of the plan without settings has no replicas now. Safe to repeat, also after an
        error of Ray's: what was not taken on is tried again.
        """
        from ray.serve import api

        from serve_apps.app import engine_application

        targets = [
            api.RunTarget(engine_application(s), name=name, route_prefix=None)
            for name, s in settings.items()
            if self._applied.get(name) != s
        ]
        if targets:
            self._run(targets)
        self._applied.update(settings)
        self._wanted = set(settings)
        now = {g.name: settings[g.name].replicas if g.name in settings else 0 for g in plan.groups}
        scaled = {g.name: now[g.name] for g in plan.groups if now[g.name] != g.replicas}
        if self._ingress is None or (self._told != scaled and self._ingress == plan):
            self._route(plan, scaled)

    def settle(self, plan: Plan) -> bool:
        """Take the next step towards the plan; True once it is in force and nothing else runs.

        Raises:
            EngineError: an engine did not start.
            ClusterError: Serve could not run the ingress.
        """
        from serve_apps.app import INGRESS_APP

        names = self._groups(plan)
        self._check_failed([*names, INGRESS_APP])
        if not all(self._running(n) for n in names):
            return False
        if self._ingress != plan:
            self._route(plan, self._told)
            return False
        if not self._running(INGRESS_APP):
            return False
        self.retire()
        return True

    def retire(self) -> None:
        """Let groups that are to have no replicas finish what they have, and end."""
        from ray import serve

        for name in self._applied.keys() - self._wanted:
            serve.delete(name, _blocking=False)
            del self._applied[name]

    def failed(self) -> dict[str, int]:
        """Groups of which Serve could not start all replicas, and how many run."""
        found = {}
        for name in self._wanted:
            app = self._application(name)
            if app is not None and app.status == "DEPLOY_FAILED":
                running = [d.replica_states.get("RUNNING", 0) for d in app.deployments.values()]
                found[name] = sum(running)
        return found

    def changing(self, plan: Plan) -> bool:
        """Whether replicas start or stop because they were asked to, and none is unhealthy."""
        from serve_apps.app import INGRESS_APP

        apps = [self._application(n) for n in [*self._groups(plan), INGRESS_APP]]
        states = {app.status for app in apps if app is not None}
        return len(apps) > 0 and None not in apps and states <= {"RUNNING", "DEPLOYING"}

    def _groups(self, plan: Plan) -> list[str]:
        return [g.name for g in plan.groups if g.name in self._wanted]

    def healthy(self, plan: Plan) -> bool:
        """Whether every group and the ingress have all their replicas."""
        from serve_apps.app import INGRESS_APP

        return all(self._running(n) for n in [*self._groups(plan), INGRESS_APP])

    def _route(self, plan: Plan, scaled: dict[str, int]) -> None:
        from ray.serve import api

        from serve_apps.app import INGRESS_APP, ingress_application

        files = None
        if plan.router is not None:
            files = RouterFiles(
                artefact=str(self._state.artefact(plan.router)),
                feedback=str(self._state.feedback_log),
            )
        settings = local_ingress(
            plan, self._port, DRAIN_TIMEOUT_S, str(self._state.path / "ingresses")
        ).model_copy(update={"arrivals_dir": str(self._state.arrivals)})
        self._state.arrivals.mkdir(parents=True, exist_ok=True)
        app = ingress_application(plan, settings, files, scaled, self.cold_start_s)
        self._run([api.RunTarget(app, name=INGRESS_APP, route_prefix="/")])
        self._ingress, self._told = plan, scaled

    def _run(self, targets: list[Any]) -> None:
        from ray.serve import api

        api.run_many(
            targets,
            wait_for_ingress_deployment_creation=False,
            wait_for_applications_running=False,
        )
        self._status_at = float("-inf")

    def _running(self, app: str) -> bool:
        found = self._application(app)
        return found is not None and found.status == "RUNNING"

    def _application(self, name: str) -> Any:
        status = self.serve_status
        return status.applications.get(name) if status is not None else None

    def _check_failed(self, apps: list[str]) -> None:
        for name in apps:
            found = self._application(name)
            if found is not None and found.status == "DEPLOY_FAILED":
                messages = [d.message for d in found.deployments.values() if d.message]
                raise self._failure(name, messages[0] if messages else found.message)

    def _failure(self, name: str, message: str) -> ClusterError:
        """Prefer what the replica left beside its log to what Serve made of it."""
        settings = self._applied.get(name)
        if settings is None:
            return ClusterError(f"{name} could not be started: {message}")
        log = self._state.newest_log(name)
        left = log.with_suffix(".error") if log else None
        if left is None or not left.exists():
            return EngineError(f"group {name!r}: no engine could be started: {message}")
        assert log is not None
        tail = logtail.tail(log)
        text = left.read_text(encoding="utf-8").removesuffix(tail).rstrip()
        return EngineError(f"group {name!r}: {text}", tail)


def scaled_plan(plan: Plan, replicas: Mapping[str, int]) -> Plan:
    """The plan with other numbers of replicas, without the groups that are to have none."""
    groups = tuple(
        g.model_copy(update={"replicas": replicas.get(g.name, g.replicas)})
        for g in plan.groups
        if replicas.get(g.name, g.replicas) > 0
    )
    return plan.model_copy(update={"groups": groups})


def group_statuses(
    plan: Plan,
    serve_status: Any,
    state: StateDir,
    scaled: Mapping[str, int] | None = None,
    failed_starts: Mapping[str, int] | None = None,
) -> tuple[GroupStatus, ...]:
    """Every group of the plan as Serve sees it; ``scaled`` are other wanted replicas."""
    scaled, failed_starts = scaled or {}, failed_starts or {}
    apps = serve_status.applications if serve_status is not None else {}
    found = []
    for group in plan.groups:
        app = apps.get(group.name)
        deployment = next(iter(app.deployments.values()), None) if app else None
        log = state.newest_log(group.name)
        found.append(
            GroupStatus(
                name=group.name,
                model=group.config.model,
                gpu=group.config.gpu,
                wanted=(wanted := scaled.get(group.name, group.replicas)),
                planned=group.replicas if wanted != group.replicas else None,
                ready=deployment.replica_states.get("RUNNING", 0) if deployment else 0,
                draining=deployment.replica_states.get("STOPPING", 0) if deployment else 0,
                failed_starts=failed_starts.get(group.name, 0),
                state=_group_state(str(app.status.value) if app else "NOT_STARTED", wanted),
                message=deployment.message if deployment else "",
                log=str(log) if log else None,
            )
        )
    return tuple(found)


def _group_state(app_status: str, wanted: int) -> GroupState:
    if app_status == "NOT_STARTED" and not wanted:
        return "idle"
    states: dict[str, GroupState] = {
        "RUNNING": "ready",
        "DEPLOY_FAILED": "failed",
        "UNHEALTHY": "unhealthy",
        "DELETING": "stopping",
    }
    return states.get(app_status, "starting")
