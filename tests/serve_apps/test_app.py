"""Applications carry versions of their own, so that Serve replaces only what must be replaced."""

from __future__ import annotations

from typing import Any

import pytest

from serve_apps.pool import IngressSettings, engine_settings
from tests.plan_builders import group, plan, route

pytestmark = pytest.mark.usefixtures("serve")


def versions(application: Any) -> list[str | None]:
    """The versions that Serve is going to be given."""
    from ray.serve._private.build_app import build_app

    return [d.version for d in build_app(application, name="x").deployments]


def test_more_replicas_are_the_same_version_of_the_group() -> None:
    from serve_apps.app import engine_application

    one, two = (
        engine_application(engine_settings(p, {"m1": "/w"}, "/logs", [0])["a"])
        for p in (plan((group("a"),)), plan((group("a", replicas=2),)))
    )
    assert versions(one) == versions(two) != [None]


def test_another_plan_is_the_same_version_of_the_ingress() -> None:
    from serve_apps.app import ingress_application

    settings = IngressSettings(port=8000)
    plans = [plan(routes=(route({"a": 1.0}, rate_rps=r),)) for r in (1, 2)]
    one, two = (ingress_application(p, settings) for p in plans)
    assert versions(one) == versions(two) != [None]


def test_the_ingress_is_told_of_replicas_and_cold_starts_only_where_there_is_news() -> None:
    from serve_apps.app import ingress_application

    settings = IngressSettings()
    plain = ingress_application(plan(), settings)
    told = ingress_application(plan(), settings, None, {"a": 0}, 40.0)
    configs = [a._bound_deployment.user_config for a in (plain, told)]
    assert configs[1] == {**configs[0], "scaled": {"a": 0}, "cold_start_s": 40.0}


def test_another_address_is_another_version_of_the_ingress() -> None:
    one, two = IngressSettings(port=8000), IngressSettings(port=8001)
    assert one.version != two.version
    assert one.version == IngressSettings(port=8000, replicas=3).version


def test_a_config_names_the_request_router_as_the_code_does(serve: Any) -> None:
    from orchestrator.deploy.rayserve.config import ROUTED, ROUTER
    from serve_apps import replica_router

    assert (ROUTER, ROUTED) == (replica_router.ROUTER, replica_router.GROUP)
