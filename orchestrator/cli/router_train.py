"""`router train`: graded answers to an artefact, judged on prompts held back."""

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
    from collections.abc import Iterator

    from rich.console import RenderableType

    from orchestrator.routing_training import Trained


def train(
    outcomes: Annotated[
        list[Path], typer.Argument(help="Outcome tables: ours, RouterBench's or RouteLLM's.")
    ],
    save: Annotated[Path, typer.Option("--save", "-s", help="The artefact.")] = Path("router.npz"),
    models: options.ModelsOption = None,
    features: Annotated[
        str, typer.Option(help="Feature extractor; several at once: text+sentence.")
    ] = "text",
    estimator: Annotated[str, typer.Option(help="Estimator.")] = "low_rank",
    split: options.SplitOption = "prompt",
    holdout: Annotated[
        float,
        typer.Option(min=0, max=0.6, help="Share kept for the test; half as much to calibrate."),
    ] = 0.2,
    seed: options.SeedOption = 0,
    datasets: options.DatasetsOption = None,
    scores: options.ScoresOption = "s",
    price: options.PriceOption = None,
    plan: options.PlanOption = None,
    output: OutputOption = Format.TABLE,
    yes: YesOption = False,
) -> None:
    """Train a router on graded answers, and judge it on prompts it never saw.

    A part of the prompts (--holdout) is kept for the test, and half as many again for `router
    calibrate`; which, follows from a hash of the prompt (--split subject: of its subject).
    """
    from orchestrator.routing_training import train_held_out
    from serve_apps.router.settings import HeldOut

    options.require_router_extra()
    refuse_to_overwrite(save, yes=yes)
    division = HeldOut(options.check_split(split), holdout, seed)
    table = options.read(outcomes, models, datasets, scores)
    costs = options.costs(table, price, plan)
    with steps(f"training {features} + {estimator}") as step:
        trained = train_held_out(
            table,
            costs,
            division,
            features=features,
            estimator=estimator,
            on_fold=options.eta(step, "fit"),
        )
    trained.artefact.save(save)
    say(f"wrote {save}, {save.stat().st_size / 1e6:.1f} MB")
    emit(as_data(trained, save), output, lambda: list(tables(trained)))


def as_data(trained: Trained, save: Path) -> dict[str, Any]:
    """For ``-o json``."""
    from orchestrator.router_report import as_data as comparison_data

    about = trained.artefact.description
    return {
        "artefact": str(save),
        "models": list(about.models),
        "features": about.features,
        "estimator": about.estimator,
        "prompts": {
            "trained": int(trained.parts.train.size),
            "calibration": int(trained.parts.calibration.size),
            "test": int(trained.parts.test.size),
        },
        "data_sha256": about.data_sha256,
        "cross_fitted": {
            "ece": about.ece,
            "brier": about.brier,
            "brier_of_mean": about.brier_of_mean,
        },
        "comparisons": [comparison_data(c) for c in trained.comparisons],
    }


def tables(trained: Trained) -> Iterator[RenderableType]:
    """For a terminal."""
    from orchestrator.routing_report import training_table

    about, parts = trained.artefact.description, trained.parts
    yield (
        f"{about.features} + {about.estimator}: trained on {parts.train.size:,} prompts, "
        f"{parts.calibration.size:,} kept to calibrate, {parts.test.size:,} to test"
    )
    if about.brier is not None:
        yield (
            f"cross-fitted: ECE {about.ece:.3f}, Brier {about.brier:.3f} "
            f"(always each model's mean: {about.brier_of_mean:.3f})"
        )
    if trained.comparisons:
        yield ""
        yield from training_table(trained.comparisons, trained.pair)


def add_to(group: typer.Typer) -> None:
    """Register the command."""
    group.command()(train)
