"""A plan is put on a cluster: shown first, applied, waited for, and taken back when it fails."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml

from orchestrator.deploy.kubernetes import (
    delete_kubernetes,
    deploy_kubernetes,
    kubernetes_status,
    prepare,
)
from placement.plan import Plan, PlannedRouter, ReplicaGroup
from profiler.errors import ClusterError, EngineError
from profiler.files import sha256_of
from tests.fake_kuberay import unschedulable, waiting
from tests.fake_kubernetes import Object, RefusedError
from tests.kube_builders import group, plan, settings
from tests.orchestrator.deploy.kube.conftest import Place

KEPT = {"Namespace"}


def deploy(place: Place, wanted: Plan | None = None, wait_s: float = 60.0, **options: object):
    keep = bool(options.pop("keep", False))
    force = bool(options.pop("force", False))
    prepared = prepare(place.api, wanted or plan(), settings(**options), force=force)
    return deploy_kubernetes(place.api, prepared, keep=keep, waiting=place.waiting(wait_s))


def with_seqs(made: ReplicaGroup, seqs: int) -> ReplicaGroup:
    """A group with another engine option, which restarts its engines."""
    options = made.config.engine.model_copy(update={"max_num_seqs": seqs})
    config = made.config.model_copy(update={"engine": options})
    return made.model_copy(update={"profile": made.profile.model_copy(update={"config": config})})


def state(place: Place) -> dict[tuple[str, str, str], Object]:
    """Everything that was applied, without what the server counts."""
    return {
        key: {k: v for k, v in obj.items() if k not in ("metadata", "status")}
        for key, obj in place.cluster.objects.items()
        if key[0] not in ("Pod", "RayCluster")
    }


def test_a_first_deployment_makes_every_object_and_ends_healthy(place: Place) -> None:
    prepared = prepare(place.api, plan(), settings())
    assert all(line.startswith("+ ") for line in prepared.lines)
    assert place.cluster.writes == []
    status = deploy_kubernetes(place.api, prepared, waiting=place.waiting())
    assert status.state == "running"
    assert {g.name: (g.ready, g.wanted) for g in status.groups} == {"chat": (1, 1), "large": (2, 2)}
    assert status.url == "http://demo.default:8000/v1"
    assert "RayService" in {kind for _, kind, _ in place.cluster.writes}


def test_the_same_plan_again_changes_nothing(place: Place) -> None:
    deploy(place)
    writes = list(place.cluster.writes)
    status = deploy(place)
    assert status.message == "already running; nothing changed"
    assert place.cluster.writes == writes


@pytest.mark.parametrize("by_ray", [True, False])
def test_more_replicas_reach_the_running_cluster_whose_sizes_the_operator_leaves_alone(
    place: Place, by_ray: bool
) -> None:
    in_tree = {"in_tree": by_ray}
    deploy(place, autoscaling=in_tree)
    more = plan(group("chat", replicas=3), group("large", "A100-80GB", 2))
    prepared = prepare(place.api, more, settings(autoscaling=in_tree))
    (line,) = [line for line in prepared.lines if "RayService" in line]
    assert "worker group l4-1x: 1 -> 3 pods" in line
    assert "chat: 1 -> 3 replicas" in line
    deploy_kubernetes(place.api, prepared, waiting=place.waiting())
    assert place.cluster.names("RayCluster") == ["demo-1"]
    assert len([n for n in place.cluster.names("Pod") if n.startswith("l4-1x")]) == 3


def test_without_rays_autoscaler_pods_that_may_host_an_engine_are_left_and_named(
    place: Place,
) -> None:
    in_tree = {"in_tree": False}
    deploy(place, plan(group("chat", replicas=3)), autoscaling=in_tree)
    status = deploy(place, plan(group("chat")), autoscaling=in_tree)
    assert status.message == "l4-1x keeps 2 pods that the plan has not"
    assert len([n for n in place.cluster.names("Pod") if n.startswith("l4-1x")]) == 3


def test_a_new_router_artefact_has_time_to_reach_running_pods_before_it_is_named(
    place: Place, tmp_path: Path
) -> None:
    path = tmp_path / "r.npz"

    def put(content: bytes, seqs: int) -> float:
        path.write_bytes(content)
        planned = PlannedRouter(artefact="r", sha256=sha256_of(path), models={"m1": "m1"})
        wanted = plan(with_seqs(group("chat"), seqs), router=planned)
        prepared = prepare(place.api, wanted, settings(), artefact=path)
        began_s = place.now_s
        deploy_kubernetes(place.api, prepared, waiting=place.waiting())
        return place.now_s - began_s

    assert put(b"one", 8) < 60
    assert put(b"one", 8) < 60
    before = len(place.cluster.writes)
    assert put(b"two", 99) >= 60
    told = [
        kind for _, kind, name in place.cluster.writes[before:] if name in ("demo", "demo-router")
    ]
    assert told == ["RayService", "ConfigMap", "RayService", "RayService"]  # started, then routed


def test_a_group_that_is_gone_keeps_its_place_without_pods_and_no_second_cluster_is_made(
    place: Place,
) -> None:
    in_tree = {"in_tree": False}
    deploy(place, autoscaling=in_tree)
    deploy(place, plan(group("chat"), group("other", "H100")), autoscaling=in_tree)
    assert place.cluster.names("RayCluster") == ["demo-1"]
    pods = place.cluster.names("Pod")
    assert not [n for n in pods if n.startswith("a100")]
    assert [n for n in pods if n.startswith("h100")]
    assert "PodDisruptionBudget" not in {
        k for k, _, n in place.cluster.objects if n == "demo-a100-80gb-1x"
    }


def test_a_new_image_is_named_and_makes_a_second_cluster(place: Place) -> None:
    deploy(place)
    prepared = prepare(place.api, plan(), settings(image="registry.example/llm:2"))
    (line,) = prepared.lines
    assert "image registry.example/llm:1 -> registry.example/llm:2, all pods are replaced" in line
    deploy_kubernetes(place.api, prepared, waiting=place.waiting())
    assert place.cluster.names("RayCluster") == ["demo-2"]


def test_a_failed_image_pull_ends_the_deployment_and_leaves_nothing(place: Place) -> None:
    place.operator.broken_pods["l4-1x"] = waiting("ImagePullBackOff", "manifest unknown")
    with pytest.raises(EngineError, match=r"l4-1x: pod .*image x/y:1 cannot be pulled: manifest"):
        deploy(place)
    assert {kind for kind, _, _ in place.cluster.objects} == KEPT


def test_keep_leaves_what_failed(place: Place) -> None:
    place.operator.broken_pods["l4-1x"] = waiting("ImagePullBackOff", "manifest unknown")
    with pytest.raises(EngineError):
        deploy(place, keep=True)
    assert place.cluster.get("RayService", "demo") is not None


def test_a_crash_loop_shows_the_end_of_the_log(place: Place) -> None:
    last = {"terminated": {"reason": "OOMKilled", "exitCode": 137}}
    broken = waiting("CrashLoopBackOff", lastState=last, restartCount=4)
    place.operator.broken_pods["l4-1x"] = broken
    place.cluster.logs["l4-1x-0"] = "loading weights\nKilled"
    with pytest.raises(EngineError, match="ended 4 times, last with OOMKilled") as caught:
        deploy(place)
    assert caught.value.log_tail.endswith("Killed")


def test_pods_that_fail_and_are_replaced_by_others_that_fail_end_the_deployment(
    place: Place,
) -> None:
    """Under Ray's autoscaler no pod is started again, so none says that it is in a loop."""
    ended = {"reason": "Error", "exitCode": 1}
    state = {"name": "ray", "state": {"terminated": ended}}
    place.operator.broken_pods["l4-1x"] = {"phase": "Failed", "containerStatuses": [state]}
    turns = iter(range(99))

    def other_pods(*_: object) -> None:
        place.operator.suffix = f"{next(turns)}"
        place.operator.reconcile()

    place.cluster.after_look = other_pods
    place.cluster.logs |= {f"l4-1x-0{i}": f"wrong token {i}" for i in range(99)}
    with pytest.raises(EngineError, match="l4-1x: 3 pods in a row failed") as got:
        deploy(place)
    assert "(exit code 1)" in str(got.value)
    assert "wrong token" in got.value.log_tail


def test_an_api_server_that_is_away_for_a_minute_ends_nothing(place: Place) -> None:
    def refuse(verb: str, kind: str, _name: str) -> RefusedError | None:
        away = verb in ("get", "list") and 2 < place.now_s < 60
        return RefusedError(503, "etcdserver: leader changed") if away else None

    place.operator.broken_pods["l4-1x"] = unschedulable("no nodes")
    prepared = prepare(place.api, plan(), settings())
    place.cluster.refuse = refuse
    waits = place.waiting()

    def sleep(duration_s: float) -> None:
        waits.sleep(duration_s)
        if place.now_s >= 60:
            place.operator.broken_pods.clear()
            place.operator.reconcile()

    patient = dataclasses.replace(waits, wait_s=300.0, sleep=sleep)
    assert deploy_kubernetes(place.api, prepared, waiting=patient).state == "running"


def test_pods_without_a_node_are_waited_for_and_counted_in_gpus(place: Place) -> None:
    why = "0/5 nodes are available: 5 Insufficient nvidia.com/gpu."
    place.operator.broken_pods["a100-80gb-1x"] = unschedulable(why)
    with pytest.raises(ClusterError, match="not healthy after 60 s") as caught:
        deploy(place)
    short = "2 x A100-80GB (on-demand) short: 2 of 2 pods of a100-80gb-1x find no node: " + why
    assert short in str(caught.value)
    assert any(short in line for line in place.shown)


def test_pods_that_a_quota_forbids_end_the_deployment(place: Place) -> None:
    place.operator.failure = "pods is forbidden: exceeded quota: gpus"
    with pytest.raises(EngineError, match=r"pods cannot be made: .*exceeded quota: gpus"):
        deploy(place)


def test_an_application_that_fails_ends_the_deployment_with_serves_word(place: Place) -> None:
    place.operator.failing_apps["chat"] = "The engine did not start: no such model"
    with pytest.raises(EngineError, match="chat: The engine did not start: no such model"):
        deploy(place)


def test_a_failed_change_goes_back_to_what_was_there(place: Place) -> None:
    deploy(place)
    before = state(place)
    place.operator.failing_apps["other"] = "no such model"
    with pytest.raises(EngineError, match="everything was put back as it was before"):
        deploy(place, plan(group("chat", replicas=2), group("other", "H100")))
    after = state(place)
    key = ("RayService", "default", "demo")
    assert {k: v for k, v in after.items() if k != key} == {
        k: v for k, v in before.items() if k != key
    }
    old, new = before[key]["spec"], after[key]["spec"]
    assert new["serveConfigV2"] == old["serveConfigV2"]


def routed(config: str) -> tuple[set[str], set[str]]:
    """The applications of a config, and those that its ingress routes to."""
    found = yaml.safe_load(config)["applications"]
    names = {a["name"] for a in found} - {"Ingress"}
    front = next(a for a in found if a["name"] == "Ingress")
    return names, set(front["deployments"][0]["user_config"]["apps"].values())


def test_no_engine_is_stopped_before_the_ingress_routes_to_those_in_its_place(
    place: Place,
) -> None:
    deploy(place)
    first = len(place.operator.configs)
    deploy(place, plan(with_seqs(group("chat"), 99), group("other", "H100")))
    before, *after = [routed(c) for c in place.operator.configs[first - 1 :]]
    assert len(after) == 3
    old, new = before[0], after[-1][0]
    assert [names for names, _ in after] == [old | new, old | new, new]
    assert [to for _, to in after] == [old, new, new]
    assert not old & new
    assert place.cluster.names("RayCluster") == ["demo-1"]


def test_pods_of_old_engines_stay_until_new_ones_serve(place: Place) -> None:
    deploy(place, autoscaling={"in_tree": False})
    sizes: list[dict[str, int]] = []
    place.cluster.after_write = lambda: (place.operator.reconcile(), sizes.append(held(place)))
    deploy(place, plan(group("chat"), group("other", "H100")), autoscaling={"in_tree": False})
    assert {"a100-80gb-1x": 2, "h100-1x": 1} in sizes  # side by side
    assert all(s["a100-80gb-1x"] == 2 or s.get("h100-1x") == 1 for s in sizes)
    assert held(place) == {"a100-80gb-1x": 0, "h100-1x": 1}


def held(place: Place) -> dict[str, int]:
    (name,) = place.cluster.names("RayCluster")
    cluster = place.cluster.get("RayCluster", name)
    assert cluster is not None
    groups = cluster["spec"]["workerGroupSpecs"]
    return {g["groupName"]: g["replicas"] for g in groups if "100" in g["groupName"]}


def test_engines_make_room_where_new_ones_find_no_node_beside_them(place: Place) -> None:
    deploy(place)
    place.operator.broken_pods["l4-1x"] = unschedulable("0/1 nodes: insufficient nvidia.com/gpu")
    with pytest.raises(ClusterError, match="not healthy"):  # the double finds no node ever
        deploy(place, plan(with_seqs(group("chat"), 99), group("large", "A100-80GB", 2)), 900)
    assert any("no room beside old engines on l4-1x; these make room" in s for s in place.shown)


def test_engines_make_room_in_a_quota_that_has_none_for_both(place: Place) -> None:
    deploy(place)
    place.operator.failure = "pods is forbidden: exceeded quota: gpus"
    with pytest.raises(EngineError, match="exceeded quota"):  # the double forbids all, always
        deploy(place, plan(with_seqs(group("chat"), 99), group("large", "A100-80GB", 2)))
    said = "no room beside old engines: pods cannot be made: pods is forbidden: exceeded quota"
    assert any(said in s and "these make room" in s for s in place.shown)


def test_an_ingress_that_fails_at_a_new_plan_is_seen_though_the_operator_told_of_it_late(
    place: Place,
) -> None:
    deploy(place)
    before = state(place)
    place.operator.failing_apps["Ingress"] = "no such artefact"
    with pytest.raises(EngineError, match="Ingress: no such artefact"):
        deploy(place, plan(group("chat", usd_per_hour=9.0), group("large", "A100-80GB", 2)))
    assert state(place) == before


def test_a_group_that_a_failed_change_added_stays_empty_so_that_no_second_cluster_is_made(
    place: Place,
) -> None:
    deploy(place)
    place.operator.failing_apps["other"] = "no such model"
    with pytest.raises(EngineError):
        deploy(place, plan(group("chat"), group("large", "A100-80GB", 2), group("other", "H100")))
    service, cluster = place.cluster.get("RayService", "demo"), place.cluster.names("RayCluster")
    assert service is not None
    groups = service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    sizes = {g["groupName"]: g["replicas"] for g in groups}
    assert sizes == {"ingress": 2, "l4-1x": 1, "a100-80gb-1x": 2, "h100-1x": 0}
    assert cluster == ["demo-1"]


def test_a_refusal_half_way_takes_back_what_was_applied(place: Place) -> None:
    deploy(place)
    before = state(place)
    api_apply = place.api.apply

    def refusing(obj, **options):
        if obj["kind"] == "RayService" and not options.get("dry_run") and not options.get("force"):
            raise ClusterError("the cluster went away")
        return api_apply(obj, **options)

    prepared = prepare(place.api, plan(group("chat", replicas=2)), settings())
    place.api.apply = refusing  # type: ignore[method-assign]
    with pytest.raises(ClusterError, match="went away; everything was put back"):
        deploy_kubernetes(place.api, prepared, waiting=place.waiting())
    assert state(place) == before


def test_ctrl_c_takes_back_too(place: Place) -> None:
    place.operator.broken_pods["l4-1x"] = unschedulable("no nodes")

    def interrupt(_s: float) -> None:
        raise KeyboardInterrupt

    prepared = prepare(place.api, plan(), settings())
    waits = place.waiting()
    with pytest.raises(KeyboardInterrupt):
        deploy_kubernetes(
            place.api, prepared, waiting=type(waits)(60, waits.on_progress, waits.clock, interrupt)
        )
    assert {kind for kind, _, _ in place.cluster.objects} == KEPT


def test_a_second_operators_fields_are_left_alone_unless_forced(place: Place) -> None:
    deploy(place)
    place.cluster.edit("RayService", "demo", "argocd", excludeHeadPodFromServeSvc=False)
    writes = list(place.cluster.writes)
    with pytest.raises(ClusterError) as caught:
        prepare(place.api, plan(), settings())
    assert caught.value.exit_code == 4
    assert "'argocd' holds .spec.excludeHeadPodFromServeSvc" in str(caught.value)
    assert place.cluster.writes == writes
    deploy(place, force=True)
    service = place.cluster.get("RayService", "demo")
    assert service is not None
    assert service["spec"]["excludeHeadPodFromServeSvc"] is True


def test_a_change_by_another_after_the_difference_was_shown_stops_the_deployment(
    place: Place,
) -> None:
    deploy(place)
    prepared = prepare(place.api, plan(group("chat", replicas=2)), settings())
    place.cluster.edit("RayService", "demo", "argocd", rayClusterDeletionDelaySeconds=5)
    with pytest.raises(ClusterError, match=r"'RayService|RayService 'demo' was changed by"):
        deploy_kubernetes(place.api, prepared, waiting=place.waiting())
    service = place.cluster.get("RayService", "demo")
    assert service is not None
    first_app = service["spec"]["serveConfigV2"].partition("- name: large")[0]
    assert "num_replicas: 1" in first_app


def test_status_tells_cost_of_what_runs_by_group(place: Place) -> None:
    deploy(place)
    hour_later_s = 1767225600.0 + 3600
    found = kubernetes_status(place.api, "demo", lambda: hour_later_s)
    assert found is not None
    by_name = {g.name: g for g in found.groups}
    assert by_name["large"].usd_per_hour == pytest.approx(0.2)
    assert by_name["large"].usd_so_far == pytest.approx(0.2)
    assert kubernetes_status(place.api, "other") is None


def test_status_of_a_service_that_is_not_ours_says_so(place: Place) -> None:
    deploy(place)
    place.cluster.delete(("ConfigMap", "default", "demo-plan"))
    with pytest.raises(ClusterError, match="was not deployed by this program"):
        kubernetes_status(place.api, "demo")


def test_delete_leaves_nothing_of_the_service_and_all_of_others(place: Place) -> None:
    other = {"kind": "ConfigMap", "metadata": {"name": "theirs", "namespace": "default"}}
    place.cluster.put(other)
    deploy(place)
    assert delete_kubernetes(place.api, "demo", place.waiting())
    assert {key for key in place.cluster.objects if key[0] != "Namespace"} == {
        ("ConfigMap", "default", "theirs")
    }
    assert not delete_kubernetes(place.api, "demo", place.waiting())


def test_what_pods_need_to_end_well_goes_after_them(place: Place) -> None:
    deploy(place)
    place.operator.draining = True
    waits = place.waiting()

    def sleep(duration_s: float) -> None:
        waits.sleep(duration_s)
        kinds = {kind for kind, _, _ in place.cluster.objects}
        assert {"ServiceAccount", "NetworkPolicy", "Pod"} <= kinds
        place.operator.draining = False
        place.operator.reconcile()

    assert delete_kubernetes(place.api, "demo", dataclasses.replace(waits, sleep=sleep))
    assert place.now_s > 0
    assert {kind for kind, _, _ in place.cluster.objects} == KEPT


def test_the_pod_of_an_autoscaler_is_not_waited_for(place: Place) -> None:
    deploy(place)
    labels = {"llm-orchestrator/service": "demo"}
    place.operator.draining = True  # the double would take every pod
    for kind in ("RayCluster", "Pod"):
        for name in place.cluster.names(kind):
            place.cluster.delete((kind, "default", name))
    place.cluster.put(
        {"kind": "Pod", "metadata": {"name": "scaler", "namespace": "default", "labels": labels}}
    )
    assert delete_kubernetes(place.api, "demo", place.waiting())


def test_a_namespace_of_ours_is_made_and_goes_with_the_service(place: Place) -> None:
    place.api.namespace = "llm"
    prepared = prepare(place.api, plan(), settings(namespace="llm", create_namespace=True))
    assert prepared.lines[0] == "+ Namespace llm"
    with pytest.raises(ClusterError):  # the double's KubeRay looks at one namespace only
        deploy_kubernetes(place.api, prepared, keep=True, waiting=place.waiting())
    assert place.cluster.get("Namespace", "llm") is not None
    assert delete_kubernetes(place.api, "demo", place.waiting())
    assert place.cluster.get("Namespace", "llm") is None


def test_going_back_leaves_what_others_put_into_a_new_namespace(place: Place) -> None:
    place.api.namespace = "llm"
    prepared = prepare(place.api, plan(), settings(namespace="llm", create_namespace=True))
    with pytest.raises(ClusterError):  # the double's KubeRay looks at one namespace only
        deploy_kubernetes(place.api, prepared, waiting=place.waiting())
    assert place.cluster.names("RayService") == []
    assert place.cluster.get("Namespace", "llm") is not None


@pytest.mark.parametrize("labels", [{}, {"llm-orchestrator/service": "another"}])
def test_a_namespace_of_others_stays(place: Place, labels: dict[str, str]) -> None:
    place.cluster.put({"kind": "Namespace", "metadata": {"name": "default", "labels": labels}})
    deploy(place, create_namespace=True)
    assert delete_kubernetes(place.api, "demo", place.waiting())
    found = place.cluster.get("Namespace", "default")
    assert found is not None
    assert found["metadata"]["labels"] == labels


def test_a_namespace_of_ours_stays_while_another_service_is_in_it(place: Place) -> None:
    labels = {"llm-orchestrator/service": "demo"}
    place.cluster.put({"kind": "Namespace", "metadata": {"name": "default", "labels": labels}})
    deploy(place, create_namespace=True)
    place.cluster.put({"kind": "RayService", "metadata": {"name": "b", "namespace": "default"}})
    assert delete_kubernetes(place.api, "demo", place.waiting())
    assert place.cluster.get("Namespace", "default") is not None


def test_kinds_that_the_cluster_does_not_know_are_left_out_where_they_may(place: Place) -> None:
    place.cluster.unknown_kinds.add("PodMonitor")
    prepared = prepare(place.api, plan(), settings())
    assert "! PodMonitor demo: this cluster does not know the kind" in prepared.lines
    assert deploy_kubernetes(place.api, prepared, waiting=place.waiting()).state == "running"
