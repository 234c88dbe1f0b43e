"""A Ray cluster as a deploy target, through Serve's REST API on its dashboard.

Nothing here imports Ray. Applications of others on the cluster stay as they are.
"""

from __future__ import annotations

import dataclasses
import getpass
import socket
import time
from collections.abc import Callable
from pathlib import Path

from manifests.serve_config import ENGINE_DEPLOYMENT
from orchestrator.deploy.base import Progress, Status
from orchestrator.deploy.rayserve import rolling
from orchestrator.deploy.rayserve.asking import loads
from orchestrator.deploy.rayserve.changes import changes
from orchestrator.deploy.rayserve.config import (
    RayOptions,
    Wanted,
    ingress_name,
    wanted_applications,
)
from orchestrator.deploy.rayserve.dashboard import Dashboard
from orchestrator.deploy.rayserve.health import status_of
from orchestrator.deploy.rayserve.nodes import (
    free_of,
    live_nodes,
    missing,
)
from orchestrator.deploy.rayserve.rolling import POLL_S, Waiting
from orchestrator.deploy.rayserve.seen import Seen, is_engine
from orchestrator.deploy.rayserve.shipping import code_package, code_uri, ship
from orchestrator.deploy.rayserve.taken import held, needs_of
from orchestrator.deploy.rayserve.writing import ConflictError, Writer, look
from placement.plan import Plan
from profiler.errors import ClusterError, EngineError, OrchestratorError

DEFAULT_WAIT_S = 1800.0
DELETE_WAIT_S = 900.0
DEFAULTS = RayOptions()


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A plan set beside the cluster: what would change. Nothing is written yet."""

    wanted: Wanted
    options: RayOptions
    seen: Seen
    lines: tuple[str, ...]
    steps: tuple[rolling.Stage, ...]
    package: tuple[str, bytes] | None = None

    @property
    def replaces(self) -> bool:
        """Whether something of ours runs already, and changes."""
        return bool(self.lines) and bool(self.seen.configs)


def prepare(
    dashboard: Dashboard,
    plan: Plan,
    options: RayOptions = DEFAULTS,
    *,
    artefact: Path | None = None,
    clock: Callable[[], float] = time.time,
) -> Prepared:
    """Set a plan beside the cluster, without writing.

    Raises:
        InputError: the plan or the options cannot be used on a cluster.
        ClusterError: it cannot be reached, lacks accelerators, or has an application of others by
            a name of ours.
    """
    seen = look(dashboard, plan.service)
    nodes = live_nodes(dashboard.nodes(), dashboard.used())
    package = code_package() if options.ship_code else None
    wanted = wanted_applications(
        plan,
        nodes,
        options,
        by=operator(),
        at_s=clock(),
        artefact=artefact,
        code_uri=code_uri(package[0]) if package else None,
    )
    for name in wanted.applications:
        seen.check_name(name)
    free = free_of(nodes, held(seen))
    if lacking := missing(wanted.needs, free, nodes):
        raise ClusterError("the cluster lacks what the plan needs:\n  " + "\n  ".join(lacking))
    lines = changes(seen, wanted)
    if not lines:
        return Prepared(wanted, options, seen, (), (), package)
    old = needs_of(seen, nodes)
    kept = rolling.kept_beside(wanted, old, free, nodes)
    tight = [
        f"! {name}: {need.replicas - kept[name]} of {need.replicas} replicas stop before others "
        f"start: the cluster has no room for old and new on {need.gpu} side by side"
        for name, need in sorted(old.items())
        if kept[name] < need.replicas and name not in wanted.applications  # others only shrink
    ]
    steps = rolling.stages(wanted, seen.configs, old, kept)
    return Prepared(wanted, options, seen, (*lines, *tight), tuple(steps), package)


def deploy_ray(
    dashboard: Dashboard, prepared: Prepared, *, keep: bool = False, waiting: Waiting
) -> Status:
    """Put a prepared plan in force and wait until it is healthy; safe to repeat.

    When it fails, or is broken off, the service goes back to what it was, unless ``keep``; not
    over what another changed meanwhile.

    Raises:
        EngineError: an engine did not start; with the end of what it said.
        ConflictError: another changed the service meanwhile.
        ClusterError: refused, or not healthy in time.
    """
    plan = prepared.wanted.plan
    writer = Writer(dashboard, prepared.seen)

    app_of = {name: app.name for name, app in prepared.wanted.engines.items()}

    def status(seen: Seen) -> Status:
        now_s, url = waiting.clock(), url_of(seen, dashboard)
        return status_of(seen, plan, url, now_s, app_of=app_of)

    if not prepared.steps:
        report, deadline_s = rolling.reporter(waiting), waiting.clock() + waiting.wait_s
        apps = list(prepared.seen.configs.values())
        seen = rolling.until_running(writer, apps, deadline_s, report, status, waiting)
        return status(seen).model_copy(update={"message": "already running; nothing changed"})
    if prepared.package is not None:
        ship(dashboard, *prepared.package)
    try:
        return status(rolling.run(writer, prepared.steps, status, waiting))
    except ConflictError:
        raise
    except BaseException as error:
        ours = isinstance(error, OrchestratorError)
        if keep and ours:
            raise
        after = _roll_back(writer, prepared.seen)
        if isinstance(error, OrchestratorError):
            raise _rolled_back(error, after) from None
        raise


def ray_status(
    dashboard: Dashboard, name: str, clock: Callable[[], float] = time.time
) -> Status | None:
    """The service of that name on the cluster; None where there is none.

    Raises:
        ClusterError: the cluster cannot be asked, or the service is another version's.
    """
    seen = look(dashboard, name)
    plan = seen.plan
    if plan is None:
        return None
    return status_of(seen, plan, url_of(seen, dashboard), clock(), loads(seen, plan))


def delete_ray(dashboard: Dashboard, name: str, waiting: Waiting) -> bool:
    """Remove the service's applications and no others; False where there were none.

    Raises:
        ClusterError: the cluster refuses, or they are not gone in time.
    """
    seen = look(dashboard, name)
    if not seen.ours:
        return False
    if seen.configs:
        Writer(dashboard, seen).put(())
    deadline_s = waiting.clock() + waiting.wait_s
    while left := look(dashboard, name).ours:
        if waiting.clock() > deadline_s:
            raise ClusterError(
                f"not gone after {waiting.wait_s:.0f} s: {', '.join(sorted(left))}; they finish "
                "their streams"
            )
        waiting.sleep(POLL_S)
    return True


class RayTarget:
    """`base.Target` for a Ray cluster."""

    def __init__(
        self,
        dashboard: Dashboard,
        options: RayOptions = DEFAULTS,
        artefact: Path | None = None,
    ) -> None:
        self._dashboard, self._options, self._artefact = dashboard, options, artefact

    def deploy(self, plan: Plan, *, wait_s: float, on_progress: Progress) -> Status:
        """See `deploy_ray`."""
        prepared = prepare(self._dashboard, plan, self._options, artefact=self._artefact)
        return deploy_ray(self._dashboard, prepared, waiting=Waiting(wait_s, on_progress))

    def status(self, name: str) -> Status | None:
        """See `ray_status`."""
        return ray_status(self._dashboard, name)

    def delete(self, name: str, on_progress: Progress) -> bool:
        """See `delete_ray`."""
        return delete_ray(self._dashboard, name, Waiting(DELETE_WAIT_S, on_progress))


def operator() -> str:
    """Who deploys, from where: told to whoever finds the service changed."""
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):
        return socket.gethostname()


def url_of(seen: Seen, dashboard: Dashboard) -> str:
    """Base URL for clients: of an ingress that runs, else where one will."""
    name = ingress_name(seen.service)
    config = seen.configs.get(name) or {}
    port = (config.get("args") or {}).get("port", 0)
    host = (config.get("args") or {}).get("host", "")
    if not host or host == "0.0.0.0":
        found = [r["node_ip"] for r in seen.replicas(name) if r.get("node_ip")]
        host = min(found, default=dashboard.host)
    return f"http://{host}:{port}/v1"


def _roll_back(writer: Writer, seen: Seen) -> str:
    """Put back what was there; what became of it, in words."""
    try:
        writer.put(seen.configs.values())
        for name in seen.configs:
            target = seen.deployment(name).get("target_num_replicas")
            if is_engine(seen.configs[name]) and target is not None:
                writer.dashboard.scale(name, ENGINE_DEPLOYMENT, int(target))
    except ClusterError as error:
        return f"putting back what was there failed: {error}"
    if not seen.configs:
        return "nothing of it was left on the cluster (--keep leaves it)"
    return "what was there before was put back (--keep leaves the new one)"


def _rolled_back(error: OrchestratorError, after: str) -> OrchestratorError:
    if isinstance(error, EngineError):
        message = str(error).removesuffix(error.log_tail).rstrip()
        return EngineError(f"{message}; {after}", error.log_tail)
    return ClusterError(f"{error}; {after}")
