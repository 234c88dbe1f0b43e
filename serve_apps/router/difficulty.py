"""Prompts in bins of difficulty, with what each model is expected to make of each bin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from profiler.errors import InputError
from serve_apps.router.artefact import Artefact, PoolView
from serve_apps.router.estimates import Estimates
from serve_apps.router.prompts import Prompt

Floats = NDArray[np.float64]
Bins = NDArray[np.int64]


@dataclass(frozen=True)
class DifficultyBins:
    """Equal shares of the prompts, by rising difficulty.

    Difficulty is 1 - the mean of the models' expected scores. ``edges`` [bins - 1] are where one
    bin ends and the next begins; ``share`` [bins] of the prompts; ``quality`` [bins, models] the
    mean expected score: q_{c,m} of the plan. ``of`` [prompts] is each prompt's bin.
    """

    models: tuple[str, ...]
    edges: Floats
    share: Floats
    quality: Floats
    of: Bins

    def bin_of(self, estimates: Estimates) -> Bins:
        """The bins of other prompts, ``[prompts]``."""
        return np.searchsorted(self.edges, difficulty(estimates), side="right").astype(np.int64)


def difficulty(estimates: Estimates) -> Floats:
    """1 - mean over models of the expected score, ``[prompts]``."""
    return np.asarray(1 - estimates.quality.mean(axis=1))


def difficulty_bins(
    artefact: Artefact | PoolView, prompts: Sequence[Prompt], bins: int
) -> DifficultyBins:
    """Cut prompts into bins of equal size; fewer than asked for where difficulties are equal.

    Raises:
        InputError: no prompt, or no bin.
    """
    if not prompts or bins < 1:
        raise InputError(f"found {len(prompts)} prompts and {bins} bins, expected at least one")
    return bins_of(artefact.estimate(prompts), bins)


def bins_of(estimates: Estimates, bins: int) -> DifficultyBins:
    """As `difficulty_bins`, of prompts that were estimated."""
    hard = difficulty(estimates)
    edges = np.unique(np.quantile(hard, np.arange(1, bins) / bins))
    edges = edges[edges > hard.min()]
    of = np.searchsorted(edges, hard, side="right").astype(np.int64)
    count = np.bincount(of, minlength=edges.size + 1)
    total = np.zeros((count.size, len(estimates.models)))
    np.add.at(total, of, estimates.quality)
    return DifficultyBins(estimates.models, edges, count / len(of), total / count[:, None], of)
