"""Keep a budget over many requests: spend it evenly, and where it brings most."""

from __future__ import annotations


class Pacer:
    """The price of money, learned online: a mean cost per request that is not exceeded for long.

    ``price`` mu is the dual variable of "mean cost <= ``budget``", moved after each request by
    mu <- max(0, mu + step * (cost - budget)). Over n requests the overspending is at most
    mu_n / step, whatever comes: n * (mean cost - budget) <= mu_n / step. (Dual descent with a
    Euclidean mirror: Balseiro, Lu and Mirrokni, The Best of Many Worlds, Operations Research 2023;
    one of its primal-dual learners is the policy that uses mu.)
    """

    def __init__(self, budget: float, *, step: float = 0.05, price: float = 0.0) -> None:
        """``budget``: cost per request; ``step``: quality per cost, for a cost of one budget more.

        ``price`` starts mu, in quality per budget.
        """
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
