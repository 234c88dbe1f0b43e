"""The default: a few factors per prompt, shared by all models, predicted from features.

Scores of single answers are noisy; factoring the table of all models' scores at low rank averages
that noise out, and the factors are what features are asked to predict. A new model then needs
only its loadings on factors already known (`onboarding`).

    score[n, m] ~ mean[m] + factors[n] . loadings[m]          (alternating ridge regressions)
    factors[n]  ~ kernel(x[n], landmarks) and x[n], ridge     (Nystrom, Williams and Seeger 2001)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from serve_apps.router.estimators.scorer import Floats, Scorer, State, filled

PENALTIES = np.geomspace(0.3, 300.0, 11)
SCALES = (0.5, 1.0, 2.0)
"""Tried widths of the kernel, over the median distance between prompts."""
ROUNDS = 20
INNER_FOLDS = 3


class LowRankScorer(Scorer):
    """Joint low-rank scores; two models keep both their ranks, as sum and difference.

    ``rank`` at most; ``landmarks``: how many training prompts stand for the rest in the kernel;
    ``linear``: weight of the features themselves beside it, which carry on where no landmark is
    near. Width and penalties are chosen by cross-validation inside the data given.
    """

    name = "low_rank"

    def __init__(self, rank: int = 3, landmarks: int = 384, linear: float = 0.3) -> None:
        self.rank = rank
        self.landmarks = landmarks
        self.linear = linear

    def prepare(self, x: Floats, rng: np.random.Generator) -> State:
        """Landmarks, and the typical squared distance between two prompts."""
        chosen = rng.choice(len(x), min(self.landmarks, len(x)), replace=False)
        points = x[np.sort(chosen)]
        between = squared_distances(points, points)
        apart = between[np.triu_indices(len(points), 1)]
        typical = float(np.median(apart)) if apart.size else 1.0
        return {"landmarks": points, "typical": np.array(max(typical, 1e-9))}

    def fit(self, shared: State, x: Floats, y: Floats, rng: np.random.Generator) -> State:
        """Factor the scores, then learn to predict the factors."""
        mean = filled(y).mean(axis=0)
        factors, loadings = factorise(y - mean, self.rank, rng)
        inner = rng.integers(INNER_FOLDS, size=len(x))
        near = squared_distances(x, shared["landmarks"]) / shared["typical"]
        tried = [self._choose(near, shared, x, factors, scale, inner) for scale in SCALES]
        best = int(np.argmin([(error * (loadings**2).sum(axis=0)).sum() for error, _ in tried]))
        penalties = tried[best][1]
        scale = SCALES[best]
        phi = self._phi(near, shared, x, scale)
        weights, bias = _ridges(phi, factors, penalties)
        return {
            "weights": self._whitening(shared, scale) @ weights[: len(shared["landmarks"])],
            "linear": weights[len(shared["landmarks"]) :] * self._linear_scale(x.shape[1]),
            "bias": bias,
            "scale": np.array(scale),
            "loadings": loadings,
            "mean": mean,
        }

    def predict(self, shared: State, state: State, x: Floats) -> Floats:
        """Mean and predicted factors times loadings."""
        return np.asarray(state["mean"] + self.factors(shared, [state], x)[0] @ state["loadings"].T)

    def predict_all(self, shared: State, states: Sequence[State], x: Floats) -> Floats:
        """As `predict`; distances to the landmarks are measured once for all folds."""
        factors = self.factors(shared, states, x)
        return np.stack(
            [s["mean"] + f @ s["loadings"].T for s, f in zip(states, factors, strict=True)]
        )

    def factors(self, shared: State, states: Sequence[State], x: Floats) -> list[Floats]:
        """Predicted factors ``[prompts, rank]`` of each fold."""
        near = squared_distances(x, shared["landmarks"]) / shared["typical"]
        found: list[Floats] = []
        kernels: dict[float, Floats] = {}
        for state in states:
            scale = float(state["scale"])
            if scale not in kernels:
                kernels[scale] = np.exp(-near / scale)
            found.append(kernels[scale] @ state["weights"] + x @ state["linear"] + state["bias"])
        return found

    def _choose(
        self,
        near: Floats,
        shared: State,
        x: Floats,
        factors: Floats,
        scale: float,
        inner: Floats,
    ) -> tuple[Floats, Floats]:
        """Least squared error of each factor at this width, and the penalty that gave it."""
        phi = self._phi(near, shared, x, scale)
        errors = np.zeros((PENALTIES.size, factors.shape[1]))
        for k in range(INNER_FOLDS):
            seen, held = inner != k, inner == k
            centre, middle = phi[seen].mean(axis=0), factors[seen].mean(axis=0)
            values, vectors = np.linalg.eigh((phi[seen] - centre).T @ (phi[seen] - centre))
            target = vectors.T @ ((phi[seen] - centre).T @ (factors[seen] - middle))
            test = (phi[held] - centre) @ vectors
            for i, penalty in enumerate(PENALTIES):
                guess = middle + test @ (target / (np.maximum(values, 0) + penalty)[:, None])
                errors[i] += ((factors[held] - guess) ** 2).sum(axis=0)
        at = errors.argmin(axis=0)
        return errors[at, np.arange(at.size)] / len(x), PENALTIES[at]

    def _phi(self, near: Floats, shared: State, x: Floats, scale: float) -> Floats:
        """Features in which a plain ridge is the kernel's: whitened similarities, and x."""
        kernel = np.exp(-near / scale) @ self._whitening(shared, scale)
        return np.concatenate([kernel, x * self._linear_scale(x.shape[1])], axis=1)

    def _whitening(self, shared: State, scale: float) -> Floats:
        points = shared["landmarks"]
        kernel = np.exp(-squared_distances(points, points) / shared["typical"] / scale)
        values, vectors = np.linalg.eigh(kernel)
        return np.asarray(vectors / np.sqrt(np.maximum(values, 1e-4)))

    def _linear_scale(self, dimensions: int) -> float:
        return float(np.sqrt(self.linear / dimensions))


def squared_distances(a: Floats, b: Floats) -> Floats:
    """``[a, b]``, never negative."""
    products = a @ b.T
    products *= -2
    products += (a * a).sum(axis=1)[:, None]
    products += (b * b).sum(axis=1)[None]
    return np.maximum(products, 0.0, out=products)


def factorise(y: Floats, rank: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Factors ``[prompts, rank]`` and loadings ``[models, rank]`` of centred scores with NaN.

    Alternating ridge regressions; factors have unit variance a priori, and residuals a variance
    of 0.15 (that of single answers' luck), so a prompt few models answered stays near the mean.
    """
    models = y.shape[1]
    if models <= 2:
        basis = np.array([[1.0, 1.0], [1.0, -1.0]])[:models, :models] / np.sqrt(models)
        return filled(y) @ basis, basis
    rank = min(rank, models)
    noise = 0.15
    known = np.isfinite(y).astype(np.float64)
    r = np.where(known > 0, y, 0.0)
    loadings = rng.normal(size=(models, rank)) * 0.3
    factors = np.zeros((len(y), rank))
    for _ in range(ROUNDS):
        factors = _solve_rows(known, r, loadings, noise)
        loadings = _solve_rows(known.T, r.T, factors, 3.0)
        # Scale is free between the two: the prior on factors fixes it.
        size = np.sqrt((factors**2).mean(axis=0)) + 1e-9
        factors, loadings = factors / size, loadings * size
    return _aligned(factors, loadings)


def _solve_rows(known: Floats, r: Floats, basis: Floats, penalty: float) -> Floats:
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
