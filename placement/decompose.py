"""Column generation for placement problems whose models share stock (Dantzig and Wolfe, 1960).

Rows that hold several models together (stock, caps, budgets) are relaxed at prices. At given prices
each model's fleet is a small MIP of its own; its answers become columns of a master LP that picks
among them inside the shared limits and so finds better prices. Three things come of it:

- a bound: at any prices, the models' minima and what the shared limits cost (Lagrange);
- a fleet: the best choice of one column for each model, the restricted master as a MIP;
- cuts: every fleet of a model costs at least its minimum, at those prices. They lift the LP bound
  of the whole program to that of the master, so that HiGHS proves the rest by branching.

Where nothing is shared, or what is shared does not bind, the models' own minima are the answer.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from placement.master import Master
from placement.mip import Answer, Bools, Floats, Mip, Solver

ROUNDS = 20
MOST_STALLED = 4  # rounds without a better bound
LEAST_GAIN = 0.1  # of what the bound lacks to the master's LP: less is no gain
GAP_SHARE = 0.2  # of the gap asked for: what the models' own gaps may take of it
CONVERGED = 0.4  # of the gap asked for: how near the bound must be to the master's LP
STEP = 1 / 3  # from the best prices so far towards those of the master
TIME_SHARE = 0.6  # of the time: what pricing may take, the rest is for branching
PENALTY = 4.0  # of exceeding a shared limit: at least this multiple of its price in the LP
MOST_PENALTIES = 6  # times that the penalty is raised where a limit stays exceeded
SHORT = 1e-6
SAME = 1e-5  # relative: what pricing to the end is not worth, for branching closes it
CUT_TOLERANCE = 1e-7  # relative: cuts must not cut what the solver's tolerances let through


@dataclass(frozen=True)
class Decomposed:
    """Values of all columns (none where no answer was found) and a proven bound on the cost."""

    values: Floats | None
    bound: float
    infeasible: bool = False


@dataclass(frozen=True)
class _Cut:
    """A row that every fleet of a block keeps: weights z >= least."""

    block: int
    weights: Floats
    least: float


def solve_apart(
    mip: Mip, linking: Bools, *, time_limit_s: float, gap: float, least_columns: int = 8
) -> Decomposed:
    """The cheapest values of a program whose blocks only ``linking`` rows hold together.

    ``linking`` is ``[rows]``. Blocks under ``least_columns`` columns are not priced apart.
    """
    return _Decomposition(Master(mip, linking, least_columns), time_limit_s, gap).solve()


class _Decomposition:
    def __init__(self, master: Master, time_limit_s: float, gap: float) -> None:
        self._master, self._mip, self._gap = master, master.mip, gap
        self._started_s, self._time_limit_s = time.monotonic(), time_limit_s
        self._cuts: list[_Cut] = []
        self._incumbent: Floats | None = None
        self._bound, self._prices = -np.inf, np.zeros(len(master.linking))

    def solve(self) -> Decomposed:
        """Column generation, then branching on what is left; at once where nothing is linked."""
        linked = len(self._master.linking) > 0
        prices = self._relaxed_prices() if linked else self._prices
        if prices is None:
            return self._branch()
        answers = self._price_all(prices)
        if any(a.infeasible for a in answers):
            return Decomposed(None, np.inf, infeasible=True)
        if linked:
            self._generate(prices)
        else:
            self._keep(self._choose())
        if linked and not self._near():
            return self._branch()
        return Decomposed(self._incumbent, self._bound)

    def _price_all(self, prices: Floats) -> list[Answer]:
        """Each block's fleet at these prices; keeps the columns, the cuts and the best bound."""
        bound = self._master.bound_at(prices, time_limit_s=self._left_s())
        coupled = 1.0 if not len(prices) else TIME_SHARE
        answers = []
        for k, block in enumerate(self._master.blocks):
            limit_s = coupled * self._left_s() / (len(self._master.blocks) - k)
            answer = block.price(prices, time_limit_s=limit_s, gap=self._gap * GAP_SHARE)
            answers.append(answer)
            bound += answer.bound
            if np.isfinite(answer.bound):
                self._cuts.append(_Cut(k, block.cost_at(prices), answer.bound))
        if bound > self._bound:
            self._bound, self._prices = bound, prices
        return answers

    def _relaxed_prices(self) -> Floats | None:
        """Prices of the linking rows in the LP of the whole program; None without an answer."""
        relaxed = Solver(self._mip.relaxed()).solve(time_limit_s=self._left_s())
        if relaxed.values is None:
            return None
        return self._master.signed(relaxed.duals[self._master.linking])

    def _generate(self, prices: Floats) -> None:
        """Columns at better and better prices, until the best choice among them is near enough.

        Prices are the master's, or halfway back to the best so far where those gained nothing.
        """
        usual = abs(self._bound) / np.maximum(self._master.use(), 1.0)
        penalty = np.maximum(PENALTY * np.abs(prices), usual)
        stalled = raised = 0
        for _ in range(ROUNDS):
            self._keep(self._choose())
            found, excess = self._master.relax(penalty, time_limit_s=self._left_s())
            out_of_time = self._left_s() < (1 - TIME_SHARE) * self._time_limit_s
            if found.values is None or self._near():
                return
            before = self._bound
            converged = found.objective - before <= max(CONVERGED * self._gap, SAME) * abs(before)
            if converged or out_of_time or stalled > MOST_STALLED:
                if excess <= SHORT or out_of_time or raised == MOST_PENALTIES:
                    self._keep(self._repair(found.values))
                    return
                penalty, raised, stalled = penalty * PENALTY, raised + 1, 0
                continue
            prices = self._master.signed(found.duals[: len(prices)])
            step = 1.0 if stalled % 2 else STEP
            self._price_all(self._prices + step * (prices - self._prices))
            gained = self._bound - before > LEAST_GAIN * (found.objective - before)
            stalled = 0 if gained else stalled + 1

    def _repair(self, mixture: Floats) -> Floats | None:
        return self._master.repair(
            mixture,
            time_limit_s=self._left_s() / 2,
            gap=self._gap * GAP_SHARE,
            start=self._incumbent,
        )

    def _keep(self, values: Floats | None) -> None:
        """Take an answer where it is the best so far."""
        if values is not None and self._cost(values) < self._cost(self._incumbent):
            self._incumbent = values

    def _choose(self) -> Floats | None:
        return self._master.choose(
            time_limit_s=self._left_s() * (1 - TIME_SHARE), gap=self._gap * GAP_SHARE
        )

    def _branch(self) -> Decomposed:
        """The whole program, from the incumbent, with the cuts of every round."""
        program = self._mip.with_rows(*self._cut_rows()) if self._cuts else self._mip
        found = Solver(program).solve(
            time_limit_s=self._left_s(), gap=self._gap, start=self._incumbent
        )
        self._keep(found.values)
        self._bound = max(self._bound, found.bound)
        impossible = found.infeasible and self._incumbent is None
        return Decomposed(self._incumbent, self._bound, impossible)

    def _cut_rows(self) -> tuple[sparse.csr_array, Floats]:
        columns = [self._master.blocks[cut.block].columns for cut in self._cuts]
        weights = [cut.weights for cut in self._cuts]
        ends = np.cumsum([0, *map(len, columns)])
        rows = sparse.csr_array(
            (np.concatenate(weights), np.concatenate(columns), ends),
            shape=(len(columns), len(self._mip.cost)),
        )
        rows.eliminate_zeros()
        return rows, np.array([c.least - CUT_TOLERANCE * abs(c.least) for c in self._cuts])

    def _cost(self, values: Floats | None) -> float:
        return np.inf if values is None else float(self._mip.cost @ values)

    def _near(self) -> bool:
        cost = self._cost(self._incumbent)
        return np.isfinite(cost) and cost - self._bound <= self._gap * abs(cost)

    def _left_s(self) -> float:
        return self._time_limit_s - (time.monotonic() - self._started_s)
