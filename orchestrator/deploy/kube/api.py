"""The few requests that deploying needs, through the official client.

The client's own typed calls are not used: they return None where a server-side apply made the
object (201). Objects go in and out as plain data.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import yaml

from manifests.objects import FIELD_MANAGER, Object
from orchestrator.deploy.kube.errors import ApiError, refused, unreachable
from profiler.errors import ClusterError

TIMEOUT_S = 30.0
LOG_LINES = 30


class Kind(NamedTuple):
    """How a kind is reached over HTTP."""

    prefix: str
    plural: str
    namespaced: bool = True
    optional: bool = False
    """Left out where the cluster does not know it."""


KINDS: dict[str, Kind] = {
    "Namespace": Kind("/api/v1", "namespaces", namespaced=False),
    "ServiceAccount": Kind("/api/v1", "serviceaccounts"),
    "ConfigMap": Kind("/api/v1", "configmaps"),
    "PersistentVolumeClaim": Kind("/api/v1", "persistentvolumeclaims"),
    "Pod": Kind("/api/v1", "pods"),
    "Service": Kind("/api/v1", "services"),
    "Role": Kind("/apis/rbac.authorization.k8s.io/v1", "roles"),
    "RoleBinding": Kind("/apis/rbac.authorization.k8s.io/v1", "rolebindings"),
    "NetworkPolicy": Kind("/apis/networking.k8s.io/v1", "networkpolicies"),
    "PodDisruptionBudget": Kind("/apis/policy/v1", "poddisruptionbudgets"),
    "Deployment": Kind("/apis/apps/v1", "deployments"),
    "RayService": Kind("/apis/ray.io/v1", "rayservices"),
    "RayCluster": Kind("/apis/ray.io/v1", "rayclusters"),
    "PodMonitor": Kind("/apis/monitoring.coreos.com/v1", "podmonitors", optional=True),
    "PrometheusRule": Kind("/apis/monitoring.coreos.com/v1", "prometheusrules", optional=True),
}
OURS = tuple(k for k in KINDS if k not in ("Namespace", "Pod", "RayCluster"))
"""Kinds of which a deployment makes objects in its namespace."""


def retries() -> Any:
    """What is asked again: only what the server did not take and says when to bring again (429 or
    503 with Retry-After); whoever waits has a patience of his own for all else."""
    from urllib3.util import Retry

    return Retry(
        5, connect=0, read=0, redirect=0, other=0, allowed_methods=None, raise_on_status=False
    )


class KubeApi:
    """A namespace of a cluster."""

    def __init__(self, api_client: Any, namespace: str) -> None:
        """``api_client`` is a ``kubernetes.client.ApiClient``."""
        from kubernetes.dynamic import DynamicClient

        self.namespace = namespace
        self._host = api_client.configuration.host
        self._client = DynamicClient(api_client, discoverer=lambda _client, _cache: None)

    @classmethod
    def connect(
        cls, namespace: str, context: str | None = None, kubeconfig: Path | None = None
    ) -> Self:
        """By kubeconfig and context, as kubectl does; inside a cluster by its service account.

        Raises:
            ClusterError: the client is not installed, or there is no usable configuration.
        """
        try:
            from kubernetes import client, config
            from kubernetes.config.config_exception import ConfigException
        except ImportError:
            raise ClusterError(
                "the Kubernetes client is not installed; to mend it: "
                "pip install 'llm-orchestrator[k8s]'"
            ) from None
        settings = client.Configuration()
        path = str(kubeconfig) if kubeconfig else None
        try:
            try:
                config.load_kube_config(path, context, settings)
            except ConfigException:
                if kubeconfig or context:
                    raise
                config.load_incluster_config(settings)
        except (ConfigException, yaml.YAMLError, OSError, ValueError, TypeError) as error:
            raise ClusterError(
                f"no Kubernetes cluster is configured: {error}; name one with --kubeconfig and "
                "--context"
            ) from None
        settings.retries = retries()
        return cls(client.ApiClient(settings), namespace)

    def get(self, kind: str, name: str) -> Object | None:
        """The object; None where it or its kind is not there.

        Raises:
            ClusterError: as all methods: refused (`ApiError`), or no answer.
        """
        try:
            return self._json("get", self._path(kind, name), f"{kind} {name!r}")
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def list(self, kind: str, labels: Mapping[str, str]) -> list[Object]:
        """Objects of a kind with these labels; none where the kind is not known."""
        selector = ",".join(f"{k}={v}" for k, v in labels.items())
        try:
            found = self._json("get", self._path(kind), f"{kind} objects", label_selector=selector)
        except ApiError as error:
            if error.status == 404:
                return []
            raise
        made: list[Object] = found.get("items", [])
        return [{"kind": kind, **o} for o in made]

    def apply(self, obj: Object, *, force: bool = False, dry_run: bool = False) -> Object:
        """Server-side apply as our field manager; the object as it is then.

        Raises:
            ApiError: among others 409 where another manager holds a field and not ``force``.
        """
        kind, name = obj["kind"], obj["metadata"]["name"]
        params: dict[str, Any] = {"field_manager": FIELD_MANAGER, "force_conflicts": force}
        if dry_run:
            params["dry_run"] = "All"
        return self._json(
            "patch",
            self._path(kind, name),
            f"{kind} {name!r}",
            body=json.dumps(obj),
            content_type="application/apply-patch+yaml",
            **params,
        )

    def patch(self, kind: str, name: str, operations: Sequence[Object]) -> Object:
        """A JSON Patch, as our field manager."""
        return self._json(
            "patch",
            self._path(kind, name),
            f"{kind} {name!r}",
            body=list(operations),
            content_type="application/json-patch+json",
            field_manager=FIELD_MANAGER,
        )

    def delete(self, kind: str, name: str) -> bool:
        """Delete, what it owns after it; False where it was not there."""
        try:
            path = self._path(kind, name)
            self._json("delete", path, f"{kind} {name!r}", body={"propagationPolicy": "Background"})
        except ApiError as error:
            if error.status == 404:
                return False
            raise
        return True

    def pod_log(self, pod: str, container: str, *, previous: bool) -> str:
        """The end of a container's log; empty where there is none to be had."""
        query = f"?container={container}&tailLines={LOG_LINES}"
        query += "&previous=true" if previous else ""
        try:
            raw = self._send("get", f"{self._path('Pod', pod)}/log{query}", f"log of pod {pod!r}")
        except ApiError:
            return ""
        return raw.decode("utf-8", errors="replace").rstrip()

    def _path(self, kind: str, name: str = "") -> str:
        k = KINDS[kind]
        scope = f"/namespaces/{self.namespace}" if k.namespaced else ""
        return f"{k.prefix}{scope}/{k.plural}" + (f"/{name}" if name else "")

    def _json(self, method: str, path: str, what: str, **params: Any) -> Object:
        found = json.loads(self._send(method, path, what, **params))
        return found if isinstance(found, dict) else {}

    def _send(self, method: str, path: str, what: str, **params: Any) -> bytes:
        import urllib3
        from kubernetes.client.exceptions import ApiException

        try:
            answer = self._client.request(
                method, path, serialize=False, _request_timeout=TIMEOUT_S, **params
            )
            data: bytes = answer.data
        except ApiException as error:
            if not error.status:
                raise unreachable(self._host, error) from None
            raise refused(error.status, error.body, method, what) from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise unreachable(self._host, error) from None
        return data
