"""Plans on a Ray cluster that others use too, tried against a double of its dashboard."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from orchestrator.cli import app as cli
from orchestrator.deploy.base import Status
from orchestrator.deploy.ray_cluster import delete_ray, deploy_ray, prepare, ray_status
from orchestrator.deploy.rayserve.config import RayOptions
from orchestrator.deploy.rayserve.dashboard import Dashboard
from orchestrator.deploy.rayserve.rolling import Waiting
from orchestrator.deploy.rayserve.writing import ConflictError
from placement.plan import Plan
from profiler import documents
from profiler.errors import ClusterError, EngineError, InputError
from serve_apps.guard.settings import GuardSettings
from tests.fake_dashboard import TOKEN, FakeDashboard, node
from tests.kube_builders import group, plan

OPTIONS = RayOptions(guard=GuardSettings(allow_anonymous=True), emulate=True)
TRACEBACK = (
    "The deployment failed to start 1 times in a row.\nray::ServeReplica:demo.chat:engine()\n"
    "profiler.errors.EngineError: CUDA out of memory\nlast line of the log"
)


@pytest.fixture
def fake() -> Iterator[FakeDashboard]:
    nodes = [
        node("head"),
        node("small", "L4", 4),
        node("large", "A100-80G", 4),
        node("gone", "H100", 8, state="DEAD"),
    ]
    with FakeDashboard(nodes).running() as running:
        yield running


@pytest.fixture
def dashboard(fake: FakeDashboard) -> Dashboard:
    return Dashboard(fake.url, TOKEN)


def waiting(wait_s: float = 30.0, seen: list[Status] | None = None) -> Waiting:
    """Time that passes only by waiting."""
    now = [2800.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    told = seen if seen is not None else []
    return Waiting(wait_s, told.append, lambda: now[0], sleep)


def deploy(dashboard: Dashboard, wanted: Plan, **kwargs: Any) -> Status:
    prepared = prepare(dashboard, wanted, kwargs.pop("options", OPTIONS))
    return deploy_ray(dashboard, prepared, waiting=waiting(), **kwargs)


def deployments(fake: FakeDashboard) -> dict[str, Any]:
    """The one deployment of each application of ours, by group."""
    return {n.split(".")[1]: c["deployments"][0] for n, c in fake.ours().items()}


def test_each_group_is_an_application_on_nodes_of_its_accelerator(
    fake: FakeDashboard, dashboard: Dashboard
) -> None:
    status = deploy(dashboard, plan())
    assert status.state == "running" and status.emulated
    assert status.url == "http://127.0.0.9:8080/v1"
    found = deployments(fake)
    assert set(found) == {"chat", "large", "ingress"}
    assert found["large"]["num_replicas"] == 2
    assert found["large"]["ray_actor_options"] == {
        "num_cpus": 0,
        "num_gpus": 1,
        "resources": {},
        "label_selector": {"ray.io/accelerator-type": "A100-80G"},
    }


def test_several_gpus_are_reserved_together_on_one_node(
    fake: FakeDashboard, dashboard: Dashboard
) -> None:
    deploy(dashboard, plan(group("large", "A100-80GB", tensor_parallel=4)))
    found = deployments(fake)["large"]
    assert found["placement_group_bundles"] == [{"GPU": 4.0}]
    assert found["placement_group_strategy"] == "STRICT_PACK"
    assert found["placement_group_bundle_label_selector"] == [
        {"ray.io/accelerator-type": "A100-80G"}
    ]
    assert found["ray_actor_options"]["num_gpus"] == 4


def test_nodes_without_labels_are_told_by_their_resource(
    fake: FakeDashboard, dashboard: Dashboard
) -> None:
    del fake.nodes[1]["labels"]["ray.io/accelerator-type"]
    deploy(dashboard, plan(group("chat")))
    options = deployments(fake)["chat"]["ray_actor_options"]
    assert options["resources"] == {"accelerator_type:L4": 0.001}
    assert options["label_selector"] == {}


def test_spot_and_on_demand_are_told_apart_where_nodes_say_it(
    fake: FakeDashboard, dashboard: Dashboard
) -> None:
    fake.nodes.append(node("cheap", "L4", 1, market_type="spot"))
    deploy(dashboard, plan(group("chat", market="spot"), group("safe")))
    found = {n: d["ray_actor_options"] for n, d in deployments(fake).items()}
    assert found["chat"]["label_selector"]["ray.io/market-type"] == "spot"
    assert found["safe"]["label_selector"]["ray.io/market-type"] == "!spot"


def test_what_is_missing_is_said_per_gpu_type(fake: FakeDashboard, dashboard: Dashboard) -> None:
    fake.used = {"small": {"GPU": [3.0, 4.0]}}
    wanted = plan(group("chat", replicas=2), group("huge", "H100", 2, tensor_parallel=4))
    with pytest.raises(ClusterError) as caught:
        prepare(dashboard, wanted, OPTIONS)
    assert caught.value.exit_code == 4
    _, first, second = (line.strip() for line in str(caught.value).splitlines())
    assert first.startswith("H100: requested 8, has none (the cluster has 4 x A100-80G, 4 x L4); ")
    assert "to fix: add 8 x H100, 4 to a node at least" in first
    assert second.startswith("L4: requested 2, has 4 on 1 nodes, 1 of them free; ")
    assert "to fix: add 1 x L4" in second
    assert fake.puts == []


def test_gpus_enough_in_number_but_not_on_one_node_are_missing(
    fake: FakeDashboard, dashboard: Dashboard
) -> None:
    fake.nodes[1:3] = [node("a", "H100", 3), node("b", "H100", 3)]
    with pytest.raises(ClusterError, match=r"H100: requested 4, has 6 on 2 nodes, 6 of them free"):
        prepare(dashboard, plan(group("huge", "H100", tensor_parallel=4)), OPTIONS)


def test_what_our_own_replicas_hold_counts_as_free(
    fake: FakeDashboard, dashboard: Dashboard
) -> None:
    deploy(dashboard, plan(group("chat", replicas=4)))
    fake.used = {"small": {"GPU": [4.0, 4.0]}}
    assert prepare(dashboard, plan(group("chat", replicas=3)), OPTIONS).lines


def test_an_ingress_that_would_serve_everybody_needs_to_be_meant(dashboard: Dashboard) -> None:
    with pytest.raises(InputError, match="without API keys"):
        prepare(dashboard, plan(), RayOptions(emulate=True))


@pytest.mark.parametrize(("token", "said"), [(None, "is missing"), ("wrong", "was refused")])
def test_a_token_that_is_not_the_clusters(
    fake: FakeDashboard, token: str | None, said: str
) -> None:
    with pytest.raises(ClusterError, match=rf"the token {said}; to mend: set RAY_AUTH_TOKEN"):
        prepare(Dashboard(fake.url, token), plan(), OPTIONS)


def test_nobody_answers() -> None:
    with pytest.raises(ClusterError, match=r"no Ray dashboard answers at http://127.0.0.1:9.*mend"):
        Dashboard("http://127.0.0.1:9", TOKEN).check_version()


def test_what_is_no_dashboard_or_too_old_a_ray(fake: FakeDashboard, dashboard: Dashboard) -> None:
    fake.version = "2.47.1"
    with pytest.raises(ClusterError, match=r"runs Ray 2\.47\.1; 2\.60 or newer is needed"):
        dashboard.check_version()
    fake.answers["GET /api/version"] = (200, "<html>")
    with pytest.raises(ClusterError, match="is no Ray dashboard"):
        dashboard.check_version()


@pytest.mark.parametrize("address", ["ray://head:10001", "http://"])
def test_an_address_that_is_no_dashboards(address: str) -> None:
    with pytest.raises(InputError, match="--address http://HEAD:8265"):
        Dashboard.connect(address)


def test_applications_of_others_stay_as_they_are(fake: FakeDashboard, dashboard: Dashboard) -> None:
    theirs = fake.add_foreign("theirs", runtime_env={"env_vars": {"KEY": "secret"}})
    fake.add_foreign("from-code", declared=False)
    before = copy.deepcopy(theirs)
    deploy(dashboard, plan())
    assert fake.apps["theirs"]["deployed_app_config"] == before
    assert fake.puts[0]["http_options"] == {"host": "0.0.0.0", "port": 8123}
    assert [a["name"] for a in fake.puts[0]["applications"]].count("from-code") == 0
    assert delete_ray(dashboard, "demo", waiting())
    assert set(fake.apps) == {"theirs", "from-code"}
    assert fake.apps["theirs"]["deployed_app_config"] == before
    assert not delete_ray(dashboard, "demo", waiting())


def test_an_application_that_cannot_be_read_whole_is_not_written_over(
    fake: FakeDashboard, dashboard: Dashboard
) -> None:
    fake.add_foreign("theirs", runtime_env={"env_vars": {"KEY": "<redacted>"}})
    with pytest.raises(ClusterError, match="'theirs' of others cannot be read whole"):
        deploy(dashboard, plan())
    assert fake.puts == []


def test_a_name_that_others_have_is_refused(fake: FakeDashboard, dashboard: Dashboard) -> None:
    fake.add_foreign("demo.ingress")
    with pytest.raises(ClusterError, match=r"'demo\.ingress' that is not of this service"):
        prepare(dashboard, plan(), OPTIONS)


def test_the_same_plan_again_writes_nothing(fake: FakeDashboard, dashboard: Dashboard) -> None:
    deploy(dashboard, plan())
    written = len(fake.puts)
    assert "nothing changed" in deploy(dashboard, plan()).message
    assert len(fake.puts) == written


def test_what_was_scaled_from_outside_stays_with_the_same_plan_only(
    fake: FakeDashboard, dashboard: Dashboard
) -> None:
    deploy(dashboard, plan(group("chat"), group("large", "A100-80GB")))
    chat = next(n for n in fake.ours() if ".chat." in n)
    dashboard.scale(chat, "engine", 3)
    status = deploy(dashboard, plan(group("chat"), group("large", "A100-80GB")))
    assert {g.name: g.wanted for g in status.groups} == {"chat": 3, "large": 1}
    status = deploy(dashboard, plan(group("chat"), group("large", "A100-80GB", 2)))
    assert {g.name: g.wanted for g in status.groups} == {"chat": 1, "large": 2}


def routed(put: dict[str, Any]) -> set[str]:
    """Which applications the ingress of a written config routes to."""
    front = next(a for a in put["applications"] if a["name"] == "demo.ingress")
    return set(front["deployments"][0]["user_config"]["apps"].values())


def test_new_engines_run_before_they_get_requests_and_old_ones_until_they_get_none(
    fake: FakeDashboard, dashboard: Dashboard
) -> None:
    deploy(dashboard, plan(group("chat"), group("large", "A100-80GB", 2)))
    old = set(fake.ours()) - {"demo.ingress"}
    fake.puts.clear()
    deploy(dashboard, plan(group("chat", replicas=2), group("other", "A100-80GB")))
    new = set(fake.ours()) - {"demo.ingress"}
    names = [{a["name"] for a in p["applications"]} - {"demo.ingress"} for p in fake.puts]
    assert names == [old | new, old | new, new]
    assert [routed(p) for p in fake.puts] == [old, new, new]


def test_engines_of_other_options_come_up_beside_those_that_run(
    fake: FakeDashboard, dashboard: Dashboard
) -> None:
    deploy(dashboard, plan(group("chat")))
    old = next(n for n in fake.ours() if ".chat." in n)
    tuned = group("chat")
    engine = tuned.config.engine.model_copy(update={"max_num_seqs": 4})
    config = tuned.config.model_copy(update={"engine": engine})
    profile = tuned.profile.model_copy(update={"config": config})
    fake.puts.clear()
    deploy(dashboard, plan(tuned.model_copy(update={"profile": profile})))
    assert old in {a["name"] for a in fake.puts[0]["applications"]}
    assert old not in fake.ours()
    assert len(fake.ours()) == 2


def test_without_room_for_both_old_replicas_make_room_and_it_is_said(
    fake: FakeDashboard, dashboard: Dashboard
) -> None:
    deploy(dashboard, plan(group("chat", replicas=4)))
    fake.used = {"small": {"GPU": [4.0, 4.0]}}
    prepared = prepare(dashboard, plan(group("other", replicas=3)), OPTIONS)
    assert any("3 of 4 replicas stop before others start" in line for line in prepared.lines)
    fake.puts.clear()
    deploy_ray(dashboard, prepared, waiting=waiting())
    first = [a for a in fake.puts[0]["applications"] if ".chat." in a["name"]]
    assert first[0]["deployments"][0]["num_replicas"] == 1
    assert {n.split(".")[1] for n in fake.ours()} == {"other", "ingress"}


def test_another_operator_between_looking_and_writing(
    fake: FakeDashboard, dashboard: Dashboard
) -> None:
    deploy(dashboard, plan(group("chat")))
    prepared = prepare(dashboard, plan(group("chat", replicas=2)), OPTIONS)
    chat = next(n for n in fake.ours() if ".chat." in n)
    fake.change(chat, num_replicas=3)
    written = len(fake.puts)
    with pytest.raises(ConflictError, match=r"meanwhile: .*num_replicas 1 -> 3") as caught:
        deploy_ray(dashboard, prepared, waiting=waiting())
    assert caught.value.exit_code == 4
    assert len(fake.puts) == written


def test_another_operator_during_a_rollout_is_not_written_over(
    fake: FakeDashboard, dashboard: Dashboard
) -> None:
    deploy(dashboard, plan(group("chat")))
    prepared = prepare(dashboard, plan(group("chat"), group("more")), OPTIONS)

    def takes_away() -> None:
        name = next(n for n in fake.ours() if ".more." in n)
        del fake.apps[name]

    fake.after_put = takes_away
    with pytest.raises(ConflictError, match=r"demo\.more\.\w+ is gone"):
        deploy_ray(dashboard, prepared, waiting=waiting())
    assert not any(".more." in n for n in fake.ours())


def test_an_engine_that_does_not_start_is_said_with_its_log_and_taken_back(
    fake: FakeDashboard, dashboard: Dashboard
) -> None:
    fake.add_foreign("theirs")
    deploy(dashboard, plan(group("chat")))
    before = copy.deepcopy(fake.ours())
    fake.failing = {".bad.": TRACEBACK}
    with pytest.raises(EngineError, match="bad: CUDA out of memory; what was there before") as got:
        deploy(dashboard, plan(group("chat"), group("bad")))
    assert got.value.log_tail == "last line of the log"
    assert fake.ours() == before
    assert "theirs" in fake.apps


def test_a_first_deployment_that_fails_leaves_nothing_unless_kept(
    fake: FakeDashboard, dashboard: Dashboard
) -> None:
    fake.failing = {".chat.": TRACEBACK}
    with pytest.raises(EngineError):
        deploy(dashboard, plan(group("chat")))
    assert fake.ours() == {}
    with pytest.raises(EngineError):
        deploy(dashboard, plan(group("chat")), keep=True)
    assert len(fake.ours()) == 2


def test_what_takes_too_long_is_named_with_what_it_waits_for(
    fake: FakeDashboard, dashboard: Dashboard
) -> None:
    fake.stuck = {".chat."}
    with pytest.raises(ClusterError, match=r"chat: 0 of 2 replicas ready \(no node has room\)"):
        deploy(dashboard, plan(group("chat", replicas=2)))
    assert fake.ours() == {}


def test_status_tells_cost_since_the_replicas_started(
    fake: FakeDashboard, dashboard: Dashboard
) -> None:
    deploy(dashboard, plan(group("chat", replicas=2)))
    found = ray_status(dashboard, "demo", clock=lambda: 1000.0 + 3600)
    assert found is not None
    [chat] = found.groups
    assert (chat.ready, chat.wanted) == (2, 2)
    assert chat.usd_per_hour == chat.usd_so_far == pytest.approx(0.2)
    assert ray_status(dashboard, "other") is None


def test_our_code_goes_along_once_and_only_if_asked(
    fake: FakeDashboard, dashboard: Dashboard
) -> None:
    deploy(dashboard, plan(group("chat")))
    assert fake.packages == {}
    shipping = OPTIONS.model_copy(update={"ship_code": True})
    deploy(dashboard, plan(group("chat")), options=shipping)
    [(name, content)] = fake.packages.items()
    assert {c["runtime_env"]["py_modules"][0] for c in fake.ours().values()} == {f"gcs://{name}"}
    assert b"serve_apps/declared.py" in content


def test_a_dry_run_and_a_refusal_write_nothing(
    fake: FakeDashboard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    path = tmp_path / "plan.yaml"
    path.write_text(documents.dump(plan(group("chat"))))
    told = ["--target", "ray", "--address", fake.url, "--open", "--emulate"]
    run = CliRunner().invoke
    dry = run(cli, ["deploy", str(path), *told, "--dry-run"])
    assert dry.exit_code == 0, dry.output
    assert "+ chat: 1 x (1 x L4)" in dry.output and "nothing was changed" in dry.output
    assert fake.puts == []
    done = run(cli, ["deploy", str(path), *told])
    assert done.exit_code == 0, done.output
    path.write_text(documents.dump(plan(group("chat", replicas=2))))
    written = len(fake.puts)
    refused = run(cli, ["deploy", str(path), *told], input="n\n")
    assert isinstance(refused.exception, ClusterError)
    assert len(fake.puts) == written
    shown = run(cli, ["status", "demo", *told[:4], "--output", "json"])
    assert '"ready": 1' in shown.output
    gone = run(cli, ["delete", "demo", *told[:4], "--yes"])
    assert "'demo' is gone" in gone.output
    assert fake.ours() == {}
