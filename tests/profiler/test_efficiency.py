"""A GPU type takes the figures of its generation, and an unknown one those of all together."""

import pytest

from profiler.catalog import load_catalog
from profiler.efficiency import calibrated, calibration, generation_of
from tests.builders import gpu


@pytest.mark.parametrize(
    ("name", "generation"),
    [
        ("H100", "hopper"),
        ("H100-NVL", "hopper"),
        ("B200", "blackwell"),
        ("A100-40GB", "ampere"),
        ("L40S", "ada"),
        ("T4", "other"),
        ("H1000", "other"),
    ],
)
def test_a_type_belongs_by_its_name(name: str, generation: str) -> None:
    assert generation_of(gpu(name)) == generation


def test_a_processor_has_figures_of_its_own_and_no_known_error() -> None:
    found = calibrated(load_catalog().gpu("cpu"))
    assert (found.generation, found.errors) == ("cpu", None)


def test_every_gpu_of_the_catalog_has_an_error_bar() -> None:
    for known in load_catalog().gpus.values():
        if known.vendor != "cpu":
            errors = calibrated(known).errors
            assert errors is not None
            assert 0 < errors.tpot < 0.5


def test_what_was_never_measured_is_the_least_certain() -> None:
    generations = calibration().generations
    other, hopper = generations["other"].held_out, generations["hopper"].held_out
    assert other is not None
    assert hopper is not None
    assert other.tpot > hopper.tpot


def test_narrow_weights_and_experts_reach_less_of_the_peak() -> None:
    share = calibration().generations["hopper"].efficiency
    assert share.compute_share("bf16", experts=False) == share.compute
    assert share.compute_share("int4", experts=False) == share.compute
    assert share.compute_share("fp8", experts=True) < share.compute_share("fp8", experts=False)
