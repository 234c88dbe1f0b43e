"""The master of a column generation: which of its fleets each model takes, inside shared limits."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from scipy import sparse

from placement.mip import Answer, Bools, Floats, Ints, Mip, Solver, blocks

MIXED = 1e-6  # of a fleet in a mixture: below it the LP is taken to have one fleet for a block


@dataclass
class Block:
    """One model's part of a program: its columns, what they use of what is shared, its fleets."""

    columns: Ints
    rows: Ints
    mip: Mip
    shared: sparse.csr_array
    solver: Solver
    fleets: list[Floats] = field(default_factory=list)

    def price(self, prices: Floats, *, time_limit_s: float, gap: float) -> Answer:
        """The cheapest fleet when a unit of what is shared is paid ``prices``; kept as a column."""
        cost = self.cost_at(prices)
        start = min(self.fleets, key=lambda f: float(cost @ f), default=None)
        found = self.solver.solve(time_limit_s=time_limit_s, gap=gap, cost=cost, start=start)
        if found.values is not None:
            self.fleets.append(found.values)
        return found

    def cost_at(self, prices: Floats) -> Floats:
        """Cost of each column less what its use of what is shared is paid, ``[columns]``."""
        cost: Floats = self.mip.cost - self.shared.T @ prices
        return cost


class Master:
    """A program cut into blocks by its linking rows, and the choice of one fleet for each block.

    Blocks under ``least_columns`` columns stay in the master as they are: node counts, slacks.
    None does where nothing links, for what the master bounds by an LP is not bounded tightly.
    """

    def __init__(self, mip: Mip, linking: Bools, least_columns: int) -> None:
        self.mip = mip
        self.linking = np.flatnonzero(linking)
        shared = sparse.csr_array(mip.rows[self.linking])
        parts = blocks(mip, linking)
        least_columns = least_columns if len(self.linking) else 0
        self.blocks = [_block(mip, shared, *p) for p in parts if len(p[0]) >= least_columns]
        small = [p for p in parts if len(p[0]) < least_columns]
        self._kept = _joined([columns for columns, _ in small])
        self._kept_rows = _joined([rows for _, rows in small])
        self._own = mip.part(self._kept, self._kept_rows)
        self._shared = sparse.csr_array(shared[:, self._kept])

    def bound_at(self, prices: Floats, *, time_limit_s: float) -> float:
        """The least that shared limits and the columns kept here cost at these prices."""
        low, high = self.mip.row_lower[self.linking], self.mip.row_upper[self.linking]
        with np.errstate(invalid="ignore"):
            paid = np.where(prices == 0, 0.0, prices * np.where(prices > 0, low, high))
        if not len(self._kept):
            return float(paid.sum())
        cost = self._own.cost - self._shared.T @ prices
        found = Solver(self._own.relaxed()).solve(time_limit_s=time_limit_s, cost=cost)
        return float(paid.sum()) + (found.objective if found.values is not None else -np.inf)

    def signed(self, prices: Floats) -> Floats:
        """Prices without those whose sign no limit allows, for it is on the other side."""
        low, high = self.mip.row_lower[self.linking], self.mip.row_upper[self.linking]
        prices = np.where(np.isinf(low), np.minimum(prices, 0), prices)
        signed: Floats = np.where(np.isinf(high), np.maximum(prices, 0), prices)
        return signed

    def use(self) -> Floats:
        """How much of each linking row the blocks' last fleets use, ``[linking rows]``."""
        last = [abs(b.shared) @ np.abs(b.fleets[-1]) for b in self.blocks if b.fleets]
        total: Floats = np.sum(last, axis=0) if last else np.zeros(len(self.linking))
        return total

    def relax(self, penalty: Floats, *, time_limit_s: float) -> tuple[Answer, float]:
        """The LP over mixtures of fleets, and by how much it exceeds shared limits at a penalty.

        ``penalty`` is ``[linking rows]``, per unit beyond the limit; duals come in that order.
        """
        found = Solver(self._program(penalty)).solve(time_limit_s=time_limit_s)
        excess = 0.0 if found.values is None else found.values[-2 * len(penalty) :].max(initial=0.0)
        return found, float(excess)

    def choose(self, *, time_limit_s: float, gap: float) -> Floats | None:
        """The best choice of one fleet for each block; None where none is inside the limits."""
        found = Solver(self._program(None)).solve(time_limit_s=time_limit_s, gap=gap)
        if found.values is None:
            return None
        values, at = np.zeros(len(self.mip.cost)), 0
        for block in self.blocks:
            chosen = found.values[at : at + len(block.fleets)]
            values[block.columns] = block.fleets[int(chosen.argmax())]
            at += len(block.fleets)
        values[self._kept] = found.values[at : at + len(self._kept)]
        return values if self.mip.keeps(values) else None

    def repair(
        self, mixture: Floats, *, time_limit_s: float, gap: float, start: Floats | None
    ) -> Floats | None:
        """A fleet near the LP's mixture: blocks that mix fleets are solved anew, together.

        A basic answer mixes fleets in at most as many blocks as there are linking rows. The other
        blocks keep the fleet they have in it; what those leave of the limits is shared by these.
        """
        values, at, mixed = np.zeros(len(self.mip.cost)), 0, []
        for block in self.blocks:
            share = mixture[at : at + len(block.fleets)]
            values[block.columns] = block.fleets[int(share.argmax())]
            at += len(block.fleets)
            if share.max() < 1 - MIXED:
                mixed.append(block)
        columns = np.concatenate([*(b.columns for b in mixed), self._kept])
        values[columns] = 0.0
        rows = np.concatenate([*(b.rows for b in mixed), self._kept_rows, self.linking])
        part = self.mip.part(columns, rows)
        used = self.mip.rows[rows] @ values
        part = replace(part, row_lower=part.row_lower - used, row_upper=part.row_upper - used)
        known = None if start is None else start[columns]
        found = Solver(part).solve(time_limit_s=time_limit_s, gap=gap, start=known)
        if found.values is None:
            return None
        values[columns] = found.values
        return values if self.mip.keeps(values) else None

    def _program(self, penalty: Floats | None) -> Mip:
        """Linking rows, one row a block (its fleets sum to one), the rows kept.

        With a penalty the LP, in which linking rows may be exceeded; else the MIP.
        """
        fleets = [(k, b, f) for k, b in enumerate(self.blocks) for f in b.fleets]
        m, n, own, integer = len(self.linking), len(fleets), self._own, penalty is None
        slacks = np.zeros(0) if penalty is None else penalty
        use = np.array([b.shared @ f for _, b, f in fleets]).reshape(n, m).T
        picks = sparse.csr_array(
            (np.ones(n), ([k for k, _, _ in fleets], range(n))), shape=(len(self.blocks), n)
        )
        below = sparse.csr_array(np.eye(m, len(slacks)))
        kept_below = sparse.csr_array((len(own.row_lower), 2 * len(slacks)))
        rows = sparse.vstack(
            [
                sparse.hstack([sparse.csr_array(use), self._shared, below, -below]),
                sparse.hstack(
                    [picks, sparse.csr_array((len(self.blocks), len(own.cost) + 2 * len(slacks)))]
                ),
                sparse.hstack([sparse.csr_array((len(own.row_lower), n)), own.rows, kept_below]),
            ]
        )
        ones = np.ones(len(self.blocks))
        low, high = self.mip.row_lower[self.linking], self.mip.row_upper[self.linking]
        none, free = np.zeros(2 * len(slacks)), np.full(2 * len(slacks), np.inf)
        return Mip(
            np.concatenate([[b.mip.cost @ f for _, b, f in fleets], own.cost, slacks, slacks]),
            np.concatenate([np.zeros(n), own.lower, none]),
            np.concatenate([np.ones(n), own.upper, free]),
            np.concatenate([np.full(n, integer), own.integer & integer, none > 0]),
            sparse.csr_array(rows),
            np.concatenate([low, ones, own.row_lower]),
            np.concatenate([high, ones, own.row_upper]),
        )


def _block(mip: Mip, shared: sparse.csr_array, columns: Ints, rows: Ints) -> Block:
    part = mip.part(columns, rows)
    return Block(columns, rows, part, sparse.csr_array(shared[:, columns]), Solver(part))


def _joined(parts: list[Ints]) -> Ints:
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)
