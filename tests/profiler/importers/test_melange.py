"""Melange's matrices are [input][output]; sizes and limits must be said; zeros are infeasible."""

import pytest

from profiler.errors import InputError
from profiler.importers import import_profiles
from tests.profiler.importers.results import setting, write

A10G = {"cost": 1.01, "tputs": [[5, 2], [3, 1], [1, 0]]}
SAID = {
    "ttft_s": 5.0, "tpot_s": 0.1, "input_tokens": (25, 250, 1000), "output_tokens": (25, 500),
}  # fmt: skip


def load(path, data, *gpus, **said):
    return import_profiles([write(path / "m.json", data)], "melange", setting(*gpus, **said))


def rates(profile):
    return {(r.input_tokens, r.output_tokens): r.rate_rps for r in profile.rates}


def test_rows_are_inputs_and_columns_are_outputs(tmp_path):
    (found,) = load(tmp_path, {"A10G": A10G}, **SAID)
    assert rates(found) == {
        (25, 25): 5, (25, 500): 2, (250, 25): 3, (250, 500): 1, (1000, 25): 1, (1000, 500): 0,
    }  # fmt: skip
    assert found.config.key == "llama-3.1-8b@1xA10G"
    assert {(r.slo.ttft_s, r.slo.tpot_s) for r in found.rates} == {(5.0, 0.1)}
    assert found.provenance.kind == "roofline"
    assert "$1.01/h" in found.provenance.note


def test_gpu_info_and_sizes_may_stand_in_the_file(tmp_path):
    data = {
        "gpu_info": {"A10G": A10G, "L4": A10G},
        "input_tokens": [25, 250, 1000],
        "output_tokens": [25, 500],
        "total_request_rate": 1.0,
    }
    found = load(tmp_path, data, ttft_s=5.0, tpot_s=0.1)
    assert [p.config.gpu for p in found] == ["A10G", "L4"]


def test_one_more_size_than_rows_are_edges_and_each_bucket_its_upper_one(tmp_path):
    edges = {"input_tokens": (0, 25, 250, 1000), "output_tokens": (1, 25, 500)}
    assert load(tmp_path, {"A10G": A10G}, **SAID | edges) == load(
        tmp_path, {"A10G": A10G}, **SAID
    )  # fmt: skip


def test_a_name_of_their_own_is_mapped(tmp_path):
    (found,) = load(tmp_path, {"big": A10G, "small": A10G}, "big=A100-80GB", **SAID)
    assert found.config.gpu == "A100-80GB"


@pytest.mark.parametrize(
    ("data", "said", "words"),
    [
        ({"A10G": A10G}, {"ttft_s": None}, "m.json: does not say which latency limits .* --ttft"),
        ({"A10G": A10G}, {"input_tokens": ()}, "--input-tokens 25,100"),
        ({"A10G": A10G}, {"input_tokens": (25, 25, 100)}, "expected rising sizes"),
        ({"A10G": A10G | {"tputs": [[5, 3, 1], [2, 1, 0]]}}, {}, "axes are the other way round"),
        ({"A10G": A10G | {"tputs": [[5], [3, 1], [1, 0]]}}, {}, r"A10G.tputs: found 3 rows of 1/2"),
        ({"A10G": A10G | {"tputs": [[5, 2], [3, -1], [1, 0]]}}, {}, r"A10G.tputs\[1\]\[1\]: .*-1"),
        ({"A10G": A10G | {"tputs": [[5, "2"], [3, 1], [1, 0]]}}, {}, r"tputs\[0\]\[1\]: found \"2"),
        ({"A10G": {"tputs": A10G["tputs"]}}, {}, "A10G: missing key 'cost'"),
        ({"A10G": A10G | {"cost": 0}}, {}, "A10G.cost: found 0, expected a number above 0"),
        ({"A10X": A10G}, {}, "A10X: unknown GPU type 'A10X'.*--gpu 'A10X=TYPE'"),
        ({"A10G": A10G, "indexes": []}, {}, "use --format aibrix"),
        ("[1, 2]", {}, "expected a mapping"),
        ('{"A10G": ', {}, "m.json:1: not JSON"),
        ("  ", {}, "the file is empty"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(tmp_path, data, said, words):
    with pytest.raises(InputError, match=words):
        load(tmp_path, data, **SAID | said)
