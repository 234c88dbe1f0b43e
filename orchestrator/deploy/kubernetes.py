"""Kubernetes as a deploy target: a RayService of KubeRay's, applied server-side."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from manifests.bundle import PLAN_FILE, render
from manifests.objects import Object
from manifests.settings import KubernetesSettings
from orchestrator.deploy.base import Progress, Status
from orchestrator.deploy.kube import resizing, rolling
from orchestrator.deploy.kube.api import KubeApi
from orchestrator.deploy.kube.applying import Applied
from orchestrator.deploy.kube.changes import Change, find_changes, same_pods
from orchestrator.deploy.kube.deleting import DELETE_WAIT_S, delete_kubernetes
from orchestrator.deploy.kube.health import Seen, look, status_of
from orchestrator.deploy.kube.replicas import as_it_runs, names_of, plan_of
from orchestrator.deploy.kube.waiting import (
    DEFAULT_WAIT_S,
    Goal,
    NoRoomError,
    Waiting,
    patient_look,
    until_healthy,
    url,
)
from placement.plan import Plan
from profiler import documents
from profiler.errors import ClusterError, EngineError, OrchestratorError

PATIENT = Waiting()
VOLUME_S = 150.0
"""Kubelets bring a changed ConfigMap into running pods within a minute or two."""


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A plan set beside the cluster: what would change. Nothing is written yet."""

    plan: Plan
    settings: KubernetesSettings
    changes: tuple[Change, ...]
    seen: Seen | None
    force: bool

    @property
    def lines(self) -> list[str]:
        """What changes, a line per object."""
        return [c.line for c in self.changes if c.verb != "same"]

    @property
    def replaces(self) -> bool:
        """Whether something that is there changes or goes."""
        return any(c.verb in ("change", "delete") for c in self.changes)

    @property
    def in_place(self) -> bool:
        """Whether a cluster runs and is changed, none made beside it."""
        seen = self.seen
        return (
            seen is not None and seen.cluster is not None and same_pods(seen.service, self.service)
        )

    @property
    def changes_in_place(self) -> bool:
        """Whether the RayService of a cluster that runs changes, and the cluster stays."""
        kinds = {c.obj["kind"] for c in self.changes if c.verb == "change"}
        return "RayService" in kinds and self.in_place

    @property
    def service(self) -> Object:
        """The wanted RayService, with what the server fills in."""
        found = next(c for c in self.changes if c.obj["kind"] == "RayService")
        return found.then or found.obj


def prepare(
    api: KubeApi,
    plan: Plan,
    settings: KubernetesSettings,
    *,
    artefact: Path | None = None,
    force: bool = False,
    rule_groups: Sequence[Mapping[str, Any]] = (),
    dashboards: Mapping[str, Mapping[str, Any]] | None = None,
) -> Prepared:
    """Render a plan and try it on the cluster without writing.

    ``force`` takes fields over that other field managers hold.

    Raises:
        InputError: the settings lack something that the plan needs.
        ClusterError: the cluster would refuse it, or cannot be reached.
    """
    seen = look(api, plan.service)
    before = seen.service["spec"]["rayClusterConfig"]["workerGroupSpecs"] if seen else ()
    objects = render(
        plan,
        settings,
        artefact=artefact,
        before=before,
        rule_groups=rule_groups,
        dashboards=dashboards,
    )
    if seen is not None and plan_of(seen.service) == plan.digest:
        objects = as_it_runs(plan, objects, seen.service)
    changes = find_changes(api, plan.service, objects, force=force)
    return Prepared(plan, settings, tuple(changes), seen, force)


def deploy_kubernetes(
    api: KubeApi, prepared: Prepared, *, keep: bool = False, waiting: Waiting = PATIENT
) -> Status:
    """Put a prepared plan in force and wait until it is healthy; safe to repeat.

    When it fails, or is broken off, all objects go back to what was there before, unless ``keep``.

    Raises:
        EngineError: an engine or pod failed; with the end of its log.
        ClusterError: refused, changed by another meanwhile, or not healthy in time.
    """
    applied = Applied(api, prepared.force)
    resized: list[resizing.Resize] = []
    try:
        status = _put(applied, prepared, resized, waiting)
    except BaseException as error:
        ours = isinstance(error, OrchestratorError)
        if (keep and ours) or not (applied.done or resized):
            raise
        left = [*applied.undo(), *resizing.revert(api, resized)]
        if isinstance(error, OrchestratorError):
            raise _rolled_back(error, left) from None
        raise
    try:
        applied.prune(prepared.changes)
        return _shrink(api, prepared, status)
    except ClusterError as error:
        raise ClusterError(
            f"the plan is in force; what it no longer needs is left over in part: {error}"
        ) from None


def kubernetes_status(
    api: KubeApi, name: str, clock: Callable[[], float] = time.time
) -> Status | None:
    """The service of that name in the API's namespace; None where there is none.

    Raises:
        ClusterError: the cluster cannot be asked, or the service was not deployed by us.
    """
    seen = look(api, name)
    if seen is None:
        return None
    plan = deployed_plan(api, name)
    return status_of(seen, plan, url(seen), clock)


def deployed_plan(api: KubeApi, name: str) -> Plan:
    """The plan that a service was deployed with.

    Raises:
        ClusterError: it is not there.
    """
    found = api.get("ConfigMap", f"{name}-plan")
    if found is None or PLAN_FILE not in found.get("data", {}):
        raise ClusterError(
            f"RayService {name!r} is there, its plan (ConfigMap {name}-plan) is not: it was not "
            "deployed by this program"
        )
    return documents.parse(found["data"][PLAN_FILE], Plan, f"ConfigMap {name}-plan")


class KubernetesTarget:
    """`base.Target` for a namespace of a cluster."""

    def __init__(
        self, api: KubeApi, settings: KubernetesSettings, artefact: Path | None = None
    ) -> None:
        self._api, self._settings, self._artefact = api, settings, artefact

    def deploy(self, plan: Plan, *, wait_s: float, on_progress: Progress) -> Status:
        """See `deploy_kubernetes`."""
        prepared = prepare(self._api, plan, self._settings, artefact=self._artefact)
        return deploy_kubernetes(self._api, prepared, waiting=Waiting(wait_s, on_progress))

    def status(self, name: str) -> Status | None:
        """See `kubernetes_status`."""
        return kubernetes_status(self._api, name)

    def delete(self, name: str, on_progress: Progress) -> bool:
        """See `delete_kubernetes`."""
        return delete_kubernetes(self._api, name, Waiting(DELETE_WAIT_S, on_progress))


def _put(
    applied: Applied, prepared: Prepared, resized: list[resizing.Resize], waiting: Waiting
) -> Status:
    """Apply in order and wait; a running cluster's engines are replaced step by step."""
    goal = Goal(prepared.plan, waiting.clock() + waiting.wait_s, settle=prepared.changes_in_place)
    router = [c for c in prepared.changes if "binaryData" in c.obj]
    for change in prepared.changes:
        if change.obj["kind"] == "RayService":
            if prepared.changes_in_place:
                _roll(applied, prepared, change, resized, router, goal, waiting)
            _put_router(applied, prepared, router, waiting)
        if "binaryData" not in change.obj:
            applied.apply([change])
    _grow(applied.api, prepared, prepared.service, resized, waiting)
    return until_healthy(applied.api, goal, waiting)


def _put_router(
    applied: Applied, prepared: Prepared, router: list[Change], waiting: Waiting
) -> None:
    """Put the router's artefact where pods find it, and give it time to reach those that run before
    the configuration that names it; once, and not before: the one in force goes with it."""
    applied.apply(router)
    if prepared.seen is not None and any(c.verb in ("create", "change") for c in router):
        _tell(prepared, waiting, "the router's artefact is on its way to pods")
        waiting.sleep(VOLUME_S)
    router.clear()


def _roll(
    applied: Applied,
    prepared: Prepared,
    change: Change,
    resized: list[resizing.Resize],
    router: list[Change],
    goal: Goal,
    waiting: Waiting,
) -> None:
    """Start new engines beside the old, then route to them; what follows stops the old ones."""
    assert prepared.seen is not None
    assert prepared.seen.cluster is not None
    goal = dataclasses.replace(goal, names=names_of(change.obj))
    for step in rolling.steps(prepared.seen.service, change.obj, prepared.seen.cluster):
        if step.routes:
            _put_router(applied, prepared, router, waiting)
        applied.stage(change, step.service)
        _grow(applied.api, prepared, step.service, resized, waiting)
        try:
            until_healthy(applied.api, dataclasses.replace(goal, room=step.room), waiting)
        except NoRoomError as error:
            _tell(prepared, waiting, f"{error}; these make room")
            return


def _tell(prepared: Prepared, waiting: Waiting, message: str) -> None:
    if (seen := prepared.seen) is not None:
        now = status_of(seen, prepared.plan, url(seen), waiting.clock)
        waiting.on_progress(now.model_copy(update={"state": "updating", "message": message}))


def _grow(
    api: KubeApi,
    prepared: Prepared,
    service: Object,
    done: list[resizing.Resize],
    waiting: Waiting,
) -> None:
    """Size the running cluster, unless another takes its place."""
    if not prepared.in_place:
        return
    seen = patient_look(api, prepared.plan.service, waiting)
    if seen.cluster is None:
        return
    in_tree = prepared.settings.autoscaling.in_tree
    for wanted in resizing.growth(seen.cluster, service, in_tree=in_tree):
        resizing.resize(api, wanted)
        done.append(wanted)


def _shrink(api: KubeApi, prepared: Prepared, status: Status) -> Status:
    if not prepared.lines:
        return status.model_copy(update={"message": "already running; nothing changed"})
    if prepared.settings.autoscaling.in_tree:
        return status
    seen = look(api, prepared.plan.service)
    if seen is None or seen.cluster is None:
        return status
    for wanted in resizing.removals(seen.cluster, prepared.service):
        resizing.resize(api, wanted)
    message = "; ".join(resizing.surplus(seen.cluster, prepared.service))
    return status.model_copy(update={"message": message})


def _rolled_back(error: OrchestratorError, left: list[str]) -> OrchestratorError:
    """The error with what became of the cluster."""
    if left:
        after = "taking it back failed in part, so these are not as before: " + "; ".join(left)
    else:
        after = "everything was put back as it was before (--keep leaves it)"
    if isinstance(error, EngineError):
        message = str(error).removesuffix(error.log_tail).rstrip()
        return EngineError(f"{message}; {after}", error.log_tail)
    return ClusterError(f"{error}; {after}")


__all__ = [
    "DEFAULT_WAIT_S",
    "KubernetesTarget",
    "Prepared",
    "Waiting",
    "delete_kubernetes",
    "deploy_kubernetes",
    "deployed_plan",
    "kubernetes_status",
    "prepare",
]
