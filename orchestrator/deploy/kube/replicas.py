"""Numbers of replicas as they stand in a RayService: what an autoscaler made of the plan's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from manifests.objects import Object
from manifests.serve_config import ENGINE_DEPLOYMENT, INGRESS_APP
from placement.plan import Plan


def replicas_of(service: Mapping[str, Any]) -> dict[str, int]:
    """Replicas by group, from Serve's config."""
    config = yaml.safe_load(service["spec"]["serveConfigV2"])
    names = [a["name"] for a in config["applications"] if a["name"] != INGRESS_APP]
    return {n: int(engine_in(config, n)["num_replicas"]) for n in names}


def engine_in(config: Mapping[str, Any], group: str) -> Object:
    """The engines' deployment of a group in Serve's config."""
    app = next(a for a in config["applications"] if a["name"] == group)
    found: Object = next(d for d in app["deployments"] if d["name"] == ENGINE_DEPLOYMENT)
    return found


def as_scaled(plan: Plan, service: Mapping[str, Any]) -> Plan:
    """The plan with the numbers of replicas that are in force; its digest is another."""
    now = replicas_of(service)
    groups = tuple(
        g.model_copy(update={"replicas": now.get(g.name, g.replicas)}) for g in plan.groups
    )
    return plan.model_copy(update={"groups": groups})
