"""How good each model of a pool is at each question of a set: asked, graded, kept as a table.

Each answer is kept the moment it comes (`profiler.answer_log`); the outcome table
(`profiler.outcome_table`) is made of them at the end, also when some model fell out on the way.
What an earlier run has answered is not asked again.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profiler.answer_log import AnswerLog, Key, Record
from profiler.answers import ChatClient, PoolModel
from profiler.client import Sleep, open_session, server_base
from profiler.endpoint import describe
from profiler.errors import InputError
from profiler.graders import GRADERS, JUDGE, Grader
from profiler.graders.judge import JudgeGrader
from profiler.outcome_table import read_metadata, write_table
from profiler.parquet import require_pyarrow
from profiler.quality_work import Options, Progress, Work
from profiler.questions import Question, QuestionSet
from profiler.timing import Clock

if TYPE_CHECKING:
    import aiohttp


@dataclass
class QualityRun:
    """What came of a run: the rows and columns of its table, and what went wrong.

    ``down`` says of each model that was given up why; ``notes`` what a server does not offer.
    """

    questions: tuple[Question, ...]
    models: tuple[str, ...]
    records: Mapping[Key, Record]
    metadata: dict[str, Any]
    down: dict[str, str] = field(default_factory=dict)
    notes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    asked: int = 0


def log_path(output: Path) -> Path:
    """Where the answers of an outcome table are kept: ``x.answers.jsonl`` beside ``x.parquet``."""
    return output.with_name(f"{output.stem}.answers.jsonl")


async def profile_quality(
    questions: QuestionSet,
    pool: Sequence[PoolModel],
    output: Path,
    options: Options,
    *,
    judge: PoolModel | None = None,
    headers: Mapping[str, str] | None = None,
    judge_headers: Mapping[str, str] | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    clock: Clock = time.perf_counter,
    sleep: Sleep = asyncio.sleep,
) -> QualityRun:
    """Ask every model every question, grade, and write the outcome table to ``output``.

    Args:
        questions: the set; ``options.limit`` draws from it.
        pool: the models, by the names their servers list.
        output: the Parquet file; answers are kept beside it, see `log_path`.
        options: how to run.
        judge: the model that grades questions whose grader is ``judge``.
        headers: request headers for the pool, such as authorization.
        judge_headers: the same for the judge.
        on_progress: called after each answer.
        clock: seconds, monotonic.
        sleep: waits some seconds, between attempts.

    Raises:
        InputError: ``output`` is there and of other questions or options, without ``replace``; a
            judge is needed and none is given; pyarrow is missing; a file cannot be written.
        ClusterError: a model cannot be reached at the start, or is not served there. One that
            fails later is reported in the result instead, so that the others' answers count.
    """
    require_pyarrow()
    chosen = questions.sample(options.limit, options.seed)
    if judge is None and any(q.grader == JUDGE for q in chosen):
        raise InputError(
            f"{questions.name}: some questions are graded by a judge; name it with --judge"
        )
    earlier = _earlier(output, questions, pool, options)
    async with open_session(timeout_s=options.timeout_s) as session:
        for model in pool:
            await describe(session, model.url, model=model.name, headers=headers)
        if judge is not None:
            await describe(session, judge.url, model=judge.name, headers=judge_headers)
        with AnswerLog(log_path(output)) as log:
            tools = ClientTools(session, options.temperature, clock, sleep)
            graders = _graders(judge, judge_headers, tools)
            work = Work(log, graders, options, on_progress, clock)
            clients = {m.name: tools.client(m, headers) for m in pool}
            await work.run(chosen, clients)
            return _finish(questions, chosen, pool, output, earlier, work, clients, options)


@dataclass(frozen=True)
class ClientTools:
    """What all clients of a run share."""

    session: aiohttp.ClientSession
    temperature: float
    clock: Clock
    sleep: Sleep

    def client(
        self, model: PoolModel, headers: Mapping[str, str] | None, *, probabilities: bool = True
    ) -> ChatClient:
        """A client of one model."""
        return ChatClient(
            self.session,
            model.url,
            model.name,
            temperature=self.temperature,
            token_probabilities=probabilities,
            headers=headers,
            clock=self.clock,
            sleep=self.sleep,
            rng=random.Random(model.name),
        )


def _graders(
    judge: PoolModel | None, headers: Mapping[str, str] | None, tools: ClientTools
) -> dict[str, Grader]:
    if judge is None:
        return dict(GRADERS)
    client = replace(tools, temperature=0.0).client(judge, headers, probabilities=False)
    return {**GRADERS, JUDGE: JudgeGrader(client)}


def _earlier(
    output: Path, questions: QuestionSet, pool: Sequence[PoolModel], options: Options
) -> dict[str, Any]:
    """The metadata of the table to go on with; refuses one that would lose what it holds."""
    try:
        found = read_metadata(output)
    except InputError:
        if not options.replace:
            raise
        found = None
    if found is None or options.replace:
        return found or {}
    if found.get("questions_digest") != questions.digest:
        raise InputError(
            f"{output}: exists, of another question set or an earlier version of this one; pass -y "
            "to bring it up to date (answers to unchanged questions are kept), or --save elsewhere"
        )
    for model in pool:
        was = found.get("models", {}).get(model.name, {}).get("sampling", options.sampling)
        if was != options.sampling:
            raise InputError(
                f"{output}: holds {model.name} asked with {was}, now {options.sampling}; pass "
                "-y to ask again, or --save elsewhere"
            )
    return found


def _finish(
    questions: QuestionSet,
    chosen: Sequence[Question],
    pool: Sequence[PoolModel],
    output: Path,
    earlier: Mapping[str, Any],
    work: Work,
    clients: Mapping[str, ChatClient],
    options: Options,
) -> QualityRun:
    """Write the table: this run's models and questions, and all that earlier ones answered."""
    usable = {
        (q.id, model): found
        for q in questions.questions
        for model in dict.fromkeys(name for _, name in work.log.records)
        if (found := work.log.records.get((q.id, model))) is not None
        and (found.text is None or found.answers(q, options.sampling if model in clients else None))
    }
    ids = {q.id for q in chosen} | {q for (q, _), r in usable.items() if r.text is not None}
    rows = tuple(q for q in questions.questions if q.id in ids)
    models = tuple(dict.fromkeys([*clients, *(m for _, m in usable)]))
    about = {**earlier.get("models", {}), **{m.name: _about(m, options) for m in pool}}
    for name, client in clients.items():
        about[name]["notes"] = client.notes
    metadata = {
        "questions": Path(questions.name).name,
        "questions_digest": questions.digest,
        "date": dt.date.today().isoformat(),
        "models": {name: about.get(name, {}) for name in models},
    }
    notes = {name: tuple(client.notes) for name, client in clients.items() if client.notes}
    write_table(output, rows, models, usable, metadata)
    return QualityRun(rows, models, usable, metadata, work.down, notes, work.asked)


def _about(model: PoolModel, options: Options) -> dict[str, Any]:
    """A model as the metadata tell of it; a password in its URL is nobody's business."""
    from yarl import URL

    known = {key: value for key, value in asdict(model).items() if value is not None}
    url = str(URL(server_base(model.url)).with_user(None))
    return {**known, "url": url, "sampling": options.sampling, "concurrency": options.concurrency}
