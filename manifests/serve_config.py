"""The declarative Ray Serve config of a plan: what KubeRay's ``serveConfigV2`` and Serve's REST
API take.

Serve accepts unknown fields without a word, so the models here are strict. Serve replaces every
replica of an application whose ``import_path``, ``args``, ``runtime_env`` or claims change, and
takes numbers of replicas and ``user_config`` over in place: hence ``args`` hold only what an engine
sees, and an engine application's name ends in a digest of all that would restart it. Engines whose
options change are new applications, which can start beside the old ones.
Nothing here imports Ray.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import Field

from manifests.settings import Port
from placement.plan import REMARKS, Plan, ReplicaGroup
from profiler.core import Count, NonNegative, Noun, Positive, Price
from profiler.documents import dump_data
from profiler.errors import InputError
from serve_apps.pool import (
    QUEUE_FACTOR,
    EngineSettings,
    IngressSettings,
    RouterFiles,
    emulated_settings,
    engine_settings,
)

ENGINE_IMPORT = "serve_apps.declared:engine"
INGRESS_IMPORT = "serve_apps.declared:ingress"
INGRESS_APP = "Ingress"
"""As `serve_apps.app.INGRESS_APP`, which cannot be imported without Ray."""
INGRESS_DEPLOYMENT = "ingress"
ENGINE_DEPLOYMENT = "engine"
INGRESS_MAX_ONGOING = 10_000
HEALTH_PERIOD_S = 2.0
HEALTH_TIMEOUT_S = 15.0
DRAIN_POLL_S = 0.5
PLACED = {
    "ray_actor_options",
    "placement_group_bundles",
    "placement_group_strategy",
    "placement_group_bundle_label_selector",
}
"""What a deployment claims and where; replicas are replaced when it changes."""
THIS_NODE = ""
"""Engines listen on the address of the node that they run on."""
ENGINE_LOGS = "/tmp/llm-orchestrator/engines"  # in the pod, which is its own

Options = Mapping[str, Any]


class ActorOptions(Noun):
    """What a replica asks of Ray's scheduler."""

    num_cpus: NonNegative = 0
    num_gpus: NonNegative = 0
    resources: dict[str, Positive] = Field(default_factory=dict)
    accelerator_type: str | None = None
    label_selector: dict[str, str] = Field(default_factory=dict)


BEHIND_PROXY = IngressSettings(replicas=1)
"""An ingress that Serve's proxies alone talk to."""
NO_DEMAND = ActorOptions()
"""A replica that any node may run."""


class DeploymentConfig(Noun):
    """One deployment of an application, with the options that change in place."""

    name: str
    num_replicas: Count
    max_ongoing_requests: Count
    graceful_shutdown_timeout_s: NonNegative
    graceful_shutdown_wait_loop_s: Positive = DRAIN_POLL_S
    health_check_period_s: Positive = HEALTH_PERIOD_S
    health_check_timeout_s: Positive = HEALTH_TIMEOUT_S
    ray_actor_options: ActorOptions = NO_DEMAND
    placement_group_bundles: tuple[dict[str, Positive], ...] | None = None
    placement_group_strategy: Literal["STRICT_PACK"] | None = None
    placement_group_bundle_label_selector: tuple[dict[str, str], ...] | None = None
    request_router_config: dict[str, Any] | None = None
    user_config: dict[str, Any] | None = None


class ApplicationConfig(Noun):
    """One application: a replica group's engines, or the ingress."""

    name: str
    route_prefix: str | None = Field(description="none: reached through handles only")
    import_path: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")]
    args: dict[str, Any] = Field(default_factory=dict)
    runtime_env: dict[str, Any] | None = None
    logging_config: dict[str, Any] | None = None
    deployments: tuple[DeploymentConfig, ...]
    external_scaler_enabled: bool = False


class HttpOptions(Noun):
    """Where Serve's proxies listen."""

    host: str = "0.0.0.0"  # a pod's own address is not known beforehand
    port: Port = 8000


class LoggingOptions(Noun):
    """Of Serve's own logs."""

    enable_access_log: bool = False


class ServeConfig(Noun):
    """All applications of a plan."""

    proxy_location: Literal["EveryNode", "HeadOnly", "Disabled"] = "EveryNode"
    http_options: HttpOptions = HttpOptions()
    logging_config: LoggingOptions = LoggingOptions()
    applications: tuple[ApplicationConfig, ...]


def market_selector(plan: Plan, group: ReplicaGroup) -> dict[str, str]:
    """The Ray node labels that a replica group needs: its accelerator and its market."""
    accelerator = plan.gpus[group.config.gpu].ray_accelerator_type
    market = "spot" if group.market == "spot" else "on-demand"
    labels = {"ray.io/market-type": market}
    return ({"ray.io/accelerator-type": accelerator} if accelerator else {}) | labels


def default_actor(plan: Plan, group: ReplicaGroup) -> ActorOptions:
    """All GPUs of a replica on one node of its type; one engine to a node without GPUs."""
    selector = market_selector(plan, group)
    if plan.gpus[group.config.gpu].vendor == "cpu":
        return ActorOptions(label_selector=selector)
    return ActorOptions(num_gpus=group.config.tensor_parallel, label_selector=selector)


def serve_config(
    plan: Plan,
    *,
    port: int = 8000,
    ingress: IngressSettings = BEHIND_PROXY,
    ingress_actor: ActorOptions = NO_DEMAND,
    actor: Callable[[Plan, ReplicaGroup], ActorOptions] = default_actor,
    router: RouterFiles | None = None,
    external_scaler: bool = False,
    emulate: bool = False,
) -> ServeConfig:
    """The config of a plan: an application per replica group and the ingress.

    ``ingress`` says how its processes are started; one with a port listens there itself, and Serve
    then runs no proxy. ``actor`` gives what a group's replicas ask of the scheduler; ``router``
    names the learned router's files where the ingress runs; ``external_scaler`` lets Serve's scale
    API set the number of engine replicas; ``emulate`` has engines that only keep their profiles'
    time.

    Raises:
        InputError: weights that only this machine has.
    """
    if emulate:
        settings = emulated_settings(plan, ENGINE_LOGS)
    else:
        weights = {name: cluster_weights(name, m.weights) for name, m in plan.models.items()}
        settings = engine_settings(plan, weights, ENGINE_LOGS, ())
    engines = {
        g.name: _engine(settings[g.name], actor(plan, g), external_scaler=external_scaler)
        for g in plan.groups
    }
    user_config: dict[str, Any] = {
        "plan": plan_in_short(plan),
        "apps": {group: app.name for group, app in engines.items()},
    }
    if router is not None:
        user_config["router"] = router.model_dump(mode="json", exclude_none=True)
    drain_s = max(s.drain_timeout_s for s in settings.values())
    front = ApplicationConfig(
        name=INGRESS_APP,
        route_prefix="/",
        import_path=INGRESS_IMPORT,
        args=seen_by_ingress(ingress),
        deployments=(
            DeploymentConfig(
                name=INGRESS_DEPLOYMENT,
                num_replicas=ingress.replicas,
                max_ongoing_requests=INGRESS_MAX_ONGOING,
                graceful_shutdown_timeout_s=drain_s,
                ray_actor_options=ingress_actor,
                user_config=user_config,
            ),
        ),
    )
    return ServeConfig(
        proxy_location="EveryNode" if ingress.port is None else "Disabled",
        http_options=HttpOptions(port=port),
        applications=(*engines.values(), front),
    )


def _engine(
    settings: EngineSettings, actor: ActorOptions, *, external_scaler: bool
) -> ApplicationConfig:
    args, deployment = seen_by_engine(settings), engine_deployment(settings, actor)
    return ApplicationConfig(
        name=f"{settings.group}.{restart_digest(args, deployment)}",
        route_prefix=None,
        import_path=ENGINE_IMPORT,
        args=args,
        deployments=(deployment,),
        external_scaler_enabled=external_scaler,
    )


def restart_digest(
    args: Mapping[str, Any],
    deployment: DeploymentConfig,
    runtime_env: Mapping[str, Any] | None = None,
) -> str:
    """Eight digits that change with all that would restart an application's replicas."""
    placed = deployment.model_dump(mode="json", include=PLACED)
    restarts = {"args": args, "runtime_env": runtime_env, "placed": placed}
    return hashlib.sha256(json.dumps(restarts, sort_keys=True).encode()).hexdigest()[:8]


def seen_by_ingress(settings: IngressSettings) -> dict[str, Any]:
    """What an ingress process is started with; how many there are changes in place."""
    unseen = {"replicas", "drain_timeout_s"}
    return settings.model_dump(mode="json", exclude_defaults=True, exclude=unseen)


def engine_deployment(settings: EngineSettings, actor: ActorOptions) -> DeploymentConfig:
    """The engines of one replica group."""
    return DeploymentConfig(
        name=ENGINE_DEPLOYMENT,
        num_replicas=settings.replicas,
        max_ongoing_requests=settings.config.engine.max_num_seqs * QUEUE_FACTOR,
        graceful_shutdown_timeout_s=settings.drain_timeout_s,
        ray_actor_options=actor,
    )


def seen_by_engine(settings: EngineSettings) -> dict[str, Any]:
    """Settings with what no engine sees made constant: a new price must not restart engines."""
    constant = Price(on_demand_usd_per_hour=1.0, source="not an engine's", as_of=dt.date.min)
    gpu = settings.gpu.model_copy(update={"price": constant, "node_labels": {}})
    fixed = {
        "replicas": 1,
        "gpu": gpu,
        "host": THIS_NODE,
        "cpu_cores": (),
        "pin_accelerator": False,
    }
    return settings.model_copy(update=fixed).model_dump(mode="json", exclude_defaults=True) | {
        "host": THIS_NODE
    }


def cluster_weights(model: str, weights: str) -> str:
    """Weights that every machine of a cluster finds: a hub name, or a path in its image.

    Raises:
        InputError: a path or package of the planner's own machine.
    """
    local = weights.startswith((".", "~", "package:"))
    if local:
        raise InputError(
            f"model {model!r}: weights {weights!r} are on this machine only; a cluster needs a hub "
            "name, or an absolute path in its image or volume"
        )
    return str(PurePosixPath(weights)) if weights.startswith("/") else weights


def plan_in_short(plan: Plan) -> dict[str, Any]:
    """The plan as the ingress needs it: without remarks and the points of measured profiles."""
    data = plan.model_dump(mode="json", exclude=REMARKS | {"gateway"}, exclude_defaults=True)
    for group in data["groups"]:
        group["profile"].pop("points", None)
    return data


def app_names(config: Mapping[str, Any]) -> dict[str, str]:
    """The application of each replica group that a config routes to, by group."""
    front = next((a for a in config["applications"] if a["name"] == INGRESS_APP), None)
    told = (front["deployments"][0].get("user_config") or {}).get("apps") if front else None
    if told is not None:
        return dict(told)
    return {a["name"]: a["name"] for a in config["applications"] if a is not front}


def as_data(config: ServeConfig) -> dict[str, Any]:
    """Plain data for Serve's REST API; ``route_prefix: null`` is said, all else left out."""
    data = config.model_dump(mode="json", exclude_none=True)
    for app, source in zip(data["applications"], config.applications, strict=True):
        app["route_prefix"] = source.route_prefix
    return data


def as_yaml(config: ServeConfig) -> str:
    """The config as the string that KubeRay takes."""
    return dump_data(as_data(config))
