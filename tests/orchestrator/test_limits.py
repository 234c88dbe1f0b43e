"""A service's limits reach the planner as written, and what cannot be meant is refused in place."""

from importlib.resources import files

import numpy as np
import pytest

from orchestrator.loading import load_service
from orchestrator.planning import build_problem
from orchestrator.report import plan_tables
from placement.limits import Limits, ReplicaBound, Switching
from placement.planner import make_plan
from placement.problem import Stock
from profiler import documents
from profiler.answer_log import Record
from profiler.errors import InputError
from profiler.outcome_table import write_table
from profiler.parquet import require_pyarrow
from profiler.questions import Question

BASE = """\
name: chat
models:
  - {model: llama-3.1-8b, quality: 0.7, tensor_parallel: [1]}
  - {model: llama-3.2-1b, quality: 0.4, tensor_parallel: [1]}
gpus:
  - {type: L4}
  - {type: H100, available: 16}
slo: {ttft_s: 2.0, tpot_s: 0.06}
workload: {rate_rps: 5, sizes: azure-chat}
quality: {mean: 0.5}
"""
ALL = """\
budget_usd_per_hour: 40
spot: {share: 0.5, reserve: 0.25}
replicas:
  - {model: llama-3.1-8b, gpu: L4, min: 1, max: 4}
  - {gpu: H100, exactly: 2}
node_loss: {headroom: 0.95}
moving: {running: {llama-3-1-8b-l4-tp1: 3}, start_usd: 1.5, stop_usd: 0.2, horizon_h: 12}
"""


@pytest.fixture
def problem(tmp_path):
    def problem(text):
        path = tmp_path / "service.yaml"
        path.write_text(text, encoding="utf-8")
        return build_problem(load_service(path))

    return problem


def test_every_limit_reaches_the_planner(problem):
    assert problem(BASE).limits == Limits(quality_mean={"auto": 0.5})
    assert problem(BASE + ALL).limits == Limits(
        quality_mean={"auto": 0.5},
        budget_usd_per_hour=40,
        spot_share=0.5,
        spot_reserve=0.25,
        replicas=(
            ReplicaBound(1, 4, model="llama-3.1-8b", gpu="L4"),
            ReplicaBound(2, 2, gpu="H100"),
        ),
        node_loss_headroom=0.95,
        switching=Switching({"llama-3-1-8b-l4-tp1": 3}, 1.5, 0.2, 12),
    )


def test_the_examples_in_the_bundled_service_are_valid_once_uncommented(problem, tmp_path):
    text = files("orchestrator").joinpath("data/service.yaml").read_text()
    keys = ("budget_usd", "classes:", "  - {", "spot:", "replicas:", "node_loss:", "moving:")
    lines = [line[2:] for line in text.splitlines() if line[2:].startswith(keys) and line[0] == "#"]
    examples = "\n".join(lines).replace(", dataset: gsm8k", "").replace("chat-plan.yaml", "{}")
    assert all(key in examples for key in keys)
    asked = problem(BASE + examples + "\n")
    assert asked.limits.spot_reserve == 0.25
    assert any(c.slo for c in asked.classes)
    assert any(c.quality_floor == 0.75 for c in asked.classes)


def test_regions_and_whole_nodes_are_stocks_and_options_of_their_own(problem):
    text = BASE.replace(
        "{type: L4}",
        "{type: L4, region: east, available: 3}\n  - {type: L4, region: west, usd_per_hour: 0.5}",
    ).replace("16}", "16, usd_per_hour: 2.5, node: {gpus: 8}}\n  - {type: H100}")
    found = problem(text)
    assert found.stocks == (
        Stock("L4", "on_demand", 3, "east"),
        Stock("L4", "on_demand", None, "west"),
        Stock("H100", "on_demand", 16, "", 8, 20.0),
        Stock("H100", "on_demand"),
    )
    assert len({o.name for o in found.options}) == len(found.options) == 8
    nodes = [o for o in found.options if o.node_gpus == 8]
    assert {o.usd_per_hour for o in nodes} == {2.5}


def test_a_replica_larger_than_the_node_sold_is_no_option(problem):
    text = BASE.replace("tensor_parallel: [1]", "tensor_parallel: [1, 4]").replace(
        "available: 16", "node: {gpus: 2}"
    )
    assert {o.gpus for o in problem(text).options if o.gpu == "H100"} == {1}


def test_targets_are_of_the_first_rule_then_the_stream_then_the_service(problem):
    text = BASE.replace("azure-chat}", "azure-chat, slo: {ttft_s: 4.0, tpot_s: 0.08}}")
    text += (
        "classes:\n"
        "  - {input_over: 1000, slo: {ttft_s: 9.0, tpot_s: 0.06}, quality: 0.65}\n"
        "  - {input_over: 500, slo: {ttft_s: 7.0, tpot_s: 0.06}}\n"
    )
    found = problem(text)
    for c in found.classes:
        low = c.bucket.input_range[0]
        assert found.slo_of(c).ttft_s == (9.0 if low >= 1000 else 7.0 if low >= 500 else 4.0)
        assert c.quality_floor == (0.65 if low >= 1000 else None)
    strict = problem(BASE)
    assert (found.load_s <= strict.load_s * (1 + 1e-9))[~np.isnan(strict.load_s)].all()


def test_a_plan_says_the_quality_nodes_and_targets_it_rests_on(problem):
    text = BASE.replace("16}", "16, node: {gpus: 8}}") + (
        "replicas: [{gpu: H100, min: 3}]\nmoving: {running: {}, start_usd: 2}\n"
        "classes: [{input_over: 1000, slo: {ttft_s: 9.0, tpot_s: 0.06}}]\n"
    )
    plan = make_plan(problem(text), "chat")
    (bought,) = plan.nodes
    assert (bought.gpu, bought.gpus_per_node, bought.nodes) == ("H100", 8, 1)
    rent = bought.total_usd_per_hour + sum(
        g.total_usd_per_hour for g in plan.groups if g.node_gpus == 1
    )
    assert plan.cost.usd_per_hour == pytest.approx(rent)
    assert plan.cost.switching_usd_per_hour == pytest.approx(
        2 / 24 * sum(g.replicas for g in plan.groups), abs=1e-5
    )
    assert plan.quality is not None
    assert plan.quality.mean >= 0.5
    assert {r.slo.ttft_s for r in plan.routes if r.slo} == {9.0}
    printed = "\n".join(str(t) for t in plan_tables(plan))
    assert "1 node of 8 x H100" in printed
    assert "expected quality 0." in printed


def test_the_running_fleet_may_be_a_plan_file(problem, tmp_path):
    plan = make_plan(problem(BASE), "chat")
    documents.write(tmp_path / "now.yaml", documents.dump(plan))
    again = problem(BASE + "moving: {running: now.yaml, start_usd: 1, stop_usd: 1}\n")
    assert again.limits.switching is not None
    assert again.limits.switching.running == {g.name: g.replicas for g in plan.groups}
    assert make_plan(again, "chat").cost.switching_usd_per_hour == 0


@pytest.fixture
def outcomes(tmp_path):
    """Ten questions each of two datasets: the large model knows all maths, the small one none."""
    pytest.importorskip("pyarrow")
    require_pyarrow()
    questions = [
        Question(id=f"{d}{i}", dataset=d, prompt="?", answer="a", grader="exact")
        for d in ("maths", "prose")
        for i in range(10)
    ]
    scores = {"llama-3.1-8b": {"maths": 1.0, "prose": 0.5}, "llama-3.2-1b": {"maths": 0.0}}
    records = [
        Record(q.id, m, "", "", text="a", score=by.get(q.dataset, float(i % 2)))
        for m, by in scores.items()
        for i, q in enumerate(questions)
    ]
    path = tmp_path / "quality.parquet"
    write_table(path, questions, list(scores), {r.key: r for r in records}, {"models": {}})
    return path.name


def undeclared(outcomes):
    text = BASE.replace("quality: 0.7, ", "").replace("quality: 0.4, ", "")
    return text.replace("{mean: 0.5}", f"{{mean: 0.5, outcomes: {outcomes}}}")


def test_quality_is_read_from_an_outcome_table_with_its_noise(problem, outcomes):
    found = problem(undeclared(outcomes))
    by_model = {o.model: found.quality[0, j] for j, o in enumerate(found.options)}
    assert by_model == pytest.approx({"llama-3.1-8b": 0.75, "llama-3.2-1b": 0.25})
    assert found.notes[0].startswith("quality of llama-3.1-8b: 0.750 +- 0.112 (20 questions)")
    assert make_plan(found, "chat").notes == found.notes


def test_a_model_may_have_another_name_in_the_table(problem, outcomes):
    text = undeclared(outcomes).replace("llama-3.2-1b,", "qwen2.5-7b, outcome: llama-3.2-1b,")
    found = problem(text)
    by_model = {o.model: found.quality[0, j] for j, o in enumerate(found.options)}
    assert by_model == pytest.approx({"llama-3.1-8b": 0.75, "qwen2.5-7b": 0.25})


def test_a_declared_quality_goes_before_the_table(problem, outcomes):
    text = undeclared(outcomes).replace("llama-3.1-8b,", "llama-3.1-8b, quality: 0.9,")
    found = problem(text)
    assert {found.quality[0, j] for j in range(4)} == {0.9, 0.25}
    assert len(found.notes) == 1


def test_classes_may_be_told_by_their_dataset(problem, outcomes):
    text = undeclared(outcomes) + "classes: [{input_over: 1000, dataset: maths}]\n"
    found = problem(text)
    for c, row in zip(found.classes, found.quality, strict=True):
        maths = c.bucket.input_range[0] >= 1000
        assert set(row) == ({1.0, 0.0} if maths else {0.75, 0.25})
    assert any("on maths" in note for note in found.notes)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{mean: 0.5}", "{}", ": quality: expected at least one of mean, floor, outcomes"),
        ("{mean: 0.5}", "{outcomes: no.parquet}", "several share one workload"),
        ("{mean: 0.5}", "{mean: 0.5, outcomes: no.parquet}", "no.parquet: no such file; make one"),
        ("name:", "classes: [{input_over: 9}]\nname:", "expected at least one of slo, quality"),
        ("name:", "classes: [{stream: x, quality: 0.5}]\nname:", "classes[0].stream: unknown str"),
        ("name:", "classes: [{dataset: x}]\nname:", "dataset 'x' is of quality.outcomes, which"),
        ("name:", "replicas: [{gpu: L4}]\nname:", "at least one of min, max, exactly"),
        ("name:", "replicas: [{min: 3, max: 2}]\nname:", "max is 2, less than min, 3"),
        ("name:", "replicas: [{min: 3, exactly: 2}]\nname:", "it stands for min and max"),
        ("name:", "replicas: [{gpu: L40, min: 3}]\nname:", "replicas[0].gpu: unknown gpu 'L40'"),
        ("name:", "replicas: [{model: x, min: 3}]\nname:", "replicas[0].model: unknown model 'x'"),
        ("name:", "spot: {share: 1.5}\nname:", "spot.share: found 1.5 (number)"),
        ("name:", "spot: {reserve: 1}\nname:", "spot.reserve: found 1 (number)"),
        ("name:", "moving: {running: no.yaml}\nname:", "no.yaml: no such file"),
        ("{type: L4}", "{type: L4, node: {gpus: 1}}", "node.gpus: found 1 (number)"),
        ("{type: L4}", "{type: L4, region: a}\n  - {type: L4, region: a}", "is listed twice"),
    ],
)
def test_what_cannot_be_meant_is_refused_where_it_stands(problem, old, new, message):
    with pytest.raises(InputError) as caught:
        problem(BASE.replace(old, new, 1))
    assert message in str(caught.value)
    assert "service.yaml:" in str(caught.value)


def test_a_table_without_the_model_or_the_dataset_is_refused(problem, outcomes):
    with pytest.raises(InputError, match=r"unknown model 'qwen2\.5-7b'"):
        problem(undeclared(outcomes).replace("llama-3.2-1b", "qwen2.5-7b"))
    with pytest.raises(InputError, match=r"unknown dataset 'math'; did you mean 'maths'"):
        problem(undeclared(outcomes) + "classes: [{dataset: math}]\n")
