"""A pool is asked a question set: each answer is kept, and what is kept is not asked again."""

from __future__ import annotations

import asyncio
import json
import math
from pathlib import Path

import pytest

from profiler.answers import ATTEMPTS, PoolModel
from profiler.errors import ClusterError, InputError, UnknownNameError
from profiler.quality import QualityRun, log_path, profile_quality
from profiler.quality_work import GIVE_UP_AFTER, Options
from profiler.questions import read_questions
from tests.fake_openai import FakeOpenAI

pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow (extra: profile)")


async def no_wait(_: float) -> None:
    pass


def sums(path: Path, n: int = 6, first_answer: str = "0", **fields) -> Path:
    """Questions "0 + 0?", "1 + 1?" ... ; the fake knows them all."""
    lines = [
        {"id": str(i), "prompt": f"{i} + {i}?", "answer": 2 * i, "grader": "number"} | fields
        for i in range(n)
    ]
    lines[0]["answer"] = first_answer
    path.write_text("\n".join(json.dumps(line) for line in lines))
    return path


def adds(model: str, text: str) -> str:
    """What a model good at sums says; the one called weak cannot count above 2."""
    number = int(text.split(maxsplit=1)[0])
    return f"The answer is {min(number, 2) * 2 if model == 'weak' else number * 2}."


@pytest.fixture
def ask(tmp_path):
    """Run the set against a fake; the table is tmp_path/out.parquet."""

    async def run(
        server: FakeOpenAI,
        *models: str,
        n: int = 6,
        first_answer: str = "0",
        judge: FakeOpenAI | None = None,
        question_fields: dict | None = None,
        prices: tuple[float, float] | None = None,
        progress=lambda _: None,
        **options,
    ) -> QualityRun:
        questions = read_questions(
            sums(tmp_path / "sums.jsonl", n, first_answer, **(question_fields or {}))
        )
        options = Options(**{"concurrency": 1, **options})
        async with server.serve() as url, (judge or FakeOpenAI()).serve() as judge_url:
            pool = [PoolModel(name, url, *(prices or ())) for name in models or server.models]
            return await profile_quality(
                questions,
                pool,
                tmp_path / "out.parquet",
                options,
                judge=PoolModel("small", judge_url) if judge else None,
                on_progress=progress,
                sleep=no_wait,
            )

    return run


def table(tmp_path: Path) -> dict[str, list]:
    return pq.read_table(tmp_path / "out.parquet").to_pydict()


async def test_the_table_holds_a_row_a_question_and_a_group_of_columns_a_model(ask, tmp_path):
    server = FakeOpenAI(models=("strong", "weak"), reply=adds, logprobs=(0.0, math.log(0.5)))
    await ask(server, prices=(1.0, 3.0))
    found = table(tmp_path)
    assert found["id"] == list("012345")
    assert found["dataset"] == ["sums"] * 6
    assert found["prompt"][1] == "1 + 1?"
    assert found["s:strong"] == [1.0] * 6
    assert found["s:weak"] == [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]
    assert found["a:weak"] == ["0", "2", "4", "4", "4", "4"]
    assert found["ot:weak"] == [2] * 6 and found["it:weak"] == [10] * 6
    assert all(seconds > 0 for seconds in found["lat:strong"])
    assert found["lp:strong"] == pytest.approx([math.log(0.5) / 2] * 6, rel=1e-3)
    assert found["p_first:strong"] == [1.0] * 6
    assert found["p_min:strong"] == pytest.approx([0.5] * 6, rel=1e-3)
    assert found["c:strong"] == pytest.approx([16e-6] * 6)


async def test_one_schema_whatever_was_answered(ask, tmp_path):
    names = ["s", "ot", "it", "lat", "a", "lp", "p_first", "p_min", "margin"]
    types = ["float", "int32", "int32", "float", "string", "float", "float", "float", "float"]
    await ask(FakeOpenAI(logprobs=None, body={"choices": [{"message": {"content": None}}]}))
    fields = pq.read_schema(tmp_path / "out.parquet")
    found = [str(fields.field(f"{name}:small").type) for name in names]
    assert found == types
    assert table(tmp_path)["s:small"] == [0.0] * 6
    assert table(tmp_path)["ot:small"] == [None] * 6


async def test_progress_counts_to_the_end(ask):
    seen = []
    await ask(FakeOpenAI(reply=adds), progress=seen.append)
    assert [p.done for p in seen] == [1, 2, 3, 4, 5, 6]
    assert {p.total for p in seen} == {6}
    assert seen[-1].eta_s == 0


async def test_a_second_run_asks_nothing_and_a_larger_limit_only_the_rest(ask, tmp_path):
    server = FakeOpenAI(reply=adds)
    assert (await ask(server, limit=2)).asked == 2
    assert len(table(tmp_path)["id"]) == 2
    assert (await ask(server, limit=2)).asked == 0
    assert (await ask(server, limit=5)).asked == 3
    assert (await ask(server, limit=1)).asked == 0
    assert len(table(tmp_path)["id"]) == 5  # a smaller draw loses nothing


async def test_a_model_added_later_is_the_only_one_asked(ask, tmp_path):
    server = FakeOpenAI(models=("strong", "weak"), reply=adds)
    await ask(server, "strong")
    before = table(tmp_path)
    await ask(server, "weak")
    after = table(tmp_path)
    assert [body["model"] for body in server.seen] == ["strong"] * 6 + ["weak"] * 6
    assert before.items() <= after.items()
    assert after["s:weak"][-1] == 0.0


async def test_a_model_that_dies_in_the_middle_costs_no_other_model_its_answers(ask, tmp_path):
    server = FakeOpenAI(models=("strong",), reply=adds, die_after=2)
    run = await ask(server, n=12)
    assert "strong" in run.down
    assert len(server.seen) == 2 + GIVE_UP_AFTER * ATTEMPTS  # the rest was not asked
    scores = table(tmp_path)["s:strong"]
    assert scores[:2] == [1.0, 1.0] and all(math.isnan(s) for s in scores[2:])
    server.die_after = None
    server.seen.clear()
    run = await ask(server, n=12)
    assert run.down == {} and run.asked == len(server.seen) == 10
    assert table(tmp_path)["s:strong"] == [1.0] * 12


async def test_a_refused_question_is_not_run_and_the_others_are(ask, tmp_path):
    run = await ask(FakeOpenAI(reply=adds, faults=[400, 400]))
    assert run.down == {}
    scores = table(tmp_path)["s:small"]
    assert math.isnan(scores[0]) and scores[1:] == [1.0] * 5
    assert run.records["0", "small"].error.startswith("HTTP 400")


async def test_interrupted_it_goes_on_where_it_was(ask, tmp_path):
    server = FakeOpenAI(reply=adds)

    def stop(progress):
        if progress.done == 3:
            running.cancel()

    running = asyncio.create_task(ask(server, progress=stop))
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not (tmp_path / "out.parquet").exists()
    server.seen.clear()
    assert (await ask(server)).asked == 3
    assert table(tmp_path)["s:small"] == [1.0] * 6


async def test_another_question_set_is_not_written_over_a_table(ask, tmp_path):
    server = FakeOpenAI(reply=adds)
    await ask(server)
    before = (tmp_path / "out.parquet").read_bytes()
    with pytest.raises(InputError, match=r"of another question set .* pass -y"):
        await ask(server, first_answer="7")
    assert (tmp_path / "out.parquet").read_bytes() == before


async def test_a_mended_answer_is_graded_again_without_asking(ask, tmp_path):
    server = FakeOpenAI(reply=adds)
    await ask(server, first_answer="7")
    assert table(tmp_path)["s:small"][0] == 0.0
    assert (await ask(server, replace=True)).asked == 0
    assert table(tmp_path)["s:small"][0] == 1.0


async def test_other_sampling_options_ask_again_only_when_told_to(ask):
    server = FakeOpenAI(reply=adds)
    await ask(server)
    with pytest.raises(InputError, match="max_tokens=1024 temperature=0, now max_tokens=64"):
        await ask(server, max_tokens=64)
    assert (await ask(server, max_tokens=64, replace=True)).asked == 6


async def test_a_file_that_is_no_outcome_table_is_left_alone(ask, tmp_path):
    (tmp_path / "out.parquet").write_text("my thesis")
    with pytest.raises(InputError, match="is no outcome table"):
        await ask(FakeOpenAI(reply=adds))
    assert (tmp_path / "out.parquet").read_text() == "my thesis"


async def test_a_model_that_is_not_there_stops_the_run_before_a_token_is_spent(ask):
    server = FakeOpenAI(models=("strong", "weak"), reply=adds)
    with pytest.raises(UnknownNameError, match="did you mean 'strong'"):
        await ask(server, "weak", "stronk")
    assert server.seen == []


async def test_a_url_where_nobody_answers_is_named(tmp_path):
    questions = read_questions(sums(tmp_path / "sums.jsonl"))
    pool = [PoolModel("small", "http://127.0.0.1:9")]
    with pytest.raises(ClusterError, match=r"127\.0\.0\.1:9"):
        await profile_quality(questions, pool, tmp_path / "out.parquet", Options())


async def test_a_judge_grades_and_its_nonsense_is_judged_again_next_time(ask, tmp_path):
    server, judge = FakeOpenAI(reply=adds), FakeOpenAI(reply=lambda *_: "Hm.")
    fields = {"grader": "judge", "answer": "right"}
    await ask(server, judge=judge, question_fields=fields)
    assert all(math.isnan(score) for score in table(tmp_path)["s:small"])
    judge.reply = lambda *_: "VERDICT: PARTLY"
    run = await ask(server, judge=judge, question_fields=fields)
    assert run.asked == 0
    assert table(tmp_path)["s:small"] == [0.5] * 6


async def test_a_judge_is_asked_for_when_needed(ask):
    with pytest.raises(InputError, match="name it with --judge"):
        await ask(FakeOpenAI(), question_fields={"grader": "judge", "answer": "right"})


async def test_the_metadata_tell_how_it_was_run_but_no_password(tmp_path):
    questions = read_questions(sums(tmp_path / "sums.jsonl"))
    async with FakeOpenAI(reply=adds, logprobs=None).serve() as url:
        secret = url.replace("http://", "http://me:secret@")
        await profile_quality(
            questions, [PoolModel("small", secret)], tmp_path / "out.parquet", Options()
        )
    raw = pq.read_schema(tmp_path / "out.parquet").metadata[b"orchestrator.outcomes"]
    about = json.loads(raw)
    assert about["version"] == 1 and about["questions_digest"] == questions.digest
    assert about["models"]["small"]["url"] == url
    assert "no token probabilities" in about["models"]["small"]["notes"][0]
    assert b"secret" not in raw


def test_answers_are_kept_beside_the_table():
    assert log_path(Path("x/out.parquet")) == Path("x/out.answers.jsonl")
