"""`deploy` and `delete` on a Kubernetes cluster: the difference first, then the question."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cli.output import confirm, say

if TYPE_CHECKING:
    from orchestrator.cli.door_options import Door
    from orchestrator.cli.load_policy_options import LoadPolicy
    from orchestrator.deploy.base import Progress, Status
    from orchestrator.deploy.kube.api import KubeApi

Show = Callable[[], "AbstractContextManager[Progress]"]


@dataclass(frozen=True)
class Options:
    """What the command line says beside plan and settings."""

    context: str | None = None
    kubeconfig: Path | None = None
    force_conflicts: bool = False
    wait_s: float | None = None
    dry_run: bool = False
    keep: bool = False
    yes: bool = False
    autoscale: bool = False


def deploy_plan(
    plan: Path,
    settings: Path | None,
    options: Options,
    show: Show,
    asked: Door | None = None,
    chooses: LoadPolicy | None = None,
) -> Status | None:
    """Deploy a plan file; None for a dry run.

    Raises:
        InputError: the plan or the settings are wrong, or settings lack something.
        ClusterError: refused by the cluster or by the user, or not healthy in time.
    """
    from manifests.settings import AutoscalerPod
    from orchestrator.deploy.kube.api import KubeApi
    from orchestrator.deploy.kubernetes import DEFAULT_WAIT_S, Waiting, deploy_kubernetes, prepare
    from orchestrator.deploy.kubernetes_settings import read_settings
    from orchestrator.learned_router import checked_artefact
    from placement.plan import Plan
    from profiler import documents
    from profiler.errors import ClusterError
    from serve_apps.seeing.alerts import rules
    from serve_apps.seeing.grafana import dashboards

    wanted = documents.read(plan, Plan)
    if asked is not None:
        wanted = asked.on_cluster(wanted)
    if chooses is not None:
        wanted = chooses.applied(wanted)
    chosen = read_settings(plan, settings)
    if options.autoscale and chosen.autoscaler is None:
        chosen = chosen.model_copy(update={"autoscaler": AutoscalerPod()})
    in_image = chosen.router_artefact_path is not None
    artefact = None if in_image else checked_artefact(wanted, plan.parent)
    api = KubeApi.connect(chosen.namespace, options.context, options.kubeconfig)
    prepared = prepare(
        api,
        wanted,
        chosen,
        artefact=artefact,
        force=options.force_conflicts,
        rule_groups=rules()["groups"],
        dashboards=dashboards(),
    )
    for line in prepared.lines or ["no object changes"]:
        say(line)
    if options.dry_run:
        say("dry run: nothing was changed")
        return None
    question = f"Change {wanted.service!r} in the namespace {chosen.namespace!r}?"
    if prepared.replaces and not confirm(question, yes=options.yes):
        raise ClusterError("nothing was changed")
    with show() as on_progress:
        waiting = Waiting(options.wait_s or DEFAULT_WAIT_S, on_progress)
        return deploy_kubernetes(api, prepared, keep=options.keep, waiting=waiting)


def delete_service(api: KubeApi, name: str, *, yes: bool) -> None:
    """Delete a service after asking.

    Raises:
        ClusterError: refused by the cluster or by the user.
    """
    from orchestrator.deploy.kubernetes import delete_kubernetes
    from profiler.errors import ClusterError

    there = api.get("RayService", name) is not None
    question = f"Delete {name!r} and all its objects in the namespace {api.namespace!r}?"
    if there and not confirm(question, yes=yes):
        raise ClusterError("nothing was changed")
    existed = delete_kubernetes(api, name)
    where = f"in the namespace {api.namespace!r}"
    say(f"{name!r} is gone" if existed else f"no service {name!r} is {where}")
