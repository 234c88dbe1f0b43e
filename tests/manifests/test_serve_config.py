"""Serve's config says what the plan says, strictly, and changes only what must change."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from manifests.objects import Naming
from manifests.ray_service import plan_config
from manifests.serve_config import (
    INGRESS_APP,
    ServeConfig,
    as_data,
    as_yaml,
    cluster_weights,
    serve_config,
)
from placement.plan import Plan
from profiler.errors import InputError
from tests import kube_builders as kb


def apps(plan: Plan) -> dict[str, Any]:
    """Applications by the group that they are of."""
    found = as_data(serve_config(plan))["applications"]
    return {a["name"].partition(".")[0]: a for a in found}


def test_each_group_is_an_application_and_the_ingress_gets_the_plan() -> None:
    made = apps(kb.plan())
    assert list(made) == ["chat", "large", INGRESS_APP]
    (engine,) = made["large"]["deployments"]
    assert engine["num_replicas"] == 2
    assert engine["max_ongoing_requests"] == 16
    assert engine["ray_actor_options"]["num_gpus"] == 1
    assert made["chat"]["route_prefix"] is None
    assert made[INGRESS_APP]["route_prefix"] == "/"
    found = Plan.model_validate(made[INGRESS_APP]["deployments"][0]["user_config"]["plan"])
    assert [g.name for g in found.groups] == ["chat", "large"]
    named = made[INGRESS_APP]["deployments"][0]["user_config"]["apps"]
    assert named == {group: made[group]["name"] for group in ("chat", "large")}


def test_prices_replicas_and_other_groups_do_not_touch_what_an_engine_was_started_with() -> None:
    before = apps(kb.plan())["chat"]
    l4 = kb.plan().gpus["L4"]
    dearer = l4.model_copy(
        update={"price": l4.price.model_copy(update={"on_demand_usd_per_hour": 9.0})}
    )
    plan = kb.plan(kb.group("chat", replicas=5), kb.group("new", "H100"))
    after = apps(plan.model_copy(update={"gpus": plan.gpus | {"L4": dearer}}))["chat"]
    assert (after["args"], after["name"]) == (before["args"], before["name"])
    assert after["deployments"][0]["num_replicas"] == 5


def test_engines_with_another_option_are_another_application_beside_the_first() -> None:
    made = kb.group("chat")
    options = made.config.engine.model_copy(update={"max_num_seqs": 99})
    config = made.config.model_copy(update={"engine": options})
    other = made.model_copy(update={"profile": made.profile.model_copy(update={"config": config})})
    assert apps(kb.plan(other))["chat"]["name"] != apps(kb.plan(made))["chat"]["name"]


def test_unknown_fields_are_refused() -> None:
    data = as_data(serve_config(kb.plan()))
    ServeConfig.model_validate(data)
    data["applications"][0]["deployments"][0]["num_replica"] = 1
    with pytest.raises(ValidationError, match="num_replica"):
        ServeConfig.model_validate(data)


@pytest.mark.parametrize("weights", ["./mine", "~/mine", "package:llm-x"])
def test_weights_of_this_machine_are_refused(weights: str) -> None:
    with pytest.raises(InputError, match="on this machine only"):
        cluster_weights("m", weights)
    assert cluster_weights("m", "org/name") == "org/name"
    assert cluster_weights("m", "/models/x") == "/models/x"


def test_rays_own_schema_takes_it_whole() -> None:
    schema = pytest.importorskip("ray.serve.schema", reason="Ray Serve is not installed")
    naming = Naming("demo", kb.settings())
    plan = kb.plan(kb.group("chat"), kb.group("cpu", "cpu"))
    text = as_yaml(plan_config(naming, plan, None))
    taken = schema.ServeDeploySchema.model_validate(yaml.safe_load(text))
    names = [a.name.partition(".")[0] for a in taken.applications]
    assert names == ["chat", "cpu", INGRESS_APP]
    options = taken.applications[0].deployments[0].ray_actor_options
    assert options.label_selector["llm-orchestrator/worker-group"] == "l4-1x"
    assert taken.applications[0].external_scaler_enabled


def test_the_ingress_is_named_as_the_data_plane_names_it() -> None:
    app = pytest.importorskip("serve_apps.app", reason="Ray Serve is not installed")
    assert app.INGRESS_APP == INGRESS_APP
