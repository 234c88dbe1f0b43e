"""`profile quality`: how good each model of a pool is at a set of questions."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.output import Format, OutputOption, YesOption, emit, say, steps

if TYPE_CHECKING:
    from rich.console import RenderableType

    from profiler.answers import PoolModel
    from profiler.quality import QualityRun
    from profiler.quality_work import Options, Progress
    from profiler.questions import QuestionSet


def quality(
    questions: Annotated[
        Path, typer.Argument(help="JSON lines: prompt or messages, answer, grader.")
    ],
    model: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", help="NAME served at --url, or NAME=URL; repeatable."),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(help="Base URL; all models listed there unless --model names some."),
    ] = None,
    judge: Annotated[
        str | None, typer.Option(help="Model for the grader judge: NAME at --url, or NAME=URL.")
    ] = None,
    price: Annotated[
        list[str] | None,
        typer.Option(help="NAME=INPUT/OUTPUT, USD per million tokens; repeatable."),
    ] = None,
    save: Annotated[
        Path, typer.Option("--save", "-s", help="The outcome table; gone on with if it is there.")
    ] = Path("outcomes.parquet"),
    limit: Annotated[
        int | None, typer.Option(min=1, help="Ask this many, drawn at random.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 0,
    concurrency: Annotated[int, typer.Option(min=1, help="Questions at a time per model.")] = 8,
    max_tokens: Annotated[
        int, typer.Option(min=1, help="Longest answer, where the question sets none.")
    ] = 1024,
    temperature: Annotated[float, typer.Option(min=0, max=2, help="Of sampling.")] = 0.0,
    timeout_s: Annotated[float, typer.Option(min=1, help="Of one request.")] = 300.0,
    output: OutputOption = Format.TABLE,
    yes: YesOption = False,
) -> None:
    """Ask every model of a pool every question, grade the answers, keep them as a table.

    Keys for the servers are taken from OPENAI_API_KEY, for the judge from JUDGE_API_KEY first.
    """
    from profiler.errors import ClusterError
    from profiler.quality_summary import summarise
    from profiler.quality_work import Options
    from profiler.questions import read_questions

    asked = read_questions(questions)
    pool = _pool(model or [], url, _prices(price or []))
    judging = None if judge is None else _at(judge, url, {}, "--judge")
    options = Options(limit, seed, concurrency, max_tokens, temperature, timeout_s, yes)
    run = _run(asked, pool, save, options, judging)
    say(f"wrote {save}; {run.asked} new answers")
    lines = summarise(run)
    emit({"table": str(save), "models": lines}, output, lambda: [_table(lines)])
    _complain(lines)
    if run.down:
        reasons = "\n".join(f"  {name}: {error}" for name, error in run.down.items())
        raise ClusterError(
            f"gave up on {len(run.down)} of {len(pool)} models, the rest of the table stands:\n"
            f"{reasons}\nmend them and run the same command: it asks only what is missing"
        )


def _run(
    questions: QuestionSet,
    pool: list[PoolModel],
    save: Path,
    options: Options,
    judge: PoolModel | None,
) -> QualityRun:
    import asyncio

    from profiler.quality import log_path, profile_quality

    key = os.environ.get("OPENAI_API_KEY")
    judge_key = os.environ.get("JUDGE_API_KEY", key)
    names = ", ".join(model.name for model in pool[:3]) + ", ..." * (len(pool) > 3)
    with steps(f"asking {names}") as step:

        def show(progress: Progress) -> None:
            left = "" if progress.eta_s is None else f", about {progress.eta_s:.0f} s left"
            failed = f", {progress.errors} failed" if progress.errors else ""
            step(f"{progress.done} of {progress.total} answers{failed}{left}")

        try:
            return asyncio.run(
                profile_quality(
                    questions,
                    pool,
                    save,
                    options,
                    judge=judge,
                    headers=_bearer(key),
                    judge_headers=_bearer(judge_key),
                    on_progress=show,
                )
            )
        except KeyboardInterrupt:
            say(f"the answers so far are in {log_path(save)}; the same command goes on from them")
            raise


def _bearer(key: str | None) -> dict[str, str] | None:
    return {"Authorization": f"Bearer {key}"} if key else None


def _pool(
    named: list[str], url: str | None, prices: dict[str, tuple[float, float]]
) -> list[PoolModel]:
    from profiler.errors import InputError, UnknownNameError

    if not named:
        if url is None:
            raise InputError("no model to ask; give --url URL, or --model NAME=URL")
        named = _listed(url)
    pool = [_at(name, url, prices, "--model") for name in named]
    names = [m.name for m in pool]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InputError(f"--model {twice}: given twice; each model is one column of the table")
    for name in prices:
        if name not in names:
            raise UnknownNameError("model", name, names, mend="(in --price)")
    return pool


def _at(text: str, url: str | None, prices: dict[str, tuple[float, float]], flag: str) -> PoolModel:
    """``NAME`` or ``NAME=URL`` as a model."""
    from profiler.answers import PoolModel
    from profiler.errors import InputError

    name, _, own = text.partition("=")
    at = own or url
    if not name or at is None:
        raise InputError(f"{flag} {text}: where is it served? give --url URL, or {flag} NAME=URL")
    if not at.startswith(("http://", "https://")):
        raise InputError(f"{at}: not a URL; expected one such as http://127.0.0.1:8000")
    given, made = prices.get(name, (None, None))
    return PoolModel(name, at, given, made)


def _listed(url: str) -> list[str]:
    import asyncio

    from profiler.client import open_session
    from profiler.endpoint import list_models

    async def ask() -> list[str]:
        async with open_session(timeout_s=30.0) as session:
            return await list_models(
                session, url, headers=_bearer(os.environ.get("OPENAI_API_KEY"))
            )

    return asyncio.run(ask())


def _prices(given: list[str]) -> dict[str, tuple[float, float]]:
    from profiler.errors import InputError

    found = {}
    for text in given:
        name, _, rest = text.rpartition("=")
        try:
            per_input, per_output = (float(part) for part in rest.split("/"))
        except ValueError:
            per_input = per_output = -1.0
        if not name or not (0 <= per_input < 1e9 and 0 <= per_output < 1e9):
            raise InputError(
                f"--price {text}: expected NAME=INPUT/OUTPUT in USD per million tokens, such as "
                "small=0.05/0.10"
            )
        found[name] = (per_input, per_output)
    return found


def _complain(lines: list[dict[str, Any]]) -> None:
    """What the table cannot show: first failure of each kind, and what a server lacks."""
    for line in lines:
        name = line["model"]
        for note in line["notes"]:
            say(f"{name}: {note}")
        if line["errors"] and not line["down"]:
            say(f"{name}: {line['errors']} questions failed, such as: {line['first_error']}")
        if line["ungraded"]:
            say(f"{name}: {line['ungraded']} answers ungraded: {line['first_ungraded']}")
        if line["cut_off"]:
            say(f"{name}: {line['cut_off']} answers reached the limit on tokens (--max-tokens)")


def _table(lines: list[dict[str, Any]]) -> RenderableType:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in (
        "model",
        "accuracy",
        "95 % interval",
        "graded",
        "out tokens",
        "p50",
        "p90",
        "USD",
    ):
        table.add_column(title, justify="left" if title == "model" else "right")
    table.add_column("errors", justify="right")
    table.add_column("ungraded", justify="right")
    for line in lines:
        table.add_row(
            line["model"],
            _shown(line["accuracy"], "{:.1%}"),
            f"{line['low']:.1%} – {line['high']:.1%}" if line["graded"] else "-",
            f"{line['graded']} of {line['questions']}",
            _shown(line["output_tokens_mean"], "{:.0f}"),
            _shown(line["latency_p50_s"], "{:.2f} s"),
            _shown(line["latency_p90_s"], "{:.2f} s"),
            _shown(line["usd"], "${:.4f}"),
            str(line["errors"]) + (" (down)" if line["down"] else ""),
            str(line["ungraded"]),
        )
    return table


def _shown(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def add_to(group: typer.Typer) -> None:
    """Register the command."""
    group.command()(quality)
