"""Column generation for placement problems whose models share stock (Dantzig and Wolfe, 1960).

Rows that hold several models together (stock, caps, budgets) are relaxed at prices. At given prices
each model's fleet is a small MIP of its own; its answers become columns of a master LP that picks
among them inside the shared limits and so finds better prices. Three things come of it:

- a bound: at any prices pi >= 0, the models' minima less pi times what is shared (Lagrange);
- a fleet: the best choice of one column for each model (the restricted master, as a MIP);
- rows: cost_k - pi A_k >= the minimum of model k at pi. They hold for every fleet and lift the LP
  bound of the whole program to that of the master, so that HiGHS proves the rest by branching.

Where nothing is shared, or what is shared does not bind, the models' own minima are the answer.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from placement.mip import Answer, Bools, Floats, Ints, Mip, Solver, blocks

ROUNDS = 30
BLOCK_GAP_SHARE = 0.3  # of the gap asked for: what the models' own gaps may take of it
PENALTY = 4.0  # of exceeding a shared limit, in multiples of its price in the LP relaxation
MOST_STALLED = 3  # rounds without a better bound
SHORT = 1e-6
TINY = 1e-3


@dataclass(frozen=True)
class Decomposed:
    """Values of all columns (none where no answer was found) and a proven bound on the cost."""

    values: Floats | None
    bound: float
    infeasible: bool = False


@dataclass
class _Block:
    """One model's part: its own program, its columns' use of the shared rows, its fleets."""

    columns: Ints
    mip: Mip
    shared: sparse.csr_array
    solver: Solver
    fleets: list[Floats] = field(default_factory=list)

    def price(self, prices: Floats, *, time_limit_s: float, gap: float) -> Answer:
        """The cheapest fleet when the shared rows cost ``prices``, and a bound on it."""
        cost = self.mip.cost - self.shared.T @ prices
        start = min(self.fleets, key=lambda f: float(cost @ f), default=None)
        found = self.solver.solve(time_limit_s=time_limit_s, gap=gap, cost=cost, start=start)
        if found.values is not None:
            self.fleets.append(found.values)
        return found


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

    ``linking`` is ``[rows]``. Blocks under ``least_columns`` columns are not priced apart but kept
    in the master as they are: node counts, slacks.
    """
    return _Decomposition(mip, linking, time_limit_s, gap, least_columns).solve()


class _Decomposition:
    def __init__(
        self, mip: Mip, linking: Bools, time_limit_s: float, gap: float, least_columns: int
    ) -> None:
        self._mip, self._gap = mip, gap
        self._started_s, self._time_limit_s = time.monotonic(), time_limit_s
        self._linking = np.flatnonzero(linking)
        parts = blocks(mip, linking)
        large = [(c, r) for c, r in parts if len(c) >= least_columns]
        small = [(c, r) for c, r in parts if len(c) < least_columns]
        shared = sparse.csr_array(mip.rows[self._linking])
        self._blocks = [_block(mip, shared, c, r) for c, r in large]
        self._kept = _joined([c for c, _ in small])
        self._kept_rows = _joined([r for _, r in small])
        self._kept_mip = mip.part(self._kept, self._kept_rows)
        self._shared, self._shared_kept = shared, sparse.csr_array(shared[:, self._kept])
        self._cuts: list[_Cut] = []
        self._bound, self._prices = -np.inf, np.zeros(len(self._linking))
        self._penalty = np.zeros(len(self._linking))

    def solve(self) -> Decomposed:
        """Apart if nothing binds; else column generation, then branching on what is left."""
        answers = self._price_all(np.zeros(len(self._linking)))
        if any(a.infeasible for a in answers):
            return Decomposed(None, np.inf, infeasible=True)
        if not len(self._linking) and not len(self._kept):
            return self._union(answers)
        self._generate()
        incumbent = self._choose()
        print('  chosen', round(self._time_limit_s-self._left_s(),2), None if incumbent is None else self._cost(incumbent), self._bound, len(self._cuts))
        if incumbent is not None and self._near(self._cost(incumbent)):
            return Decomposed(incumbent, self._bound)
        return self._branch(incumbent)

    def _union(self, answers: list[Answer]) -> Decomposed:
        values = np.zeros(len(self._mip.cost))
        for block, answer in zip(self._blocks, answers, strict=True):
            if answer.values is None:
                return Decomposed(None, self._bound)
            values[block.columns] = answer.values
        return Decomposed(values, self._bound)

    def _price_all(self, prices: Floats) -> list[Answer]:
        """Each block's fleet at these prices; keeps the columns, the cuts and the best bound."""
        answers, bound = [], self._at_prices(prices)
        gap = self._gap * BLOCK_GAP_SHARE
        for k, block in enumerate(self._blocks):
            left = self._left_s() / (2 * (len(self._blocks) - k)) 
            answer = block.price(prices, time_limit_s=left, gap=gap)
            answers.append(answer)
            bound += answer.bound
            if np.isfinite(answer.bound):
                weights = block.mip.cost - block.shared.T @ prices
                self._cuts.append(_Cut(k, weights, answer.bound))
        if bound > self._bound:
            self._bound, self._prices = bound, prices
        return answers

    def _at_prices(self, prices: Floats) -> float:
        """What the shared limits and the columns kept in the master add to the bound."""
        rows = self._linking
        with np.errstate(invalid="ignore"):
            limits = np.where(prices > 0, self._mip.row_lower[rows], self._mip.row_upper[rows])
            shared = float(np.where(prices == 0, 0.0, prices * limits).sum())
        if not len(self._kept):
            return shared
        cost = self._kept_mip.cost - self._shared_kept.T @ prices
        found = Solver(_relaxed(self._kept_mip)).solve(time_limit_s=self._left_s(), cost=cost)
        return shared + (found.objective if found.values is not None else -np.inf)

    def _generate(self) -> None:
        """Column generation: prices of the master, halfway back to the best ones when they fail."""
        prices = self._sign(self._relaxation_prices())
        self._price_all(prices)
        self._penalty = PENALTY * np.maximum(np.abs(prices), np.abs(prices).mean() + TINY)
        stalled = 0
        for _ in range(ROUNDS):
            master = self._master(integer=False).solve(time_limit_s=self._left_s())
            if master.values is None or self._left_s() <= 0 or stalled > MOST_STALLED:
                return
            if master.objective - self._bound <= BLOCK_GAP_SHARE * self._gap * abs(self._bound):
                if not self._short(master.values):
                    return
                self._penalty *= PENALTY
                continue
            prices, before = self._sign(master.duals[: len(self._linking)]), self._bound
            self._price_all((prices + self._prices) / 2 if stalled % 2 else prices)
            stalled = 0 if self._bound > before + 0.1 * self._gap * abs(before) else stalled + 1
            print('  round', round(self._time_limit_s-self._left_s(),2), 'master', master.objective, 'bound', self._bound, prices)

    def _short(self, master_values: Floats) -> bool:
        """Whether the master still exceeds a shared limit, at a penalty."""
        return bool(master_values[-2 * len(self._linking) :].max(initial=0.0) > SHORT)

    def _relaxation_prices(self) -> Floats:
        relaxed = Solver(_relaxed(self._mip)).solve(time_limit_s=self._left_s())
        if relaxed.values is None:
            return np.zeros(len(self._linking))
        return relaxed.duals[self._linking]

    def _sign(self, prices: Floats) -> Floats:
        """Prices with the sign that a limit from one side allows."""
        low, high = self._mip.row_lower[self._linking], self._mip.row_upper[self._linking]
        prices = np.where(np.isinf(low), np.minimum(prices, 0), prices)
        signed: Floats = np.where(np.isinf(high), np.maximum(prices, 0), prices)
        return signed

    def _master(self, *, integer: bool) -> Solver:
        return Solver(self._master_mip(integer=integer))

    def _master_mip(self, *, integer: bool) -> Mip:
        """Shared rows, one row a block (its fleets sum to one), the rows kept; and slacks."""
        fleets = [(k, b, f) for k, b in enumerate(self._blocks) for f in b.fleets]
        use = [b.shared @ f for _, b, f in fleets]
        m, n, kept = len(self._linking), len(fleets), len(self._kept)
        slack = 0 if integer else m
        one_each = sparse.csr_array(
            (np.ones(n), ([k for k, _, _ in fleets], range(n))), shape=(len(self._blocks), n)
        )
        rows = sparse.block_array(
            [
                [np.array(use).T.reshape(m, n), self._shared_kept, np.eye(m, slack), -np.eye(m, slack)],
                [one_each, None, None, None],
                [None, self._kept_mip.rows, None, None],
            ]
            if m
            else [[one_each, None], [None, self._kept_mip.rows]]
        )
        cost = np.array([b.mip.cost @ f for _, b, f in fleets])
        fixed, ones = self._kept_mip, np.ones(len(self._blocks))
        own, shared = self._mip, self._linking
        return Mip(
            np.concatenate([cost, fixed.cost, np.tile(self._penalty[:slack], 2)]),
            np.concatenate([np.zeros(n), fixed.lower, np.zeros(2 * slack)]),
            np.concatenate([np.ones(n), fixed.upper, np.full(2 * slack, np.inf)]),
            np.concatenate([np.full(n, integer), fixed.integer & integer, np.zeros(2 * slack, bool)]),
            sparse.csr_array(rows),
            np.concatenate([own.row_lower[shared], ones, fixed.row_lower]),
            np.concatenate([own.row_upper[shared], ones, fixed.row_upper]),
        )

    def _choose(self) -> Floats | None:
        """The best choice of one fleet for each block; None where none is inside the limits."""
        found = self._master(integer=True).solve(
            time_limit_s=self._left_s() / 2, gap=self._gap * BLOCK_GAP_SHARE
        )
        if found.values is None:
            return None
        values, at = np.zeros(len(self._mip.cost)), 0
        for block in self._blocks:
            chosen = found.values[at : at + len(block.fleets)]
            values[block.columns] = block.fleets[int(chosen.argmax())]
            at += len(block.fleets)
        values[self._kept] = found.values[at : at + len(self._kept)]
        return values if self._mip.keeps(values) else None

    def _branch(self, incumbent: Floats | None) -> Decomposed:
        """The whole program, from the incumbent, with the cuts of every round."""
        at = np.array([cut.block for cut in self._cuts])
        columns = [self._blocks[k].columns for k in at]
        rows = sparse.csr_array(
            (
                np.concatenate([cut.weights for cut in self._cuts]),
                np.concatenate(columns),
                np.cumsum([0, *map(len, columns)]),
            ),
            shape=(len(at), len(self._mip.cost)),
        )
        rows.eliminate_zeros()
        least = np.array([cut.least - 1e-7 * abs(cut.least) for cut in self._cuts])
        found = Solver(self._mip.with_rows(rows, least)).solve(
            time_limit_s=self._left_s(), gap=self._gap, start=incumbent
        )
        bound = max(self._bound, found.bound)
        better = found.values is not None and (
            incumbent is None or found.objective < self._cost(incumbent)
        )
        return Decomposed(found.values if better else incumbent, bound, found.infeasible)

    def _cost(self, values: Floats) -> float:
        return float(self._mip.cost @ values)

    def _near(self, cost: float) -> bool:
        return cost - self._bound <= self._gap * abs(cost)

    def _left_s(self) -> float:
        return self._time_limit_s - (time.monotonic() - self._started_s)


def _block(mip: Mip, shared: sparse.csr_array, columns: Ints, rows: Ints) -> _Block:
    part = mip.part(columns, rows)
    return _Block(columns, part, sparse.csr_array(shared[:, columns]), Solver(part))


def _relaxed(mip: Mip) -> Mip:
    return replace(mip, integer=np.zeros_like(mip.integer))


def _joined(parts: list[Ints]) -> Ints:
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)
