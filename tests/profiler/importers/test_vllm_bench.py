"""Runs of vLLM's benchmark give back the law of the engine that they were made on."""

import json

import pytest

from profiler.errors import InputError
from profiler.importers import import_profiles
from tests.profiler.importers.results import LAW, SWEEP, setting, vllm_result, write


def load(path, results, *gpus, **said):
    files = [write(path / f"{i}.json", r) for i, r in enumerate(results)]
    return import_profiles(files, "vllm", setting(*(gpus or ("H100",)), **said))[0]


def test_the_law_comes_back(tmp_path):
    found = load(tmp_path, [vllm_result(*size) for size in SWEEP])
    for name, value in LAW.model_dump().items():
        assert getattr(found.step_time, name) == pytest.approx(value, rel=0.02)
    assert found.provenance.kind == "measured"
    assert found.provenance.tpot_error < 0.01
    assert str(found.provenance.date) == "2026-01-15"
    assert len(found.points) == found.provenance.points == 20
    assert found.step_time_95[0].base_s <= LAW.base_s * 1.001
    assert found.rates == ()


def test_lines_of_one_file_are_runs_too(tmp_path):
    lines = "\n".join(json.dumps(vllm_result(*size)) for size in SWEEP)
    assert load(tmp_path, [lines]).step_time == load(
        tmp_path, [vllm_result(*size) for size in SWEEP]
    ).step_time  # fmt: skip


def test_failed_requests_do_not_shorten_the_sizes(tmp_path):
    lens = {"input_lens": [512, 512, 9999], "output_lens": [128, 128, 0]}
    results = [vllm_result(*size) for size in SWEEP]
    results[5] = vllm_result(512, 128, 4, **lens)
    assert load(tmp_path, results).step_time.base_s == pytest.approx(LAW.base_s, rel=0.02)


def test_runs_that_show_no_steady_load_are_left_out_and_counted(tmp_path):
    results = [vllm_result(*size) for size in SWEEP]
    results += [vllm_result(512, 128, 16, completed=16), vllm_result(512, 128, 16, completed=20)]
    assert "2 runs left out" in load(tmp_path, results).provenance.note


def test_the_rate_between_a_run_that_kept_the_slo_and_one_that_missed_it(tmp_path):
    results = [vllm_result(*size) for size in SWEEP]
    at = {
        r["max_concurrency"]: r for r in results if r["total_input_tokens"] / r["completed"] == 512
    }
    limit = (at[4]["p99_tpot_ms"] + at[16]["p99_tpot_ms"]) / 2e3
    found = load(tmp_path, results, ttft_s=10.0, tpot_s=limit)
    by_input = {r.input_tokens: r for r in found.rates}
    assert by_input[512].rate_rps == pytest.approx(at[4]["request_throughput"])
    assert by_input[512].slo.tpot_s == limit


def test_a_slo_that_all_runs_kept_says_nothing_of_the_highest_rate(tmp_path):
    results = [vllm_result(*size) for size in SWEEP]
    assert load(tmp_path, results, ttft_s=100.0, tpot_s=10.0).rates == ()


def test_a_slo_that_even_lone_requests_miss_is_infeasible(tmp_path):
    results = [vllm_result(*size) for size in SWEEP]
    found = load(tmp_path, results, ttft_s=10.0, tpot_s=0.001)
    assert {r.rate_rps for r in found.rates} == {0.0}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"max_concurrency": None}, "all requests were sent at once"),
        ({"mean_tpot_ms": float("nan")}, "0.json: mean_tpot_ms: found NaN, expected a number"),
        ({"mean_tpot_ms": 0}, "mean_tpot_ms: found 0"),
        ({"completed": 0}, "completed: found 0"),
        ({"completed": None}, "missing key 'completed'"),
        ({"date": "yesterday"}, 'date: found "yesterday"'),
        ({"input_lens": [1, "x"], "output_lens": [1, 2]}, r"input_lens\[1\]: found \"x\""),
        ({}, "1 runs do not identify the step-time law"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(tmp_path, changed, words):
    with pytest.raises(InputError, match=words):
        load(tmp_path, [vllm_result(**changed)])


def test_the_gpu_must_be_said(tmp_path):
    path = write(tmp_path / "r.json", vllm_result())
    with pytest.raises(InputError, match="does not say on which GPU it ran; pass --gpu TYPE"):
        import_profiles([path], "vllm", setting())
