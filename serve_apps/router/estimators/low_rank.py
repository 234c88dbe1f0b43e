"""The default: a few factors per prompt, shared by all models, predicted from features.

Scores of single answers are noisy; factoring the table of all models' scores at low rank averages
that noise out, and the factors are what features are asked to predict. A new model then needs
only its loadings on factors already known (`onboarding`).

    score[n, m] ~ mean[m] + factors[n] . loadings[m]          (alternating ridge regressions)
    factors[n]  ~ kernel(x[n], landmarks) and x[n], ridge     (Nystrom, Williams and Seeger 2001)

The kernel is a sum over blocks of columns: a prompt's form alone says much of how hard it is, and
a distance that mixes form with words hides it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from serve_apps.router.estimators import kinds
from serve_apps.router.estimators.folds_of_factors import FoldsOfFactors
from serve_apps.router.estimators.scorer import Floats, Scorer, State, Table, filled
from serve_apps.router.features.hand import NAMES
from serve_apps.router.features.vocabulary import VOCABULARY

Folds = NDArray[np.int64]
Shape = tuple[float, float, float, float]
PENALTIES = np.geomspace(8.0, 100.0, 6)
"""The least is that at which single answers, noisy as they are, are first worth a kernel."""
SHAPES: Mapping[str, tuple[Shape, ...]] = {
    "": ((0.7, 1.0, 0.0, 0.02), (2.0, 1.0, 0.0, 0.1)),
    "hand": ((1.0, 1.0, 0.0, 0.0), (1.0, 1.0, 1.0, 0.0), (1.0, 1.0, 1.0, 0.02)),
    "hand, unseen": ((1.0, 1.0, 0.0, 0.0),),
}
"""By layout, what is tried: width of the kernels, over the median squared distance between
prompts; weights of the two blocks' kernels; weight of the plain features beside them."""
FORM = tuple(i for i, name in enumerate(NAMES) if name not in VOCABULARY)
"""Columns of the hand features that say what a prompt looks like, not what it is about."""
NEITHER = -1
LENGTH = NAMES.index("log_bytes")
ROUNDS = 20
INNER_FOLDS = 3


class LowRankScorer(Scorer):
    """Joint low-rank scores; two models keep both their ranks, as sum and difference.

    ``rank`` at most; ``landmarks``: how many training prompts stand for the rest in the kernel.
    The plain features beside it carry on where no landmark is near. Shape and penalties are
    chosen by cross-validation inside the data given, by group. ``layout`` "hand": the features
    are the hand-made ones, then others; form is one block, what follows the hand features another.
    "hand, unseen": the same for kinds of prompt that are not in the data, where words tell of
    subjects that do not recur, and length, which tells of all kinds, is a trend that the kernel
    only corrects near what is known (regression kriging, Hengl et al., Geoderma 120, 2004). "": all
    columns are one block.
    """

    name = "low_rank"
    regression = True

    def __init__(self, rank: int = 3, landmarks: int = 320, layout: str = "") -> None:
        self.rank = rank
        self.landmarks = landmarks
        self.layout = layout

    def prepare(self, x: Floats, rng: np.random.Generator) -> State:
        """Landmarks, and the typical squared distance between two prompts."""
        chosen = rng.choice(len(x), min(self.landmarks, len(x)), replace=False)
        points = x[np.sort(chosen)]
        columns = np.zeros(x.shape[1], dtype=np.int64)
        if self.layout:
            columns[: len(NAMES)] = NEITHER
            columns[list(FORM)] = 0
            columns[len(NAMES) :] = 1
        typical = [_typical(points[:, columns == block]) for block in range(columns.max() + 1)]
        return {"landmarks": points, "columns": columns, "typical": np.array(typical)}

    def fit(self, shared: State, table: Table, rng: np.random.Generator) -> State:
        """Factor the scores, then learn to predict the factors."""
        x, y = table.x, table.y
        mean, factors, loadings = factorise(y, self.rank, rng)
        inner = table.inner_folds(INNER_FOLDS, rng)
        near = _near(shared, x)
        between = _near(shared, shared["landmarks"])
        # What tells models apart is what routing is about; what they share moves no choice.
        worth = ((loadings - loadings.mean(axis=0)) ** 2).sum(axis=0)
        centred = x[:, LENGTH] - x[:, LENGTH].mean() if self._has_trend else np.zeros(len(x))
        slope = _slope(centred, factors)
        trend = np.outer(centred, slope)
        rest = factors - trend
        best: tuple[float, Shape, Floats, Floats, Floats, Floats] | None = None
        for shape in SHAPES[self.layout]:
            whitening = _whitening(_kernel(between, shape))
            plain = x * _linear_scale(shape[-1], x.shape[1])
            phi = np.concatenate([_kernel(near, shape) @ whitening, plain], axis=1)
            errors, penalties, guess = _choose(phi, rest, inner)
            error = float((errors * worth).sum())
            if best is None or error < best[0]:
                best = error, shape, penalties, phi, whitening, guess
        assert best is not None
        _, shape, penalties, phi, whitening, guess = best
        weights, bias = _ridges(phi, rest, penalties)
        linear = weights[len(whitening) :] * _linear_scale(shape[-1], x.shape[1])
        if self._has_trend:
            linear[LENGTH] += slope
            bias -= slope * x[:, LENGTH].mean()
        state = {
            "weights": whitening @ weights[: len(whitening)],
            "linear": linear,
            "bias": bias,
            "shape": np.array(shape),
            "loadings": loadings,
            "mean": mean,
        }
        return _with_kinds(state, table, factors, inner, guess + trend, worth)

    @property
    def _has_trend(self) -> bool:
        return self.layout == "hand, unseen"

    def predict(self, shared: State, state: State, x: Floats) -> Floats:
        """Mean and predicted factors times loadings."""
        return np.asarray(self.predict_all(shared, [state], x)[0])

    def predict_all(self, shared: State, states: Sequence[State], x: Floats) -> Floats:
        """As `predict`; distances to the landmarks are measured once for all folds."""
        return self.predictor(shared, states)(x)

    def predictor(self, shared: State, states: Sequence[State]) -> FoldsOfFactors:
        """As `predict_all`."""
        return FoldsOfFactors(shared, states)

    def factors(self, shared: State, states: Sequence[State], x: Floats) -> list[Floats]:
        """Predicted factors ``[prompts, rank]`` of each fold."""
        return FoldsOfFactors(shared, states).factors(x)


def _with_kinds(
    state: dict[str, NDArray[np.float64]],
    table: Table,
    factors: Floats,
    inner: Folds,
    guess: Floats,
    worth: Floats,
) -> State:
    """The state with what the prompts' subjects tell beside the kernel, where that helps.

    Both are fitted alone and count alike, so that neither explains the other away; how much of
    their sum to believe is learned from inner folds, and whether it beats ``guess``, the kernel's
    own there, by more than a standard error.
    """
    labels = kinds.labels_of(table)
    if labels is None:
        return state
    both = guess + kinds.held_out(table.x, labels, factors, inner)
    trust, errors = _trusted(both, factors)
    gain = (_trusted(guess, factors)[1] - errors) @ worth
    if gain.mean() <= gain.std() / np.sqrt(gain.size):
        return state
    middle = factors.mean(axis=0)
    found = kinds.fit(table.x, labels, factors)
    return {
        **state,
        "weights": state["weights"] * trust,
        "linear": state["linear"] * trust,
        "bias": middle + (state["bias"] - middle) * trust,
        **{kinds.PREFIX + name: value for name, value in found.items()},
        f"{kinds.PREFIX}means": (found["means"] - middle) * trust,
    }


def _trusted(guess: Floats, factors: Floats) -> tuple[Floats, Floats]:
    """Per factor the part of a guess's spread to believe, and what squared errors are left then."""
    apart, rest = guess - guess.mean(axis=0), factors - factors.mean(axis=0)
    trust = np.clip((apart * rest).sum(axis=0) / np.maximum((apart**2).sum(axis=0), 1e-9), 0, 1)
    return trust, (rest - trust * apart) ** 2


def _choose(phi: Floats, factors: Floats, inner: Folds) -> tuple[Floats, Floats, Floats]:
    """Mean squared error of each factor on inner folds, the penalty to take, and what it guesses.

    Not the penalty of the least error but the largest that is within one standard error of it
    (Breiman et al., Classification and Regression Trees, 1984, section 3.4.3): among equals the
    flatter prediction holds better on prompts unlike these.
    """
    guesses = np.zeros((PENALTIES.size, *factors.shape))
    for k in np.unique(inner):
        seen, held = inner != k, inner == k
        centre, middle = phi[seen].mean(axis=0), factors[seen].mean(axis=0)
        values, vectors = np.linalg.eigh((phi[seen] - centre).T @ (phi[seen] - centre))
        target = vectors.T @ ((phi[seen] - centre).T @ (factors[seen] - middle))
        test = (phi[held] - centre) @ vectors
        for i, penalty in enumerate(PENALTIES):
            guesses[i, held] = middle + test @ (target / (np.maximum(values, 0) + penalty)[:, None])
    errors = (factors - guesses) ** 2
    least = errors.mean(axis=1).argmin(axis=0)
    factor = np.arange(factors.shape[1])
    excess = errors - errors[least, :, factor].T
    within = excess.mean(axis=1) <= excess.std(axis=1) / np.sqrt(len(phi))
    taken = PENALTIES.size - 1 - within[::-1].argmax(axis=0)
    return errors.mean(axis=1)[least, factor], PENALTIES[taken], guesses[taken, :, factor].T


def _slope(centred: Floats, factors: Floats) -> Floats:
    """Least squares slope of each factor; 0 where nothing varies."""
    return np.asarray(centred @ factors / max(float(centred @ centred), 1e-9))


def _typical(points: Floats) -> float:
    """Median squared distance between two points."""
    apart = squared_distances(points, points)[np.triu_indices(len(points), 1)]
    return max(float(np.median(apart)) if apart.size else 1.0, 1e-9)


def _near(shared: State, x: Floats) -> list[Floats]:
    """Per block the squared distances to the landmarks, over the typical one."""
    points, columns = shared["landmarks"], shared["columns"]
    return [
        squared_distances(x[:, columns == block], points[:, columns == block]) / typical
        for block, typical in enumerate(shared["typical"])
    ]


def _kernel(near: Sequence[Floats], shape: Shape) -> Floats:
    """Weighted sum of the blocks' Gaussian kernels."""
    total = np.zeros_like(near[0])
    for distances, weight in zip(near, shape[1:], strict=False):
        if weight:
            total += weight * np.exp(distances / -shape[0])
    return total


def _whitening(kernel: Floats) -> Floats:
    """What turns similarities to the landmarks into features a plain ridge can use."""
    values, vectors = np.linalg.eigh(kernel)
    return np.asarray(vectors / np.sqrt(np.maximum(values, 1e-4)))


def _linear_scale(linear: float, dimensions: int) -> float:
    return float(np.sqrt(linear / dimensions))


def squared_distances(a: Floats, b: Floats) -> Floats:
    """``[a, b]``, never negative."""
    products = a @ b.T
    products *= -2
    products += (a * a).sum(axis=1)[:, None]
    products += (b * b).sum(axis=1)[None]
    return np.maximum(products, 0.0, out=products)


def factorise(y: Floats, rank: int, rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """Means ``[models]``, factors ``[prompts, rank]``, loadings ``[models, rank]`` of scores, NaN
    where a model was not run.

    Alternating ridge regressions; factors have unit variance a priori, and residuals a variance
    of 0.15 (that of single answers' luck), so a prompt few models answered stays near the mean.
    Means are those over all prompts: a model that was run on the hard ones alone must not pass for
    a weak one.
    """
    models = y.shape[1]
    mean = filled(y).mean(axis=0)
    if models <= 2:
        basis = np.array([[1.0, 1.0], [1.0, -1.0]])[:models, :models] / np.sqrt(models)
        return mean, filled(y - mean) @ basis, basis
    rank = min(rank, models)
    noise, prior = 0.15, np.array([1e-6] + [3.0] * rank)
    known = np.isfinite(y).astype(np.float64)
    r = np.where(known > 0, y, 0.0)
    loadings = rng.normal(size=(models, rank)) * 0.3
    factors = np.zeros((len(y), rank))
    for _ in range(ROUNDS):
        factors = _solve_rows(known, r - known * mean, loadings, noise)
        factors -= factors.mean(axis=0)
        line = _solve_rows(known.T, r.T, np.column_stack([np.ones(len(y)), factors]), prior)
        mean, loadings = line[:, 0], line[:, 1:]
        # Scale is free between the two: the prior on factors fixes it.
        size = np.sqrt((factors**2).mean(axis=0)) + 1e-9
        factors, loadings = factors / size, loadings * size
    return mean, *_aligned(factors, loadings)


def _solve_rows(known: Floats, r: Floats, basis: Floats, penalty: float | Floats) -> Floats:
    """Ridge regression of every row on the basis, over what is known of the row."""
    rank = basis.shape[1]
    outer = (basis[:, :, None] * basis[:, None, :]).reshape(len(basis), rank * rank)
    gram = (known @ outer).reshape(-1, rank, rank) + penalty * np.eye(rank)
    return np.asarray(np.linalg.solve(gram, (r @ basis)[..., None])[..., 0])


def _aligned(factors: Floats, loadings: Floats) -> tuple[Floats, Floats]:
    """The same product by orthogonal factors of unit variance, so that each has its own penalty."""
    q, upper = np.linalg.qr(factors)
    u, size, vt = np.linalg.svd(upper @ loadings.T, full_matrices=False)
    root = np.sqrt(len(factors))
    return q @ u * root, vt.T * size / root


def _ridges(phi: Floats, targets: Floats, penalties: Floats) -> tuple[Floats, Floats]:
    """Ridge weights ``[columns, targets]`` and biases, each target with its own penalty."""
    centre, middle = phi.mean(axis=0), targets.mean(axis=0)
    values, vectors = np.linalg.eigh((phi - centre).T @ (phi - centre))
    moved = vectors.T @ ((phi - centre).T @ (targets - middle))
    weights = vectors @ (moved / (np.maximum(values, 0)[:, None] + penalties))
    return weights, middle - centre @ weights
