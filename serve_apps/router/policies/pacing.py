"""Keep a budget over many requests: spend it evenly, and where it brings most."""

from __future__ import annotations


class Pacer:
    """The price of money, learned online: a mean cost per request that is not exceeded for long.

    ``price`` mu is the dual variable of "mean cost <= ``budget``", moved after each request by
    mu * budget <- max(0, mu * budget + ``step`` * (cost / budget - 1)). Whatever comes, n requests
    overspend by at most mu_n * budget / step budgets. (Dual descent with a Euclidean mirror:
    Balseiro, Lu and Mirrokni, The Best of Many Worlds, Operations Research 2023.)
    """

    def __init__(self, budget: float, *, step: float = 0.05, price: float = 0.0) -> None:
        """``budget``: cost per request; ``price``: mu * budget at the start, in quality."""
        self.budget = budget
        self._step = step
        self._scaled = price

    @property
    def price(self) -> float:
        """mu: how much quality one unit of cost must bring."""
        return self._scaled / self.budget

    @property
    def worth(self) -> float:
        """1 / mu, what one unit of quality may cost; infinite while nothing binds."""
        return 1 / self.price if self._scaled else float("inf")

    def spend(self, cost: float) -> None:
        """Take in what a request cost."""
        self._scaled = max(0.0, self._scaled + self._step * (cost / self.budget - 1))
