"""How replica groups become groups of equal pods: one per GPU type, market, region and size."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from placement.plan import Plan, ReplicaGroup
from profiler.core import GpuType, Market

INGRESS = "ingress"
CPU_SLOT = "cpu_engine"
"""Ray resource of a pod without accelerators: one engine takes all of it."""


@dataclass(frozen=True)
class WorkerGroup:
    """Equal pods, each with the accelerators of ``pod_gpus`` and room for the engines on them.

    Replica groups that rent the same kind of pod share a worker group: any replica runs in any
    of its pods.
    """

    name: str
    gpu: GpuType
    market: Market
    region: str | None
    pod_gpus: int
    groups: tuple[ReplicaGroup, ...]

    @property
    def pods(self) -> int:
        """How many pods the plan needs: whole nodes are filled, else a pod hosts one engine."""
        gpus = sum(g.replicas * g.config.tensor_parallel for g in self.groups)
        return math.ceil(gpus / self.pod_gpus)

    @property
    def on_cpu(self) -> bool:
        """Whether the pods have no accelerator."""
        return self.gpu.vendor == "cpu"

    @property
    def usd_per_hour(self) -> float:
        """Rent of one pod, by the plan's own price of a replica."""
        first = self.groups[0]
        return first.usd_per_hour * self.pod_gpus / first.config.tensor_parallel


def worker_groups(plan: Plan) -> tuple[WorkerGroup, ...]:
    """The worker groups of a plan, in the order of its replica groups."""
    found: dict[tuple[str, Market, str | None, int], list[ReplicaGroup]] = {}
    for group in plan.groups:
        pod_gpus = max(group.node_gpus, group.config.tensor_parallel)
        key = (group.config.gpu, group.market, group.region, pod_gpus)
        found.setdefault(key, []).append(group)
    names = _names(list(found))
    return tuple(
        WorkerGroup(names[key], plan.gpus[key[0]], key[1], key[2], key[3], tuple(groups))
        for key, groups in found.items()
    )


def _names(keys: Sequence[tuple[str, Market, str | None, int]]) -> dict[object, str]:
    """DNS-1035 names that say what is rented; a number where two would be alike."""
    names: dict[object, str] = {}
    for key in keys:
        gpu, market, region, pod_gpus = key
        parts = [gpu, "spot" if market == "spot" else "", region or "", f"{pod_gpus}x"]
        base = re.sub(r"[^a-z0-9]+", "-", "-".join(filter(None, parts)).lower()).strip("-")
        base = (base if base[:1].isalpha() else f"gpu-{base}")[:40].strip("-")
        name, n = base, 2
        while name in names.values() or name == INGRESS:
            name, n = f"{base}-{n}", n + 1
        names[key] = name
    return names
