"""`router explain`: one prompt's way through the router."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import router_options as options
from orchestrator.cli.output import Format, OutputOption, emit

if TYPE_CHECKING:
    from orchestrator.routing_costs import Costs
    from serve_apps.router.artefact import Artefact


def explain(
    artefact: options.ArtefactArgument,
    prompt: Annotated[str, typer.Argument(help="The prompt; - reads it from standard input.")],
    price: options.PriceOption = None,
    plan: options.PlanOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Show what each model is expected to make of a prompt, what is chosen, and why."""
    import sys

    from orchestrator.routing_explain import explain as explained
    from orchestrator.routing_explain import worth_and_costs
    from orchestrator.routing_report import explanation_tables
    from profiler.errors import InputError
    from serve_apps.router.artefact import load_artefact

    router = load_artefact(artefact)
    text = sys.stdin.read() if prompt == "-" else prompt
    if not text.strip():
        raise InputError("the prompt is empty")
    given = _given(router, price, plan)
    read = options.read_plan(plan)
    worths = read.prices.quality if read is not None and read.prices is not None else None
    worth, costs = worth_and_costs(router, given, worths)
    found = explained(router, text, costs, worth)
    data = found.as_data() | {"worth": worth, "unit": costs.unit if costs else None}
    emit(data, output, lambda: list(explanation_tables(found, worth, costs)))


def _given(router: Artefact, price: list[str] | None, plan: Path | None) -> Costs | None:
    """Costs of --price or --plan; None without either."""
    if not price and plan is None:
        return None
    from orchestrator.routing_costs import costs_of_models

    return costs_of_models(router.models, options.prices(price), options.read_plan(plan))


def add_to(group: typer.Typer) -> None:
    """Register the command."""
    group.command()(explain)
