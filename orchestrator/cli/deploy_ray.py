"""`deploy`, `status` and `delete` on a Ray cluster: the difference first, then the question."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cli.door_options import Door
from orchestrator.cli.load_policy_options import LoadPolicy
from orchestrator.cli.output import confirm, say

if TYPE_CHECKING:
    from orchestrator.deploy.base import Progress, Status
    from orchestrator.deploy.rayserve.config import RayOptions
    from placement.plan import Plan

Show = Callable[[], "AbstractContextManager[Progress]"]


@dataclass(frozen=True)
class Options:
    """What the command line says beside the plan."""

    address: str | None = None
    port: int | None = None
    door: Door = field(default_factory=Door)
    ship_code: bool = False
    router_artefact: str | None = None
    load_policy: LoadPolicy = field(default_factory=LoadPolicy)
    emulate: bool = False
    wait_s: float | None = None
    dry_run: bool = False
    keep: bool = False
    yes: bool = False

    def of_cluster(self, plan: Plan) -> RayOptions:
        """What the deploy target is told; keys files are where the cluster's nodes have them.

        Raises:
            InputError: options for this machine, or the plan's gateway section is wrong.
        """
        from orchestrator.deploy.rayserve.config import DEFAULT_PORT, RayOptions
        from serve_apps.gateway_settings import gateway_of

        gateway = gateway_of(self.door.on_nodes(plan))
        return RayOptions(
            port=self.port or DEFAULT_PORT,
            guard=gateway.guard,
            seeing=gateway.seeing,
            emulate=self.emulate,
            ship_code=self.ship_code,
            router_artefact=self.router_artefact,
        )


def deploy_plan(plan: Path, options: Options, show: Show) -> Status | None:
    """Deploy a plan file; None for a dry run.

    Raises:
        InputError: the plan or the options are wrong.
        ClusterError: refused by the cluster or by the user, or not healthy in time.
    """
    from orchestrator.deploy.ray_cluster import DEFAULT_WAIT_S, deploy_ray, prepare
    from orchestrator.deploy.rayserve.dashboard import Dashboard
    from orchestrator.deploy.rayserve.rolling import Waiting
    from orchestrator.learned_router import checked_artefact
    from placement.plan import Plan
    from profiler import documents
    from profiler.errors import ClusterError

    wanted = options.load_policy.applied(documents.read(plan, Plan))
    on_cluster = options.router_artefact is not None
    artefact = None if on_cluster else checked_artefact(wanted, plan.parent)
    chosen = options.of_cluster(wanted)
    dashboard = Dashboard.connect(options.address)
    prepared = prepare(dashboard, wanted, chosen, artefact=artefact)
    for line in prepared.lines or ("nothing changes",):
        say(line)
    if options.dry_run:
        say("dry run: nothing was changed")
        return None
    question = f"Change {wanted.service!r} on the Ray cluster at {dashboard.url}?"
    if prepared.replaces and not confirm(question, yes=options.yes):
        raise ClusterError("nothing was changed")
    with show() as on_progress:
        waiting = Waiting(options.wait_s or DEFAULT_WAIT_S, on_progress)
        return deploy_ray(dashboard, prepared, keep=options.keep, waiting=waiting)


def service_status(name: str, address: str | None) -> tuple[Status | None, str]:
    """The service's status, and where it was looked for."""
    from orchestrator.deploy.ray_cluster import ray_status
    from orchestrator.deploy.rayserve.dashboard import Dashboard

    dashboard = Dashboard.connect(address)
    return ray_status(dashboard, name), f"on the Ray cluster at {dashboard.url}"


def delete_service(name: str, address: str | None, show: Show, *, yes: bool) -> None:
    """Delete a service after asking.

    Raises:
        ClusterError: refused by the cluster or by the user.
    """
    from orchestrator.deploy.ray_cluster import DELETE_WAIT_S, delete_ray
    from orchestrator.deploy.rayserve.dashboard import Dashboard
    from orchestrator.deploy.rayserve.rolling import Waiting
    from orchestrator.deploy.rayserve.writing import look
    from profiler.errors import ClusterError

    dashboard = Dashboard.connect(address)
    there = bool(look(dashboard, name).ours)
    where = f"on the Ray cluster at {dashboard.url}"
    if there and not confirm(f"Delete {name!r} and all its replicas {where}?", yes=yes):
        raise ClusterError("nothing was changed")
    with show() as on_progress:
        existed = delete_ray(dashboard, name, Waiting(DELETE_WAIT_S, on_progress))
    say(f"{name!r} is gone" if existed else f"no service {name!r} runs {where}")
