"""`router train-load`: a small policy for bursts, learned in the simulator."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    from orchestrator.simulator import Floats
    from placement.plan import Plan
    from serve_apps.router.load_values import LoadValues


def train_load(
    plan: Annotated[Path, typer.Argument(help="A plan file with more than one model.")],
    outcomes: Annotated[
        list[Path] | None,
        typer.Option("--outcomes", help="Graded answers of the plan's models; repeatable."),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option("--column", help="MODEL=NAME: what the tables call a model; repeatable."),
    ] = None,
    minutes: Annotated[float, typer.Option(min=0.01, max=600, help="Of practice.")] = 5.0,
    trials: Annotated[
        int, typer.Option(min=2, max=1000, help="Unseen arrival patterns for the verdict.")
    ] = 24,
    save: Annotated[Path, typer.Option("--save", "-s", help="The policy.")] = Path("policy.npz"),
    seed: options.SeedOption = 0,
    output: OutputOption = Format.TABLE,
    yes: YesOption = False,
) -> None:
    """Learn by reinforcement which model to use under load, and try it beside the priced policy.

    Practice is on generated arrivals of many rates and kinds, in the simulator with the production
    dispatcher. The verdict is on patterns kept aside; where the learned policy does not win it,
    the file says so and the priced policy is used. Needs PyTorch; serving does not.
    """
    from orchestrator.load_training import checked_pool, require_torch
    from orchestrator.load_training import train_load as train

    require_torch()
    refuse_to_overwrite(save, yes=yes)
    chosen = options.read_plan(plan)
    assert chosen is not None
    checked_pool(chosen)
    quality = _quality(chosen, outcomes, column)
    with steps(f"practising for {minutes:g} min") as step:
        found = train(
            chosen,
            quality=quality,
            minutes=minutes,
            seed=seed,
            trials=trials,
            on_progress=lambda episodes, requests: step(
                f"{episodes:,} episodes, {requests:,} requests"
            ),
        )
    found.save(save)
    say(f"wrote {save}, {save.stat().st_size / 1e3:.0f} kB")
    emit(as_data(found, save, graded=quality is not None), output, lambda: [sentence(found)])


def _quality(plan: Plan, outcomes: list[Path] | None, column: list[str] | None) -> Floats | None:
    from orchestrator.load_training import predicted_quality
    from profiler.errors import InputError
    from serve_apps.router.load_values import pool_of

    if not outcomes:
        say("no --outcomes: how good the models are is assumed from their size, not measured")
        return None
    named = dict(plan.router.models) if plan.router else {}
    for text in column or []:
        model, found, name = text.partition("=")
        if not (model and found and name):
            raise InputError(f"--column {text}: expected MODEL=NAME")
        named[model] = name
    options.require_router_extra()
    pool = pool_of(plan)
    wanted = ",".join(named.get(m, m) for m in pool.models)
    return predicted_quality(options.read(outcomes, wanted), pool, named)


def as_data(found: LoadValues, save: Path, *, graded: bool) -> dict[str, Any]:
    """For ``-o json``."""
    from dataclasses import asdict

    return {
        "policy": str(save),
        "models": list(found.pool.models),
        "quality": "predicted from graded answers" if graded else "assumed",
        "verdict": {**asdict(found.verdict), "better": found.verdict.better},
    }


def sentence(found: LoadValues) -> str:
    """For a terminal."""
    v = found.verdict
    told = (
        f"on {v.patterns} unseen arrival patterns it earned {v.learned:.4f} of the best model's "
        f"quality, the priced policy {v.priced:.4f} (error of the difference {v.error:.4f}); "
        f"inside the SLO {v.learned_attainment:.4f} and {v.priced_attainment:.4f}"
    )
    if v.better:
        return f"{told}: it will be used"
    return f"{told}: not clearly better, so the priced policy stays in use"


def add_to(group: typer.Typer) -> None:
    """Register the command."""
    group.command(name="train-load")(train_load)
