"""Settings are strict, and nobody serves the world by mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from placement.plan import AUTO
from profiler.errors import InputError
from serve_apps.guard.prices import plan_prices
from serve_apps.guard.settings import GuardSettings, check_exposure, is_loopback
from tests.plan_builders import group, plan, route


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "[::1]", "127.8.9.1"])
def test_this_machine_alone_needs_no_keys(host: str) -> None:
    assert is_loopback(host)
    check_exposure(GuardSettings(), host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "pool.example.com", ""])
def test_beyond_this_machine_keys_or_a_word_are_needed(host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(InputError, match=r"orchestrator keys create.*guard.allow_anonymous"):
        check_exposure(GuardSettings(), host)
    check_exposure(GuardSettings(keys="keys.yaml"), host)
    check_exposure(GuardSettings(allow_anonymous=True), host)


def test_paths_become_absolute_for_the_ingress(tmp_path: Path) -> None:
    found = GuardSettings(keys="keys.yaml", usage="used").at(tmp_path)
    assert (found.keys, found.usage) == (str(tmp_path / "keys.yaml"), str(tmp_path / "used"))
    assert GuardSettings.model_validate(found.model_dump(mode="json")) == found
    assert GuardSettings().at(tmp_path) == GuardSettings()


def test_a_plan_prices_tokens_at_what_they_cost_to_serve() -> None:
    wanted = plan((group("a", "m1"), group("b", "m2")), (route({"a": 0.75, "b": 0.25}),))
    prices = plan_prices(wanted)
    only = wanted.routes[0]
    tokens = only.rate_rps * (only.bucket.input_tokens + only.bucket.output_tokens) * 3600
    rent = {g.config.model: g.total_usd_per_hour for g in wanted.groups}
    assert prices["m1"].of(1e6, 0) == pytest.approx(rent["m1"] / (0.75 * tokens) * 1e6)
    assert prices["m2"].of(0, 1e6) == pytest.approx(rent["m2"] / (0.25 * tokens) * 1e6)
    assert prices[AUTO].of(5e5, 5e5) == pytest.approx(sum(rent.values()) / tokens * 1e6)
