"""A service file is refused with place, finding and mend, or read whole."""

from importlib.resources import files

import pytest

from orchestrator.planning import build_problem, load_service, workloads
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
        ("  - type: H100\n", "  - type: L4\n", "gpus: L4 (on_demand) is listed twice"),
        ("azure-chat", "azure-chatt", "service.yaml:11: workload.sizes"),
    ],
)
def test_a_mistake_is_placed_and_named(load, old, new, message):
    assert message in refused(load, BASE.replace(old, new))


def test_several_models_behind_one_workload_need_a_quality(load):
    text = BASE.replace("gpus:", "  - model: llama-3.2-1b\ngpus:")
    assert "set quality.mean and each model's quality" in refused(load, text)
    text = text.replace("slo:", "quality: {mean: 0.5}\nslo:")
    assert "quality.mean needs each model's quality; llama-3.1-8b has none" in refused(load, text)


def test_a_model_without_traffic_is_refused(load):
    text = BASE[: BASE.index("workload:")]
    assert "no traffic for llama-3.1-8b" in refused(load, text)


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
