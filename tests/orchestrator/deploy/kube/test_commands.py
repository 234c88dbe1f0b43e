"""`render`, `deploy`, `status` and `delete` on a cluster, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from profiler import documents
from tests.fake_kuberay import waiting
from tests.kube_builders import group, plan
from tests.orchestrator.deploy.kube.conftest import Place

TARGET = ("--target", "kubernetes")


@pytest.fixture
def there(tmp_path: Path, place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A plan, its settings and a kubeconfig for the double in the working directory."""
    monkeypatch.setattr("orchestrator.deploy.kube.waiting.POLL_S", 0.01)
    monkeypatch.setattr("orchestrator.deploy.kube.waiting.SETTLE_S", 0.1)
    documents.write(tmp_path / "plan.yaml", documents.dump(plan()))
    (tmp_path / "kubernetes.yaml").write_text("image: registry.example/llm:1\n")
    cluster = {"name": "c", "cluster": {"server": place.url}}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [cluster],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    return place


def connected(*args: str) -> tuple[str, ...]:
    wait = ("--wait", "1") if args[0] == "deploy" else ()
    return (*args, *TARGET, "--kubeconfig", "kubeconfig", *wait)


def test_deploy_shows_the_difference_waits_and_prints_the_status(there, orchestrate) -> None:
    done = orchestrate(*connected("deploy", "plan.yaml", "-o", "json"))
    assert done.returncode == 0, done.stderr
    assert "+ RayService demo: ingress 2 pods; l4-1x 1 pods; a100-80gb-1x 2 pods" in done.stderr
    assert json.loads(done.stdout)["state"] == "running"
    again = orchestrate(*connected("deploy", "plan.yaml"))
    assert "no object changes" in again.stderr
    assert "already running; nothing changed" in again.stderr


def test_a_dry_run_writes_nothing(there, orchestrate) -> None:
    done = orchestrate(*connected("deploy", "plan.yaml", "--dry-run"))
    assert done.returncode == 0
    assert "dry run: nothing was changed" in done.stderr
    assert there.cluster.writes == []


def test_a_change_is_asked_for_without_a_terminal_refused(there, orchestrate, tmp_path) -> None:
    orchestrate(*connected("deploy", "plan.yaml"))
    writes = list(there.cluster.writes)
    more = plan(group("chat", replicas=2), group("large", "A100-80GB", 2))
    documents.write(tmp_path / "plan.yaml", documents.dump(more))
    done = orchestrate(*connected("deploy", "plan.yaml"))
    assert done.returncode == 4
    assert "nothing was changed" in done.stderr
    assert there.cluster.writes == writes
    assert orchestrate(*connected("deploy", "plan.yaml", "-y")).returncode == 0


def test_a_conflict_ends_with_4_and_names_the_manager(there, orchestrate) -> None:
    orchestrate(*connected("deploy", "plan.yaml"))
    there.cluster.edit("RayService", "demo", "argocd", excludeHeadPodFromServeSvc=False)
    done = orchestrate(*connected("deploy", "plan.yaml", "-y"))
    assert done.returncode == 4
    assert "'argocd' holds .spec.excludeHeadPodFromServeSvc" in done.stderr
    assert orchestrate(*connected("deploy", "plan.yaml", "-y", "--force-conflicts")).returncode == 0


def test_status_and_delete_find_the_service(there, orchestrate) -> None:
    orchestrate(*connected("deploy", "plan.yaml"))
    shown = orchestrate(*connected("status", "demo"))
    assert "demo: running at http://demo.default:8000/v1" in shown.stdout
    assert "$ so far" in shown.stdout
    assert orchestrate(*connected("delete", "demo", "-y")).returncode == 0
    gone = orchestrate(*connected("status", "demo"))
    assert gone.returncode == 2
    assert "no service 'demo' runs in the namespace 'default'" in gone.stderr


def test_a_failed_service_is_shown_as_it_is(there, orchestrate) -> None:
    orchestrate(*connected("deploy", "plan.yaml"))
    there.operator.broken_pods["l4-1x"] = waiting("ImagePullBackOff", "manifest unknown")
    there.operator.reconcile()
    found = json.loads(orchestrate(*connected("status", "demo", "-o", "json")).stdout)
    assert found["state"] == "failed"
    assert "cannot be pulled: manifest unknown" in found["message"]


def test_settings_that_are_missing_or_wrong_are_named(there, orchestrate, tmp_path) -> None:
    (tmp_path / "kubernetes.yaml").write_text("image: x\nnamespce: llm\n")
    done = orchestrate(*connected("deploy", "plan.yaml"))
    assert done.returncode == 2
    assert (
        "kubernetes.yaml:2: namespce: unknown key 'namespce'; did you mean 'namespace'?"
        in done.stderr
    )
    (tmp_path / "kubernetes.yaml").write_text("image: x\nenv: {HF_TOKEN: abc}\n")
    assert "looks like a secret" in orchestrate(*connected("deploy", "plan.yaml")).stderr
    (tmp_path / "kubernetes.yaml").unlink()
    assert "no settings for Kubernetes" in orchestrate(*connected("deploy", "plan.yaml")).stderr


def test_the_command_of_the_autoscalers_pod_is_one_of_ours(there, orchestrate, tmp_path) -> None:
    (tmp_path / "kubernetes.yaml").write_text(
        "image: x\nautoscaler: {budget_usd_per_hour: 60, minimum: {chat: 1}, maximum: {chat: 9}}\n"
    )
    assert orchestrate("render", "plan.yaml", "-d", "out").returncode == 0
    made = yaml.safe_load((tmp_path / "out/base/deployment-demo-autoscaler.yaml").read_text())
    command = made["spec"]["template"]["spec"]["containers"][0]["command"]
    done = orchestrate(*command[1:])
    assert done.returncode == 2
    assert "/etc/llm-orchestrator/plan/plan.yaml" in done.stderr  # its options are known


def test_deploy_with_an_autoscaler_makes_its_pod_and_without_removes_it(there, orchestrate) -> None:
    assert orchestrate(*connected("deploy", "plan.yaml", "--autoscale")).returncode == 0
    assert there.cluster.names("Deployment") == ["demo-autoscaler"]
    done = orchestrate(*connected("deploy", "plan.yaml", "-y"))
    assert "- Deployment demo-autoscaler" in done.stderr
    assert there.cluster.names("Deployment") == []


def test_render_writes_a_base_or_a_chart_and_keeps_what_is_there(
    there, orchestrate, tmp_path
) -> None:
    done = orchestrate("render", "plan.yaml", "-d", "out")
    assert done.returncode == 0
    assert "kubectl apply --server-side -k out/base" in done.stderr
    assert (tmp_path / "out/base/rayservice-demo.yaml").exists()
    assert orchestrate("render", "plan.yaml", "-d", "chart", "--helm").returncode == 0
    assert (tmp_path / "chart/values.schema.json").exists()
    (tmp_path / "out/base/kustomization.yaml").write_text("mine")
    refused = orchestrate("render", "plan.yaml", "-d", "out")
    assert refused.returncode == 2
    assert (tmp_path / "out/base/kustomization.yaml").read_text() == "mine"
    assert there.cluster.writes == []
