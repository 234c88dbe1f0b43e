"""An autoscaler's view of a service on Kubernetes, tried against doubles of its API and KubeRay."""

from __future__ import annotations

import pytest
import yaml

from orchestrator.deploy.kube.api import KINDS
from orchestrator.deploy.kube.errors import ApiError
from orchestrator.deploy.kube_scaling import KubeActuator, target_at
from orchestrator.deploy.kubernetes import deploy_kubernetes, kubernetes_status, prepare
from profiler.errors import ClusterError
from tests.fake_kuberay import unschedulable
from tests.fake_kubernetes import RefusedError
from tests.kube_builders import group, plan, settings
from tests.orchestrator.deploy.kube.conftest import Place

FLEET = plan(group("chat", replicas=2), group("large", "A100-80GB", 1))


def actuator(place: Place, **options: object) -> KubeActuator:
    prepared = prepare(place.api, FLEET, settings(**options))
    deploy_kubernetes(place.api, prepared, waiting=place.waiting())
    return KubeActuator(place.api, FLEET)


def counted(found: KubeActuator) -> dict[str, tuple[int, int, int]]:
    return {n: (g.ready, g.starting, g.draining) for n, g in found.current().items()}


def pods(place: Place, worker: str) -> list[str]:
    return [n for n in place.cluster.names("Pod") if n.startswith(worker)]


@pytest.mark.parametrize("by_ray", [True, False])
def test_replicas_and_pods_follow_one_write_and_no_second_cluster_is_made(
    place: Place, by_ray: bool
) -> None:
    found = actuator(place, autoscaling={"in_tree": by_ray})
    assert counted(found) == {"chat": (2, 0, 0), "large": (1, 0, 0)}
    found.set("chat", 5)
    assert counted(found)["chat"] == (5, 0, 0)
    assert len(pods(place, "l4-1x")) == 5
    found.set("chat", 1)
    assert counted(found)["chat"] == (1, 0, 0)
    assert place.cluster.names("RayCluster") == ["demo-1"]


def test_a_drain_may_take_one_pod_of_those_that_there_are_now(place: Place) -> None:
    found = actuator(place)

    def kept() -> int:
        budget = place.cluster.get("PodDisruptionBudget", "demo-l4-1x")
        assert budget is not None
        return int(budget["spec"]["minAvailable"])

    assert kept() == 1
    found.set("chat", 5)
    assert kept() == 4
    found.set("chat", 1)
    assert kept() == 0  # or the node of the last pod could never drain


def test_the_same_plan_again_leaves_what_was_scaled(place: Place) -> None:
    found = actuator(place)
    found.set("chat", 6)
    found.set("chat", 3)
    prepared = prepare(place.api, FLEET, settings())
    assert prepared.lines == []
    status = deploy_kubernetes(place.api, prepared, waiting=place.waiting())
    assert status.message == "already running; nothing changed"
    prepared = prepare(place.api, FLEET, settings(monitoring={"interval_s": 30}))
    assert [line.split()[1] for line in prepared.lines] == ["PodMonitor", "PodMonitor"]
    assert counted(found)["chat"] == (3, 0, 0)


def test_a_plan_that_was_deployed_with_options_is_still_the_plan_of_its_file(place: Place) -> None:
    actuator(place)
    shut = FLEET.model_copy(update={"gateway": {}})
    assert shut.digest != FLEET.digest
    assert set(target_at(place.api, shut).actuator.current()) == {"chat", "large"}
    with pytest.raises(ClusterError, match="runs another plan"):
        target_at(place.api, plan(group("chat", replicas=9), group("large", "A100-80GB", 1)))


def test_the_autoscalers_role_allows_what_it_asks_for(place: Place) -> None:
    actuator(place)
    role = place.cluster.get("Role", "demo-autoscaler")
    assert role is not None
    asked: set[tuple[str, str, str]] = set()

    def note(verb: str, kind: str, name: str) -> None:
        asked.add((verb, kind, name))

    place.cluster.refuse = note
    shut = FLEET.model_copy(update={"gateway": {}})
    found = target_at(place.api, shut).actuator
    found.set("chat", 4)
    assert {kind for _, kind, _ in asked} >= {"RayService", "RayCluster", "ConfigMap", "Pod"}
    for verb, kind, name in asked:
        kinds = KINDS[kind]
        group = "" if kinds.prefix == "/api/v1" else kinds.prefix.split("/")[2]
        assert any(
            group in r["apiGroups"] and kinds.plural in r["resources"] and verb in r["verbs"]
            and name in r.get("resourceNames", [name])
            for r in role["rules"]
        ), (verb, kind, name)  # fmt: skip


def test_status_tells_what_runs_and_what_was_planned(place: Place) -> None:
    found = actuator(place)
    found.set("chat", 1)
    status = kubernetes_status(place.api, "demo")
    assert status is not None
    assert (status.state, status.plan_digest) == ("running", FLEET.digest)
    told = {g.name: (g.ready, g.wanted, g.planned) for g in status.groups}
    assert told == {"chat": (1, 1, 2), "large": (1, 1, None)}


def test_a_group_keeps_one_replica(place: Place) -> None:
    found = actuator(place)
    found.set("chat", 0)
    assert counted(found)["chat"] == (1, 0, 0)


def test_the_numbers_stay_ours_to_deploy_over(place: Place) -> None:
    found = actuator(place)
    found.set("chat", 4)
    more = plan(group("chat", replicas=3), group("large", "A100-80GB", 1))
    deploy_kubernetes(
        place.api, prepare(place.api, more, settings()), waiting=place.waiting()
    )  # without a conflict
    assert counted(KubeActuator(place.api, more))["chat"] == (3, 0, 0)
    with pytest.raises(ClusterError, match="runs another plan"):
        found.current()


def test_pods_without_a_node_are_replicas_that_start(place: Place) -> None:
    found = actuator(place)
    place.operator.broken_pods["l4-1x"] = unschedulable("0/9 nodes: insufficient nvidia.com/gpu")
    found.set("chat", 3)
    assert counted(found)["chat"] == (0, 3, 0)


def test_a_pod_whose_node_was_given_notice_leaves_and_another_starts(place: Place) -> None:
    found = actuator(place)
    first = place.cluster.get("Pod", "l4-1x-0")
    assert first is not None
    first["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert counted(found)["chat"] == (1, 1, 1)


def test_a_write_of_another_in_between_is_tried_again_over_what_it_wrote(place: Place) -> None:
    found = actuator(place)
    answers = [RefusedError(409, "the object has been modified", "Conflict")] * 2
    place.cluster.refuse = lambda verb, kind, _name: (
        answers.pop() if kind == "RayService" and verb == "patch" and answers else None
    )
    found.set("chat", 3)
    assert answers == []
    assert counted(found)["chat"] == (3, 0, 0)


def test_who_writes_each_time_is_told(place: Place) -> None:
    found = actuator(place)
    place.cluster.refuse = lambda verb, kind, _name: (
        RefusedError(409, "the object has been modified", "Conflict")
        if kind == "RayService" and verb == "patch"
        else None
    )
    with pytest.raises(ClusterError, match="changed by another too"):
        found.set("chat", 3)
    place.cluster.refuse = lambda *_: None
    assert counted(found)["chat"] == (2, 0, 0)


def test_what_is_forbidden_is_not_tried_again(place: Place) -> None:
    found = actuator(place)
    asked: list[str] = []

    def refuse(verb: str, kind: str, _name: str) -> RefusedError | None:
        if kind == "RayService" and verb == "patch":
            asked.append(verb)
            return RefusedError(403, "rayservices is forbidden", "Forbidden")
        return None

    place.cluster.refuse = refuse
    with pytest.raises(ApiError):
        found.set("chat", 3)
    assert len(asked) == 1


def test_ingresses_are_asked_at_their_own_addresses(place: Place) -> None:
    found = actuator(place)
    for i, name in enumerate(sorted(pods(place, "ingress"))):
        pod = place.cluster.get("Pod", name)
        assert pod is not None
        pod["status"]["podIP"] = f"10.0.0.{i}"
    assert found.ingress_urls() == ["http://10.0.0.0:8000", "http://10.0.0.1:8000"]


def test_serves_config_keeps_all_else(place: Place) -> None:
    found = actuator(place)
    before = yaml.safe_load(place.api.get("RayService", "demo")["spec"]["serveConfigV2"])  # type: ignore[index]
    found.set("chat", 3)
    after = yaml.safe_load(place.api.get("RayService", "demo")["spec"]["serveConfigV2"])  # type: ignore[index]
    before["applications"][0]["deployments"][0]["num_replicas"] = 3
    assert after == before
