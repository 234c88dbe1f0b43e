"""The burst benchmark's loads and figures mean what they say; its registry covers every policy."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.burst import FAR, MULTIPLES, SPIKES, TUNING_SEEDS, jobs, scenarios
from benchmarks.burst_cases import CASES
from benchmarks.burst_fleet import FLEETS, fleet_of
from benchmarks.burst_load import BASE, SPIKE_AT_S, SPIKE_S, Scenario, load_of
from benchmarks.burst_results import Key, Row, keep, kept
from benchmarks.burst_run import causal
from benchmarks.burst_table import ORDER, figures, highest_served
from benchmarks.burst_tuning import MARGINS, START, TRIALS, WORTHS, best_queue_rule
from orchestrator.simulation.load_rules import QueueSettings
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


def test_a_span_in_which_nobody_asks_is_drawn_again() -> None:
    clump = PART.picked(np.arange(20), "clump", np.append(np.linspace(0, 1, 19), 2000.0))
    for seed in range(20):
        assert len(load_of(Scenario("code", 1.0, span_s=5.0), clump, 0.01, seed)) > 0


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


def wanted(policies: tuple[str, ...] = tuple(ORDER), told: str = "") -> list[Key]:
    calm, far = Scenario("chat", 1.0), Scenario("chat", 8.0)
    near = [(CASES[0].name, calm, seed, p, told) for seed in range(2) for p in policies]
    return near + [(CASES[0].name, far, 0, p, told) for p in policies if p in FAR]


def done(key: Key, **is_: Any) -> tuple[Key, Row]:
    case, scenario, seed, policy, told = key
    measures = dataclasses.replace(NOTHING, **is_)
    return key, Row(case, scenario, seed, policy, measures, told)


def test_what_is_known_is_not_judged_again() -> None:
    keys = wanted()
    work = jobs(CASES[0], keys, {})
    assert sorted((j.scenario.multiple, j.seed) for j in work) == [(1.0, 0), (1.0, 1), (8.0, 0)]
    assert {j.policies for j in work} == {tuple(ORDER), FAR}
    assert max(j.seed for j in work) < TUNING_SEEDS
    left = jobs(CASES[0], keys, dict(map(done, keys[1:])))
    assert [(j.seed, j.policies) for j in left] == [(0, (ORDER[0],))]
    assert len(jobs(CASES[0], keys, dict(map(done, wanted(told="other estimates"))))) == 3


def test_random_goes_by_the_mix_of_ours() -> None:
    keys = wanted(("random",))[:1]
    assert [j.policies for j in jobs(CASES[0], keys, {})] == [("random", "ours")]
    both = wanted(("random", "ours"))[:2]
    (job,) = jobs(CASES[0], both, dict([done(both[1], mix=(0.3, 0.7))]))
    assert (job.policies, job.mix) == (("random",), (0.3, 0.7))


def test_results_come_back_from_their_file_and_the_last_of_the_same_counts(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    assert kept(file) == kept(None) == {}
    spike = dataclasses.replace(row("ours", BASE, spike=5.0, recovery_s=math.inf), told="worth 1")
    keep(file, [row("ours", 2.0, availability=0.1), spike])
    keep(file, [row("ours", 2.0, availability=0.2)])
    found = kept(file)
    assert list(found.values()) == [row("ours", 2.0, availability=0.2), spike]
    assert all(key == one.key for key, one in found.items())


def test_every_rule_is_tuned_with_as_many_trials() -> None:
    tried: dict[QueueSettings, float] = {}

    def score(settings: QueueSettings) -> float:
        assert settings not in tried
        tried[settings] = settings.margin + settings.high - abs(settings.hold_s - 3.0)
        return tried[settings]

    best, found = best_queue_rule(score, TRIALS)
    assert len(tried) == TRIALS == len(set(WORTHS)) == len(set(MARGINS))
    assert found == tried[best] == max(tried.values()) > tried[START]


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
    assert found["best_tuned_rule_c"] == "queue rule"
    assert found["attainment_vs_best_tuned_rule_c"] == pytest.approx(-0.02)
    better = [dataclasses.replace(r, case="d") for r in rows if r.policy != "queue rule"]
    never = [
        dataclasses.replace(r, measures=dataclasses.replace(r.measures, recovery_s=math.inf))
        if r.policy == "ours"
        else r
        for r in better
    ]
    assert figures([*never, *rows]) == figures([*never, *rows]) | {
        "cases": 2,
        "availability_rate_multiple": 1.0,
        "quality_share_at_2x": 1.0,
        "attainment_vs_best_tuned_rule": pytest.approx(-0.02),
        "recovery_s_5x": None,
    }


def test_a_case_that_is_not_judged_yet_is_left_out() -> None:
    assert figures([row("large-only", 2.0), row("large-only", BASE, spike=5.0)]) == {"cases": 0}


def test_time_near_the_peak_is_compared_with_the_better_static_model() -> None:
    rows = [
        row(policy, multiple, spike=spike, near_peak=share)
        for policy, share in (("ours", 0.8), ("large-only", 0.2), ("small-only", 0.4))
        for multiple, spike in ((2.0, None), (BASE, 5.0))
    ]
    assert figures(rows)["near_peak_multiple_c"] == 2.0
