"""Several scorers, weighted by how well they did on prompts held out."""

from __future__ import annotations

import numpy as np

from serve_apps.router.estimators.scorer import Floats, Scorer, State, Table, filled

HELD_OUT = 0.25


class EnsembleScorer(Scorer):
    """``members``: names of estimators, parted by commas; weights are non-negative, of sum one.

    Stacked regression (Breiman, 1996): weights are fitted on a quarter held out, after which every
    member is fitted on all.
    """

    name = "ensemble"
    regression = True

    def __init__(self, members: str = "low_rank,knn,gradient_boosting") -> None:
        self.members = members

    def prepare(self, x: Floats, rng: np.random.Generator) -> State:
        """What each member's folds share."""
        return _joined({n: scorer.prepare(x, rng) for n, scorer in self._scorers().items()})

    def fit(self, shared: State, table: Table, rng: np.random.Generator) -> State:
        """Members and their weights."""
        from scipy.optimize import nnls

        held = rng.random(len(table.x)) < HELD_OUT
        columns, states = [], {}
        for name, scorer in self._scorers().items():
            own = _own(shared, name)
            trial = scorer.fit(own, table.rows(~held), rng)
            columns.append(scorer.predict(own, trial, table.x[held]).ravel())
            states[name] = scorer.fit(own, table, rng)
        known = np.isfinite(table.y[held]).ravel()
        weights, _ = nnls(np.stack(columns, axis=1)[known], filled(table.y)[held].ravel()[known])
        even = np.full(len(columns), 1 / len(columns))
        # Half of the way to equal weights: a quarter of the prompts cannot tell members far apart.
        mixed = (weights / weights.sum() + even) / 2 if weights.sum() > 0 else even
        return {**_joined(states), "weights": mixed}

    def predict(self, shared: State, state: State, x: Floats) -> Floats:
        """The weighted mean."""
        each = [
            scorer.predict(_own(shared, name), _own(state, name), x)
            for name, scorer in self._scorers().items()
        ]
        return np.asarray(np.tensordot(state["weights"], np.stack(each), axes=1))

    def _scorers(self) -> dict[str, Scorer]:
        from serve_apps.router.estimators.registry import scorer_class

        return {name: scorer_class(name)() for name in self.members.split(",")}


def _joined(states: dict[str, State]) -> dict[str, np.ndarray]:
    return {f"{n}/{key}": value for n, state in states.items() for key, value in state.items()}


def _own(state: State, name: str) -> State:
    start = f"{name}/"
    return {k.removeprefix(start): v for k, v in state.items() if k.startswith(start)}
