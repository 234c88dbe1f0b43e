"""A service's limits in the planner's terms: classes with their own targets, quality, the rest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from orchestrator.loading import LoadedService, streams
from orchestrator.service_limits import ClassRule, Moving, ReplicaRule
from placement.limits import Limits, ReplicaBound, Switching
from placement.plan import AUTO, Plan
from placement.problem import Floats, Option, RequestClass, quality_matrix
from profiler import documents
from profiler.core import BucketRate, SizeBucket
from profiler.parquet import require_pyarrow

if TYPE_CHECKING:
    from profiler.outcome_table import Score


def request_class(loaded: LoadedService, stream: str, rate: BucketRate) -> RequestClass:
    """One bucket of a stream's traffic, with the target and quality that its rule gives it."""
    service = loaded.service
    rule = _rule(loaded, stream, rate.bucket)
    own_slo = dict(streams(service, loaded.models))[stream].slo
    floor = service.quality.floor if service.quality and stream == AUTO else None
    if rule is not None:
        own_slo = rule.slo or own_slo
        floor = floor if rule.quality is None else rule.quality
    return RequestClass(stream, rate.bucket, rate.rate_rps, slo=own_slo, quality_floor=floor)


def limits_of(loaded: LoadedService) -> Limits:
    """The service's limits.

    Raises:
        InputError: the plan file of the running fleet cannot be read.
    """
    service = loaded.service
    mean = service.quality.mean if service.quality else None
    return Limits(
        quality_mean={} if mean is None else {AUTO: mean},
        budget_usd_per_hour=service.budget_usd_per_hour,
        spot_share=service.spot.share,
        spot_reserve=service.spot.reserve,
        replicas=tuple(_bound(rule) for rule in service.replicas),
        node_loss_headroom=service.node_loss.headroom if service.node_loss else None,
        switching=_switching(service.moving, loaded.directory) if service.moving else None,
    )


def quality_of(
    loaded: LoadedService, classes: Sequence[RequestClass], options: Sequence[Option]
) -> tuple[Floats | None, tuple[str, ...]]:
    """Quality ``[classes, options]`` where all models' is known, and how sure it is, in words.

    What a model's entry declares goes before what the outcome table says of all its questions;
    a class whose rule names a dataset has that dataset's scores, for every model.

    Raises:
        InputError: the outcome table lacks a model or a dataset.
    """
    target = loaded.service.quality
    declared = {spec.name: entry.quality for entry, spec in loaded.models}
    scores: dict[str, Score] = {}
    table = loaded.directory / target.outcomes if target and target.outcomes else None
    notes: list[str] = []
    if table is not None:
        require_pyarrow()
        if None in declared.values():
            scores = _scores(loaded, table)
            notes += [_note(m, scores[m], "") for m, q in declared.items() if q is None]
    by_model = {m: scores[m].mean if m in scores and q is None else q for m, q in declared.items()}
    known = {m: q for m, q in by_model.items() if q is not None}
    if len(known) < len(by_model):
        return None, ()
    quality = quality_matrix(classes, options, known)
    if table is not None:
        notes += _of_datasets(loaded, classes, options, quality, table)
    return quality, tuple(notes)


def _of_datasets(
    loaded: LoadedService,
    classes: Sequence[RequestClass],
    options: Sequence[Option],
    quality: Floats,
    table: Path,
) -> list[str]:
    """Set the rows of classes whose rule names a dataset; returns a note per dataset and model."""
    rows: dict[str, list[int]] = {}
    for i, c in enumerate(classes):
        rule = _rule(loaded, c.stream, c.bucket)
        if rule is not None and rule.dataset is not None:
            rows.setdefault(rule.dataset, []).append(i)
    notes = []
    models = [spec.name for _, spec in loaded.models]
    for dataset, members in rows.items():
        scores = _scores(loaded, table, dataset)
        quality[members] = np.array([scores[o.model].mean for o in options])
        notes += [_note(m, scores[m], f" on {dataset}") for m in models]
    return notes


def _scores(loaded: LoadedService, table: Path, dataset: str | None = None) -> dict[str, Score]:
    """Scores by the models' own names, whatever the table calls them."""
    from profiler.outcome_table import read_scores

    names = {spec.name: entry.outcome or spec.name for entry, spec in loaded.models}
    found = read_scores(table, list(names.values()), dataset)
    return {model: found[name] for model, name in names.items()}


def _note(model: str, score: Score, where: str) -> str:
    return f"quality of {model}{where}: {score}, 95 % of sampling noise"


def _rule(loaded: LoadedService, stream: str, bucket: SizeBucket) -> ClassRule | None:
    return next((r for r in loaded.service.classes if r.covers(stream, bucket)), None)


def _bound(rule: ReplicaRule) -> ReplicaBound:
    least, most = (rule.min, rule.max) if rule.exactly is None else (rule.exactly, rule.exactly)
    return ReplicaBound(least, most, rule.model, rule.gpu, rule.market, rule.region)


def _switching(moving: Moving, directory: Path) -> Switching:
    running = moving.running
    if isinstance(running, str):
        plan = documents.read(directory / running, Plan)
        running = {g.name: g.replicas for g in plan.groups}
    return Switching(running, moving.start_usd, moving.stop_usd, moving.horizon_h)
