"""A load policy's file comes back as it went, and is refused where it does not fit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from placement.plan import Plan
from profiler.core import Slo
from profiler.errors import InputError
from serve_apps.router.load_values import (
    LoadValues,
    Verdict,
    features,
    load_values,
    pool_of,
)
from serve_apps.router.risk import in_time, left_by_load
from tests.serve_apps.flow import flows

VERDICT = Verdict(0.97, 0.95, 0.005, 0.99, 0.99, 24, 1.0)


@dataclass
class Seen:
    model: str
    quality: float = 0.5
    predicted_ttft_s: float = 0.1
    feasible: bool = True
    in_flight: int = 0
    queued: int = 0


def plan(replicas: int = 1) -> Plan:
    slow = flows.group("slow", "large", replicas=replicas, base_s=0.04)
    return flows.plan(slow, flows.group("fast", "small", replicas=1))


def policy(seed: int = 0) -> LoadValues:
    pool, rng = pool_of(plan()), np.random.default_rng(seed)
    shapes = (12, 4), (4, 2)
    layers = tuple((rng.normal(size=s), rng.normal(size=s[1])) for s in shapes)
    return LoadValues(pool, layers, VERDICT)


def test_the_model_that_costs_most_comes_first() -> None:
    assert pool_of(plan()).models == ("large", "small")


def test_a_file_comes_back_as_it_went(tmp_path: Path) -> None:
    made, file = policy(), tmp_path / "policy.npz"
    made.save(file)
    found = load_values(file)
    assert (found.pool, found.verdict) == (made.pool, made.verdict)
    seen = features(made.pool, [Seen("large"), Seen("small")], 1.0, 100)
    assert found.values(seen).tolist() == made.values(seen).tolist()
    assert [f.name for f in tmp_path.iterdir()] == ["policy.npz"]
    found.require_pool(plan())


def test_another_pool_is_refused_with_the_mend() -> None:
    with pytest.raises(InputError, match=r"2xcpux1.*train-load"):
        policy().require_pool(plan(replicas=2))


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 cut"])
def test_a_damaged_file_is_an_input_error(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "policy.npz"
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"policy\.npz"):
        load_values(file)


def test_a_truncated_file_and_a_missing_one_are_input_errors(tmp_path: Path) -> None:
    file = tmp_path / "policy.npz"
    policy().save(file)
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(InputError, match="damaged"):
        load_values(file)
    with pytest.raises(InputError, match="no such file"):
        load_values(tmp_path / "none.npz")


def test_pickled_content_is_never_run(tmp_path: Path) -> None:
    file = tmp_path / "policy.npz"
    np.savez(file, description=np.array([{"kind": 1}], dtype=object))
    with pytest.raises(InputError):
        load_values(file)


def test_layers_that_do_not_fit_are_refused() -> None:
    made = policy()
    with pytest.raises(ValueError, match="does not follow"):
        replace(made, layers=made.layers[1:])
    with pytest.raises(ValueError, match="finite"):
        replace(made, layers=((made.layers[0][0] * np.nan, made.layers[0][1]), made.layers[1]))


def test_the_best_is_feasible_whatever_the_order() -> None:
    made = policy()
    both = [Seen("large"), Seen("small")]
    assert made.best(both, 1.0, 100) == made.best(both[::-1], 1.0, 100)
    for name in ("large", "small"):
        assert made.best([replace(o, feasible=o.model == name) for o in both], 1.0, 100) == name
    assert made.best([replace(o, feasible=False) for o in both], 1.0, 100) is None


def test_only_a_clear_win_that_keeps_the_slo_is_better() -> None:
    assert VERDICT.better
    assert not replace(VERDICT, error=0.02).better
    assert not replace(VERDICT, learned_attainment=0.98).better


def test_the_chance_to_be_in_time_falls_with_the_wait_and_with_short_answers() -> None:
    slo = Slo(ttft_s=2.0, tpot_s=0.1, attainment=0.95)
    chances = [in_time(s, 100, slo) for s in (0.0, 0.5, 1.0, 2.0, float("inf"))]
    assert chances[0] == 1.0
    assert chances == sorted(chances, reverse=True)
    assert chances[-2:] == [0.0, 0.0]
    assert in_time(0.5, 5, slo) < in_time(0.5, 100, slo)


def test_prompts_to_come_spoil_short_answers_once_the_slo_does_not_forgive_it() -> None:
    slo = Slo(ttft_s=2.0, tpot_s=0.1, attainment=0.95)
    left = [left_by_load(0.1, 0.1, 30, slo, met_s) for met_s in (0.0, 0.05, 0.5, 1.0)]
    assert left[:2] == [1.0, 1.0]
    assert left[1:] == sorted(set(left[1:]), reverse=True)
    assert left_by_load(0.1, 0.1, 300, slo, 0.5) == 1.0
