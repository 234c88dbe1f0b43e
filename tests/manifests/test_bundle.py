"""Every object of a plan fits its schema and the operator's rules, and says what the plan says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.bundle import render
from manifests.objects import LIMIT_BYTES, Naming, Object, config_map
from manifests.ray_service import ray_service
from manifests.settings import KubernetesSettings
from placement.plan import Plan, PlannedRouter
from profiler.errors import InputError
from profiler.files import sha256_of
from serve_apps.pool import IngressSettings
from serve_apps.seeing.alerts import rules
from serve_apps.seeing.grafana import dashboards
from tests import kube_builders as kb
from tests.kube_schemas import faults

ALERT = {"alert": "Down", "expr": "up == 0", "for": "5m", "annotations": {"a": "{{ $labels.pod }}"}}
FULL: dict[str, Any] = {
    "namespace": "llm",
    "create_namespace": True,
    "cloud": "gke",
    "image_pull_secrets": ["registry"],
    "hf_token": {"name": "hf", "key": "token"},
    "ray_token_secret": "ray-token",
    "model_cache": {"kind": "claim", "storage_class": "fast"},
    "gcs_fault_tolerance": {
        "redis_address": "redis:6379",
        "redis_password": {"name": "redis", "key": "password"},
    },
    "tolerations": [{"key": "team", "value": "ml", "operator": "Equal"}],
    "labels": {"team": "ml"},
    "network": {"service_type": "LoadBalancer", "client_namespaces": ["apps"]},
    "monitoring": {
        "selector_labels": {"release": "prometheus"},
        "admin_key": {"name": "ops", "key": "key"},
    },
    "api_keys": {"name": "api-keys", "key": "keys.yaml"},
    "engine_key": {"name": "engine", "key": "key"},
    "autoscaler": {"budget_usd_per_hour": 60, "minimum": {"chat": 2}},
}


def one(objects: Sequence[Object], kind: str, name: str = "") -> Object:
    (found,) = [o for o in objects if o["kind"] == kind and name in ("", o["metadata"]["name"])]
    return found


def groups(objects: Sequence[Object]) -> dict[str, Object]:
    cluster = one(objects, "RayService")["spec"]["rayClusterConfig"]
    return {g["groupName"]: g for g in cluster["workerGroupSpecs"]}


def pod(group: Object) -> Object:
    spec: Object = group["template"]["spec"]
    return spec


@pytest.mark.parametrize("chosen", [{}, FULL, {"autoscaling": {"in_tree": False}}])
def test_every_object_fits_its_schema(chosen: dict[str, Any]) -> None:
    rules = [{"name": "serving", "rules": [ALERT]}]
    plan = kb.plan(kb.group("chat", market="spot"), kb.group("cpu", "cpu", 2)) if chosen is FULL \
        else kb.plan()  # fmt: skip
    objects = render(
        plan, kb.settings(**chosen), rule_groups=rules, dashboards={"main": {"panels": []}}
    )
    assert {o["kind"]: faults(o) for o in objects if faults(o)} == {}
    kinds = {o["kind"] for o in objects}
    assert {"RayService", "PodMonitor", "PrometheusRule", "NetworkPolicy", "Role"} <= kinds


def test_the_schemas_would_see_a_misspelt_field_and_a_wrong_type() -> None:
    objects = render(kb.plan(), kb.settings())
    service = one(objects, "RayService")
    pod(groups(objects)["l4-1x"])["containers"][0]["imag"] = "x"
    service["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["replicas"] = "2"
    where = {path for path, _ in faults(service)}
    assert ".spec.rayClusterConfig.workerGroupSpecs.0.replicas" in where
    assert any(path.endswith("containers.0") for path in where)


def test_a_worker_group_asks_for_its_gpus_on_nodes_that_have_them() -> None:
    large = kb.group("large", "A100-80GB", 2, tensor_parallel=4, market="spot", region="eu")
    made = groups(render(kb.plan(kb.group("chat"), large), kb.settings(cloud="gke")))
    assert set(made) == {"ingress", "l4-1x", "a100-80gb-spot-eu-4x"}
    group = made["a100-80gb-spot-eu-4x"]
    assert group["replicas"] == 2
    assert group["resources"] == {"GPU": "4", "accelerator_type:A100-80G": "1"}
    assert group["labels"]["ray.io/market-type"] == "spot"
    spec = pod(group)
    container = spec["containers"][0]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "4"
    assert container["resources"]["requests"]["cpu"] == "12"
    assert spec["nodeSelector"] == {
        "cloud.google.com/gke-accelerator": "nvidia-a100-80gb",
        "cloud.google.com/gke-spot": "true",
        "topology.kubernetes.io/region": "eu",
    }
    assert {t["key"] for t in spec["tolerations"]} == {
        "nvidia.com/gpu",
        "cloud.google.com/gke-spot",
    }
    shm = next(v for v in spec["volumes"] if v["name"] == "shared-memory")
    assert shm["emptyDir"] == {"medium": "Memory", "sizeLimit": "8Gi"}


def test_on_demand_pods_head_and_ingress_stay_off_spot_nodes() -> None:
    objects = render(kb.plan(kb.group("a"), kb.group("b", market="spot")), kb.settings(cloud="eks"))
    head = one(objects, "RayService")["spec"]["rayClusterConfig"]["headGroupSpec"]
    made = groups(objects)
    for group in (head, made["ingress"], made["l4-1x"]):
        affinity = pod(group)["affinity"]["nodeAffinity"]
        terms = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
        assert terms[0]["matchExpressions"] == [
            {"key": "eks.amazonaws.com/capacityType", "operator": "NotIn", "values": ["SPOT"]}
        ]
    assert "affinity" not in pod(made["l4-spot-1x"])


def test_groups_that_rent_the_same_pods_share_them() -> None:
    made = groups(render(kb.plan(kb.group("a"), kb.group("b", replicas=2)), kb.settings()))
    assert made["l4-1x"]["replicas"] == 3


def test_whole_nodes_are_filled_with_replicas() -> None:
    small = kb.group("small", "H100", 5, tensor_parallel=2, node_gpus=8)
    made = groups(render(kb.plan(small), kb.settings()))
    assert made["h100-8x"]["replicas"] == 2
    assert pod(made["h100-8x"])["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "8"


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["L4", "H100", "cpu"]),
            st.integers(1, 9),
            st.sampled_from([1, 2]),
            st.sampled_from(["on_demand", "spot"]),
        ),
        min_size=1,
        max_size=6,
    )
)
@settings(max_examples=10, deadline=None)
def test_every_plan_has_pods_for_all_its_replicas(kinds: list[Any]) -> None:
    chosen = kb.settings(cloud="gke", node_selectors={})
    rented = [
        kb.group(f"g{i}", gpu, n, tensor_parallel=1 if gpu == "cpu" else tp, market=market)
        for i, (gpu, n, tp, market) in enumerate(kinds)
    ]
    made = groups(render(kb.plan(*rented), chosen))
    slots = sum(
        int(g["resources"].get("GPU", g["resources"].get("cpu_engine", 0))) * g["replicas"]
        for g in made.values()
    )
    assert slots == sum(g.replicas * g.config.tensor_parallel for g in rented)


def test_pods_of_a_group_do_not_change_with_its_size_so_that_none_is_replaced() -> None:
    few, many = (
        groups(render(kb.plan(kb.group("a", replicas=n)), kb.settings()))["l4-1x"] for n in (1, 5)
    )
    assert few["template"] == many["template"]


def test_gone_groups_keep_their_place_without_pods_and_new_ones_come_last() -> None:
    first = render(kb.plan(kb.group("a"), kb.group("b", "H100")), kb.settings())
    before = one(first, "RayService")["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    then = groups(render(kb.plan(kb.group("c", "L40S"), kb.group("b", "H100")), kb.settings(),
                         before=before))  # fmt: skip
    assert list(then) == ["ingress", "l4-1x", "h100-1x", "l40s-1x"]
    assert (then["l4-1x"]["replicas"], then["l4-1x"]["maxReplicas"]) == (0, 0)


def test_tokens_come_by_reference_and_the_dashboard_stays_inside() -> None:
    objects = render(kb.plan(), kb.settings(**FULL))
    spec = one(objects, "RayService")["spec"]
    cluster = spec["rayClusterConfig"]
    assert cluster["authOptions"] == {"mode": "token", "secretName": "ray-token"}
    assert cluster["headGroupSpec"]["serviceType"] == "ClusterIP"
    assert cluster["headGroupSpec"]["enableIngress"] is False
    assert spec["excludeHeadPodFromServeSvc"] is True
    env = {e["name"]: e for e in pod(groups(objects)["l4-1x"])["containers"][0]["env"]}
    assert env["HF_TOKEN"]["valueFrom"]["secretKeyRef"] == {"name": "hf", "key": "token"}
    policy = one(objects, "NetworkPolicy")["spec"]
    inside, api, operator, scraped = policy["ingress"]
    assert [p["port"] for p in api["ports"]] == [8000]
    assert api["from"][0]["namespaceSelector"]["matchLabels"] == {
        "kubernetes.io/metadata.name": "apps"
    }
    assert 8265 in [p["port"] for p in operator["ports"]]
    (peer,) = operator["from"]
    assert peer["podSelector"]["matchLabels"] == {"app.kubernetes.io/component": "kuberay-operator"}
    assert [p["port"] for p in scraped["ports"]] == [8080, 8000]
    assert "ports" not in inside


def test_every_container_is_unprivileged_the_one_that_the_operator_adds_too() -> None:
    cluster = one(render(kb.plan(), kb.settings()), "RayService")["spec"]["rayClusterConfig"]
    templates = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    contexts = [pod(t)["containers"][0]["securityContext"] for t in templates]
    contexts.append(cluster["autoscalerOptions"]["securityContext"])
    for context in contexts:
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}


def test_pods_keep_the_label_by_which_the_operators_service_finds_the_head() -> None:
    cluster = one(render(kb.plan(), kb.settings()), "RayService")["spec"]["rayClusterConfig"]
    for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
        assert "app.kubernetes.io/name" not in group["template"]["metadata"]["labels"]


def test_clients_come_to_pods_that_listen_and_to_no_others() -> None:
    objects = render(kb.plan(), kb.settings(**FULL | {"network": {"port": 9000}}))
    service = one(objects, "Service")["spec"]
    listening = {
        name: [p["containerPort"] for p in pod(g)["containers"][0]["ports"] if p["name"] == "serve"]
        for name, g in groups(objects).items()
    }
    assert listening == {"ingress": [9000], "l4-1x": [], "a100-80gb-1x": []}
    assert [(p["port"], p["targetPort"]) for p in service["ports"]] == [(9000, "serve")]
    for group in groups(objects).values():
        labels = group["template"]["metadata"]["labels"]
        selected = all(labels.get(k) == v for k, v in service["selector"].items())
        assert selected == (group["groupName"] == "ingress")
        assert pod(group)["containers"][0]["readinessProbe"]  # else the operator asks a proxy
    door = pod(groups(objects)["ingress"])["containers"][0]["readinessProbe"]["httpGet"]
    assert door == {"path": "/health/ready", "port": 9000}


def ingress_args(objects: Sequence[Object]) -> dict[str, Any]:
    config = yaml.safe_load(one(objects, "RayService")["spec"]["serveConfigV2"])
    assert config["proxy_location"] == "Disabled"
    found: dict[str, Any] = config["applications"][-1]["args"]
    return found


def test_keys_come_from_a_secret_and_limits_are_shared_out() -> None:
    plan = kb.plan(gateway={"guard": {"keys": "../keys.yaml", "usage": "u", "open_metrics": True}})
    secret = {"api_keys": {"name": "api-keys", "key": "mine.yaml"}, "ingress_replicas": 3}
    objects = render(plan, kb.settings(**secret))
    settings = IngressSettings.model_validate(ingress_args(objects))
    assert settings.guard.keys == "/etc/llm-orchestrator/keys/mine.yaml"
    assert (settings.guard.usage, settings.guard.open_metrics) == (None, True)
    assert (settings.sharing, settings.shared_guard.ingresses) == (3, 3)
    (volume,) = [v for v in pod(groups(objects)["ingress"])["volumes"] if v["name"] == "api-keys"]
    assert volume["secret"]["secretName"] == "api-keys"
    assert "api-keys" not in [v["name"] for v in pod(groups(objects)["l4-1x"])["volumes"]]


def test_nobody_serves_everybody_by_mistake() -> None:
    assert "serve everybody who reaches it" in refused(kb.plan(gateway={}), kb.settings())
    theirs = kb.plan(gateway={"guard": {"keys": "keys.yaml"}})
    assert "--from-file=keys.yaml=keys.yaml" in refused(theirs, kb.settings())


def test_the_engine_key_is_a_reference_in_engines_and_ingress_alone() -> None:
    objects = render(kb.plan(), kb.settings(engine_key={"name": "e", "key": "k"}))
    head = one(objects, "RayService")["spec"]["rayClusterConfig"]["headGroupSpec"]
    asks = {
        name: [e["valueFrom"]["secretKeyRef"] for e in pod(g)["containers"][0]["env"]
               if e["name"] == "VLLM_API_KEY"]
        for name, g in (groups(objects) | {"head": head}).items()
    }  # fmt: skip
    assert asks.pop("head") == []
    assert all(found == [{"name": "e", "key": "k"}] for found in asks.values())


def test_the_autoscaler_may_resize_this_service_and_nothing_else() -> None:
    rules = one(render(kb.plan(), kb.settings()), "Role")["rules"]
    verbs = {r["resources"][0]: set(r["verbs"]) for r in rules}
    assert verbs["rayservices"] == {"get", "patch"}
    assert rules[0]["resourceNames"] == ["demo"]
    assert verbs["poddisruptionbudgets"] == {"get", "patch"}
    named = next(r for r in rules if "poddisruptionbudgets" in r["resources"])["resourceNames"]
    assert named == ["demo-l4-1x", "demo-a100-80gb-1x"]
    assert not {"*", "create", "delete"} & set().union(*verbs.values())
    assert "secrets" not in verbs


def test_the_autoscaler_runs_beside_the_service_under_its_own_account() -> None:
    assert "Deployment" not in {o["kind"] for o in render(kb.plan(), kb.settings())}
    objects = render(kb.plan(), kb.settings(**FULL))
    spec = one(objects, "Deployment")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    made = spec["template"]["spec"]
    assert made["serviceAccountName"] == one(objects, "Role")["metadata"]["name"]
    (container,) = made["containers"]
    env = {e["name"]: e for e in container["env"]}
    assert env["ORCHESTRATOR_ADMIN_KEY"]["valueFrom"]["secretKeyRef"] == {
        "name": "ops",
        "key": "key",
    }
    mounts = {m["name"]: m["mountPath"] for m in container["volumeMounts"]}
    program, command, plan, *options = container["command"]
    assert (program, command) == ("orchestrator", "autoscale")
    assert plan == f"{mounts['plan']}/plan.yaml"
    (plan_map,) = [v["configMap"]["name"] for v in made["volumes"] if v["name"] == "plan"]
    assert "plan.yaml" in one(objects, "ConfigMap", plan_map)["data"]
    assert options[options.index("--budget") + 1] == "60"
    assert options[options.index("--min") + 1] == "chat=2"
    policy = one(objects, "NetworkPolicy")["spec"]
    labels = spec["template"]["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()  # so it may ask
    assert "llm-orchestrator/worker-group" not in labels  # no budget or client Service selects it


def test_an_autoscalers_limits_for_groups_that_are_not_there_are_refused() -> None:
    chosen = kb.settings(autoscaler={"maximum": {"chta": 4}})
    assert "the plan has no group 'chta'; it has chat, large" in refused(kb.plan(), chosen)


def test_budgets_let_one_pod_go_and_a_lone_pod_always() -> None:
    budgets = {
        o["metadata"]["name"]: o["spec"]["minAvailable"]
        for o in render(kb.plan(), kb.settings())
        if o["kind"] == "PodDisruptionBudget"
    }
    assert budgets == {"demo-ingress": 1, "demo-l4-1x": 0, "demo-a100-80gb-1x": 1}


@pytest.mark.parametrize(
    ("cache", "volume"),
    [
        ({"kind": "empty_dir", "size": "50Gi"}, {"emptyDir": {"sizeLimit": "50Gi"}}),
        ({"kind": "host_path", "path": "/m"},
         {"hostPath": {"path": "/m", "type": "DirectoryOrCreate"}}),
        ({"kind": "claim"}, {"persistentVolumeClaim": {"claimName": "demo-models"}}),
        ({"kind": "claim", "existing_claim": "w"}, {"persistentVolumeClaim": {"claimName": "w"}}),
    ],
)  # fmt: skip
def test_weights_are_cached_where_the_settings_say(cache: Any, volume: Any) -> None:
    objects = render(kb.plan(), kb.settings(model_cache=cache))
    spec = pod(groups(objects)["l4-1x"])
    assert {"name": "models", **volume} in spec["volumes"]
    claims = [o for o in objects if o["kind"] == "PersistentVolumeClaim"]
    assert len(claims) == (cache == {"kind": "claim"})


def refused(plan: Plan, chosen: KubernetesSettings, **more: Any) -> str:
    with pytest.raises(InputError) as caught:
        render(plan, chosen, **more)
    return str(caught.value)


def test_unknown_node_labels_are_asked_for() -> None:
    mine = kb.plan(kb.group("a", "MyGpu"))
    assert "add it to the settings: node_selectors: {MyGpu: {LABEL: VALUE}}" in refused(
        mine, kb.settings()
    )
    render(mine, kb.settings(node_selectors={"MyGpu": {"gpu": "mine"}}))
    spot = kb.plan(kb.group("a", market="spot"))
    assert "add spot_labels to the settings" in refused(spot, kb.settings())
    assert "the plan has no GPU type 'L5'" in refused(
        kb.plan(), kb.settings(node_selectors={"L5": {"a": "b"}})
    )


def test_labels_that_kubernetes_refuses_are_refused_here() -> None:
    assert "label a b='c' is not valid" in refused(kb.plan(), kb.settings(labels={"a b": "c"}))


def router(path: Path, content: bytes) -> PlannedRouter:
    path.write_bytes(content)
    return PlannedRouter(artefact=path.name, sha256=sha256_of(path), models={"m1": "m1"})


def test_a_small_router_artefact_travels_in_a_config_map(tmp_path: Path) -> None:
    path = tmp_path / "r.npz"
    planned = router(path, b"small")
    objects = render(kb.plan(router=planned), kb.settings(), artefact=path)
    carried = one(objects, "ConfigMap", "demo-router")["binaryData"]
    name = f"router-{planned.version}.npz"
    assert carried == {name: "c21hbGw="}
    config = yaml.safe_load(one(objects, "RayService")["spec"]["serveConfigV2"])
    front = config["applications"][-1]["deployments"][0]["user_config"]
    assert front["router"]["artefact"] == f"/etc/llm-orchestrator/router/{name}"


def test_a_large_router_artefact_says_where_to_put_it(tmp_path: Path) -> None:
    path = tmp_path / "r.npz"
    plan = kb.plan(router=router(path, b"x" * (2**20 + 1)))
    assert "set router_artefact_path in the settings" in refused(plan, kb.settings(), artefact=path)
    objects = render(plan, kb.settings(router_artefact_path="/opt/r.npz"))
    assert "/opt/r.npz" in one(objects, "RayService")["spec"]["serveConfigV2"]


def test_another_artefact_than_the_plans_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.npz"
    plan = kb.plan(router=router(path, b"one"))
    path.write_bytes(b"two")
    assert "is not the artefact" in refused(plan, kb.settings(), artefact=path)
    assert "found none" in refused(plan, kb.settings())


def test_what_is_too_large_for_an_object_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    naming = Naming("demo", kb.settings())
    with pytest.raises(InputError, match=r"ConfigMap 'demo-plan' would hold 1.0 MiB"):
        config_map(naming, "plan", {"plan.yaml": "x" * (LIMIT_BYTES + 1)})
    monkeypatch.setattr("manifests.ray_service.LIMIT_BYTES", 1000)
    with pytest.raises(InputError, match="plan with fewer size buckets"):
        ray_service(naming, kb.plan(), None)


def test_the_products_own_alerts_and_dashboards_fit_their_objects() -> None:
    objects = render(
        kb.plan(), kb.settings(), rule_groups=rules()["groups"], dashboards=dashboards()
    )
    seen = [
        o for o in objects if o["kind"] == "PrometheusRule" or "dashboard" in str(o["metadata"])
    ]
    assert len(seen) == 1 + len(dashboards())
    assert {o["metadata"]["name"]: faults(o) for o in seen if faults(o)} == {}
