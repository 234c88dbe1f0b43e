"""The KubeRay RayService: head, ingress pods, a worker group per kind of GPU pod, Serve's config.

Changed in place by the operator: Serve's config, and worker groups appended at the end. Anything
else about pods starts a second cluster beside the first. So worker groups keep their order from
one plan to the next, and one that is not needed any more stays, with no pods.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Sequence

from manifests import pods
from manifests.objects import LIMIT_BYTES, PLAN_ANNOTATION, Naming, Object
from manifests.serve_config import ActorOptions, ServeConfig, as_yaml, market_selector, serve_config
from manifests.worker_groups import CPU_SLOT, INGRESS, WorkerGroup, worker_groups
from placement.plan import Plan, ReplicaGroup
from profiler.errors import InputError
from serve_apps.gateway_settings import gateway_of
from serve_apps.pool import IngressSettings, RouterFiles

API_VERSION = "ray.io/v1"
NODE_LABEL = "llm-orchestrator/worker-group"
INGRESS_SLOT = "ingress"
"""Ray resource of an ingress pod: one ingress replica takes all of it."""


def ray_service(
    naming: Naming, plan: Plan, router: RouterFiles | None, before: Sequence[Object] = ()
) -> Object:
    """The RayService of a plan.

    ``before`` are the worker groups of the RayService that is there, if one is.

    Raises:
        InputError: node labels are not known, or the plan is too large for one object.
    """
    s = naming.settings
    wanted = [_ingress_group(naming), *(_group(naming, plan, g) for g in worker_groups(plan))]
    cluster: Object = {
        "rayVersion": s.ray_version,
        "authOptions": {"mode": "token"},
        "enableInTreeAutoscaling": s.autoscaling.in_tree,
        "headGroupSpec": _head(naming),
        "workerGroupSpecs": in_order(wanted, before),
    }
    if s.ray_token_secret:
        cluster["authOptions"]["secretName"] = s.ray_token_secret
    if s.autoscaling.in_tree:
        cluster["autoscalerOptions"] = {
            "version": "v2",
            "idleTimeoutSeconds": s.autoscaling.idle_timeout_s,
            "securityContext": pods.unprivileged(),  # of a container that the operator adds
        }
    if s.gcs_fault_tolerance is not None:
        cluster["gcsFaultToleranceOptions"] = _fault_tolerance(naming)
    spec: Object = {
        "serveConfigV2": as_yaml(plan_config(naming, plan, router)),
        "excludeHeadPodFromServeSvc": True,
        "upgradeStrategy": {"type": s.upgrade},
        "rayClusterConfig": cluster,
    }
    made = naming.object(API_VERSION, "RayService", spec=spec)
    made["metadata"]["annotations"] = {PLAN_ANNOTATION: plan.digest}
    _check_size(made)
    return made


def plan_config(naming: Naming, plan: Plan, router: RouterFiles | None) -> ServeConfig:
    """Serve's config with each application held to the pods that were rented for it."""
    pods_of = {g.name: w for w in worker_groups(plan) for g in w.groups}

    def actor(plan: Plan, group: ReplicaGroup) -> ActorOptions:
        worker = pods_of[group.name]
        selector = market_selector(plan, group) | {NODE_LABEL: worker.name}
        if worker.on_cpu:
            return ActorOptions(resources={CPU_SLOT: 1}, label_selector=selector)
        return ActorOptions(num_gpus=group.config.tensor_parallel, label_selector=selector)

    return serve_config(
        plan,
        port=naming.settings.network.port,
        ingress=ingress_settings(naming, plan),
        ingress_actor=ActorOptions(resources={INGRESS_SLOT: 1}),
        actor=actor,
        router=router,
        external_scaler=True,
    )


def ingress_settings(naming: Naming, plan: Plan) -> IngressSettings:
    """One process to a pod, listening there itself; the plan's guard with keys from a Secret.

    Raises:
        InputError: it would serve the world without keys, or the plan's keys are a file here.
    """
    s = naming.settings
    gateway = gateway_of(plan)
    guard = gateway.guard.model_copy(update={"usage": None})  # of a directory of one host
    if guard.allow_anonymous:
        guard = guard.model_copy(update={"keys": None})
    elif s.api_keys is not None:
        guard = guard.model_copy(update={"keys": f"{pods.KEYS_PATH}/{s.api_keys.key}"})
    elif guard.keys is not None:
        raise InputError(
            f"the plan's keys are in {guard.keys}, which pods do not see: kubectl create secret "
            f"generic api-keys -n {s.namespace} --from-file=keys.yaml={guard.keys}, and add "
            "api_keys: {name: api-keys, key: keys.yaml} to the settings"
        )
    else:
        raise InputError(
            "the ingress would serve everybody who reaches it: make a key with `orchestrator keys "
            "create --tenant NAME --file keys.yaml`, put it into the cluster with kubectl create "
            f"secret generic api-keys -n {s.namespace} --from-file=keys.yaml, and add "
            "api_keys: {name: api-keys, key: keys.yaml} to the settings; or say that it is meant "
            "with gateway.guard.allow_anonymous: true in the service file, or --open"
        )
    return IngressSettings(
        host="0.0.0.0",  # in the pod; see the NetworkPolicy
        port=s.network.port,
        replicas=s.ingress_replicas,
        gateways=s.ingress_replicas,
        guard=guard,
        seeing=gateway.seeing,
    )


def in_order(wanted: Sequence[Object], before: Sequence[Object]) -> list[Object]:
    """Worker groups in the order they had, those no longer wanted without pods, new ones last."""
    by_name = {g["groupName"]: g for g in wanted}
    kept = [by_name.get(g["groupName"]) or _emptied(g) for g in before]
    names = {g["groupName"] for g in before}
    return kept + [g for g in wanted if g["groupName"] not in names]


def _emptied(group: Object) -> Object:
    return copy.deepcopy(group) | {"replicas": 0, "minReplicas": 0, "maxReplicas": 0}


def _head(naming: Naming) -> Object:
    return {
        "serviceType": "ClusterIP",
        "enableIngress": False,
        "rayStartParams": {
            "dashboard-host": "0.0.0.0",
            **pods.RAY_PARAMS,
        },  # in the pod; see the NetworkPolicy
        "resources": {"CPU": "0"},
        "template": pods.head_template(naming),
    }


def _ingress_group(naming: Naming) -> Object:
    return {
        "groupName": INGRESS,
        **_size(naming, naming.settings.ingress_replicas),
        "rayStartParams": dict(pods.RAY_PARAMS),
        "resources": {INGRESS_SLOT: "1"},
        "labels": {NODE_LABEL: INGRESS},
        "template": pods.ingress_template(naming, None),
    }


def _group(naming: Naming, plan: Plan, group: WorkerGroup) -> Object:
    labels = {NODE_LABEL: group.name} | market_selector(plan, group.groups[0])
    if group.on_cpu:
        resources = {CPU_SLOT: str(group.pod_gpus)}
    else:
        resources = {"GPU": str(group.pod_gpus)}
        if accelerator := group.gpu.ray_accelerator_type:
            resources[f"accelerator_type:{accelerator}"] = "1"
    return {
        "groupName": group.name,
        **_size(naming, group.pods),
        "rayStartParams": dict(pods.RAY_PARAMS),
        "resources": resources,
        "labels": labels,
        "template": pods.engine_template(naming, plan, group),
    }


def _size(naming: Naming, replicas: int) -> Object:
    """No floor: Serve's replicas hold the pods they run on, and a plan without them frees them."""
    most = math.ceil(replicas * naming.settings.autoscaling.max_factor)
    return {"replicas": replicas, "minReplicas": 0, "maxReplicas": most}


def _fault_tolerance(naming: Naming) -> Object:
    s = naming.settings.gcs_fault_tolerance
    assert s is not None
    options: Object = {"redisAddress": s.redis_address}
    if s.redis_password is not None:
        ref = {"name": s.redis_password.name, "key": s.redis_password.key}
        options["redisPassword"] = {"valueFrom": {"secretKeyRef": ref}}
    return options


def _check_size(made: Object) -> None:
    size = len(json.dumps(made))
    if size > LIMIT_BYTES:
        raise InputError(
            f"the RayService would take {size / 2**20:.1f} MiB, of which its plan is most, and "
            "Kubernetes stores about 1 MiB; plan with fewer size buckets or difficulty bins"
        )
