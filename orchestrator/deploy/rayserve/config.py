"""A plan as applications of a Ray cluster that may have others: one per replica group, one ingress.

An engine application's name ends in a digest of all that would restart its replicas. So engines
whose options change are new applications beside the old ones, and no request waits for them.
"""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from manifests.serve_config import (
    ENGINE_IMPORT,
    ENGINE_LOGS,
    INGRESS_DEPLOYMENT,
    INGRESS_IMPORT,
    INGRESS_MAX_ONGOING,
    THIS_NODE,
    ActorOptions,
    ApplicationConfig,
    DeploymentConfig,
    cluster_weights,
    engine_deployment,
    plan_in_short,
    restart_digest,
    seen_by_engine,
)
from orchestrator.deploy.rayserve.nodes import Need, Node, Place, place_of
from placement.plan import Plan
from profiler import files
from profiler.core import Count, Noun
from profiler.errors import InputError
from serve_apps.guard.settings import GuardSettings, check_exposure
from serve_apps.pool import (
    EngineSettings,
    IngressSettings,
    RouterFiles,
    emulated_settings,
    engine_settings,
)
from serve_apps.seeing.settings import SeeingSettings

Object = dict[str, Any]

DEFAULT_PORT = 8080
"""Not Serve's own 8000: its proxies may be on the same nodes."""
DRAIN_SLACK_S = 5.0
MOST_ARTEFACT_BYTES = 16 * 2**20
"""Each ingress gets the router's artefact with its configuration, which Ray keeps in memory."""
ROUTER, ROUTED = "serve_apps.replica_router:Directory", "group"
"""As in `serve_apps.replica_router`, which cannot be imported without Ray."""
QUIET = {"enable_access_log": False}


class RayOptions(Noun):
    """What a plan does not say about the cluster it is put on."""

    port: Count = DEFAULT_PORT
    host: str = Field(THIS_NODE, description="the ingress listens there; empty: its node's address")
    ingress_replicas: Count = 2
    guard: GuardSettings = GuardSettings()
    seeing: SeeingSettings = SeeingSettings()
    emulate: bool = False
    ship_code: bool = False
    router_artefact: str | None = Field(None, description="where the cluster's image has it")
    drain_timeout_s: float | None = Field(None, ge=0)


class Note(Noun):
    """What a deployment says of itself, in the ingress's configuration."""

    service: str
    digest: str = Field(description="of the plan")
    emulated: bool = False
    by: str = Field("", description="who deployed it, from where")
    at_s: float = Field(0.0, description="Unix time")


@dataclasses.dataclass(frozen=True)
class Wanted:
    """The applications of a plan. ``engines`` are by group, as ``places`` and ``settings`` are."""

    plan: Plan
    note: Note
    engines: Mapping[str, ApplicationConfig]
    places: Mapping[str, Place]
    ingress: ApplicationConfig

    @property
    def needs(self) -> list[Need]:
        """What must find room, by application."""
        return [
            Need(self.engines[g.name].name, g.config.gpu, self.places[g.name], g.replicas)
            for g in self.plan.groups
        ]

    @property
    def applications(self) -> dict[str, Object]:
        """All, as Serve takes them, by name."""
        return {a.name: as_data(a) for a in (*self.engines.values(), self.ingress)}


def ingress_name(service: str) -> str:
    """The application that answers clients."""
    return f"{service}.ingress"


def wanted_applications(
    plan: Plan,
    nodes: Sequence[Node],
    options: RayOptions,
    *,
    by: str = "",
    at_s: float = 0.0,
    artefact: Path | None = None,
    code_uri: str | None = None,
) -> Wanted:
    """The applications of a plan on a cluster of these nodes.

    Raises:
        InputError: weights that only this machine has, an ingress that would serve everybody, or a
            router artefact that is too large.
    """
    check_exposure(options.guard, options.host or "0.0.0.0")
    settings = _settings(plan, options)
    runtime_env = {"py_modules": [code_uri]} if code_uri else None
    places = {g.name: place_of(plan, g, nodes) for g in plan.groups}
    engines = {
        name: _engine(plan.service, settings[name], place, runtime_env)
        for name, place in places.items()
    }
    note = Note(
        service=plan.service, digest=plan.digest, emulated=options.emulate, by=by, at_s=at_s
    )
    drain_s = max(s.drain_timeout_s for s in settings.values())
    user_config: Object = {
        "plan": plan_in_short(plan),
        "apps": {name: app.name for name, app in engines.items()},
        "deployment": note.model_dump(mode="json"),
    }
    if router := _router(plan, options, artefact):
        user_config["router"] = router.model_dump(mode="json", exclude_defaults=True)
    front = _ingress(plan.service, options, drain_s, user_config, runtime_env)
    return Wanted(plan, note, engines, places, front)


def as_data(app: ApplicationConfig) -> Object:
    """Plain data; ``route_prefix: null`` is said, all else that is not set is left out."""
    data = app.model_dump(mode="json", exclude_none=True)
    return data | {"route_prefix": app.route_prefix}


def _settings(plan: Plan, options: RayOptions) -> dict[str, EngineSettings]:
    if options.emulate:
        made = emulated_settings(plan, ENGINE_LOGS)
    else:
        weights = {name: cluster_weights(name, m.weights) for name, m in plan.models.items()}
        made = engine_settings(plan, weights, ENGINE_LOGS, ())
    if options.drain_timeout_s is None:
        return made
    short = {"drain_timeout_s": options.drain_timeout_s}
    return {name: s.model_copy(update=short) for name, s in made.items()}


def _engine(
    service: str, settings: EngineSettings, place: Place, runtime_env: Object | None
) -> ApplicationConfig:
    args = seen_by_engine(settings)
    deployment = engine_deployment(settings, place.actor)
    if runtime_env is not None:
        deployment = _with_router(deployment, settings.group)
    if (bundles := place.bundles) is not None:
        deployment = _packed(deployment, bundles, place)
    digest = restart_digest(args, deployment, runtime_env)
    return ApplicationConfig(
        name=f"{service}.{settings.group}.{digest}",
        route_prefix=None,
        import_path=ENGINE_IMPORT,
        args=args,
        runtime_env=runtime_env,
        logging_config=QUIET,
        deployments=(deployment,),
        external_scaler_enabled=True,
    )


def _with_router(deployment: DeploymentConfig, group: str) -> DeploymentConfig:
    """Name the request router in the config, so that it is loaded where the code was sent.

    Serve's dashboard and controller run without that code. They would load a router that the code
    names, or one of a config that does not say that it is loaded already; what it is then given is
    what the application's own build made of it (Ray 2.60).
    """
    named = {
        "request_router_class": ROUTER,
        "request_router_kwargs": {ROUTED: group},
        "_serialized_request_router_cls": "by the application's build",
    }
    return deployment.model_copy(update={"request_router_config": named})


def _packed(
    deployment: DeploymentConfig, bundles: tuple[dict[str, float], ...], place: Place
) -> DeploymentConfig:
    """All GPUs of a replica reserved at once, on one node: its engine's ranks are its children."""
    actor = place.actor
    return deployment.model_copy(
        update={
            "ray_actor_options": ActorOptions(num_cpus=actor.num_cpus, num_gpus=actor.num_gpus),
            "placement_group_bundles": bundles,
            "placement_group_strategy": "STRICT_PACK",
            "placement_group_bundle_label_selector": (actor.label_selector,) * len(bundles),
        }
    )


def _ingress(
    service: str,
    options: RayOptions,
    drain_s: float,
    user_config: Object,
    runtime_env: Object | None,
) -> ApplicationConfig:
    settings = IngressSettings(
        host=options.host,
        port=options.port,
        replicas=options.ingress_replicas,
        drain_timeout_s=drain_s,
        guard=options.guard,
        seeing=options.seeing,
    )
    args = settings.model_dump(mode="json", exclude_defaults=True, exclude={"replicas"})
    return ApplicationConfig(
        name=ingress_name(service),
        route_prefix=None,
        import_path=INGRESS_IMPORT,
        args=args | {"host": options.host},
        runtime_env=runtime_env,
        logging_config=QUIET,
        deployments=(
            DeploymentConfig(
                name=INGRESS_DEPLOYMENT,
                num_replicas=options.ingress_replicas,
                max_ongoing_requests=INGRESS_MAX_ONGOING,
                graceful_shutdown_timeout_s=drain_s + DRAIN_SLACK_S,
                user_config=user_config,
            ),
        ),
    )


def _router(plan: Plan, options: RayOptions, artefact: Path | None) -> RouterFiles | None:
    if plan.router is None:
        return None
    if options.router_artefact is not None:
        return RouterFiles(artefact=options.router_artefact)
    if artefact is None:
        raise InputError(f"the router's artefact {plan.router.artefact!r} is not at hand")
    content = files.read_bytes(artefact)
    if len(content) > MOST_ARTEFACT_BYTES:
        raise InputError(
            f"{artefact}: {len(content) / 2**20:.0f} MiB are too much to send to each ingress (at "
            f"most {MOST_ARTEFACT_BYTES >> 20}); put it into the cluster's image and say where "
            "with --router-artefact"
        )
    return RouterFiles(content=base64.b64encode(content).decode())
