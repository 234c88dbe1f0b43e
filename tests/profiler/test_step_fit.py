"""The fit finds the law behind exact points, weighs by relative error, and never goes negative."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.core import StepTime
from profiler.errors import InputError
from profiler.step_fit import Point, fit_step_time, median_error, rough_step_time

DECODES = [(1, 45), (4, 180), (32, 1440), (1, 780), (4, 1080), (16, 720)]
PREFILLS = [(1, 32), (1, 256), (2, 2600)]

laws = st.builds(
    StepTime,
    base_s=st.floats(1e-3, 0.1),
    per_prefill_token_s=st.floats(1e-6, 1e-2),
    per_sequence_s=st.one_of(st.just(0.0), st.floats(1e-6, 1e-2)),
    per_kv_token_s=st.one_of(st.just(0.0), st.floats(1e-8, 1e-4)),
)


def exact_points(law: StepTime) -> list[Point]:
    decodes = [Point("decode", law(0, n, s), sequences=n, kv_tokens=s) for n, s in DECODES]
    prefills = [
        Point("prefill", k * law.base_s + p * law.per_prefill_token_s, steps=k, prefill_tokens=p)
        for k, p in PREFILLS
    ]
    return decodes + prefills


@settings(max_examples=50)
@given(laws)
def test_exact_points_give_back_the_law(law: StepTime):
    points = exact_points(law)
    fitted = fit_step_time(points)
    for point in points:
        assert point.error(fitted) == pytest.approx(0.0, abs=1e-7)
    assert fitted.base_s == pytest.approx(law.base_s, rel=1e-5)
    assert fitted.per_prefill_token_s == pytest.approx(law.per_prefill_token_s, rel=1e-4)
    # A coefficient that moves no point by a millionth cannot be told from zero.
    assert fitted.per_sequence_s == pytest.approx(law.per_sequence_s, rel=1e-4, abs=1e-8)
    assert fitted.per_kv_token_s == pytest.approx(law.per_kv_token_s, rel=1e-4, abs=1e-10)


@settings(max_examples=50)
@given(laws, st.integers(0, 2**32 - 1))
def test_noise_never_makes_a_coefficient_negative(law: StepTime, seed: int):
    rng = np.random.default_rng(seed)
    noisy = [
        Point(p.kind, p.time_s * rng.uniform(0.3, 3), p.steps, p.prefill_tokens, p.sequences,
              p.kv_tokens)
        for p in exact_points(law)
    ]  # fmt: skip
    fitted = fit_step_time(noisy)
    assert min(fitted.model_dump().values()) >= 0


def test_short_and_long_times_count_alike():
    law = StepTime(base_s=0.05, per_prefill_token_s=2e-3, per_sequence_s=2e-3, per_kv_token_s=1e-5)
    points = exact_points(law)
    outlier = Point("prefill", 2 * points[-1].time_s, steps=2, prefill_tokens=2600)
    fitted = fit_step_time([*points, outlier])
    assert median_error(points, fitted, "decode") < 0.05


@pytest.mark.parametrize("kind", ["decode", "prefill"])
def test_points_of_one_kind_alone_are_refused(kind: str):
    law = StepTime(base_s=1, per_prefill_token_s=1, per_sequence_s=1, per_kv_token_s=1)
    points = [p for p in exact_points(law) if p.kind == kind]
    with pytest.raises(InputError, match=r"expected at least 4 that differ.*time budget"):
        fit_step_time(points)
    assert rough_step_time(points).base_s >= 0


def test_no_points_are_refused():
    with pytest.raises(InputError, match="found 0 measured points"):
        fit_step_time([])


def test_median_error_is_relative_and_by_kind():
    law = StepTime(base_s=1, per_prefill_token_s=0, per_sequence_s=0, per_kv_token_s=0)
    points = [Point("decode", t) for t in (0.5, 1.0, 2.0)]
    assert median_error(points, law, "decode") == 0.5
    assert median_error(points, law, "prefill") is None
