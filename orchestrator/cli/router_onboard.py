"""`router onboard`: a new model joins from a few probes."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import router_options as options
from orchestrator.cli.output import (
    Format,
    OutputOption,
    YesOption,
    emit,
    refuse_to_overwrite,
    say,
    steps,
)

if TYPE_CHECKING:
    from serve_apps.router.artefact import Artefact


def onboard(
    artefact: options.ArtefactArgument,
    model: Annotated[str, typer.Argument(help="The new model.")],
    probes: Annotated[int, typer.Option(help="Answers to learn from.")] = 50,
    outcomes: Annotated[
        list[Path] | None, typer.Option("--outcomes", help="Tables with its scores; repeatable.")
    ] = None,
    url: Annotated[str | None, typer.Option(help="Where it is served: probes are asked.")] = None,
    questions: Annotated[
        Path | None, typer.Option(help="With --url: the set that probes are chosen from.")
    ] = None,
    save: Annotated[
        Path | None, typer.Option("--save", "-s", help="A new file; default: the artefact, -y.")
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="With --url: longest answer.")] = 1024,
    scores: options.ScoresOption = "s",
    seed: options.SeedOption = 0,
    output: OutputOption = Format.TABLE,
    yes: YesOption = False,
) -> None:
    """Let a model join a trained router: choose telling probes, score them, widen the artefact."""
    from orchestrator.routing_onboard import join
    from orchestrator.routing_report import onboarding_lines
    from profiler.errors import InputError
    from serve_apps.router.artefact import load_artefact

    router = load_artefact(artefact)
    target = save or artefact
    refuse_to_overwrite(target, yes=yes)
    if bool(outcomes) == bool(url):
        raise InputError("give --outcomes TABLE, or --url URL with --questions questions.jsonl")
    if model in router.models:
        raise InputError(f"{model!r} is in {artefact} already; train again to replace it")
    if outcomes:
        table = options.read(outcomes, None, None, scores)
    elif questions is None:
        raise InputError("--url needs --questions questions.jsonl: what to choose probes from")
    else:
        asked = target.with_name(f"{target.stem}.{model.replace('/', '_')}.parquet")
        _ask(router, model, str(url), questions, probes, asked, max_tokens, yes)
        table = options.read([asked], None, None)
    with steps("choosing probes"):
        found = join(router, model, table, probes, seed)
    found.artefact.save(target)
    say(f"wrote {target}")
    if router.description.setting is not None:
        say("its setting was for the pool before: run `router calibrate` again")
    data = {
        "artefact": str(target),
        "model": model,
        "models": list(found.artefact.models),
        "probes": int(found.probes.size),
        "mean_score_of_probes": found.mean_score,
        "judged_on": found.judged_on,
        "ece": found.ece,
        "brier": found.brier,
        "brier_of_mean": found.brier_of_mean,
    }
    emit(data, output, lambda: list(onboarding_lines(found, model)))


def _ask(
    router: Artefact,
    model: str,
    url: str,
    questions: Path,
    probes: int,
    save: Path,
    max_tokens: int,
    yes: bool,
) -> None:
    """Ask the model the most telling questions, grade, and keep the outcome table."""
    from dataclasses import replace

    from orchestrator.routing_onboard import probe_questions
    from profiler.answers import PoolModel
    from profiler.errors import ClusterError
    from profiler.quality import profile_quality
    from profiler.quality_work import Options, Progress
    from profiler.questions import read_questions

    found = read_questions(questions)
    rows = probe_questions(router, found.questions, probes)
    chosen = replace(
        found,
        questions=tuple(found.questions[i] for i in rows),
        lines=tuple(found.lines[i] for i in rows),
    )
    key = os.environ.get("OPENAI_API_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else None
    with steps(f"asking {model}") as step:

        def show(progress: Progress) -> None:
            left = "" if progress.eta_s is None else f", about {progress.eta_s:.0f} s left"
            step(f"{progress.done} of {progress.total} answers{left}")

        run = asyncio.run(
            profile_quality(
                chosen,
                [PoolModel(model, url)],
                save,
                Options(max_tokens=max_tokens, replace=yes),
                headers=headers,
                on_progress=show,
            )
        )
    if run.down:
        raise ClusterError(f"{model} at {url} was given up: {run.down[model]}")
    say(f"wrote {save}; {run.asked} new answers")


def add_to(group: typer.Typer) -> None:
    """Register the command."""
    group.command()(onboard)
