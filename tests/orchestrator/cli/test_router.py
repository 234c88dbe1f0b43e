"""`router` on the command line: artefacts on disk, figures on stdout, honest exits."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("pyarrow.parquet", reason="pyarrow (extra: profile)")
pytest.importorskip("sklearn", reason="scikit-learn (extra: router)")

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from typer.testing import CliRunner

from orchestrator.cli import app
from profiler.errors import OrchestratorError
from serve_apps.router.artefact import load_artefact
from tests import plan_builders
from tests.fake_openai import FakeOpenAI
from tests.outcome_builders import write_outcomes, write_routerbench

POOL = ("small-1b", "mid-8b", "large-70b")


@dataclass
class Done:
    """What a command left behind; ``code`` is what `orchestrator` would end with."""

    code: int
    out: str
    err: str

    @property
    def data(self):
        return json.loads(self.out)


def router(*args: object) -> Done:
    """Run `orchestrator router` in this process: starting others would take most of the time."""
    result = CliRunner(env={"COLUMNS": "80"}).invoke(app, ["router", *map(str, args)])
    if isinstance(result.exception, OrchestratorError):
        return Done(result.exception.exit_code, result.stdout, str(result.exception))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Done(result.exit_code, result.stdout, result.stderr)


def train(folder: Path, table: Path, *args: object) -> Done:
    # Hand features alone are quick to learn from.
    return router("train", table, "--save", folder / "r.npz", "--features", "hand", *args)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, Path]:
    """An artefact for three models, and the table it was trained on."""
    folder = tmp_path_factory.mktemp("router")
    table = write_outcomes(folder / "o.parquet", POOL, 500)
    done = train(folder, table)
    assert done.code == 0, done.err
    return folder / "r.npz", table


@pytest.fixture
def given(trained, tmp_path) -> Callable[[], Path]:
    """A copy of the artefact that a test may change."""

    def copy() -> Path:
        path = tmp_path / "r.npz"
        path.write_bytes(trained[0].read_bytes())
        return path

    return copy


@pytest.mark.slow
def test_train_reports_the_test_beside_every_baseline(tmp_path):
    table = write_outcomes(tmp_path / "o.parquet", count=300)
    done = train(tmp_path, table, "-o", "json")
    assert done.code == 0, done.err
    pair, pool = done.data["comparisons"]
    assert pair["title"] == "small-1b to large-70b"
    by_name = {r["name"]: r["figures"] for r in pair["routers"]}
    assert set(by_name) == {
        "this router", "random", "prompt length", "best single", "zero router", "oracle"
    }  # fmt: skip
    assert by_name["this router"]["APGR"]["mean"] > 0.6
    assert by_name["zero router"]["APGR"]["mean"] == pytest.approx(0.5)
    figures = next(r["figures"] for r in pool["routers"] if r["name"] == "this router")
    assert figures["cost@95%"]["mean"] < 1
    parts = done.data["prompts"]
    assert sum(parts.values()) == 300 and parts["test"] == pair["prompts"]
    assert load_artefact(tmp_path / "r.npz").description.split.share == 0.2
    assert all(r["leads"] == {} for r in pool["routers"])
    assert "read 300 prompts x 2 models" in done.err


def test_an_artefact_is_not_overwritten_unless_asked(given, trained):
    path = given()
    before = path.read_bytes()
    for args in (
        ("train", trained[1], "--save", path),
        ("calibrate", path, trained[1], "--quality", 0.9),
        ("onboard", path, "new", "--outcomes", trained[1]),
    ):
        done = router(*args)
        assert done.code == 2 and "-y" in done.err
    assert path.read_bytes() == before


@pytest.mark.slow
def test_subjects_are_kept_whole(tmp_path):
    table = write_outcomes(tmp_path / "o.parquet", count=300)
    assert train(tmp_path, table, "--split", "subject", "--holdout", 0.3).code == 0
    from orchestrator.routing_data import read_table

    outcomes = read_table(table)
    parts = load_artefact(tmp_path / "r.npz").description.split.parts(outcomes)
    seen, tested = ({outcomes.subject[i] for i in rows} for rows in (parts.train, parts.test))
    assert seen and tested and not seen & tested
    assert train(tmp_path, table, "--split", "nothing", "-y").code == 2


@pytest.mark.slow
def test_several_files_of_several_kinds_are_joined(tmp_path):
    ours = write_outcomes(tmp_path / "a.parquet", count=80, usd=True)
    bench = write_routerbench(tmp_path / "b.csv", count=100)
    done = train(tmp_path, ours, bench, "-o", "json")
    assert done.code == 0, done.err
    assert "dollars of the outcome table" in done.err


def test_models_of_two_files_meet_in_one_row(tmp_path):
    one = write_outcomes(tmp_path / "a.parquet", ("small-1b",), 120)
    two = write_outcomes(tmp_path / "b.parquet", ("large-70b",), 120)
    done = train(tmp_path, one, two)
    assert done.code == 0, done.err
    assert "read 120 prompts x 2 models" in done.err


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["nowhere.parquet"], "nowhere.parquet: no such file"),
        (["o.parquet", "--models", "small-1b"], "outcomes of one model, small-1b"),
        (["o.parquet", "--models", "small-1b,lage-70b"], "did you mean 'large-70b'"),
        (["o.parquet", "--scores", "regrade"], "no column 'regrade:MODEL'"),
        (["o.parquet", "--datasets", "sums"], "did you mean 'sum'"),
        (["o.parquet", "--estimator", "low_rnk"], "did you mean 'low_rank'"),
        (["o.parquet", "--price", "small-1b=1"], "expected NAME=INPUT/OUTPUT"),
        (["o.parquet", "--price", "small-1b=1/2"], "found none for large-70b"),
        (["wrong.parquet"], "row 3, score of m: found 7"),
        (["other.parquet"], "found columns question"),
        (["o.parquet", "--save", "none/r.npz"], "no directory"),
    ],
)
def test_mistakes_in_training_are_named(tmp_path, monkeypatch, arguments, wanted):
    monkeypatch.chdir(tmp_path)
    write_outcomes(Path("o.parquet"), count=60)
    columns = {"prompt": ["a", "b", "c"], "s:m": [0.0, 1.0, 7.0], "s:n": [1.0, 1.0, 1.0]}
    pq.write_table(pa.table(columns), "wrong.parquet")
    pq.write_table(pa.table({"question": ["a"]}), "other.parquet")
    done = router("train", *arguments)
    assert done.code == 2
    assert wanted in done.err
    assert not Path("router.npz").exists()


def test_without_scikit_learn_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sklearn", None)
    done = train(tmp_path, tmp_path / "o.parquet")
    assert done.code == 2
    assert "llm-orchestrator[router]" in done.err


def test_calibrate_reaches_the_share_of_quality_on_prompts_left_for_it(given, trained):
    path = given()
    done = router("calibrate", path, trained[1], "--quality", 0.9, "-y", "-o", "json")
    assert done.code == 0, done.err
    found = done.data
    share, cost = found["share_of_best_quality"], found["share_of_best_cost"]
    assert share["value"] >= 0.9 and share["low"] <= share["value"] <= share["high"]
    assert cost["value"] < 0.9
    assert sum(i["value"] for i in found["mix"].values()) == pytest.approx(1)
    assert 35 < found["prompts"] < 70  # half as many as the test has
    setting = load_artefact(path).description.setting
    assert setting.target == "quality=0.9" and setting.worth == found["worth"]
    assert setting.rates["large-70b"] == [0, 70, 0]
    table = setting.worth_table()
    assert (np.diff(table.worth) > 0).all() and table.worth[0] == 0
    assert table.share[table.worth == table.for_quality(0.9)] >= 0.9


def test_a_cost_in_dollars_is_kept_to(given, trained, tmp_path):
    prices = [f"--price={m}={usd}/{usd}" for m, usd in zip(POOL, (0.1, 1, 10), strict=True)]
    qualities = []
    for usd in (0.012, 0.3):
        args = ("--cost", usd, *prices, "--all", "-y", "-o", "json")
        done = router("calibrate", given(), trained[1], *args)
        assert done.code == 0, done.err
        assert done.data["unit"] == "USD"
        assert done.data["cost_per_request"]["value"] <= usd / 1000
        qualities.append(done.data["quality"]["value"])
    assert qualities[0] < qualities[1]


def test_a_target_out_of_reach_ends_with_3_and_the_nearest(given, trained):
    path = given()
    before = path.read_bytes()
    done = router("calibrate", path, trained[1], "--quality", 1.4, "-y")
    assert done.code == 3
    assert "the nearest is" in done.err and "large-70b" in done.err
    dear = [f"--price={m}=10/10" for m in POOL]
    done = router("calibrate", path, trained[1], "--cost", 0.0001, *dear, "-y")
    assert done.code == 3 and "the cheapest costs $" in done.err
    assert path.read_bytes() == before


def test_calibrating_asks_for_one_target_and_for_dollars(given, trained):
    path = given()
    assert "one target" in router("calibrate", path, trained[1], "-y").err
    done = router("calibrate", path, trained[1], "--cost", 3, "-y")
    assert done.code == 2 and "--price" in done.err


@pytest.mark.slow
def test_without_a_held_out_part_only_new_prompts_calibrate(tmp_path):
    table = write_outcomes(tmp_path / "o.parquet", count=80)
    assert train(tmp_path, table, "--holdout", 0).code == 0
    done = router("calibrate", tmp_path / "r.npz", table, "--quality", 0.9, "-y")
    assert done.code == 2 and "--all" in done.err
    new = write_outcomes(tmp_path / "n.parquet", count=80, start=9000)
    done = router("calibrate", tmp_path / "r.npz", new, "--quality", 0.9, "--all", "-y")
    assert done.code == 0, done.err


def test_eval_of_an_artefact_judges_the_test_part_alone(trained, tmp_path):
    page = tmp_path / "eval.html"
    done = router("eval", *trained, "--report", page, "-o", "json")
    assert done.code == 0, done.err
    pair, pool = done.data
    assert 70 < pair["prompts"] < 130 and "of 500 prompts" in done.err
    ours = next(r for r in pool["routers"] if r["name"] == "r")
    assert set(ours["leads"]) == {"random", "prompt length", "zero router"}
    assert ours["figures"]["cost@95%"]["mean"] < 1
    assert page.read_text().startswith("<!doctype html>")


@pytest.mark.slow
def test_eval_trains_afresh_on_each_split(tmp_path):
    table = write_outcomes(tmp_path / "o.parquet", count=120)
    done = router(
        "eval", "--train", table, "--splits", 2, "--features", "hand", "--seed", 3, "-o", "yaml"
    )
    assert done.code == 0, done.err
    assert "name: hand + low_rank" in done.out and "splits: 2" in done.out


def test_another_pool_is_refused(trained, tmp_path):
    other = write_outcomes(tmp_path / "p.parquet", ("small-1b", "new-3b"), 60)
    for command in (
        ("eval", trained[0], other),
        ("calibrate", trained[0], other, "--quality", 1, "-y"),
    ):
        done = router(*command)
        assert done.code == 2 and "mid-8b" in done.err
    done = router("eval", *trained, "--models", "small-1b,new-3b")
    assert done.code == 2 and "was trained for" in done.err


def test_a_damaged_artefact_is_no_artefact(tmp_path):
    (tmp_path / "r.npz").write_bytes(b"PK not really")
    for args in (("explain", tmp_path / "r.npz", "hi"), ("eval", tmp_path / "r.npz", "o.parquet")):
        done = router(*args)
        assert done.code == 2 and "expected a router artefact" in done.err
    assert "no such file" in router("explain", tmp_path / "none.npz", "hi").err


def test_explain_tells_estimates_choice_and_words(given, trained):
    path = given()
    text = "Prove that x_5^{2} = \\frac{y}{z} implies lemma 7"
    bare = router("explain", path, text)
    assert bare.code == 0, bare.err
    assert "not calibrated" in bare.out
    assert router("calibrate", path, trained[1], "--quality", 0.9, "-y").code == 0
    found = router("explain", path, text, "-o", "json").data
    assert [line["model"] for line in found["lines"]] == list(POOL)
    utility = {line["model"]: line["utility"] for line in found["lines"]}
    assert found["choice"] == max(utility, key=utility.__getitem__)
    assert {p["text"] for p in found["pieces"]} == set(text.split())
    easy = router("explain", path, "What is 3 + 8?", "-o", "json").data
    assert easy["gap"] < found["gap"]


def test_explain_at_the_prices_of_a_plan(trained, tmp_path):
    from profiler.documents import dump

    groups = tuple(plan_builders.group(f"g{i}", m) for i, m in enumerate(POOL))
    plan = tmp_path / "plan.yaml"
    plan.write_text(dump(plan_builders.plan(groups)))
    done = router("explain", trained[0], "What is 3 + 8?", "--plan", plan, "-o", "json")
    assert done.code == 0, done.err
    assert done.data["unit"] == "USD"
    assert all(line["price"] > 0 for line in done.data["lines"])
    plan.write_text(dump(plan_builders.plan(groups[:1])))
    done = router("explain", trained[0], "What is 3 + 8?", "--plan", plan)
    assert done.code == 2 and "unknown model 'mid-8b'" in done.err


def test_a_model_joins_from_a_table(given, trained, tmp_path):
    path = given()
    table = write_outcomes(tmp_path / "n.parquet", (*POOL, "new-30b"), 300, start=5000)
    done = router("onboard", path, "new-30b", "--outcomes", table, "-y", "-o", "json")
    assert done.code == 0, done.err
    assert done.data["probes"] == 50 and "other prompts" in done.data["judged_on"]
    assert done.data["brier"] < done.data["brier_of_mean"]
    wider = load_artefact(path)
    assert wider.models == (*POOL, "new-30b") and wider.description.onboarded == {"new-30b": 50}
    again = router("onboard", path, "new-30b", "--outcomes", table, "-y")
    assert again.code == 2 and "already" in again.err
    absent = router("onboard", path, "nobody", "--outcomes", table, "-y")
    assert absent.code == 2 and "unknown model 'nobody'" in absent.err
    assert "give --outcomes" in router("onboard", path, "nobody", "-y").err


def test_a_model_joins_by_being_asked(given, tmp_path):
    import asyncio
    import threading

    lines = [{"prompt": f"{i} + 1?", "answer": i + 1, "grader": "number"} for i in range(40)]
    questions = tmp_path / "q.jsonl"
    questions.write_text("\n".join(map(json.dumps, lines)))
    ready, stop, urls = threading.Event(), threading.Event(), []
    server = FakeOpenAI(models=("new",), reply=lambda m, t: str(int(t.split()[0]) + 1))

    async def serve() -> None:
        async with server.serve() as url:
            urls.append(url)
            ready.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(10)
        done = router(
            "onboard", given(), "new", "--url", urls[0], "--questions", questions,
            "--probes", 12, "--save", tmp_path / "wider.npz", "-o", "json",
        )  # fmt: skip
    finally:
        stop.set()
        thread.join()
    assert done.code == 0, done.err
    assert done.data["mean_score_of_probes"] == 1.0 and done.data["probes"] == 12
    assert len([b for b in server.seen if "messages" in b]) == 12
    assert "probes themselves" in done.data["judged_on"]
    assert np.isfinite(done.data["ece"])


def test_help_names_every_command():
    done = router("--help")
    assert done.code == 0
    for command in ("train", "calibrate", "eval", "explain", "onboard"):
        assert command in done.out
