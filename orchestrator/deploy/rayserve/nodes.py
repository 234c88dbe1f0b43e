"""What a Ray cluster has, and where the replicas of a plan find room on it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from manifests.serve_config import ActorOptions
from placement.plan import Plan, ReplicaGroup

ACCELERATOR_LABEL = "ray.io/accelerator-type"
MARKET_LABEL = "ray.io/market-type"
REGION_LABEL = "ray.io/availability-region"
ACCELERATOR_RESOURCE = "accelerator_type:"
SPOT = "spot"
TOUCH = 0.001
"""A little of a node's resource says: on such a node."""


@dataclasses.dataclass(frozen=True)
class Node:
    """One live node. ``free`` is what nobody has taken, where Ray tells."""

    id: str
    ip: str
    labels: Mapping[str, str]
    total: Mapping[str, float]
    free: Mapping[str, float]

    @property
    def accelerator(self) -> str | None:
        """Its kind of accelerator, as Ray names it."""
        if ACCELERATOR_LABEL in self.labels:
            return self.labels[ACCELERATOR_LABEL]
        names = (k for k in self.total if k.startswith(ACCELERATOR_RESOURCE))
        return next((k.removeprefix(ACCELERATOR_RESOURCE) for k in names), None)


@dataclasses.dataclass(frozen=True)
class Place:
    """Which nodes a replica may stand on, and how much of one it takes there."""

    resource: str
    amount: float
    accelerator: str | None
    by_label: bool = True
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def allows(self, node: Node) -> bool:
        """Whether a node is of the kind."""
        if self.accelerator is not None and node.accelerator != self.accelerator:
            return False
        return all(_matches(node.labels.get(k), v) for k, v in self.labels.items())

    @property
    def selector(self) -> dict[str, str]:
        """Node labels that Ray is to look for."""
        kind = self.accelerator
        own = {ACCELERATOR_LABEL: kind} if kind is not None and self.by_label else {}
        return own | dict(self.labels)

    @property
    def actor(self) -> ActorOptions:
        """What a replica asks of Ray's scheduler."""
        resources = {}
        if self.accelerator is not None and not self.by_label:
            resources = {f"{ACCELERATOR_RESOURCE}{self.accelerator}": TOUCH}
        cpus = self.amount if self.resource == "CPU" else 0
        gpus = self.amount if self.resource == "GPU" else 0
        return ActorOptions(
            num_cpus=cpus, num_gpus=gpus, resources=resources, label_selector=self.selector
        )

    @property
    def bundles(self) -> tuple[dict[str, float], ...] | None:
        """A placement group for the GPUs of a replica that has several; they are one node's."""
        if self.resource != "GPU" or self.amount <= 1:
            return None
        return ({"GPU": self.amount} | self.actor.resources,)


def live_nodes(nodes: Iterable[Mapping[str, Any]], used: Mapping[str, Any]) -> list[Node]:
    """The nodes that are alive, from what the dashboard tells."""
    found = []
    for node in nodes:
        if node["state"] != "ALIVE":
            continue
        total = node.get("resources_total") or {}
        taken = used.get(node["node_id"]) or {}
        free = {k: v - float((taken.get(k) or [0.0])[0]) for k, v in total.items()}
        labels = node.get("labels") or {}
        found.append(Node(node["node_id"], node["node_ip"], labels, total, free))
    return found


def place_of(plan: Plan, group: ReplicaGroup, nodes: Sequence[Node]) -> Place:
    """Where a group's replicas belong on this cluster.

    Market and region count only where some nodes of the kind say theirs.
    """
    gpu = plan.gpus[group.config.gpu]
    if gpu.vendor == "cpu":
        return Place("CPU", 1.0, None)
    kind = gpu.ray_accelerator_type or gpu.name
    same = [n for n in nodes if n.accelerator == kind]
    labels = {}
    if any(MARKET_LABEL in n.labels for n in same):
        labels[MARKET_LABEL] = SPOT if group.market == SPOT else f"!{SPOT}"
    if group.region is not None and any(REGION_LABEL in n.labels for n in same):
        labels[REGION_LABEL] = group.region
    by_label = not same or any(ACCELERATOR_LABEL in n.labels for n in same)
    return Place("GPU", float(group.config.tensor_parallel), kind, by_label, labels)


@dataclasses.dataclass(frozen=True)
class Need:
    """Replicas that want room: of one group, all of one kind."""

    name: str
    gpu: str
    place: Place
    replicas: int


def room_for(
    needs: Sequence[Need], free: Mapping[str, float], nodes: Sequence[Node]
) -> Counter[str]:
    """How many replicas of each need find room; the largest first, into the fullest node that has
    it. ``free`` is the amount of accelerators (or cores) by node id and resource, see `free_of`."""
    left = dict(free)
    placed: Counter[str] = Counter()
    for need in sorted(needs, key=lambda n: (-n.place.amount, -len(n.place.labels), n.name)):
        for _ in range(need.replicas):
            at = _fullest(need.place, left, nodes)
            if at is None:
                break
            left[at] -= need.place.amount
            placed[need.name] += 1
    return placed


def free_of(nodes: Sequence[Node], given_back: Mapping[str, float]) -> dict[str, float]:
    """What is free by ``node/resource``; ``given_back``, likewise, is what is ours already."""
    free = {}
    for node in nodes:
        for resource in ("GPU", "CPU"):
            key = key_of(node.id, resource)
            back = given_back.get(key, 0.0)
            free[key] = min(node.free.get(resource, 0.0) + back, node.total.get(resource, 0.0))
    return free


def key_of(node_id: str, resource: str) -> str:
    """The name of one resource of one node."""
    return f"{node_id}/{resource}"


def missing(needs: Sequence[Need], free: Mapping[str, float], nodes: Sequence[Node]) -> list[str]:
    """What the cluster lacks, a line per kind: requested, has, to fix."""
    placed = room_for(needs, free, nodes)
    short = [n for n in needs if placed[n.name] < n.replicas]
    lines = []
    for gpu in sorted({n.gpu for n in short}):
        mine = [n for n in needs if n.gpu == gpu]
        place = next(n.place for n in short if n.gpu == gpu)
        wanted = sum(n.replicas * n.place.amount for n in mine)
        lacking = sum((n.replicas - placed[n.name]) * n.place.amount for n in mine)
        same = [n for n in nodes if _same_kind(place, n)]
        total = sum(n.total.get(place.resource, 0.0) for n in same)
        unused = sum(free[key_of(n.id, place.resource)] for n in same)
        has = f"{total:g} on {len(same)} nodes, {unused:g} of them free" if same else "none"
        others = "" if same else _others(nodes)
        where = "; ".join(f"{k}={v}" for k, v in sorted(place.labels.items()))
        lines.append(
            f"{gpu}{f' ({where})' if where else ''}: requested {wanted:g}, has {has}{others}; "
            f"to fix: {_fix(place, lacking)}"
        )
    return lines


def _fix(place: Place, lacking: float) -> str:
    size = f", {place.amount:g} to a node at least" if place.amount > 1 else ""
    if place.resource == "CPU":
        return f"add {lacking:g} cores"
    labels = ",".join(
        f"{k}={v.removeprefix('!')}" for k, v in place.selector.items() if v[0] != "!"
    )
    return (
        f"add {lacking:g} x {place.accelerator}{size} (ray start --num-gpus N --resources "
        f"'{{\"{ACCELERATOR_RESOURCE}{place.accelerator}\": 1}}'"
        f"{f' --labels {labels}' if labels else ''}), or plan for what is there"
    )


def _others(nodes: Sequence[Node]) -> str:
    kinds: Counter[str] = Counter()
    for node in nodes:
        if gpus := int(node.total.get("GPU", 0)):
            kinds[node.accelerator or "unnamed"] += gpus
    found = ", ".join(f"{n} x {kind}" for kind, n in sorted(kinds.items()))
    return f" (the cluster has {found or 'no GPU'})"


def _same_kind(place: Place, node: Node) -> bool:
    return place.accelerator is None or node.accelerator == place.accelerator


def _fullest(place: Place, left: Mapping[str, float], nodes: Sequence[Node]) -> str | None:
    keys = [key_of(n.id, place.resource) for n in nodes if place.allows(n)]
    fits = [k for k in keys if left[k] >= place.amount]
    return min(fits, key=lambda k: (left[k], k), default=None)


def _matches(found: str | None, wanted: str) -> bool:
    if wanted.startswith("!"):
        return found != wanted[1:]
    return found == wanted
