"""What a cluster refuses is told as what is missing and how to mend it; exit code 4."""

from __future__ import annotations

from pathlib import Path

import pytest
from kubernetes.client import ApiClient, Configuration

from orchestrator.deploy.kube.api import KubeApi, retries
from orchestrator.deploy.kubernetes import prepare
from profiler.errors import ClusterError
from tests.fake_kubernetes import RefusedError
from tests.kube_builders import plan, settings
from tests.orchestrator.deploy.kube.conftest import Place

SERVICE = {"apiVersion": "ray.io/v1", "kind": "RayService", "metadata": {"name": "demo"}}


def refused(place: Place, status: int, message: str) -> str:
    place.cluster.refuse = lambda verb, kind, _name: (
        RefusedError(status, message) if (verb, kind) == ("patch", "RayService") else None
    )
    with pytest.raises(ClusterError) as caught:
        prepare(place.api, plan(), settings())
    assert caught.value.exit_code == 4
    assert place.cluster.writes == []
    return str(caught.value)


def test_forbidden_names_the_verb_the_object_and_who_can_help(place: Place) -> None:
    message = 'rayservices.ray.io "demo" is forbidden: User "jo" cannot patch resource'
    said = refused(place, 403, message)
    assert said.startswith("RayService 'demo': you may not patch it here: ")
    assert "'jo'" in said or '"jo"' in said
    assert said.endswith("ask the cluster's admin for that right")


def test_an_exceeded_quota_says_how_much_is_allowed_and_asked(place: Place) -> None:
    message = (
        'rayservices.ray.io "demo" is forbidden: exceeded quota: gpus, requested: '
        "count/rayservices.ray.io=1, used: count/rayservices.ray.io=2, limited: "
        "count/rayservices.ray.io=2"
    )
    said = refused(place, 403, message)
    assert "quota 'gpus' allows count/rayservices.ray.io=2, count/rayservices.ray.io=2 are" in said


def test_an_unknown_field_points_to_an_old_operator(place: Place) -> None:
    with pytest.raises(ClusterError) as caught:
        place.api.apply(SERVICE | {"spec": {"rayClusterConfig": {"authOption": {}}}})
    assert "does not know a field that we set: .spec.rayClusterConfig" in str(caught.value)
    assert "authOption" in str(caught.value)
    assert "KubeRay is older than 1.5" in str(caught.value)


def test_a_cluster_without_kuberay_says_to_install_it(place: Place) -> None:
    place.cluster.unknown_kinds |= {"RayService", "RayCluster"}
    with pytest.raises(ClusterError, match="does not know this kind; install its operator first"):
        prepare(place.api, plan(), settings())


def test_a_missing_namespace_says_how_to_make_it(place: Place) -> None:
    place.api.namespace = "nowhere"
    with pytest.raises(ClusterError, match=r"the namespace does not exist; .*create_namespace"):
        prepare(place.api, plan(), settings(namespace="nowhere"))


def test_wrong_credentials_and_invalid_values_are_told_apart(place: Place) -> None:
    assert "log in again" in refused(place, 401, "Unauthorized")
    assert "does not accept it: spec.x: Invalid value" in refused(
        place, 422, "spec.x: Invalid value"
    )
    assert "answered 503: etcd is away" in refused(place, 503, "etcd is away")


def test_a_server_that_says_when_to_come_again_is_asked_then(place: Place) -> None:
    config = Configuration()
    config.host, config.retries = place.url, retries()
    answers = [RefusedError(429, "too many requests")] * 2
    place.cluster.refuse = lambda *_: answers.pop() if answers else None
    assert KubeApi(ApiClient(config), "default").get("RayService", "demo") is None
    assert answers == []


def test_no_answer_at_all_names_the_host() -> None:
    config = Configuration()
    config.host, config.retries = "http://127.0.0.1:1", False
    api = KubeApi(ApiClient(config), "default")
    with pytest.raises(ClusterError, match=r"the cluster at http://127.0.0.1:1 cannot be reached"):
        api.get("RayService", "demo")


def test_no_configuration_says_what_to_name(tmp_path: Path) -> None:
    missing = tmp_path / "none"
    with pytest.raises(ClusterError, match=r"no Kubernetes cluster is configured: .*--kubeconfig"):
        KubeApi.connect("default", kubeconfig=missing)
    missing.write_text("{bad: [")
    with pytest.raises(ClusterError, match="no Kubernetes cluster is configured"):
        KubeApi.connect("default", kubeconfig=missing)
