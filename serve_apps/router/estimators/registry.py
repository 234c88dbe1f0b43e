"""Estimators by name: those of this package, and those that others install.

A third party names, in the entry point group ``orchestrator.router.estimators``, a class with
the methods of `estimates.Estimator`, or a `scorer.Scorer`, which is calibrated like ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serve_apps.router import plugins
from serve_apps.router.estimates import Arrays, Estimator
from serve_apps.router.estimators.calibrated import CalibratedEstimator
from serve_apps.router.estimators.scorer import Scorer

GROUP = "orchestrator.router.estimators"
_HERE = "serve_apps.router.estimators"
BUILT_IN = {
    "bradley_terry": f"{_HERE}.bradley_terry:BradleyTerryScorer",
    "difficulty": f"{_HERE}.difficulty:DifficultyScorer",
    "ensemble": f"{_HERE}.ensemble:EnsembleScorer",
    "gradient_boosting": f"{_HERE}.boosting:BoostingScorer",
    "knn": f"{_HERE}.knn:NearestScorer",
    "logistic": f"{_HERE}.logistic:LogisticScorer",
    "low_rank": f"{_HERE}.low_rank:LowRankScorer",
    "matrix_factorisation": f"{_HERE}.matrix_factorisation:PreferenceFactorsScorer",
    "mlp": f"{_HERE}.mlp:MlpScorer",
    "similarity": f"{_HERE}.similarity:SimilarityScorer",
}


def estimator_names() -> list[str]:
    """Every estimator that can be named, sorted."""
    return plugins.names(GROUP, BUILT_IN)


def scorer_class(name: str) -> Any:
    """The class behind a name.

    Raises:
        UnknownNameError: no such estimator.
        InputError: it does not load.
    """
    return plugins.load("estimator", name, GROUP, BUILT_IN)


def build(name: str, settings: Mapping[str, Any], **wrapping: Any) -> Estimator:
    """An estimator with these settings; ``wrapping`` goes to `CalibratedEstimator`.

    Raises:
        UnknownNameError, InputError: as `scorer_class`.
    """
    found = scorer_class(name)
    if issubclass(found, Scorer):
        return CalibratedEstimator(found(**settings), **wrapping)
    made: Estimator = found(**settings)
    return made


def restore(name: str, arrays: Arrays) -> Estimator:
    """The estimator that these arrays came from.

    Raises:
        UnknownNameError, InputError: as `scorer_class`.
    """
    found = scorer_class(name)
    if issubclass(found, Scorer):
        return CalibratedEstimator.of(found, arrays)
    made: Estimator = found.from_arrays(arrays)
    return made
