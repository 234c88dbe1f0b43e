"""An autoscaler's view of a service on a Ray cluster, tried against a double of its dashboard."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.autoscale.loop import OutOfStockError
from orchestrator.deploy.ray_cluster import deploy_ray, prepare
from orchestrator.deploy.ray_scaling import RayActuator, RayMeter, target_at
from orchestrator.deploy.rayserve.asking import Count
from orchestrator.deploy.rayserve.config import RayOptions
from orchestrator.deploy.rayserve.dashboard import Dashboard
from orchestrator.deploy.rayserve.options import options_of
from orchestrator.deploy.rayserve.rolling import Waiting
from orchestrator.deploy.rayserve.writing import look
from profiler.errors import ClusterError
from serve_apps.guard.settings import GuardSettings
from tests.fake_dashboard import TOKEN, FakeDashboard, node
from tests.kube_builders import group, plan

OPTIONS = RayOptions(guard=GuardSettings(allow_anonymous=True), emulate=True)
FLEET = plan(group("chat", replicas=2), group("pair", "A100-80GB", tensor_parallel=2))


@pytest.fixture
def fake() -> Iterator[FakeDashboard]:
    nodes = [node("head"), node("small", "L4", 4), node("large", "A100-80G", 3)]
    with FakeDashboard(nodes).running() as running:
        yield running


@pytest.fixture
def actuator(fake: FakeDashboard) -> RayActuator:
    dashboard = Dashboard(fake.url, TOKEN)
    deploy_ray(dashboard, prepare(dashboard, FLEET, OPTIONS), waiting=Waiting(10))
    fake.used = {"small": {"GPU": [2.0, 4.0]}, "large": {"GPU": [2.0, 3.0]}}
    return RayActuator(dashboard, FLEET)


def counted(actuator: RayActuator) -> dict[str, tuple[int, int, int]]:
    return {n: (g.ready, g.starting, g.draining) for n, g in actuator.current().items()}


def test_groups_grow_and_shrink_to_none(fake: FakeDashboard, actuator: RayActuator) -> None:
    assert counted(actuator) == {"chat": (2, 0, 0), "pair": (1, 0, 0)}
    actuator.set("chat", 4)
    actuator.set("pair", 0)
    assert counted(actuator) == {"chat": (4, 0, 0), "pair": (0, 0, 0)}
    assert [(n.split(".")[1], k) for n, k in fake.scaled] == [("chat", 4), ("pair", 0)]


def test_a_plan_that_was_deployed_with_options_is_still_the_plan_of_its_file(
    fake: FakeDashboard, actuator: RayActuator
) -> None:
    dashboard = Dashboard(fake.url, TOKEN)
    shut = FLEET.model_copy(update={"gateway": {}})
    assert shut.digest != FLEET.digest
    assert set(target_at(dashboard, shut).actuator.current()) == {"chat", "pair"}
    with pytest.raises(ClusterError, match="runs another plan"):
        target_at(dashboard, plan(group("chat", replicas=9)))


def test_what_has_no_room_is_said_and_the_rest_is_asked_for(
    fake: FakeDashboard, actuator: RayActuator
) -> None:
    with pytest.raises(OutOfStockError) as caught:
        actuator.set("chat", 7)
    assert caught.value.short == 3
    assert fake.scaled[-1][1] == 4
    with pytest.raises(OutOfStockError) as caught:
        actuator.set("pair", 2)  # one GPU is left where two together are needed
    assert caught.value.short == 1
    assert len(fake.scaled) == 1


def test_replicas_that_start_or_leave_are_told_apart(
    fake: FakeDashboard, actuator: RayActuator
) -> None:
    app = next(a for n, a in fake.apps.items() if ".chat." in n)
    deployment = app["deployments"]["engine"]
    deployment["target_num_replicas"] = 3
    deployment["replicas"][0]["state"] = "STOPPING"
    assert counted(actuator)["chat"] == (1, 2, 1)


def test_a_replica_whose_node_was_given_notice_leaves_and_another_starts(
    fake: FakeDashboard, actuator: RayActuator
) -> None:
    app = next(a for n, a in fake.apps.items() if ".chat." in n)
    app["deployments"]["engine"]["replicas"][0]["state"] = "PENDING_MIGRATION"
    assert counted(actuator)["chat"] == (1, 1, 1)


def test_another_plan_is_not_scaled(fake: FakeDashboard, actuator: RayActuator) -> None:
    other = RayActuator(Dashboard(fake.url, TOKEN), plan(group("chat", replicas=3)))
    with pytest.raises(ClusterError, match="runs another plan"):
        other.current()


def test_another_plan_comes_in_force_with_the_options_of_the_one_that_runs(
    fake: FakeDashboard, actuator: RayActuator, tmp_path: Path
) -> None:
    dashboard = Dashboard(fake.url, TOKEN)
    place = target_at(dashboard, FLEET)
    assert options_of(look(dashboard, "demo")) == OPTIONS
    assert place.apply is not None
    other = plan(group("chat", replicas=1), group("wide", "A100-80GB"))
    after = place.apply(other, tmp_path)
    assert {n: g.staying for n, g in after.actuator.current().items()} == {"chat": 1, "wide": 1}
    assert options_of(look(dashboard, "demo")) == OPTIONS
    with pytest.raises(ClusterError, match="runs another plan"):
        actuator.current()


def test_a_plan_without_room_leaves_the_one_that_runs(
    fake: FakeDashboard, actuator: RayActuator, tmp_path: Path
) -> None:
    place = target_at(Dashboard(fake.url, TOKEN), FLEET)
    assert place.apply is not None
    with pytest.raises(ClusterError, match="lacks what the plan needs"):
        place.apply(plan(group("chat", replicas=9)), tmp_path)
    assert counted(actuator) == {"chat": (2, 0, 0), "pair": (1, 0, 0)}


def test_arrivals_are_what_came_since_at_every_ingress() -> None:
    told: dict[str, dict[Count, float]] = {
        "a": {("i1", "auto", "b"): 10.0},
        "b": {("i2", "auto", "b"): 5.0, ("i2", "m1", "c"): 1.0},
    }
    meter = RayMeter(lambda: sorted(told), lambda url: told[url])
    assert meter.arrivals() is None
    told["a"] = {("i1", "auto", "b"): 13.0}
    told["b"] = {("i2", "auto", "b"): 2.0}  # it began anew
    assert meter.arrivals() == {("auto", "b"): 5}
    told["c"] = {("i3", "auto", "b"): 7.0}
    assert meter.arrivals() == {("auto", "b"): 7}


def test_parts_of_requests_are_told_when_they_add_up() -> None:
    counts = iter(range(100))
    meter = RayMeter(lambda: ["a"], lambda _url: {("i", "auto", "b"): 0.3 * next(counts)})
    told = [meter.arrivals() for _ in range(31)]
    assert sum((t or {}).get(("auto", "b"), 0) for t in told) == 9


def test_an_ingress_that_cannot_be_asked_makes_the_next_count_unknown_too() -> None:
    failing = [False]

    def read(_url: str) -> dict[Count, float]:
        if failing[0]:
            raise ClusterError("away")
        return {("i", "auto", "b"): 3.0}

    meter = RayMeter(lambda: ["a"], read)
    meter.arrivals()
    failing[0] = True
    with pytest.raises(ClusterError):
        meter.arrivals()
    failing[0] = False
    assert meter.arrivals() is None
    assert meter.arrivals() == {("auto", "b"): 0}
