"""Ray Serve applications of a plan: one per replica group, and the ingress in front.

Groups are applications of their own, so a new plan adds, changes and removes groups without
disturbing the others, and the ingress learns of it through its configuration alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray import serve
from ray.serve import Application
from ray.serve.config import RequestRouterConfig

from placement.plan import Plan
from serve_apps.discovery import ENGINE
from serve_apps.engine_app import HEALTH_TIMEOUT_S, EngineReplica
from serve_apps.ingress import Ingress
from serve_apps.pool import QUEUE_FACTOR, EngineSettings, IngressSettings, RouterFiles
from serve_apps.replica_router import GROUP, ROUTER

INGRESS_APP = "Ingress"
"""Capitalised: no replica group can have this name."""
INGRESS_MAX_ONGOING = 10_000
HEALTH_PERIOD_S = 2.0
DRAIN_POLL_S = 0.5
DRAIN_SLACK_S = 5.0
"""What a process may take beyond its streams before Serve kills it."""


def engine_application(settings: EngineSettings, starts: int = 1) -> Application:
    """The application of one replica group.

    A change of settings that no engine sees, such as the number of replicas, keeps those running.
    So many failed ``starts`` are final. One is on one machine, where Serve would retry for minutes
    and the same command fails again.
    """
    deployment = serve.deployment(
        EngineReplica,
        name=ENGINE,
        num_replicas=settings.replicas,
        ray_actor_options=_actor_options(settings),
        max_ongoing_requests=settings.config.engine.max_num_seqs * QUEUE_FACTOR,
        graceful_shutdown_timeout_s=settings.drain_timeout_s,
        graceful_shutdown_wait_loop_s=DRAIN_POLL_S,
        health_check_period_s=HEALTH_PERIOD_S,
        health_check_timeout_s=HEALTH_TIMEOUT_S + 5,
        max_constructor_retry_count=starts,
        request_router_config=RequestRouterConfig(
            request_router_class=ROUTER, request_router_kwargs={GROUP: settings.group}
        ),
    )
    return _versioned(deployment, settings.version).bind(settings.model_dump(mode="json"))


def ingress_application(
    plan: Plan,
    settings: IngressSettings,
    router: RouterFiles | None = None,
    scaled: Mapping[str, int] | None = None,
    cold_start_s: float | None = None,
) -> Application:
    """The application that answers clients and routes by the plan.

    ``router`` names the files of the plan's learned router, on the machine of the ingress. A new
    plan reaches the processes as configuration, and cuts no stream; new settings replace them.
    ``scaled`` are the replicas wanted of groups where they are not the plan's, ``cold_start_s``
    how long one takes to start, where that is known.
    """
    config: dict[str, Any] = {"plan": plan.model_dump(mode="json", exclude={"gateway"})}
    if scaled:
        config["scaled"] = dict(scaled)
    if cold_start_s is not None:
        config["cold_start_s"] = cold_start_s
    if router is not None:
        config["router"] = router.model_dump(mode="json", exclude_defaults=True)
    return ingress_deployment(settings, config)


def ingress_deployment(
    settings: IngressSettings, user_config: dict[str, Any] | None = None
) -> Application:
    """The ingress processes; ``user_config`` may also come later, from Serve's own config."""
    deployment = serve.deployment(
        Ingress,
        name="ingress",
        num_replicas=settings.replicas,
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=INGRESS_MAX_ONGOING,
        graceful_shutdown_timeout_s=settings.drain_timeout_s + DRAIN_SLACK_S,
        graceful_shutdown_wait_loop_s=DRAIN_POLL_S,
        health_check_period_s=HEALTH_PERIOD_S,
        health_check_timeout_s=HEALTH_TIMEOUT_S,
        user_config=user_config,
    )
    return _versioned(deployment, settings.version).bind(settings.model_dump(mode="json"))


def _versioned(deployment: serve.Deployment, version: str) -> serve.Deployment:
    """The deployment under a version of ours.

    Without one Serve makes up a new one each time, and replaces every replica at every update.
    Ray 2.60 keeps the option for its own use; there is no public one.
    """
    return deployment.options(version=version, _internal=True)


def _actor_options(settings: EngineSettings) -> dict[str, Any]:
    if settings.on_cpu or settings.emulated is not None:
        return {"num_cpus": 0}  # a real one's cores are given out by settings.cpu_cores
    options: dict[str, Any] = {"num_cpus": 0, "num_gpus": settings.config.tensor_parallel}
    if settings.pin_accelerator and settings.gpu.ray_accelerator_type:
        options["accelerator_type"] = settings.gpu.ray_accelerator_type
    return options
