"""Training with a part of the outcomes held out, and what the router is worth on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from orchestrator.routing_costs import Costs
from orchestrator.routing_eval import bench_of, compare, contender, held_out_splits, require_pool
from profiler.errors import InputError
from serve_apps.router.artefact import Artefact
from serve_apps.router.evaluation.comparison import Comparison
from serve_apps.router.evaluation.evaluate import complete
from serve_apps.router.outcomes import Outcomes
from serve_apps.router.settings import HeldOut, Parts
from serve_apps.router.training import train

ROUTER = "this router"


@dataclass(frozen=True)
class Trained:
    """An artefact, how its data was divided, and its figures on the test part."""

    artefact: Artefact
    parts: Parts
    comparisons: Sequence[Comparison]
    pair: tuple[str, str] | None


def train_held_out(
    outcomes: Outcomes,
    costs: Costs,
    split: HeldOut,
    *,
    features: str,
    estimator: str,
    on_fold: Callable[[int, int], None] | None = None,
) -> Trained:
    """Train on the training part, judge on the test part; without a test all is trained on.

    Raises:
        InputError: one model only, too few prompts, or a part without any.
    """
    require_pool(outcomes)
    parts = split.parts(outcomes)
    if split.share and (not parts.test.size or not parts.calibration.size):
        raise InputError(
            f"--holdout {split.share:g} leaves {parts.test.size} prompts to test and "
            f"{parts.calibration.size} to calibrate of {len(outcomes.prompts)}; give more "
            "outcomes, a larger --holdout, or --holdout 0 to train on all"
        )
    artefact = train(
        outcomes.rows(parts.train),
        features=features,
        estimator=estimator,
        seed=split.seed,
        group=split.by,
        on_fold=on_fold,
    )
    artefact = replace(artefact, description=replace(artefact.description, split=split))
    if not split.share:
        return Trained(artefact, parts, [], None)
    bench = bench_of(outcomes, costs)
    test = split.parts(complete(outcomes)).test
    found = compare(
        bench,
        lambda scale: [contender(ROUTER, artefact, costs, scale)],
        held_out_splits(bench.outcomes, test, 1, split.seed),
        split.seed,
        draws=1,
    )
    return Trained(artefact, parts, [_without_leads(c) for c in found], bench.pair)


def _without_leads(found: Comparison) -> Comparison:
    """Intervals of leads are for `router eval`: drawing them takes longer than training."""
    return replace(found, rows=tuple(replace(row, leads={}) for row in found.rows))
