"""GuideLLM's sweeps give back the law; its inter-token latency is what TPOT means here."""

import pytest

from profiler.errors import InputError
from profiler.importers import import_profiles
from tests.profiler.importers.results import LAW, SWEEP, guidellm_benchmark, setting, write


def load(path, benchmarks, **said):
    file = write(path / "g.json", {"benchmarks": benchmarks})
    return import_profiles([file], "guidellm", setting("H100", **said))[0]


def sweep():
    return [guidellm_benchmark(*size) for size in SWEEP]


def test_the_law_comes_back(tmp_path):
    found = load(tmp_path, sweep())
    for name, value in LAW.model_dump().items():
        assert getattr(found.step_time, name) == pytest.approx(value, rel=0.02)
    assert str(found.provenance.date) == "2025-06-05"


def test_newer_reports_keep_the_strategy_elsewhere(tmp_path):
    newer = [{"config": b.pop("args"), **b} for b in sweep()]
    assert load(tmp_path, newer).step_time == load(tmp_path, sweep()).step_time


def test_the_strategy_that_sends_all_at_once_is_left_out(tmp_path):
    burst = guidellm_benchmark(512, 128, 48) | {"args": {"strategy": {"type_": "throughput"}}}
    assert load(tmp_path, [*sweep(), burst]).points == load(tmp_path, sweep()).points
    with pytest.raises(InputError, match="no run at a steady load"):
        load(tmp_path, [burst])


def test_percentiles_give_rates_inside_an_slo(tmp_path):
    assert {r.rate_rps for r in load(tmp_path, sweep(), ttft_s=9, tpot_s=0.001).rates} == {0.0}


def test_what_is_wrong_is_named_by_its_path(tmp_path):
    broken = sweep()
    del broken[3]["metrics"]["inter_token_latency_ms"]["successful"]["mean"]
    path = r"benchmarks\[3\].metrics.inter_token_latency_ms.successful: missing key 'mean'"
    with pytest.raises(InputError, match=path):
        load(tmp_path, broken)
