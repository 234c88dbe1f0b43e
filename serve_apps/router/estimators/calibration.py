"""Raw scores to probabilities that hold, per model, shrunk towards what holds for all models."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from serve_apps.router.estimators.gaps import reliability, shrunk
from serve_apps.router.estimators.rows import line
from serve_apps.router.estimators.scorer import logit, sigmoid

Floats = NDArray[np.float64]
PRIOR_PROMPTS = 300.0
"""A model's own slope counts as much as the common one at about this many labelled prompts."""
KNOTS = 33
EDGE = 0.005
"""No estimate is nearer to certainty than this."""


@dataclass(frozen=True)
class Calibration:
    """Per model sigmoid(slope * logit(raw) + shift); with ``curve`` an isotonic map follows.

    ``straight``: slope * raw + shift with one slope for all models, for raw scores that are
    regressions of scores already. Differences between models, which routing is about, then keep
    their order; a sigmoid per model would make a lead of what is only a prompt's difficulty.

    Platt, Probabilities for SV Machines (1999); Zadrozny and Elkan (KDD 2002) for the isotonic
    one. ``curve`` is [models, KNOTS] on an even grid of [0, 1].

    ``trust`` and ``middle`` [models trained first] shrink gaps between models towards their means
    last of all, see `gaps`; without them nothing is shrunk.
    """

    slope: Floats
    shift: Floats
    curve: Floats | None = None
    straight: NDArray[np.bool_] = field(default_factory=lambda: np.array(False))
    trust: Floats | None = None
    middle: Floats | None = None

    @classmethod
    def fit(cls, raw: Floats, y: Floats, *, isotonic: bool = False, straight: bool = False) -> Self:
        """Learn from cross-fitted raw scores; both ``[prompts, models]``, ``y`` with NaN."""
        if straight:
            fitted = cls(*_line(raw, y), straight=np.array(True))
            return replace(fitted, curve=_curves(fitted(raw), y)) if isotonic else fitted
        known = np.isfinite(y)
        z = logit(raw)
        common = _platt(z[known], y[known], np.array([1.0, 0.0]), PRIOR_PROMPTS)
        pairs = np.array(
            [
                _platt(z[known[:, m], m], y[known[:, m], m], common, PRIOR_PROMPTS)
                for m in range(y.shape[1])
            ]
        )
        # A slope below zero would turn a ranking around on the word of a few prompts.
        platt = cls(np.clip(pairs[:, 0], 0.05, 5.0), pairs[:, 1])
        return cls(platt.slope, platt.shift, _curves(platt(raw), y)) if isotonic else platt

    def __call__(self, raw: Floats) -> Floats:
        """Calibrated probabilities; ``[..., models]`` as given."""
        if self.straight:
            p = line(raw, self.slope, self.shift, EDGE)
        else:
            p = sigmoid(self.slope * logit(raw) + self.shift)
        if self.curve is not None:
            grid = np.linspace(0, 1, KNOTS)
            parts = [np.interp(p[..., m], grid, self.curve[m]) for m in range(p.shape[-1])]
            p = np.stack(parts, axis=-1)
        if self.trust is None or self.middle is None:
            return p
        return shrunk(p, self.middle, float(self.trust), EDGE)

    def shrinking(self, told: Floats, y: Floats) -> Self:
        """A copy that shrinks gaps by their reliability; ``told`` is what this one makes of
        cross-fitted raw scores, ``y`` what came true, both ``[prompts, models]``.
        """
        if told.shape[1] < 2:
            return self
        return replace(self, trust=np.array(reliability(told, y)), middle=told.mean(axis=0))

    def wider(self) -> Self:
        """A copy for one more model, which is calibrated as the others are in the mean.

        The gaps to it are not shrunk: nothing is known of their reliability.
        """
        return replace(
            self,
            slope=np.append(self.slope, self.slope.mean()),
            shift=np.append(self.shift, self.shift.mean()),
            curve=None if self.curve is None else np.vstack([self.curve, self.curve.mean(axis=0)]),
        )

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All there is."""
        kept = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: array for name, array in kept.items() if array is not None}


def _line(raw: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Least squares with a shift per model and one slope, which hardly stretches."""
    known = np.isfinite(y)
    count = np.maximum(known.sum(axis=0), 1)
    x_mean = np.where(known, raw, 0.0).sum(axis=0) / count
    y_mean = np.where(known, y, 0.0).sum(axis=0) / count
    x, rest = np.where(known, raw - x_mean, 0.0), np.where(known, y - y_mean, 0.0)
    slope = float(np.clip((x * rest).sum() / max(float((x * x).sum()), 1e-12), 0.05, 1.2))
    return np.full(y.shape[1], slope), y_mean - slope * x_mean


def _platt(z: Floats, y: Floats, prior: Floats, weight: float) -> Floats:
    """Slope and shift by Newton's method, drawn to ``prior`` as by ``weight`` labelled prompts."""
    found = prior.copy()
    # A prompt at p = 1/2 and one logit from the middle carries an information of 1/4.
    penalty = np.diag([weight / 4, 1.0])
    x = np.stack([z, np.ones_like(z)], axis=1)
    for _ in range(25):
        p = sigmoid(x @ found)
        gradient = x.T @ (p - y) + penalty @ (found - prior)
        hessian = (x * np.maximum(p * (1 - p), 1e-6)[:, None]).T @ x + penalty
        step = np.linalg.solve(hessian, gradient)
        found = found - np.clip(step, -1.0, 1.0)
        if np.abs(step).max() < 1e-7:
            break
    return found


def _curves(p: Floats, y: Floats) -> Floats:
    """Isotonic regression on a grid, mixed half and half with the identity: steps overfit."""
    from sklearn.isotonic import IsotonicRegression

    grid = np.linspace(0, 1, KNOTS)
    curves = np.tile(grid, (y.shape[1], 1))
    for m in range(y.shape[1]):
        known = np.isfinite(y[:, m])
        if known.sum() >= 2:
            steps = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
            curves[m] = (grid + steps.fit(p[known, m], y[known, m]).predict(grid)) / 2
    return curves
