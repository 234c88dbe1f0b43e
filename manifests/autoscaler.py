"""The autoscaler as a part of the deployed service: one pod that looks at it and resizes it."""

from __future__ import annotations

from manifests import pods
from manifests.objects import PLAN_ANNOTATION, SERVICE_LABEL, Naming, Object
from manifests.settings import AutoscalerPod
from placement.plan import Plan

NAME = "autoscaler"
PLAN_PATH = "/etc/llm-orchestrator/plan"
STATE_PATH = "/var/lib/llm-orchestrator"
ADMIN_KEY = "ORCHESTRATOR_ADMIN_KEY"
"""As the command's own variable, by which it reads the ingress's metrics."""


def autoscaler(naming: Naming, plan: Plan, plan_file: str) -> list[Object]:
    """A Deployment of one pod, where the settings ask for it.

    It is started anew with each plan, and goes on from the fleet that it finds. Until the plan is
    in force it ends, and is started again.
    """
    chosen = naming.settings.autoscaler
    if chosen is None:
        return []
    labels = {SERVICE_LABEL: naming.service, "app.kubernetes.io/component": NAME}
    template = {
        "metadata": {"labels": labels, "annotations": {PLAN_ANNOTATION: plan.digest}},
        "spec": _spec(naming, chosen, plan_file),
    }
    spec = {
        "replicas": 1,
        "strategy": {"type": "Recreate"},  # never two at a time
        "selector": {"matchLabels": labels},
        "template": template,
    }
    return [naming.object("apps/v1", "Deployment", NAME, spec=spec)]


def _spec(naming: Naming, chosen: AutoscalerPod, plan_file: str) -> Object:
    s = naming.settings
    env = [pods.env_value("HOME", STATE_PATH)]
    if s.monitoring.admin_key is not None:
        env.append(pods.env_secret(ADMIN_KEY, s.monitoring.admin_key))
    container: Object = {
        "name": NAME,
        "image": s.image,
        "imagePullPolicy": s.image_pull_policy,
        "command": ["orchestrator", "autoscale", f"{PLAN_PATH}/{plan_file}", *_options(chosen)],
        "ports": [{"name": "metrics", "containerPort": pods.METRICS_PORT, "protocol": "TCP"}],
        "env": env,
        "resources": {
            "requests": {"cpu": chosen.cpu, "memory": chosen.memory},
            "limits": {"memory": chosen.memory},
        },
        "volumeMounts": [],
        "securityContext": pods.unprivileged(),
    }
    spec = pods.pod_spec(s, [container], naming) | pods.off_spot(s)
    spec |= {
        "serviceAccountName": naming.name(NAME),
        "automountServiceAccountToken": True,
        "terminationGracePeriodSeconds": 30,
    }
    plan_map = {"configMap": {"name": naming.name("plan")}}
    pods.mount(spec, "plan", PLAN_PATH, plan_map, read_only=True)
    pods.mount(spec, "state", STATE_PATH, {"emptyDir": {}})
    return spec


def _options(chosen: AutoscalerPod) -> list[str]:
    options = {
        "target": "kubernetes",
        "state": f"{STATE_PATH}/scaling.json",
        "journal": f"{STATE_PATH}/scaling.jsonl",
        "metrics-port": str(pods.METRICS_PORT),
        "metrics-host": "0.0.0.0",  # in the pod; see the NetworkPolicy
        "miss-worth": f"{chosen.miss_worth:g}",
    }
    if chosen.budget_usd_per_hour is not None:
        options["budget"] = f"{chosen.budget_usd_per_hour:g}"
    made = [text for name, value in options.items() for text in (f"--{name}", value)]
    for option, counts in (("--min", chosen.minimum), ("--max", chosen.maximum)):
        made += [t for group, n in counts.items() for t in (option, f"{group}={n}")]
    return made
