"""What the commands of `router` share: tables, models and prices on the command line."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.output import say

if TYPE_CHECKING:
    from orchestrator.routing_costs import Costs, Price
    from placement.plan import Plan
    from serve_apps.router.outcomes import Outcomes

ArtefactArgument = Annotated[Path, typer.Argument(help="A router artefact (.npz).")]
ModelsOption = Annotated[
    str | None, typer.Option("--models", "-m", help="Only these models: a,b,c.")
]
DatasetsOption = Annotated[str | None, typer.Option("--datasets", help="Only these data sets.")]
ScoresOption = Annotated[
    str, typer.Option("--scores", help="Prefix of the score columns, such as regrade.")
]
PriceOption = Annotated[
    list[str] | None,
    typer.Option("--price", help="NAME=INPUT/OUTPUT, USD per million tokens; repeatable."),
]
PlanOption = Annotated[
    Path | None, typer.Option("--plan", help="A plan: dollars per token at its prices of load.")
]
SplitOption = Annotated[
    str, typer.Option("--split", help="What is kept whole when splitting: prompt or subject.")
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Of splits and draws.")]


def require_router_extra() -> None:
    """Raises InputError, with the mend, where scikit-learn is not installed."""
    try:
        import sklearn  # noqa: F401
    except ImportError:
        from profiler.errors import InputError

        raise InputError(
            "training a router needs scikit-learn; pip install 'llm-orchestrator[router]'"
        ) from None


def check_split(split: str) -> str:
    """Raises InputError unless it is prompt or subject."""
    if split not in ("prompt", "subject"):
        from profiler.errors import InputError

        raise InputError(f"--split {split}: expected prompt or subject")
    return split


def names(text: str | None) -> list[str]:
    """``a,b,c`` as a list."""
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def read(
    paths: list[Path], models: str | None, datasets: str | None = None, scores: str = "s"
) -> Outcomes:
    """Read and join tables, and say what was found."""
    from orchestrator.routing_data import read_tables

    found = read_tables(paths, names(models), scores=scores, datasets=names(datasets))
    partly = int((found.score != found.score).any(axis=1).sum())
    lacking = f"; {partly:,} prompts lack some model's score" if partly else ""
    say(f"read {len(found.prompts):,} prompts x {len(found.models)} models{lacking}")
    return found


def prices(given: list[str] | None) -> dict[str, Price]:
    """``NAME=INPUT/OUTPUT`` by name; a comma does for the slash.

    Raises:
        InputError: another form, or a negative price.
    """
    from profiler.errors import InputError

    found = {}
    for text in given or []:
        name, _, rest = text.rpartition("=")
        try:
            per_input, per_output = (float(part) for part in rest.replace(",", "/").split("/"))
        except ValueError:
            per_input = per_output = -1.0
        if not name or not (0 <= per_input < 1e9 and 0 <= per_output < 1e9):
            raise InputError(
                f"--price {text}: expected NAME=INPUT/OUTPUT in USD per million tokens, such as "
                "small=0.05/0.10"
            )
        found[name] = (per_input, per_output)
    return found


def read_plan(path: Path | None) -> Plan | None:
    """The plan of --plan.

    Raises:
        InputError: it cannot be read.
    """
    if path is None:
        return None
    from placement.plan import Plan
    from profiler import documents

    return documents.read(path, Plan)


def costs(outcomes: Outcomes, price: list[str] | None, plan: Path | None) -> Costs:
    """What answers cost, and say where that comes from."""
    from orchestrator.routing_costs import costs_of

    found = costs_of(outcomes, prices(price), read_plan(plan))
    ignored = "; --price and --plan do not count" if found.from_table and (price or plan) else ""
    say(f"cost: {found.source}{ignored}")
    return found


def pair_of(text: str | None) -> tuple[str, str] | None:
    """``WEAK,STRONG``.

    Raises:
        InputError: not two names.
    """
    if text is None:
        return None
    found = names(text)
    if len(found) != 2 or found[0] == found[1]:
        from profiler.errors import InputError

        raise InputError(f"--pair {text}: expected WEAK,STRONG")
    return found[0], found[1]


def eta(step: Callable[[str], None], what: str) -> Callable[[int, int], None]:
    """Tells of done and total, and how long the rest will take at the pace so far."""
    began_s = time.monotonic()

    def tell(done: int, total: int) -> None:
        left_s = (time.monotonic() - began_s) / done * (total - done)
        step(f"{what} {done} of {total}" + (f", about {left_s:.0f} s left" if left_s > 1 else ""))

    return tell
