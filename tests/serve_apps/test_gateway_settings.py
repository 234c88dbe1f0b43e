"""What users set of the gateway arrives at the ingress, with paths that hold wherever it runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from profiler.errors import InputError
from serve_apps.gateway_settings import GatewaySettings, gateway_of, with_gateway
from serve_apps.guard.settings import GuardSettings
from serve_apps.pool import IngressSettings, local_ingress
from tests.plan_builders import plan


def settings(**guard: object) -> GatewaySettings:
    return GatewaySettings(processes=3, standby=2, guard=GuardSettings.model_validate(guard))


def test_a_plan_carries_what_was_set_and_no_defaults() -> None:
    carried = with_gateway(plan(), settings(keys="keys.yaml", default_deadline_s=4))
    assert carried.gateway == {
        "processes": 3,
        "standby": 2,
        "guard": {"keys": "keys.yaml", "default_deadline_s": 4.0},
    }
    assert with_gateway(plan(), GatewaySettings()) == plan()
    assert carried.digest != plan().digest


def test_this_machines_ingress_is_as_the_plan_says() -> None:
    carried = with_gateway(plan(), settings(keys="/k.yaml"))
    made = local_ingress(carried, 8123, 30.0)
    assert (made.host, made.port, made.replicas, made.active) == ("127.0.0.1", 8123, 5, 3)
    assert made.guard.keys == "/k.yaml"
    assert made.version != local_ingress(plan(), 8123, 30.0).version


def test_processes_that_listen_share_engines_and_limits_those_that_stand_by_do_not() -> None:
    one = IngressSettings(port=1, replicas=4, active=3)
    assert (one.sharing, one.shared_guard.ingresses) == (3, 3)
    assert IngressSettings(port=1, gateways=7).shared_guard.ingresses == 7
    more = IngressSettings(guard=GuardSettings(ingresses=9), active=2)
    assert more.shared_guard.ingresses == 9


def test_paths_go_with_the_file_that_they_stand_in(tmp_path: Path) -> None:
    there = settings(keys="keys.yaml", usage="used").at(tmp_path / "a")
    assert there.guard.keys == str(tmp_path / "a" / "keys.yaml")
    moved = there.beside(tmp_path / "b")
    assert (moved.guard.keys, moved.guard.usage) == ("../a/keys.yaml", "../a/used")
    assert moved.at(tmp_path / "b") == GatewaySettings.model_validate(
        there.model_dump()
        | {"guard": there.guard.model_dump() | {"keys": str(tmp_path / "b/../a/keys.yaml"),
                                                 "usage": str(tmp_path / "b/../a/used")}}
    )  # fmt: skip


def test_a_wrong_section_of_a_plan_is_named() -> None:
    wrong = plan().model_copy(update={"gateway": {"guard": {"kyes": "x"}}})
    with pytest.raises(InputError, match=r"gateway\.guard\.kyes"):
        gateway_of(wrong)
