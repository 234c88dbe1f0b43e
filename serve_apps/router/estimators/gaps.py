"""How much to believe of an estimated gap between models: the part of it that is signal.

What is estimated of a prompt is how hard it is for all models, and how far apart they are on it.
Routing lives by the second, a small figure beside the first and partly noise. Each gap is shrunk
towards the two models' mean gap by one reliability for the pool: the slope of held-out gaps on
estimated ones (Kelley, Interpretation of Educational Measurements, 1927; Carroll et al.,
Measurement Error in Nonlinear Models, 2006, section 3.4.1). One for all, so that gaps stay
consistent with each other and no two prompts change places between any two models.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from serve_apps.router.estimators.rows import drawn_in

Floats = NDArray[np.float64]
LEAST, MOST = 0.05, 1.0
"""No gap is turned around or lost, and none is stretched."""


def reliability(told: Floats, scores: Floats) -> float:
    """The part of the variance of estimated gaps that is signal, in [LEAST, MOST].

    ``told`` are estimates of prompts by scorers that had not seen them, ``scores`` what came
    true, NaN where a model was not run; both ``[prompts, models]``. Least squares with an effect
    of each prompt and each model.
    """
    known = np.isfinite(scores)
    x, y = _apart(told, known), _apart(scores, known)
    spread = float((x * x).sum())
    if spread < 1e-9 * max(known.sum(), 1):
        return MOST
    return float(np.clip((x * y).sum() / spread, LEAST, MOST))


def shrunk(told: Floats, middle: Floats, trust: float, edge: float) -> Floats:
    """Estimates ``[..., models]`` with each gap drawn to its mean, sums as they were.

    ``middle`` are the means of the first models; of others no mean gap is known, and they stay as
    they are. ``trust`` is the `reliability`, ``edge`` how near to certainty an estimate may come.
    """
    # A prompt that all models do well is moved as a whole: cut off one by one they would tie,
    # and a tie goes to the cheapest.
    return drawn_in(told, middle, trust, edge)


def _apart(values: Floats, known: NDArray[np.bool_]) -> Floats:
    """Less the models' means, then the prompts', over what is known; 0 elsewhere."""
    values = np.where(known, values, 0.0)
    for axis in (0, 1):
        count = np.maximum(known.sum(axis=axis, keepdims=True), 1)
        values = np.where(known, values - values.sum(axis=axis, keepdims=True) / count, 0.0)
    return values
