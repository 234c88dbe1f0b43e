"""Any scorer as an estimator: cross-fitted, calibrated, with uncertainty and answer lengths."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from serve_apps.router.estimates import Arrays, Estimates
from serve_apps.router.estimators.calibration import Calibration
from serve_apps.router.estimators.lengths import Lengths
from serve_apps.router.estimators.scorer import Floats, Scorer, State, Table
from serve_apps.router.evaluation.reliability import brier, ece
from serve_apps.router.outcomes import Outcomes

Folds = NDArray[np.int64]
FOLDS = 5


@dataclass(frozen=True)
class CalibrationError:
    """Of predictions for prompts that neither scorer nor calibration had seen."""

    ece: float
    brier: float
    brier_of_mean: float
    """Of always predicting each model's mean: what a router that sees nothing scores."""


class CalibratedEstimator:
    """A scorer fitted on all, calibrated by others that each had not seen one fold.

    ``quality_sd`` is the grouped jackknife's standard error over the folds (Efron and Tibshirani,
    An Introduction to the Bootstrap, 1993, section 11.5). ``group`` says what must not be split
    between folds: "prompt" for traffic like the training data, "subject" to be right on subjects
    never seen, at the price of a flatter prediction on known ones.
    """

    def __init__(
        self,
        scorer: Scorer,
        *,
        group: str = "prompt",
        isotonic: bool = False,
        folds: int = FOLDS,
    ) -> None:
        self.scorer = scorer
        self.name = scorer.name
        self.group = group
        self.isotonic = isotonic
        self.folds = folds
        self.models: tuple[str, ...] = ()
        self.error: CalibrationError | None = None
        self.cross_fitted: Floats | None = None
        """Calibrated scores of the training prompts by scorers that had not seen them."""
        self._shared: State = {}
        self._states: list[State] = []
        self._calibration: Calibration | None = None
        self._lengths: Lengths | None = None
        self._predictors: dict[int, Callable[[Floats], Floats]] = {}

    def fit(self, features: Floats, outcomes: Outcomes, rng: np.random.Generator) -> Self:
        """A fitted copy.

        Raises:
            ValueError: fewer than two different prompts (or subjects).
        """
        new = self._blank()
        y = outcomes.score
        fold = folds_of(outcomes, self.folds, self.group)
        new.models = outcomes.models
        new._shared = self.scorer.prepare(features, rng)
        table = Table(features, y, np.array(outcomes.subject), groups_of(outcomes, self.group))
        raw = np.zeros_like(y)
        for k in np.unique(fold):
            seen, held = fold != k, fold == k
            state = self.scorer.fit(new._shared, table.rows(seen), rng)
            raw[held] = self.scorer.predict(new._shared, state, features[held])
            new._states.append(state)
        new._states.append(self.scorer.fit(new._shared, table, rng))
        new._calibration = self._calibrated(raw, y)
        new.cross_fitted = new._calibration(raw)
        new.error = self._held_out_error(raw, y, fold)
        new._lengths = Lengths.fit(features, outcomes.output_tokens)
        return new

    def estimate(self, features: Floats) -> Estimates:
        """Estimates for each row.

        Raises:
            ValueError: the estimator was not fitted.
        """
        if self._calibration is None or self._lengths is None:
            raise ValueError("fit comes before estimate")
        each = self._calibration(self._predictor(0)(features))
        parts, quality = each[:-1], each[-1]
        apart = parts - np.add.reduce(parts) / len(parts)
        spread = np.add.reduce(apart * apart) * (1 - 1 / len(parts))
        return Estimates(self.models, quality, np.sqrt(spread), self._lengths(features))

    def expected(self, features: Floats) -> Estimates:
        """As `estimate` without the uncertainty (NaN), which takes most of the time."""
        if self._calibration is None or self._lengths is None:
            raise ValueError("fit comes before estimate")
        quality = self._calibration(self._predictor(-1)(features))[0]
        unknown = np.full(quality.shape, np.nan)
        return Estimates(self.models, quality, unknown, self._lengths(features))

    def _predictor(self, first: int) -> Callable[[Floats], Floats]:
        """Of the states from this one on, made once."""
        if first not in self._predictors:
            self._predictors[first] = self.scorer.predictor(self._shared, self._states[first:])
        return self._predictors[first]

    @property
    def calibration(self) -> Calibration:
        """The fitted calibration."""
        assert self._calibration is not None
        return self._calibration

    def parts(self) -> tuple[State, list[State]]:
        """Shared state and the state of each fold's scorer, that of all prompts last."""
        return self._shared, list(self._states)

    def replaced(
        self, models: Sequence[str], states: list[State], calibration: Calibration, lengths: Lengths
    ) -> Self:
        """A copy with other models and what was learned of them."""
        new = self._blank()
        new.models, new.error, new._shared = tuple(models), self.error, self._shared
        new._states, new._calibration, new._lengths = states, calibration, lengths
        return new

    @property
    def lengths(self) -> Lengths:
        """The fitted regression of answer lengths."""
        assert self._lengths is not None
        return self._lengths

    def _calibrated(self, raw: Floats, y: Floats) -> Calibration:
        straight = self.scorer.regression
        found = Calibration.fit(raw, y, isotonic=self.isotonic, straight=straight)
        return found.shrinking(found(raw), y)

    def _held_out_error(self, raw: Floats, y: Floats, fold: Folds) -> CalibrationError:
        """Each fold calibrated by the others, so that calibration is not judged on its own data."""
        p, mean = np.zeros_like(raw), np.zeros_like(raw)
        for k in np.unique(fold):
            seen, held = fold != k, fold == k
            p[held] = self._calibrated(raw[seen], y[seen])(raw[held])
            known = np.isfinite(y[seen])
            total = np.where(known, y[seen], 0.0).sum(axis=0)
            mean[held] = total / np.maximum(known.sum(axis=0), 1)
        at = np.isfinite(y)
        return CalibrationError(ece(p[at], y[at]), brier(p[at], y[at]), brier(mean[at], y[at]))

    def _blank(self) -> Self:
        return type(self)(self.scorer, group=self.group, isotonic=self.isotonic, folds=self.folds)

    def arrays(self) -> Arrays:
        """Learned state and settings, the latter as JSON text."""
        settings = {
            "name": self.name,
            "scorer": self.scorer.settings(),
            "group": self.group,
            "isotonic": self.isotonic,
            "folds": self.folds,
            "models": self.models,
            "error": vars(self.error) if self.error else None,
        }
        kept: dict[str, NDArray[Any]] = {"settings": np.array(json.dumps(settings))}
        assert self._calibration is not None and self._lengths is not None
        for prefix, part in (
            ("shared", self._shared),
            ("calibration", self._calibration.arrays()),
            ("lengths", self._lengths.arrays()),
            *((f"fold{k}", state) for k, state in enumerate(self._states)),
        ):
            kept |= {f"{prefix}.{name}": value for name, value in part.items()}
        return kept

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        """The estimator these arrays came from.

        Raises:
            UnknownNameError, InputError: its scorer is not installed, or does not load.
        """
        from serve_apps.router.estimators.registry import scorer_class

        return cls.of(scorer_class(json.loads(str(arrays["settings"]))["name"]), arrays)

    @classmethod
    def of(cls, scorer: type[Scorer], arrays: Arrays) -> Self:
        """As `from_arrays`, the scorer's class being known."""
        settings = json.loads(str(arrays["settings"]))
        new = cls(
            scorer(**settings["scorer"]),
            group=settings["group"],
            isotonic=settings["isotonic"],
            folds=settings["folds"],
        )
        new.models = tuple(settings["models"])
        new.error = CalibrationError(**settings["error"]) if settings["error"] else None
        new._shared = part_of(arrays, "shared")
        new._calibration = Calibration(**part_of(arrays, "calibration"))
        new._lengths = Lengths(**part_of(arrays, "lengths"))
        while state := part_of(arrays, f"fold{len(new._states)}"):
            new._states.append(state)
        return new


def part_of(arrays: Arrays, prefix: str) -> dict[str, NDArray[Any]]:
    """The arrays named ``prefix.NAME``, by NAME."""
    start = f"{prefix}."
    return {k.removeprefix(start): v for k, v in arrays.items() if k.startswith(start)}


def folds_of(outcomes: Outcomes, folds: int, group: str = "prompt") -> Folds:
    """Fold of each prompt, by a hash of its text or subject: equal prompts are never parted.

    Raises:
        ValueError: all prompts fall into one fold.
    """
    of = groups_of(outcomes, group)
    if of.max() < 1:
        raise ValueError(f"need at least two different values of {group}, found one")
    return of % folds


def groups_of(outcomes: Outcomes, group: str) -> Folds:
    """Number of each prompt's text or subject, in the order of their hashes."""
    names = outcomes.subject if group == "subject" else [p.text for p in outcomes.prompts]
    place = {name: i for i, name in enumerate(sorted(set(names), key=_hash))}
    return np.array([place[name] for name in names], dtype=np.int64)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
