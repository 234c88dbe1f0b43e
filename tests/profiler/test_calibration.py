"""A refit to the published runs gives the committed figures; held-out runs stay out."""

import pytest

pytest.importorskip("aiconfigurator_core", reason="needs the extra silicon")

from profiler.calibration import (
    errors,
    fit_kernels,
    fit_runs,
    from_file,
    predict,
)
from profiler.catalog import load_catalog
from profiler.efficiency import calibration
from profiler.published_runs import read_runs


@pytest.fixture(scope="module")
def runs():
    return read_runs()[0]


def test_every_row_is_used_or_counted_with_its_reason(runs):
    rows = calibration().rows
    assert rows.fitted + rows.held_out == len(runs)
    assert len(runs) + sum(rows.unused.values()) == 5221


def test_a_triple_is_wholly_in_the_fit_or_wholly_out(runs):
    sides = {}
    for run in runs:
        sides.setdefault(run.triple, set()).add(run.held_out)
    assert all(len(side) == 1 for side in sides.values())
    assert 0.2 < sum(r.held_out for r in runs) / len(runs) < 0.5


def test_held_out_runs_are_predicted_as_well_as_was_promised(runs):
    unseen = [r for r in runs if r.held_out]
    found = errors(predict(from_file(calibration()), unseen), unseen)
    assert found.tpot <= 0.15
    assert found.throughput <= 0.15
    assert found.ttft <= 0.30


def test_a_fit_finds_the_figures_that_made_its_runs(runs):
    truth = from_file(calibration())
    some = [r for r in runs if not r.held_out][::8]
    made = predict(truth, some)
    synthetic = [
        type(r)(**{**vars(r), "tpot_s": float(t), "ttft_s": float(f)})
        for r, t, f in zip(some, made.tpot_s, made.ttft_s, strict=True)
    ]
    found = errors(predict(fit_runs(synthetic), synthetic), synthetic)
    assert found.tpot < 0.02
    assert found.ttft < 0.05


@pytest.mark.slow
def test_refitting_gives_the_committed_figures(runs):
    committed = calibration().generations
    fit = fit_runs([r for r in runs if not r.held_out])
    for name, efficiency in fit.efficiency.items():
        for key, value in committed[name].efficiency:
            if key != "pcie_link":  # from kernel times, not from runs
                assert getattr(efficiency, key) == pytest.approx(value, rel=0.02), (name, key)


def test_kernel_times_give_the_committed_shares():
    committed = calibration().generations
    found = fit_kernels(load_catalog().gpu("A100-80GB"), committed["other"].efficiency)
    assert found == committed["ampere"].efficiency
