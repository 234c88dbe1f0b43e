"""The burst benchmark's loads and figures mean what they say; its registry covers every policy."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from benchmarks.burst import MULTIPLES, SPIKES, TUNING_SEEDS, jobs, scenarios
from benchmarks.burst_cases import CASES
from benchmarks.burst_fleet import FLEETS, fleet_of
from benchmarks.burst_load import BASE, SPIKE_AT_S, SPIKE_S, Scenario, load_of
from benchmarks.burst_run import causal
from benchmarks.burst_table import ORDER, Row, figures, highest_served
from orchestrator.simulation.measures import Measures
from profiler.traces import Trace

POISSON = np.random.default_rng(0)
PART = Trace(
    arrival_s=np.concatenate([[0.0], np.cumsum(POISSON.exponential(0.2, 4999))]),
    input_tokens=POISSON.integers(100, 2000, 5000),
    output_tokens=POISSON.integers(10, 400, 5000),
    source="poisson",
)
NOTHING = Measures(1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, (1.0,))


def row(policy: str, multiple: float, seed: int = 0, spike: float | None = None, **is_: float):
    scenario = Scenario("chat", multiple, spike)
    return Row("c", scenario, seed, policy, dataclasses.replace(NOTHING, **is_))


def test_a_spike_multiplies_the_rate_for_its_minute_alone() -> None:
    got = load_of(Scenario("chat", BASE, 5.0), PART, 4.0, seed=1)
    during = (got.arrival_s >= SPIKE_AT_S) & (got.arrival_s < SPIKE_AT_S + SPIKE_S)
    before = got.arrival_s < SPIKE_AT_S
    after = got.arrival_s >= SPIKE_AT_S + SPIKE_S
    assert during.sum() / SPIKE_S == pytest.approx(5 * BASE * 4, rel=0.2)
    assert before.sum() / SPIKE_AT_S == pytest.approx(BASE * 4, rel=0.3)
    assert after.sum() / 210 == pytest.approx(BASE * 4, rel=0.3)


@pytest.mark.parametrize("source", ["chat", "code"])
def test_a_multiple_is_of_the_large_models_capacity(source: str) -> None:
    got = load_of(Scenario(source, 2.0, span_s=400.0), PART, 4.0, seed=1)
    assert got.mean_rate_rps == pytest.approx(8.0, rel=0.1)
    assert got.duration_s == pytest.approx(400, rel=0.05)


def test_fleets_put_the_large_model_first_and_the_fastest_last() -> None:
    for parts in FLEETS.values():
        fleet = fleet_of(parts, PART)
        assert list(fleet.capacity_rps) == sorted(fleet.capacity_rps)
        assert fleet.gpus in (8, 16)
        assert [g.config.model for g in fleet.plan.groups] == [p.model for p in fleet.parts]


def test_every_case_is_asked_for_every_load_by_every_seed() -> None:
    for case in CASES:
        asked = scenarios(case, quick=False)
        assert {s.multiple for s in asked if not s.spike} >= set(MULTIPLES)
        assert {s.spike for s in asked if s.spike} == set(SPIKES)
    work = jobs(list(CASES), 5, quick=False)
    assert len(work) == 5 * sum(len(scenarios(c, quick=False)) for c in CASES)
    assert max(j.seed for j in work) < TUNING_SEEDS


def test_every_policy_has_its_line() -> None:
    assert {*causal(CASES[0].tuned, {}), "random", "hindsight", "RL"} == set(ORDER)


def test_the_highest_rate_served_lies_between_the_grids_points() -> None:
    rows = [row("ours", 1.0, availability=1.0), row("ours", 4.0, availability=0.9)]
    assert highest_served(rows, "ours", "c") == pytest.approx(2.0)
    assert highest_served(rows[:1], "ours", "c") == 1.0


def test_figures_compare_with_one_rule_for_all_loads_and_keep_the_sign() -> None:
    rows = [
        row(policy, multiple, spike=spike, attainment=met, earned_share=earned)
        for policy, met, earned in (
            ("ours", 0.95, 0.9),
            ("queue rule", 0.97, 0.8),
            ("threshold", 0.9, 0.7),
            ("large-only", 0.5, 0.5),
            ("small-only", 1.0, 0.6),
            ("random", 0.9, 0.6),
        )
        for multiple, spike in ((2.0, None), (BASE, 5.0))
    ]
    found = figures(rows)
    assert found["best_tuned_rule"] == "queue rule"
    assert found["attainment_vs_best_tuned_rule"] == pytest.approx(-0.02)
    wanted = "availability_rate_multiple quality_share_at_2x recovery_s_5x"
    assert set(wanted.split()) < set(found)
