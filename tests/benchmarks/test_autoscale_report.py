"""The ratios compare costs at the same attainment, and only where both rules reach it."""

from __future__ import annotations

import pytest

from benchmarks.autoscale_report import Result, markdown, ratios


def result(rule: str, usd: float | None, case: str = "azure-chat", **changed: object) -> Result:
    plain = {
        "case": case,
        "router": "shedding",
        "rule": rule,
        "cold_s": 104.0,
        "only": "all types",
        "tuning_usd": 10.0,
        "usd_per_hour": 20.0,
        "attainment": 0.96,
        "quality": 0.97,
        "recovery_s": None,
        "flaps_per_hour": 2.0,
        "usd_at_95": usd,
    }
    return {**plain, **changed}


def test_costs_are_compared_case_by_case_at_95_percent() -> None:
    found = ratios(
        [
            result("ours", 8.0),
            result("knative", 16.0),
            result("ours", 9.0, "gamma-cv4"),
            result("knative", 8.0 * 9 / 4, "gamma-cv4"),
        ]
    )
    assert found["cost_vs_kpa"] == pytest.approx(0.5)
    assert found["cost_vs_wva"] is None


def test_who_never_reaches_it_is_left_out_and_told_of() -> None:
    missed = result("knative", None, "gamma-cv4", attainment=0.73)
    found = ratios([result("ours", 9.0, "gamma-cv4"), missed])
    assert found["cost_vs_kpa"] is None


def test_each_rule_stands_behind_the_router_with_which_tuning_was_cheapest() -> None:
    found = ratios(
        [
            result("ours", 8.0),
            result("knative", 16.0),
            result("knative", 10.0, router="balanced", tuning_usd=9.0),
        ]
    )
    assert found["cost_vs_kpa"] == pytest.approx(0.8)


def test_recovery_is_the_worst_behind_routers_that_shed() -> None:
    spikes = [
        result("ours", 8.0, "spike-5x-30s", recovery_s=3.0),
        result("ours", 8.0, "spike-5x-600s", recovery_s=7.0),
        result("ours", 8.0, "spike-5x-120s", recovery_s=90.0, router="balanced"),
        result("ours", 8.0, "spike-10x-120s", recovery_s=80.0),
    ]
    assert ratios(spikes)["recovery_s_5x"] == 7.0


def test_tables_say_how_much_was_met_where_95_percent_was_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    missed = result("wva", None, attainment=0.731, usd_per_hour=12.0)
    markdown([result("clairvoyant", 8.0), result("ours", 10.0), missed], "shedding", 104.0)
    assert "| azure-chat | 8.00 | 1.25 | 1.50 (73.1%) |" in capsys.readouterr().out
