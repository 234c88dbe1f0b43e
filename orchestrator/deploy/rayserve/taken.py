"""What a service's replicas take of a Ray cluster now."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.deploy.rayserve.nodes import Need, Node, Place, key_of, place_of
from orchestrator.deploy.rayserve.seen import Seen, is_engine


def held(seen: Seen) -> dict[str, float]:
    """The accelerators and cores that the service's replicas hold, as `free_of` wants them."""
    found: dict[str, float] = {}
    for name in seen.ours:
        required = seen.deployment(name).get("required_resources") or {}
        for replica in seen.replicas(name, None):
            for resource in ("GPU", "CPU"):
                if replica.get("node_id") and (amount := float(required.get(resource, 0))):
                    key = key_of(replica["node_id"], resource)
                    found[key] = found.get(key, 0.0) + amount
    return found


def needs_of(seen: Seen, nodes: Sequence[Node]) -> dict[str, Need]:
    """What the service's applications take now, by application."""
    plan = seen.plan
    if plan is None:
        return {}
    group_of = {app: group for group, app in seen.app_of.items()}
    found = {}
    for name, config in seen.configs.items():
        if not is_engine(config):
            continue
        group = group_of.get(name)
        planned = plan.group(group) if group else None
        place = place_of(plan, planned, nodes) if planned else Place("GPU", 0.0, None)
        gpu = planned.config.gpu if planned else "?"
        count = int(seen.deployment(name).get("target_num_replicas", 0))
        found[name] = Need(name, gpu, place, count)
    return found
