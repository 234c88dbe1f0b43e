"""`router eval`: the field's metrics, beside the baselines that a router has to beat."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
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
    from rich.console import RenderableType

    from orchestrator.routing_eval import Bench
    from serve_apps.router.evaluation.comparison import Comparison


def evaluate(
    tables: Annotated[
        list[Path], typer.Argument(help="ARTEFACT OUTCOMES..., or with --train OUTCOMES...")
    ],
    train: Annotated[
        bool, typer.Option("--train", help="Train afresh on each split instead of an artefact.")
    ] = False,
    splits: Annotated[int, typer.Option(min=1, max=50, help="Parts of the test.")] = 5,
    report: Annotated[
        Path | None, typer.Option("--report", help="Write an HTML page with curves.")
    ] = None,
    models: options.ModelsOption = None,
    pair: Annotated[
        str | None, typer.Option(help="WEAK,STRONG; default: the cheapest and the best model.")
    ] = None,
    features: Annotated[
        str, typer.Option(help="With --train; several to compare: text,text+sentence.")
    ] = "text",
    estimator: Annotated[
        str, typer.Option(help="With --train; several to compare: low_rank,knn.")
    ] = "low_rank",
    split: options.SplitOption = "prompt",
    everything: Annotated[
        bool, typer.Option("--all", help="Test on every prompt: training never saw these tables.")
    ] = False,
    datasets: options.DatasetsOption = None,
    scores: options.ScoresOption = "s",
    price: options.PriceOption = None,
    plan: options.PlanOption = None,
    seed: options.SeedOption = 0,
    output: OutputOption = Format.TABLE,
    yes: YesOption = False,
) -> None:
    """Judge a router on prompts it never saw: APGR, CPT, AIQ, cost at quality, calibration.

    Random choice, prompt length, the best single model, blind mixing (zero router) and the
    oracle are always in the table. Means and spreads are over the splits.
    """
    from orchestrator.router_report import as_data

    if report is not None:
        refuse_to_overwrite(report, yes=yes)
    options.check_split(split)
    if train:
        options.require_router_extra()
        table = options.read(tables, models, datasets, scores)
        bench = _bench(table, pair, price, plan)
        found = _trained(bench, splits, options.names(features), estimator, split, seed)
    else:
        found = _artefact(
            tables, splits, models, pair, datasets, scores, price, plan, everything, seed
        )
    if report is not None:
        from orchestrator.router_page import page
        from profiler import documents

        documents.write(report, page(found))
        say(f"wrote {report}")
    emit([as_data(c) for c in found], output, lambda: _shown(found))


def _bench(table: object, pair: str | None, price: list[str] | None, plan: Path | None) -> Bench:
    from orchestrator.routing_eval import bench_of, require_pool
    from serve_apps.router.outcomes import Outcomes

    assert isinstance(table, Outcomes)
    require_pool(table)
    found = bench_of(table, options.costs(table, price, plan), options.pair_of(pair))
    left_out = len(table.prompts) - len(found.outcomes.prompts)
    if left_out:
        say(f"left out {left_out:,} prompts that not every model answered")
    if found.pair is None:
        say("the cheapest model is also the best: no pair to route between")
    return found


def _trained(
    bench: Bench, splits: int, features: Sequence[str], estimator: str, by: str, seed: int
) -> list[Comparison]:
    from orchestrator.routing_eval import compare, fold_splits, trained
    from profiler.errors import InputError

    if splits < 2:
        raise InputError("--splits 1: with --train expected at least 2, to learn from the others")
    folds = fold_splits(bench.outcomes, splits, by, seed)
    kinds = [(f, e) for f in features for e in options.names(estimator)]
    # The pair's comparison and the pool's train alike.
    total = len(kinds) * splits * ((bench.pair is not None) + (len(bench.models) > 2 or 1))
    done = 0
    with steps("training on each split") as step:
        tell = options.eta(step, "fit")

        def count() -> None:
            nonlocal done
            done += 1
            tell(done, max(total, done))

        return compare(bench, lambda _: [trained(f, e, by, count) for f, e in kinds], folds, seed)


def _artefact(
    paths: Sequence[Path],
    splits: int,
    models: str | None,
    pair: str | None,
    datasets: str | None,
    scores: str,
    price: list[str] | None,
    plan: Path | None,
    everything: bool,
    seed: int,
) -> list[Comparison]:
    import numpy as np

    from orchestrator.routing_eval import compare, contender, held_out_splits
    from profiler.errors import InputError
    from serve_apps.router.artefact import load_artefact

    if len(paths) < 2:
        raise InputError("expected ARTEFACT OUTCOMES..., or --train OUTCOMES... without artefact")
    router = load_artefact(paths[0])
    chosen = options.names(models) or list(router.models)
    router.require_pool(chosen)
    bench = _bench(
        options.read(list(paths[1:]), ",".join(chosen), datasets, scores), pair, price, plan
    )
    split, count = router.description.split, len(bench.outcomes.prompts)
    if everything:
        inside = held_out_splits(bench.outcomes, np.arange(count), splits, seed)
    elif split is None or not split.share:
        raise InputError(
            f"{paths[0]}: trained without holding prompts back; give tables it never saw and --all"
        )
    else:
        test = split.parts(bench.outcomes).test
        say(f"judged on the {test.size:,} of {count:,} prompts that were kept for the test")
        inside = held_out_splits(bench.outcomes, test, splits, seed)
    with steps("comparing"):
        return compare(
            bench,
            lambda scale: [contender(paths[0].stem, router, bench.costs, scale)],
            inside,
            seed,
        )


def _shown(found: Sequence[Comparison]) -> list[RenderableType]:
    from rich.console import Console

    from orchestrator.routing_report import eval_tables

    width = Console().width if sys.stdout.isatty() else int(os.environ.get("COLUMNS", "100"))
    part: Callable[[Comparison], list[RenderableType]] = lambda c: list(  # noqa: E731
        eval_tables(c, width, sys.stdout.encoding or "ascii")
    )
    return [shown for c in found for shown in part(c)]


def add_to(group: typer.Typer) -> None:
    """Register the command."""
    group.command(name="eval")(evaluate)
