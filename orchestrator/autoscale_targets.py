"""Where an autoscaler acts: a live fleet's actuator and meter, by the name of the target."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from orchestrator.autoscale.loop import Actuator, Meter
from placement.plan import Plan
from profiler.errors import ClusterError


@dataclass(frozen=True)
class Target:
    """A live fleet. ``wait`` returns after so many seconds, or at once when it has news.

    ``cold_start_s`` is what was measured there, None where nothing was. Whoever acts does so inside
    ``hold()``, which raises ClusterError while another does. ``apply`` puts another plan in force
    as a deploy would, with files it names in a directory, and gives the fleet as it is then; it
    raises as a deploy does, and is None where a plan is for people to deploy. ``least`` is how few
    replicas a group may have there.
    """

    actuator: Actuator
    meter: Meter
    wait: Callable[[float], None] = time.sleep
    cold_start_s: float | None = None
    hold: Callable[[], AbstractContextManager[None]] = nullcontext
    apply: Callable[[Plan, Path], Target] | None = None
    least: int = 0


def _local(plan: Plan) -> Target:
    from orchestrator.deploy.local_scaling import local_target

    return local_target(plan)


def _ray(plan: Plan) -> Target:
    from orchestrator.deploy.ray_scaling import ray_target

    return ray_target(plan)


def _kubernetes(plan: Plan) -> Target:
    from orchestrator.deploy.kube_scaling import kubernetes_target

    return kubernetes_target(plan)


TARGETS: dict[str, Callable[[Plan], Target]] = {
    "local": _local,
    "ray": _ray,
    "kubernetes": _kubernetes,
}
"""How to reach a plan's fleet, by target; each kind of cluster adds itself."""


def target_of(name: str, plan: Plan) -> Target:
    """The fleet of a plan on a target.

    Raises:
        ClusterError: fleets there cannot be scaled.
    """
    if name not in TARGETS:
        can = ", ".join(sorted(TARGETS)) or "none"
        raise ClusterError(f"{name}: a fleet there cannot be scaled; targets that can: {can}")
    return TARGETS[name](plan)
