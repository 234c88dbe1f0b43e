"""A bandit is told of the answer it chose for a request's own wish, and judged over all wishes."""

import numpy as np
import pytest

from benchmarks.router_bandits import WISHES, judged, online
from serve_apps.router.estimates import Estimates
from serve_apps.router.policies.base import Choice
from tests.serve_apps.router.planted import planted


class ByWorth:
    """The last model for whom quality is dear, the first for the others; keeps what it is told."""

    name = "by worth"

    def __init__(self):
        self.told = []

    def choose(self, ask, seen=()):
        return Choice(ask.models[-1 if ask.worth > 1e5 else 0], "")

    def learn(self, ask, model, quality, cost):
        self.told.append((ask.worth, model, quality, cost))


def test_it_learns_from_its_own_wish_alone():
    stream, truth = planted(6, models=3)
    paid = np.arange(18.0).reshape(6, 3)
    told = Estimates(stream.models, truth, np.zeros_like(truth), np.ones_like(truth))
    last = WISHES.size - 1
    own = np.array([0, last, 0, last, 0, last])
    policy = ByWorth()
    chosen = online(policy, stream, told, paid, paid, own)
    assert chosen.shape == (6, WISHES.size)
    assert (chosen[:, 0] == 0).all() and (chosen[:, -1] == 2).all()
    assert [(w, m) for w, m, _, _ in policy.told] == [(WISHES[0], "m0"), (WISHES[last], "m2")] * 3
    at = np.arange(6), np.array([0, 2] * 3)
    assert [(q, c) for _, _, q, c in policy.told] == list(
        zip(stream.score[at].tolist(), paid[at].tolist(), strict=True)
    )


def test_what_is_saved_is_read_off_the_hull_of_the_wishes():
    score = np.array([[0.0, 1.0], [1.0, 1.0]])
    paid = np.array([[1.0, 10.0], [1.0, 10.0]])
    # Half of the wishes take the cheap model always; the rest know where it will do.
    cheap, right = [0] * 4, [1] * (WISHES.size - 4)
    chosen = np.array([cheap + right, [0] * WISHES.size])
    found = judged(chosen, score, paid)
    assert found["saved at 100%"] == pytest.approx(0.45)
    assert found["saved at 95%"] > 0.45
