"""`router calibrate`: what the user wants as the router's exchange rate."""

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
    from rich.console import RenderableType

    from orchestrator.routing_calibration import Calibrated


def calibrate(
    artefact: options.ArtefactArgument,
    outcomes: Annotated[list[Path], typer.Argument(help="Outcome tables.")],
    quality: Annotated[
        float | None,
        typer.Option(min=0.01, max=1.5, help="Share of the best model's quality: 0.95."),
    ] = None,
    cost: Annotated[
        float | None, typer.Option(min=0, help="US dollars per 1,000 requests, at most.")
    ] = None,
    save: Annotated[
        Path | None, typer.Option("--save", "-s", help="A new file; default: the artefact, -y.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Use every prompt: training never saw these tables.")
    ] = False,
    datasets: options.DatasetsOption = None,
    scores: options.ScoresOption = "s",
    price: options.PriceOption = None,
    plan: options.PlanOption = None,
    seed: options.SeedOption = 0,
    output: OutputOption = Format.TABLE,
    yes: YesOption = False,
) -> None:
    """Find the setting for "95 % of the best model's quality", or for "$10 per 1k requests".

    Only prompts that training left for this are used, none of the test's.
    """
    from orchestrator.routing_calibration import Target, calibration_part
    from orchestrator.routing_calibration import calibrate as find
    from profiler.errors import InputError
    from serve_apps.router.artefact import load_artefact

    if (quality is None) == (cost is None):
        raise InputError("give one target: --quality 0.95, or --cost 10 (USD per 1,000 requests)")
    router = load_artefact(artefact)
    target = save or artefact
    refuse_to_overwrite(target, yes=yes)
    table = options.read(outcomes, ",".join(router.models), datasets, scores)
    costs = options.costs(table, price, plan)
    part = calibration_part(router, table, everything=everything)
    with steps(f"calibrating on {len(part.prompts):,} prompts"):
        found = find(router, part, costs, Target(quality, cost), seed)
    found.artefact.save(target)
    say(f"wrote {target}")
    emit(as_data(found, target), output, lambda: tables(found))


def as_data(found: Calibrated, save: Path) -> dict[str, Any]:
    """For ``-o json``; an infinite worth, the best model at any price, is null."""
    import math
    from dataclasses import asdict

    look, setting = found.outlook, found.setting
    return {
        "artefact": str(save),
        "target": setting.target,
        "worth": setting.worth if math.isfinite(setting.worth) else None,
        "unit": setting.unit,
        "best_single": found.best,
        "prompts": found.prompts,
        "quality": asdict(look.quality),
        "share_of_best_quality": asdict(look.share),
        "cost_per_request": asdict(look.cost),
        "share_of_best_cost": asdict(look.cost_share),
        "mix": {m: asdict(i) for m, i in zip(found.artefact.models, look.mix, strict=True)},
    }


def tables(found: Calibrated) -> list[RenderableType]:
    """For a terminal."""
    from orchestrator.routing_report import calibration_tables

    return list(calibration_tables(found))


def add_to(group: typer.Typer) -> None:
    """Register the command."""
    group.command()(calibrate)
