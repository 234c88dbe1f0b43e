"""A service's learned router as the planner sees it: classes by difficulty, quality expected."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from orchestrator.loading import LoadedService
from placement.plan import AUTO, Plan, PlannedRouter
from placement.problem import Floats, Option, RequestClass
from profiler.errors import InputError
from profiler.files import sha256_of

if TYPE_CHECKING:
    from serve_apps.router.artefact import Artefact
    from serve_apps.router.difficulty import DifficultyBins


@dataclass(frozen=True)
class LearnedForPlan:
    """What the plan takes from a router artefact."""

    planned: PlannedRouter
    bins: DifficultyBins
    notes: tuple[str, ...]

    def quality(self, classes: Sequence[RequestClass], options: Sequence[Option]) -> Floats:
        """Expected quality ``[classes, options]``; the mean over bins for classes without one."""
        names = [self.planned.models[o.model] for o in options]
        at = [self.bins.models.index(name) for name in names]
        mean = self.bins.share @ self.bins.quality
        rows = [mean if c.difficulty is None else self.bins.quality[c.difficulty] for c in classes]
        return np.array(rows).reshape(len(classes), -1)[:, at]


def learned_router(loaded: LoadedService) -> LearnedForPlan | None:
    """The service's learned router; None where it has none.

    Raises:
        InputError: the artefact cannot be used, or was not trained for one of the models.
    """
    spec = loaded.service.router
    if spec is None:
        return None
    from serve_apps.router.artefact import load_artefact
    from serve_apps.router.difficulty import bins_of

    path = loaded.directory / spec.artefact
    artefact = load_artefact(path)
    models = {spec.name: entry.outcome or spec.name for entry, spec in loaded.models}
    try:
        artefact.require_pool(list(models.values()))
        estimates = artefact.reference_estimates().only(list(models.values()))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    bins = bins_of(estimates, spec.difficulty_bins)
    planned = PlannedRouter(
        artefact=str(path),
        sha256=sha256_of(path),
        policy=spec.policy,
        models=models,
        edges=tuple(bins.edges.tolist()),
        described=described(artefact),
    )
    return LearnedForPlan(planned, bins, _notes(spec.artefact, artefact, bins))


def by_difficulty(c: RequestClass, learned: LearnedForPlan | None) -> Iterator[RequestClass]:
    """A class of requests that name no model, in its difficulty bins; any other as it is."""
    if learned is None or c.stream != AUTO:
        yield c
        return
    for k, share in enumerate(learned.bins.share.tolist()):
        yield replace(c, difficulty=k, rate_rps=c.rate_rps * share)


def described(artefact: Artefact) -> str:
    """An artefact in a few words."""
    told = artefact.description
    return f"{told.estimator} on {told.features}, trained on {told.prompts:,} prompts"


def located(plan: Plan, directory: Path) -> Plan:
    """The plan with its artefact named relative to the directory that the plan file is put in."""
    if plan.router is None:
        return plan
    beside = os.path.relpath(plan.router.artefact, directory.resolve())
    return plan.model_copy(update={"router": plan.router.model_copy(update={"artefact": beside})})


def checked_artefact(plan: Plan, directory: Path) -> Path | None:
    """The artefact of a plan file that stands in ``directory``; None for a plan without one.

    Raises:
        InputError: it is missing, is not the one that the plan was made with, or does not load.
    """
    from serve_apps.router.artefact import load_artefact

    router = plan.router
    if router is None:
        return None
    path = directory / router.artefact
    if not path.is_file():
        raise InputError(
            f"{path}: no such file; the plan was made with this router artefact "
            f"({router.version}): put it there, or plan again"
        )
    found = sha256_of(path)
    if found != router.sha256:
        raise InputError(
            f"{path}: found artefact {found[:12]}, expected {router.version}, with which the plan "
            "was made; plan again with the new one, or put the old one back"
        )
    load_artefact(path, list(router.models.values()))
    return path


def _notes(name: str, artefact: Artefact, bins: DifficultyBins) -> tuple[str, ...]:
    told = artefact.description
    error = "" if told.ece is None else f", expected calibration error {told.ece:.3f} (held out)"
    shares = ", ".join(f"{share:.0%}" for share in bins.share)
    return (
        f"quality is what router {name} expects ({described(artefact)}{error})",
        f"the traffic tells no prompts: it is taken to be as hard as the prompts that the router "
        f"was calibrated on, {shares} from the easiest bin to the hardest",
    )
