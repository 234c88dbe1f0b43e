"""`profile value`: tokens per dollar by GPU type, model and request size."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.catalog import FileOption
from orchestrator.cli.output import Format, OutputOption, YesOption, emit, say, stdout

if TYPE_CHECKING:
    from rich.console import RenderableType

    from orchestrator.valuing import Question, Valuation
    from profiler.core import Market
    from profiler.value import Size

TTFT_S, TPOT_S = 2.0, 0.06


class MarketChoice(enum.StrEnum):
    """What `--market` takes."""

    ON_DEMAND = "on_demand"
    SPOT = "spot"
    BOTH = "both"


def value(
    service: Annotated[
        Path | None, typer.Argument(help="Take models, GPUs, prices and limits from this service.")
    ] = None,
    models: Annotated[
        str | None, typer.Option(help="Models, separated by commas: catalog, hub or config.json.")
    ] = None,
    gpus: Annotated[str, typer.Option(help="GPU types, separated by commas, or all.")] = "all",
    profile: Annotated[
        list[Path] | None, typer.Option("--profile", "-p", help="A profile file; repeatable.")
    ] = None,
    ttft: Annotated[
        float | None, typer.Option(min=0.001, help="Limit on time to first token, seconds.")
    ] = None,
    tpot: Annotated[
        float | None, typer.Option(min=0.0001, help="Limit on time per output token, seconds.")
    ] = None,
    attainment: Annotated[
        float | None, typer.Option(min=0.01, max=0.9999, help="Share of requests to keep them.")
    ] = None,
    sizes: Annotated[
        str | None, typer.Option(help="Sizes as input+output tokens, such as 512+128,4096+256.")
    ] = None,
    market: Annotated[MarketChoice, typer.Option(help="Which prices.")] = MarketChoice.ON_DEMAND,
    html: Annotated[Path | None, typer.Option(help="Write a page that works offline.")] = None,
    catalog: FileOption = None,
    output: OutputOption = Format.TABLE,
    yes: YesOption = False,
) -> None:
    """Tokens per dollar by GPU type, model and request size, and the winner of each size."""
    from orchestrator.cli.output import refuse_to_overwrite
    from orchestrator.valuing import valuation

    if html is not None:
        refuse_to_overwrite(html, yes=yes)
    limits = {"ttft_s": ttft, "tpot_s": tpot, "attainment": attainment}
    if service is not None:
        if models is not None or gpus != "all" or profile or catalog:
            raise _both()
        question = _of_service(service, limits, _sizes(sizes), _markets(market))
    else:
        question = _of_names(
            models, gpus, profile, catalog, limits, _sizes(sizes), _markets(market)
        )
    found = valuation(question)
    if html is not None:
        _write_page(found, html)
    data = found.table.model_dump(mode="json", exclude_none=True)
    emit(data, output, lambda: _tables(found))


def _of_service(
    path: Path,
    limits: dict[str, float | None],
    sizes: tuple[Size, ...],
    markets: tuple[Market, ...],
) -> Question:
    from orchestrator.loading import load_service
    from orchestrator.valuing import of_service
    from profiler.core import Slo

    loaded = load_service(path)
    slo = Slo.model_validate(loaded.service.slo.model_dump() | _given(limits))
    return of_service(loaded, slo, markets, sizes)


def _of_names(
    models: str | None,
    gpus: str,
    profiles: list[Path] | None,
    catalog: list[Path] | None,
    limits: dict[str, float | None],
    sizes: tuple[Size, ...],
    markets: tuple[Market, ...],
) -> Question:
    from orchestrator.valuing import of_names
    from profiler.catalog import load_catalog
    from profiler.core import Slo
    from profiler.errors import InputError

    if models is None:
        raise InputError("name a service file, or models: --models llama-3.1-8b,qwen2.5-14b")
    slo = Slo.model_validate({"ttft_s": TTFT_S, "tpot_s": TPOT_S} | _given(limits))
    known = load_catalog(*(catalog or []))
    return of_names(known, _names(models), _names(gpus), profiles or [], slo, markets, sizes)


def _both() -> Exception:
    from profiler.errors import InputError

    return InputError(
        "a service file names its models, GPUs, profiles and catalogs itself; leave out "
        "--models, --gpus, --profile and --catalog, or the file"
    )


def _given(limits: dict[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in limits.items() if value is not None}


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _markets(choice: MarketChoice) -> tuple[Market, ...]:
    if choice is MarketChoice.BOTH:
        return ("on_demand", "spot")
    return ("spot",) if choice is MarketChoice.SPOT else ("on_demand",)


def _sizes(text: str | None) -> tuple[Size, ...]:
    from profiler.errors import InputError
    from profiler.value import DEFAULT_SIZES, Size

    if text is None:
        return DEFAULT_SIZES
    found = []
    for name in _names(text):
        parts = name.split("+")
        if len(parts) != 2 or not all(p.strip().isdigit() and int(p) > 0 for p in parts):
            raise InputError(
                f"--sizes: found {name!r}, expected input+output tokens, such as 512+128"
            )
        found.append(Size(input_tokens=int(parts[0]), output_tokens=int(parts[1])))
    if not found:
        raise InputError("--sizes: found no size, expected some, such as 512+128,4096+256")
    return tuple(dict.fromkeys(found))


def _tables(found: Valuation) -> list[RenderableType]:
    from orchestrator.value_report import value_tables

    return list(value_tables(found.table, stdout().width))


def _write_page(found: Valuation, path: Path) -> None:
    from orchestrator.value_page import page
    from profiler import documents

    documents.write(path, page(found))
    say(f"wrote {path}; open it in a browser")


def add_to(group: typer.Typer) -> None:
    """Register the command."""
    group.command()(value)
