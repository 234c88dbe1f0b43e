"""A service file is refused with place, finding and mend, or read whole."""

from importlib.resources import files

import pytest

from orchestrator.loading import load_service
from orchestrator.planning import build_problem, workloads
from orchestrator.service import Service
from profiler import documents
from profiler.errors import InputError

BASE = """\
name: chat
models:
  - model: llama-3.1-8b
gpus:
  - type: L4
  - type: H100
    available: 2
slo: {ttft_s: 2.0, tpot_s: 0.06}
workload:
  rate_rps: 5
  sizes: azure-chat
"""


@pytest.fixture
def load(tmp_path):
    def load(text):
        path = tmp_path / "service.yaml"
        path.write_text(text)
        return load_service(path)

    return load


def refused(load, text):
    with pytest.raises(InputError) as caught:
        load(text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("slo:", "sla:", "service.yaml:8: sla: unknown key 'sla'; did you mean 'slo'?"),
        (
            "ttft_s: 2.0",
            "ttft_s: soon",
            "service.yaml:8: slo.ttft_s: found 'soon' (text), expected",
        ),
        (
            "available: 2",
            "available: many",
            "service.yaml:7: gpus[1].available: found 'many' (text), expected a valid integer",
        ),
        (
            "type: L4",
            "type: L44",
            "service.yaml:5: gpus[0].type: unknown GPU type 'L44'; did you mean 'L4'?",
        ),
        (
            "llama-3.1-8b",
            "llama-3.1-8",
            "service.yaml:3: models[0].model: unknown model 'llama-3.1-8'; "
            "did you mean 'llama-3.1-8b'?",
        ),
        (
            "rate_rps: 5\n",
            "rate_rps: 5\n  trace: x.csv\n",
            "service.yaml:9: workload: expected exactly one of trace, arrivals, rate_rps; "
            "found trace and rate_rps",
        ),
        ("  sizes: azure-chat\n", "", "workload: rate_rps needs sizes beside it"),
        (
            "  - type: H100\n",
            "  - type: L4\n",
            "service.yaml:6: gpus[1].type: L4 (on_demand) is listed twice",
        ),
        ("azure-chat", "azure-chatt", "service.yaml:11: workload.sizes"),
    ],
)
def test_a_mistake_is_placed_and_named(load, old, new, message):
    assert message in refused(load, BASE.replace(old, new))


def test_several_models_behind_one_workload_need_a_quality(load):
    text = BASE.replace("gpus:", "  - model: llama-3.2-1b\ngpus:")
    assert "service.yaml:2: models: several share one workload; set quality.mean" in refused(
        load, text
    )
    text = text.replace("slo:", "quality: {mean: 0.5}\nslo:")
    assert "quality: it needs each model's quality; llama-3.1-8b has none" in refused(load, text)


def test_a_model_without_traffic_is_refused(load):
    text = BASE[: BASE.index("workload:")]
    assert "service.yaml:2: models: no traffic for llama-3.1-8b" in refused(load, text)


def test_each_model_may_have_its_own_traffic(load):
    text = BASE[: BASE.index("workload:")].replace(
        "  - model: llama-3.1-8b\n",
        "  - model: llama-3.1-8b\n    workload: {rate_rps: 1, sizes: azure-chat}\n"
        "  - model: llama-3.2-1b\n    workload: {rate_rps: 2, sizes: azure-code}\n",
    )
    found = workloads(load(text))
    assert {name: w.planned_rate_rps for name, w in found.items()} == {
        "llama-3.1-8b": 1,
        "llama-3.2-1b": 2,
    }
    problem = build_problem(load(text))
    named = {c.stream for c in problem.classes}
    assert named == {"llama-3.1-8b", "llama-3.2-1b"}


def test_a_spot_price_is_used_where_asked(load):
    text = BASE.replace("type: L4\n", "type: L4\n    market: spot\n")
    problem = build_problem(load(text))
    option = next(o for o in problem.options if o.gpu == "L4" and o.gpus == 1)
    assert option.market == "spot"
    assert option.usd_per_hour < problem.gpus["L4"].price.on_demand_usd_per_hour
    assert option.name.endswith("-spot")


def test_a_measured_profile_goes_before_the_estimate(load, tmp_path):
    text = BASE + "profiles: [l4.yaml]\n"
    estimated = build_problem(load(BASE)).options[0].profile
    measured = estimated.model_copy(
        update={"provenance": estimated.provenance.model_copy(update={"kind": "measured"})}
    )
    documents.write(tmp_path / "l4.yaml", documents.dump(measured))
    kinds = {
        o.profile.config.key: o.profile.provenance.kind for o in build_problem(load(text)).options
    }
    assert kinds["llama-3.1-8b@1xL4"] == "measured"
    assert kinds["llama-3.1-8b@2xL4"] == "roofline"


def test_a_missing_profile_is_named(load):
    assert "none.yaml: no such file" in refused(load, BASE + "profiles: [none.yaml]\n")


def test_engine_limits_are_overridden_one_by_one(load):
    text = BASE.replace("llama-3.1-8b\n", "llama-3.1-8b\n    engine: {max_num_seqs: 7}\n")
    options = build_problem(load(text)).options
    engines = {o.gpu: o.profile.config.engine for o in options}
    assert engines["H100"].max_num_seqs == 7
    assert engines["H100"].max_num_batched_tokens == 8192


def test_multiplying_the_rate_keeps_the_sizes(load):
    once, thrice = (workloads(load(BASE + f"  multiply_rate: {k}\n"))["auto"] for k in (1, 3))
    assert thrice.planned_rate_rps == pytest.approx(3 * once.planned_rate_rps)
    assert [r.bucket for r in thrice.rates] == [r.bucket for r in once.rates]


@pytest.mark.parametrize("name", ["service.yaml", "local.yaml"])
def test_the_bundled_services_are_valid(name):
    text = files("orchestrator").joinpath(f"data/{name}").read_text()
    assert documents.parse(text, Service, name).name


def test_the_schema_describes_every_key():
    schema = Service.model_json_schema()
    assert set(schema["properties"]) == set(Service.model_fields)
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "gpus:\n",
            "gpus: []\nx:\n",
            "service.yaml:4: gpus: found [] (list), expected at least one",
        ),
        ("name: chat", "name: ../chat", "service.yaml:1: name: found '../chat' (text), expected"),
        ("  - type: L4\n", "  - L4\n  - l4\n", "service.yaml:6: gpus[1]: L4 (on_demand) is listed"),
        (
            "llama-3.1-8b\n",
            "llama-3.1-8b\n    tensor_parallel: [3]\n",
            "service.yaml:4: models[0].tensor_parallel: llama-3.1-8b (32 attention heads, "
            "8 KV heads) does not split into 3 parts",
        ),
        (
            "llama-3.1-8b\n",
            "llama-3.1-8b\n    engine: {max_model_len: 1000000}\n",
            "service.yaml:4: models[0].engine.max_model_len: found 1000000, expected at most",
        ),
        (
            "llama-3.1-8b\n",
            "llama-3.1-8b\n    engine: {max_num_seqs: 4096}\n",
            "max_num_batched_tokens is 2048, expected at least max_num_seqs, 4096",
        ),
        ("rate_rps: 5\n  sizes: azure-chat", "trace: no.csv", "service.yaml:10: workload.trace: "),
        ("slo:", "catalog: [no.yaml]\nslo:", "service.yaml:8: catalog[0]: "),
        ("slo:", "profiles: [no.yaml]\nslo:", "service.yaml:8: profiles[0]: "),
    ],
)
def test_what_cannot_work_is_refused_where_it_stands(load, old, new, message):
    def everything():
        build_problem(load(BASE.replace(old, new)))

    with pytest.raises(InputError) as caught:
        everything()
    assert message in str(caught.value)


def test_a_profile_that_is_of_no_use_is_refused(load, tmp_path):
    options = build_problem(load(BASE)).options
    profile = next(o.profile for o in options if o.profile.config.key == "llama-3.1-8b@2xL4")
    documents.write(tmp_path / "l4.yaml", documents.dump(profile))
    alone = BASE.replace("llama-3.1-8b\n", "llama-3.1-8b\n    tensor_parallel: [1]\n")
    text = alone + "profiles: [l4.yaml]\n"
    assert "it is of llama-3.1-8b@2xL4, which this service does not" in refused(load, text)
    twice = refused(load, BASE + "profiles: [l4.yaml, l4.yaml]\n")
    assert "profiles[1]: a second profile of llama-3.1-8b@2xL4" in twice
    other = BASE.replace("llama-3.1-8b\n", "llama-3.1-8b\n    engine: {max_num_seqs: 8}\n")
    differs = refused(load, other + "profiles: [l4.yaml]\n")
    assert "measured with max_num_seqs 256, not the 8 asked for" in differs


def test_engines_are_told_the_longest_sequence_their_memory_holds(load):
    options = {o.profile.config.key: o.profile for o in build_problem(load(BASE)).options}
    small = options["llama-3.1-8b@1xL4"]
    assert small.max_model_len < 131072
    assert small.config.engine.max_model_len == small.max_model_len


def test_only_sizes_that_split_the_heads_are_considered(load):
    text = BASE.replace("llama-3.1-8b", "qwen2.5-7b")  # 28 heads
    sizes = {o.gpus for o in build_problem(load(text)).options}
    assert sizes == {1, 2, 4}


def test_the_bundled_service_fits_its_own_schema():
    import jsonschema
    import yaml

    for name in ("service.yaml", "local.yaml"):
        text = files("orchestrator").joinpath(f"data/{name}").read_text()
        jsonschema.validate(yaml.safe_load(text), Service.model_json_schema())
