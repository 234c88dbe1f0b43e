"""AIBrix's matrices are [output][input], as its indexes say; its limits are in the file."""

import pytest

from profiler.errors import InputError
from profiler.importers import import_profiles
from tests.profiler.importers.results import LAW, setting, write

FILE = {
    "gpu": "deployment-a100",
    "cost": 1.0,
    "tputs": [[6.0, 3.0, 1.5], [2.0, 1.0, 0.0]],
    "indexes": [[64, 512], [128, 512, 2048]],
    "created": 1748888478.25,
    "e2e": [[0.5, 0.8, 1.2], [3.0, 4.0, 11.0]],
    "slos": {"percentile": 99, "ttft": 1.0, "tpot": 0.05},
}


def load(path, data, *gpus, **said):
    return import_profiles([write(path / "a.json", data)], "aibrix", setting(*gpus, **said))[0]


def rates(profile):
    return {(r.input_tokens, r.output_tokens): r.rate_rps for r in profile.rates}


def test_rows_are_outputs_and_columns_are_inputs(tmp_path):
    found = load(tmp_path, FILE, "A100-80GB")
    assert rates(found) == {
        (128, 64): 6, (512, 64): 3, (2048, 64): 1.5, (128, 512): 2, (512, 512): 1, (2048, 512): 0,
    }  # fmt: skip
    slo = found.rates[0].slo
    assert (slo.ttft_s, slo.tpot_s, slo.attainment) == (1.0, 0.05, 0.99)
    assert str(found.provenance.date) == "2025-06-02"


def test_limits_on_means_hold_for_half(tmp_path):
    found = load(tmp_path, FILE | {"slos": FILE["slos"] | {"percentile": 0}}, "A100-80GB")
    assert {r.slo.attainment for r in found.rates} == {0.5}


def test_an_end_to_end_limit_bounds_both_latencies(tmp_path):
    found = load(tmp_path, FILE | {"slos": {"percentile": 99, "e2e": 5.0}}, "A100-80GB")
    bounds = {r.output_tokens: (r.slo.ttft_s, r.slo.tpot_s) for r in found.rates}
    assert bounds == {64: (5.0, 5 / 63), 512: (5.0, 5 / 511)}


def test_with_first_token_times_the_law_is_fitted(tmp_path):
    outputs, inputs = [64, 256, 1024], [64, 512, 2048]
    tputs, e2e, ttft = [], [], []
    for o in outputs:
        rows = [[], [], []]
        for i in inputs:
            tpot, rate = 0.03, 0.0
            for n in [200 / (o / 16)] * 300:
                rate = n / (o - 1) / tpot
                tpot = LAW(rate * i * tpot, n + 1, (n + 1) * (i + o / 2))
            first = LAW(i, 0, 0)
            for row, value in zip(rows, (rate, first + tpot * (o - 1), first), strict=True):
                row.append(value)
        for table, row in zip((tputs, e2e, ttft), rows, strict=True):
            table.append(row)
    data = {"tputs": tputs, "e2e": e2e, "ttft": ttft, "indexes": [outputs, inputs]}
    found = load(tmp_path, FILE | data, "A100-80GB")
    assert found.provenance.kind == "measured"
    for name, value in LAW.model_dump().items():
        assert getattr(found.step_time, name) == pytest.approx(value, rel=0.02)
    assert len(found.rates) == 9


@pytest.mark.parametrize(
    ("data", "said", "words"),
    [
        (FILE | {"tputs": [[6, 2], [3, 1], [1.5, 0]]}, {}, "axes are the other way round"),
        (FILE | {"indexes": [[64, 512]]}, {}, r"indexes: found \[\[64, 512\]\], expected \[\[out"),
        (FILE | {"indexes": [[64, 0], [1, 2, 3]]}, {}, r"indexes\[0\]\[1\]: found 0"),
        ({k: v for k, v in FILE.items() if k != "indexes"}, {}, "use --format melange"),
        ({k: v for k, v in FILE.items() if k != "slos"}, {}, "pass --ttft and --tpot"),
        (FILE, {"ttft_s": 2.0}, "a.json: slos: was measured under ttft_s 1, found 2"),
        ({k: v for k, v in FILE.items() if k != "tputs"}, {}, "missing key 'tputs'"),
        (FILE | {"gpu": 7}, {}, "a.json: gpu: found 7, expected text"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(tmp_path, data, said, words):
    with pytest.raises(InputError, match=words):
        load(tmp_path, data, "A100-80GB", **said)


def test_a_deployment_is_no_gpu_type(tmp_path):
    with pytest.raises(InputError, match="--gpu 'deployment-a100=TYPE'"):
        load(tmp_path, FILE)
