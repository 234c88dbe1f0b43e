"""The command line's words about the front door stand in the place of the plan's."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.cli.door_options import Door
from orchestrator.deploy.local import deploy_local
from orchestrator.report import plan_changes
from profiler.errors import InputError
from serve_apps.gateway_settings import GatewaySettings, gateway_of, with_gateway
from serve_apps.guard.settings import GuardSettings
from tests.plan_builders import plan

CARRIED = with_gateway(
    plan(), GatewaySettings(processes=2, guard=GuardSettings(keys="keys.yaml", open_metrics=True))
)


def test_what_is_not_said_is_the_plans(tmp_path: Path) -> None:
    found = Door().applied(CARRIED, tmp_path)
    assert found.targets.local.host == "127.0.0.1"
    guard = gateway_of(found).guard
    assert (guard.keys, guard.open_metrics) == (str(tmp_path / "keys.yaml"), True)
    assert gateway_of(found).processes == 2


def test_what_is_said_goes_before_and_the_rest_stays(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    found = Door("0.0.0.0", mine, 4).applied(CARRIED, tmp_path)
    assert found.targets.local.host == "0.0.0.0"
    assert gateway_of(found).processes == 4
    assert gateway_of(found).guard == GuardSettings(keys=str(mine), open_metrics=True)


def test_open_drops_the_keys(tmp_path: Path) -> None:
    guard = gateway_of(Door(open_=True).applied(CARRIED, tmp_path)).guard
    assert (guard.keys, guard.allow_anonymous) == (None, True)
    with pytest.raises(InputError, match="--open"):
        Door(keys=tmp_path, open_=True).applied(CARRIED, tmp_path)


def test_nobody_listens_beyond_this_machine_without_keys(tmp_path: Path) -> None:
    exposed = Door("0.0.0.0").applied(plan(), tmp_path)
    with pytest.raises(InputError, match="orchestrator keys create") as caught:
        deploy_local(exposed, root=tmp_path)
    assert "--open" in str(caught.value)
    with pytest.raises(InputError, match=r"nowhere\.yaml"):
        deploy_local(Door(keys=tmp_path / "nowhere.yaml").applied(plan(), tmp_path), root=tmp_path)
    assert not list(tmp_path.iterdir())


def test_on_kubernetes_keys_come_from_a_secret() -> None:
    with pytest.raises(InputError, match="kubectl create secret"):
        Door(keys=Path("k.yaml")).on_cluster(CARRIED)
    with pytest.raises(InputError, match="ingress_replicas"):
        Door(processes=2).on_cluster(CARRIED)
    assert gateway_of(Door(open_=True).on_cluster(CARRIED)).guard.allow_anonymous


def test_a_change_of_the_front_door_is_told_before_it_is_made(tmp_path: Path) -> None:
    now, then = (Door(processes=n).applied(CARRIED, tmp_path) for n in (2, 3))
    assert plan_changes(now, now) == []
    assert plan_changes(now, then) == ["~ gateway: its processes are replaced one after another"]
