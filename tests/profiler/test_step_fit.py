"""The fit finds the law behind exact points, weighs by relative error, and never goes negative."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.core import StepTime
from profiler.errors import InputError
from profiler.step_fit import Fit, Point, fit_points, rough_step_time

DECODES = [(1, 45), (4, 180), (32, 1440), (1, 780), (4, 1080), (16, 720)]
PREFILLS = [(1, 32), (1, 256), (2, 2600)]

laws = st.builds(
    StepTime,
    base_s=st.floats(1e-3, 0.1),
    per_prefill_token_s=st.floats(1e-6, 1e-2),
    per_sequence_s=st.one_of(st.just(0.0), st.floats(1e-6, 1e-2)),
    per_kv_token_s=st.one_of(st.just(0.0), st.floats(1e-8, 1e-4)),
)


def exact_points(law: StepTime, overhead_s: float = 0.0) -> list[Point]:
    decodes = [Point("decode", law(0, n, s), sequences=n, kv_tokens=s) for n, s in DECODES]
    prefills = [
        Point(
            "prefill",
            k * law.base_s + p * law.per_prefill_token_s + overhead_s,
            steps=k,
            prefill_tokens=p,
            overheads=1,
        )
        for k, p in PREFILLS
    ]
    return decodes + prefills


@settings(max_examples=50)
@given(laws, st.one_of(st.just(0.0), st.floats(1e-3, 0.1)))
def test_exact_points_give_back_the_law(law: StepTime, overhead_s: float):
    points = exact_points(law, overhead_s)
    fit = fit_points(points, intervals=False)
    for point in points:
        assert fit.error(point) == pytest.approx(0.0, abs=1e-6)
    fitted = fit.law
    assert fitted.base_s == pytest.approx(law.base_s, rel=1e-4)
    assert fitted.per_prefill_token_s == pytest.approx(law.per_prefill_token_s, rel=1e-3)
    # A coefficient that moves no point by a millionth cannot be told from zero.
    assert fitted.per_sequence_s == pytest.approx(law.per_sequence_s, rel=1e-3, abs=1e-7)
    assert fitted.per_kv_token_s == pytest.approx(law.per_kv_token_s, rel=1e-3, abs=1e-9)
    assert fit.overhead_s == pytest.approx(overhead_s, rel=1e-3, abs=1e-6)


@settings(max_examples=8)
@given(laws, st.integers(0, 2**32 - 1))
def test_noise_never_makes_a_coefficient_negative(law: StepTime, seed: int):
    rng = np.random.default_rng(seed)
    noisy = [replace(p, time_s=p.time_s * rng.uniform(0.3, 3)) for p in exact_points(law)]
    fit = fit_points(noisy)
    coefficients = fit.law.model_dump(exclude={"batch_extra_s"})
    assert min(coefficients.values()) >= 0
    assert fit.overhead_s >= 0
    for name, value in coefficients.items():
        assert getattr(fit.low, name) <= value <= getattr(fit.high, name)


LAW = StepTime(base_s=0.05, per_prefill_token_s=2e-3, per_sequence_s=2e-3, per_kv_token_s=1e-5)


def test_the_interval_holds_the_truth_and_shrinks_with_the_noise():
    def width(noise: float) -> float:
        rng = np.random.default_rng(1)
        points = [
            replace(p, time_s=p.time_s * rng.normal(1, noise))
            for _ in range(4)
            for p in exact_points(LAW)
        ]
        fit = fit_points(points)
        assert fit.low.base_s <= LAW.base_s <= fit.high.base_s
        return fit.high.base_s - fit.low.base_s

    assert 0 < width(0.01) < width(0.1) / 3


def test_a_stall_hardly_moves_the_law():
    points = exact_points(LAW)
    stalled = replace(points[3], time_s=3 * points[3].time_s)
    fit = fit_points([*points, *points, stalled], intervals=False)
    assert fit.law.base_s == pytest.approx(LAW.base_s, rel=0.02)


def test_short_and_long_times_count_alike():
    points = exact_points(LAW)
    outlier = Point("prefill", 2 * points[-1].time_s, steps=2, prefill_tokens=2600)
    fit = fit_points([*points, outlier], intervals=False)
    assert fit.median_error(points, "decode") < 0.05


def test_a_mixed_point_counts_for_all_it_did():
    mixed = Point(
        "mixed", 0.0, steps=40, prefill_tokens=600, sequences=200, kv_tokens=9000, overheads=1
    )
    took_s = mixed.predicted_s(LAW, 0.02)
    assert took_s == pytest.approx(40 * 0.05 + 600 * 2e-3 + 200 * 2e-3 + 9000 * 1e-5 + 0.02)
    without_prefills = [p for p in exact_points(LAW, 0.02) if p.kind == "decode"]
    more = replace(mixed, time_s=took_s, prefill_tokens=900)
    more = replace(more, time_s=more.predicted_s(LAW, 0.02))
    fit = fit_points([*without_prefills, replace(mixed, time_s=took_s), more], intervals=False)
    assert fit.law.per_prefill_token_s == pytest.approx(2e-3, rel=1e-3)


@pytest.mark.parametrize("kind", ["decode", "prefill"])
def test_points_of_one_kind_alone_are_refused(kind: str):
    law = StepTime(base_s=1, per_prefill_token_s=1, per_sequence_s=1, per_kv_token_s=1)
    points = [p for p in exact_points(law) if p.kind == kind]
    with pytest.raises(InputError, match=r"expected at least 4 that differ.*time budget"):
        fit_points(points)
    assert rough_step_time(points).base_s >= 0


def test_no_points_are_refused():
    with pytest.raises(InputError, match="found 0 measured points"):
        fit_points([])


def test_median_error_is_relative_and_by_kind():
    law = StepTime(base_s=1, per_prefill_token_s=0, per_sequence_s=0, per_kv_token_s=0)
    fit = Fit(law, 0.0, law, law)
    points = [Point("decode", t) for t in (0.5, 1.0, 2.0)]
    assert fit.median_error(points, "decode") == 0.5
    assert fit.median_error(points, "prefill") is None


STEPPED = LAW.model_copy(update={"batch_extra_s": (0.0, 0.01, 0.02, -0.005, *[0.0] * 12, 0.03)})


def test_a_batch_size_has_a_time_of_its_own_and_the_last_stands_for_all_beyond():
    assert STEPPED(100, 2, 1000) == pytest.approx(LAW(100, 2, 1000) + 0.02)
    assert STEPPED(0, 3, 0) == pytest.approx(LAW(0, 3, 0) - 0.005)
    assert STEPPED(0, 500, 0) == pytest.approx(LAW(0, 500, 0) + 0.03)
    assert STEPPED(100, 0, 0) == LAW(100, 0, 0)
    with pytest.raises(ValueError, match=r"batch_extra_s\[1\] is -0.06"):
        StepTime.model_validate(LAW.model_dump() | {"batch_extra_s": (0.0, -0.06)})


def stepped_points(repeats: int) -> list[Point]:
    """Batches at and between sizes that a line misses, and the prompts that go with them."""
    sizes = [(n, 100 * n) for n in (1, 2, 3, 6, 12, 16)] + [(3, 3000), (12, 6000)]
    batches = [
        Point("decode", STEPPED(0, n, s), sequences=n, kv_tokens=s, repeats=repeats)
        for n, s in sizes
    ]
    return [p for p in exact_points(LAW) if p.kind == "prefill"] + batches


def test_the_term_by_batch_size_takes_up_what_the_line_misses():
    points = stepped_points(repeats=9)
    line, fit = (fit_points(points, intervals=False, by_batch=b) for b in (False, True))
    assert line.law.batch_extra_s == ()
    assert fit.law.model_copy(update={"batch_extra_s": ()}) == line.law
    by_line, by_batch = (f.median_error(points, "decode") for f in (line, fit))
    assert by_batch is not None and by_line is not None
    assert by_batch < by_line / 3
    between = (fit.law.extra_s(3) + fit.law.extra_s(6)) / 2
    assert fit.law.extra_s(4) < max(fit.law.extra_s(3), fit.law.extra_s(6))
    assert (fit.law.extra_s(4) + fit.law.extra_s(5)) / 2 == pytest.approx(between)


def test_what_was_measured_once_counts_half():
    once, often = (
        fit_points(stepped_points(r), intervals=False, by_batch=True).law for r in (1, 99)
    )
    assert 0 < once.extra_s(2) < 0.7 * often.extra_s(2)


def test_exact_lines_and_few_batch_sizes_have_no_such_term():
    assert fit_points(exact_points(LAW), intervals=False, by_batch=True).law.batch_extra_s == ()
    few = [p for p in stepped_points(9) if p.sequences in (0, 1, 3, 16)]
    assert fit_points(few, intervals=False, by_batch=True).law.batch_extra_s == ()


def test_a_run_of_steps_counts_the_term_once_a_step():
    run = Point("mixed", 1.0, steps=10, prefill_tokens=500, sequences=30, kv_tokens=900.0)
    told = run.predicted_s(STEPPED) - run.predicted_s(LAW)
    assert told == pytest.approx(10 * -0.005)
