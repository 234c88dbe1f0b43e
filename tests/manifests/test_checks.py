"""Rules that only KubeRay's operator checks are checked before anything is applied."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from manifests.bundle import render
from manifests.checks import check_all, ray_service_faults
from profiler.errors import InputError
from tests import kube_builders as kb

MADE = next(o for o in render(kb.plan(), kb.settings()) if o["kind"] == "RayService")
Cluster = dict[str, Any]


def start(**params: str) -> Callable[[Any], None]:
    return lambda o: cluster(o)["workerGroupSpecs"][1]["rayStartParams"].update(params)


def cluster(obj: Any) -> Cluster:
    found: Cluster = obj["spec"]["rayClusterConfig"]
    return found


def pod(obj: Any) -> dict[str, Any]:
    found: dict[str, Any] = cluster(obj)["headGroupSpec"]["template"]["spec"]
    return found


def head(obj: Any) -> dict[str, Any]:
    found: dict[str, Any] = pod(obj)["containers"][0]
    return found


def group(**changes: Any) -> Callable[[Any], None]:
    return lambda o: cluster(o)["workerGroupSpecs"][1].update(changes)


CASES: list[tuple[Callable[[Any], Any], str]] = [
    (start(**{"num-cpus": "1"}), "l4-1x: resources and rayStartParams.num-cpus are both set"),
    (start(labels="a=b"), "l4-1x: rayStartParams.labels is refused"),
    (group(labels={"a": "b c"}), "l4-1x: label a='b c' is not valid"),
    (group(minReplicas=3, maxReplicas=2, replicas=3), "minReplicas 3 exceeds maxReplicas 2"),
    (group(replicas=9), "replicas 9 is not between 0 and 2"),
    (group(groupName="1x"), "name: at most 47 characters"),
    (group(groupName="ingress"), "worker group 'ingress' twice"),
    (lambda o: o["metadata"].update(name="a" * 48), "at most 47 characters"),
    (lambda o: o["metadata"].update(name="Demo"), "RayService name 'Demo'"),
    (lambda o: o["spec"].update(upgradeStrategy={"type": "Rolling"}), "expected one of NewCluster"),
    (lambda o: cluster(o).update(authOptions={"mode": "disabled"}), "token authentication must be"),
    (lambda o: cluster(o).update(rayVersion="2.9.0"), "tokens need 2.52.0 or later"),
    (lambda o: cluster(o)["headGroupSpec"].update(serviceType="LoadBalancer"), "the dashboard"),
    (lambda o: cluster(o)["headGroupSpec"]["template"]["spec"].update(containers=[]), "no contain"),
    (
        lambda o: pod(o).update(serviceAccountName="a" * 51),
        "would be clipped to 50 characters by the operator",
    ),
    (lambda o: head(o).update(ports=[]), "head: its container needs a port named 'serve'"),
]


def test_what_we_render_breaks_none() -> None:
    assert ray_service_faults(MADE) == []


@pytest.mark.parametrize(("spoil", "said"), CASES)
def test_each_broken_rule_is_named(spoil: Callable[[Any], Any], said: str) -> None:
    obj = copy.deepcopy(MADE)
    spoil(obj)
    assert any(said in fault for fault in ray_service_faults(obj))
    with pytest.raises(InputError):
        check_all([obj])
