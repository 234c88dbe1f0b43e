"""On the way from one plan to the next no model is without engines that the ingress routes to."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from manifests.bundle import render
from manifests.objects import Object
from orchestrator.deploy.kube.rolling import Step, steps
from placement.plan import Plan, ReplicaGroup
from tests.kube_builders import group, plan, settings

LARGE = group("large", "A100-80GB", 2)


def service(wanted: Plan, before: Object | None = None, **options: Any) -> Object:
    groups = before["spec"]["rayClusterConfig"]["workerGroupSpecs"] if before else ()
    objects = render(wanted, settings(**options), before=groups)
    return next(o for o in objects if o["kind"] == "RayService")


def taken(old: Plan, new: Plan, **options: Any) -> tuple[list[Step], Object]:
    live = service(old, **options)
    wanted = service(new, live, **options)
    cluster: Object = {"spec": live["spec"]["rayClusterConfig"]}
    return steps(live, wanted, cluster), wanted


def counts(made: Object) -> dict[str, int]:
    """Engines by group; those of one group in two versions add up."""
    found: dict[str, int] = {}
    for app in yaml.safe_load(made["spec"]["serveConfigV2"])["applications"]:
        name = app["name"].partition(".")[0]
        found[name] = found.get(name, 0) + app["deployments"][0]["num_replicas"]
    return found


def pods(made: Object, worker: str) -> tuple[int, int]:
    groups = made["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    found = next(g for g in groups if g["groupName"] == worker)
    return found["replicas"], found["maxReplicas"]


def with_seqs(made: ReplicaGroup, seqs: int) -> ReplicaGroup:
    options = made.config.engine.model_copy(update={"max_num_seqs": seqs})
    config = made.config.model_copy(update={"engine": options})
    return made.model_copy(update={"profile": made.profile.model_copy(update={"config": config})})


@pytest.mark.parametrize(
    "new",
    [plan(), plan(group("chat", replicas=3), LARGE), plan(group("chat", usd_per_hour=9.0), LARGE)],
)
def test_what_only_grows_or_costs_otherwise_needs_no_step(new: Plan) -> None:
    assert taken(plan(), new)[0] == []


def test_engines_with_other_options_start_in_pods_of_their_own_first() -> None:
    old = plan(group("chat", replicas=3), LARGE)
    made, wanted = taken(old, plan(with_seqs(group("chat", replicas=2), 99), LARGE))
    assert [counts(s.service)["chat"] for s in made] == [5, 5]
    assert counts(wanted)["chat"] == 2
    assert [pods(s.service, "l4-1x") for s in made] == [(5, 6), (5, 6)]
    assert made[0].room == {"l4-1x"}


def test_where_pods_are_counted_old_engines_keep_those_that_the_new_ones_leave() -> None:
    old = plan(group("chat", replicas=3), LARGE)
    new = plan(with_seqs(group("chat", replicas=2), 99), LARGE)
    made, _ = taken(old, new, autoscaling={"in_tree": False})
    assert [counts(s.service)["chat"] for s in made] == [3, 3]
    assert pods(made[0].service, "l4-1x")[0] == 3


def test_what_is_only_taken_away_is_routed_around_first() -> None:
    made, wanted = taken(plan(), plan(group("chat")))
    assert [counts(s.service) for s in made] == [{"chat": 1, "large": 2, "Ingress": 2}]
    assert pods(made[0].service, "a100-80gb-1x")[0] == 2
    assert pods(wanted, "a100-80gb-1x") == (0, 0)


def test_a_step_names_itself_and_the_last_one_no_more() -> None:
    made, wanted = taken(plan(), plan(group("chat"), group("other", "H100")))
    told = [s.service["metadata"]["annotations"].get("llm-orchestrator/step") for s in made]
    assert told == ["start engines", "route"]
    assert "llm-orchestrator/step" not in wanted["metadata"]["annotations"]
