"""Service accounts and roles: each may do what it needs, in its own namespace, by name."""

from __future__ import annotations

from collections.abc import Sequence

from manifests.objects import Naming, Object

RBAC = "rbac.authorization.k8s.io"


def access(naming: Naming, workers: Sequence[str]) -> list[Object]:
    """Pods get an account without a token. The autoscaler's may resize this service alone: its
    ``workers`` and their disruption budgets.

    With Ray's own autoscaler the head has an account of its own, which the operator binds.
    """
    accounts = ["", *(["head"] if naming.settings.autoscaling.in_tree else []), "autoscaler"]
    made = [
        naming.object("v1", "ServiceAccount", part, automountServiceAccountToken=False)
        for part in accounts
    ]
    return [*made, _role(naming, workers), _binding(naming)]


def _role(naming: Naming, workers: Sequence[str]) -> Object:
    """Names of RayClusters are the operator's to choose, so they cannot be named here."""
    rules = [
        {
            "apiGroups": ["ray.io"],
            "resources": ["rayservices"],
            "resourceNames": [naming.name()],
            "verbs": ["get", "patch"],
        },
        {
            "apiGroups": ["ray.io"],
            "resources": ["rayclusters"],
            "verbs": ["get", "list", "watch", "patch"],
        },
        {
            "apiGroups": ["policy"],
            "resources": ["poddisruptionbudgets"],
            "resourceNames": [naming.name(w) for w in workers],
            "verbs": ["get", "patch"],
        },
        {
            "apiGroups": [""],
            "resources": ["configmaps"],
            "resourceNames": [naming.name("plan")],
            "verbs": ["get"],
        },
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]},
    ]
    return naming.object(f"{RBAC}/v1", "Role", "autoscaler", rules=rules)


def _binding(naming: Naming) -> Object:
    name, namespace = naming.name("autoscaler"), naming.settings.namespace
    return naming.object(
        f"{RBAC}/v1",
        "RoleBinding",
        "autoscaler",
        roleRef={"apiGroup": RBAC, "kind": "Role", "name": name},
        subjects=[{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
    )
