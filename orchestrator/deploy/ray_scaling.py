"""A service on a Ray cluster as an autoscaler sees and changes it: Serve's scaling API."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from manifests.serve_config import ENGINE_DEPLOYMENT
from orchestrator.autoscale.loop import OutOfStockError
from orchestrator.autoscale.pools import Bucket
from orchestrator.autoscale_targets import Target
from orchestrator.deploy.rayserve import asking
from orchestrator.deploy.rayserve.dashboard import Dashboard
from orchestrator.deploy.rayserve.nodes import Need, free_of, live_nodes, place_of, room_for
from orchestrator.deploy.rayserve.options import options_of
from orchestrator.deploy.rayserve.rolling import Waiting
from orchestrator.deploy.rayserve.seen import Seen
from orchestrator.deploy.rayserve.writing import look
from orchestrator.deploy.same_plan import same_plan
from orchestrator.simulation.events import GroupState
from placement.plan import Plan
from profiler.errors import ClusterError

STOPPING = "STOPPING"
MIGRATING = "PENDING_MIGRATION"
"""On a node that was given notice: Serve starts another elsewhere, then stops this one."""


class RayActuator:
    """`orchestrator.autoscale.loop.Actuator` of a service on a Ray cluster.

    Only nodes that are there count as room.
    """

    def __init__(self, dashboard: Dashboard, plan: Plan, digest: str | None = None) -> None:
        """``digest`` is that of the plan as it runs, where options made another of it."""
        self._dashboard = dashboard
        self._plan = plan
        self._digest = digest or plan.digest

    def current(self) -> dict[str, GroupState]:
        """
        Raises:
            ClusterError: the cluster cannot be asked, or runs another plan.
        """
        seen = self._look()
        return {g.name: _state(seen, seen.app_of[g.name]) for g in self._plan.groups}

    def set(self, group: str, replicas: int) -> None:
        """
        Raises:
            OutOfStockError: the nodes have no room for all; those that have some are asked for.
            ClusterError: as `current`, or Serve refuses.
        """
        seen = self._look()
        app = seen.app_of[group]
        now = _state(seen, app)
        more = replicas - now.staying
        fit = min(more, self._room(seen, group, more)) if more > 0 else more
        if fit != 0:
            self._dashboard.scale(app, ENGINE_DEPLOYMENT, now.staying + fit)
        if fit < more:
            raise OutOfStockError(group, more - fit)

    def _room(self, seen: Seen, group: str, more: int) -> int:
        """How many more replicas find room, after all those that still look for theirs."""
        nodes = live_nodes(self._dashboard.nodes(), self._dashboard.used())
        needs = [
            Need(g.name, g.config.gpu, place_of(self._plan, g, nodes), _unplaced(seen, g.name))
            for g in self._plan.groups
        ]
        mine = next(n for n in needs if n.name == group)
        extra = Need(f"{group}+", mine.gpu, mine.place, more)
        placed = room_for([*needs, extra], free_of(nodes, {}), nodes)
        return max(0, placed[group] + placed[extra.name] - mine.replicas)

    def _look(self) -> Seen:
        seen = look(self._dashboard, self._plan.service)
        note = seen.note
        if note is None:
            raise ClusterError(f"no service {self._plan.service!r} runs at {self._dashboard.url}")
        if note.digest != self._digest:
            raise ClusterError(f"{self._plan.service!r} runs another plan; deploy this one first")
        return seen


class RayMeter:
    """`orchestrator.autoscale.loop.Meter`: what the ingresses have counted."""

    def __init__(
        self,
        urls: Callable[[], list[str]],
        read: Callable[[str], Mapping[asking.Count, float]] = asking.arrivals,
    ) -> None:
        self._urls = urls
        self._read = read
        self._before: dict[asking.Count, float] | None = None
        self._owed: dict[Bucket, float] = {}

    def arrivals(self) -> dict[Bucket, int] | None:
        """See `Meter`; None at the first call, and at the first after a failure.

        A count that fell is of a process that began anew. Ingresses spread a request whose size is
        not known yet over several buckets; parts of one are told when they add up.

        Raises:
            ClusterError: an ingress cannot be asked.
        """
        before, self._before = self._before, None
        now: dict[asking.Count, float] = {}
        for url in self._urls():
            now |= self._read(url)
        self._before = (before or {}) | now
        if before is None:
            return None
        total = dict(self._owed)
        for (process, stream, bucket), count in now.items():
            old = before.get((process, stream, bucket), 0.0)
            came = count - old if count >= old else count
            total[stream, bucket] = total.get((stream, bucket), 0.0) + came
        whole = {key: round(count) for key, count in total.items()}
        self._owed = {key: total[key] - whole[key] for key in total}
        return whole


def ray_target(plan: Plan, address: str | None = None) -> Target:
    """The service that runs a plan on the Ray cluster at an address, else at that of the
    environment.

    Raises:
        InputError: no address.
        ClusterError: none runs there, or it runs another plan.
    """
    return target_at(Dashboard.connect(address), plan)


def target_at(dashboard: Dashboard, plan: Plan) -> Target:
    """The service that runs a plan on the cluster of a dashboard; raises as `ray_target`."""
    seen = look(dashboard, plan.service)
    note, running = seen.note, seen.plan
    alike = running is not None and same_plan(running, plan)
    actuator = RayActuator(dashboard, plan, note.digest if note and alike else plan.digest)
    actuator.current()
    meter = RayMeter(lambda: asking.ingress_urls(look(dashboard, plan.service)))
    return Target(
        actuator, meter, apply=lambda other, directory: _applied(dashboard, other, directory)
    )


def _applied(dashboard: Dashboard, plan: Plan, directory: Path) -> Target:
    """Another plan in force with the options of the one that runs; as a deploy does it.

    Raises:
        InputError: an artefact that it names is not in the directory.
        ClusterError: refused, no room, or not healthy in time; the plan before runs on.
    """
    from orchestrator.deploy.ray_cluster import DEFAULT_WAIT_S, deploy_ray, prepare
    from orchestrator.learned_router import checked_artefact

    options = options_of(look(dashboard, plan.service))
    artefact = None if options.router_artefact else checked_artefact(plan, directory)
    prepared = prepare(dashboard, plan, options, artefact=artefact)
    deploy_ray(dashboard, prepared, waiting=Waiting(DEFAULT_WAIT_S))
    return target_at(dashboard, plan)


def _state(seen: Seen, app: str) -> GroupState:
    target = _target(seen, app)
    running = len(seen.replicas(app))
    ready = min(running, target)
    gone = len(seen.replicas(app, STOPPING)) + len(seen.replicas(app, MIGRATING))
    leaving = gone + max(0, running - target)
    return GroupState(ready, target - ready, leaving, in_flight=0, queued=0)


def _target(seen: Seen, app: str) -> int:
    deployment = seen.deployment(app)
    if not deployment:
        raise ClusterError(f"the cluster does not tell of {app!r}")
    return int(deployment["target_num_replicas"])


def _unplaced(seen: Seen, group: str) -> int:
    """Replicas of a group that have no node yet."""
    app = seen.app_of[group]
    placed = sum(1 for r in seen.replicas(app, None) if r.get("node_id"))
    return max(0, _target(seen, app) - placed)
