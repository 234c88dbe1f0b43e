"""A mixed-integer program in arrays, cut into blocks, and handed to HiGHS without names.

Modelling is PuLP's (`placement.ilp`). This is what PuLP hands to HiGHS, taken apart again: parts
of a model are solved many times with other costs, which PuLP would build anew each time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import highspy
import numpy as np
import pulp
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
ROW_TOLERANCE = 1e-6
INTEGER_TOLERANCE = 1e-9
SEARCHES_LEFT_OUT = (
    "mip_heuristic_run_rins",
    "mip_heuristic_run_rens",
    "mip_heuristic_run_root_reduced_cost",
)
"""Searches by sub-MIPs: few integers decide a fleet, and branching on them soon finds it. Without,
programs of 400 classes and of several models take about half the time."""
SOLVED = (highspy.HighsModelStatus.kOptimal, highspy.HighsModelStatus.kTimeLimit)


@dataclass(frozen=True)
class Mip:
    """min cost z with row_lower <= rows z <= row_upper, lower <= z <= upper, some z integer."""

    cost: Floats
    lower: Floats
    upper: Floats
    integer: Bools
    rows: sparse.csr_array
    row_lower: Floats
    row_upper: Floats

    def part(self, columns: Ints, rows: Ints) -> Mip:
        """The program of some columns and rows alone."""
        return Mip(
            self.cost[columns],
            self.lower[columns],
            self.upper[columns],
            self.integer[columns],
            sparse.csr_array(self.rows[rows][:, columns]),
            self.row_lower[rows],
            self.row_upper[rows],
        )

    def with_rows(self, rows: sparse.csr_array, lower: Floats) -> Mip:
        """The same with ``rows z >= lower`` added."""
        return replace(
            self,
            rows=sparse.csr_array(sparse.vstack([self.rows, rows])),
            row_lower=np.concatenate([self.row_lower, lower]),
            row_upper=np.concatenate([self.row_upper, np.full(len(lower), np.inf)]),
        )

    def relaxed(self) -> Mip:
        """The LP: the same with nothing integer."""
        return replace(self, integer=np.zeros_like(self.integer))

    def keeps(self, values: Floats) -> bool:
        """Whether values are inside every limit, independently of the solver."""
        activity = self.rows @ values
        slack = ROW_TOLERANCE * (1 + np.abs(activity))
        return bool(
            (activity >= self.row_lower - slack).all()
            and (activity <= self.row_upper + slack).all()
            and (values >= self.lower - ROW_TOLERANCE).all()
            and (values <= self.upper + ROW_TOLERANCE).all()
        )


@dataclass(frozen=True)
class Answer:
    """What HiGHS found: values (none without an answer), a proven bound, duals of a relaxation."""

    values: Floats | None
    objective: float
    bound: float
    duals: Floats
    infeasible: bool = False


def from_pulp(problem: pulp.LpProblem) -> Mip:
    """The arrays of a PuLP model, as PuLP hands it to HiGHS: columns in its variables' order."""
    solver = pulp.HiGHS(msg=False)
    solver.createAndConfigureSolver(problem)
    solver.buildSolverModel(problem)
    lp = problem.solverModel.getLp()
    matrix = (np.array(lp.a_matrix_.value_), np.array(lp.a_matrix_.index_), lp.a_matrix_.start_)
    shape = (lp.num_row_, lp.num_col_)
    by_column = lp.a_matrix_.format_ == highspy.MatrixFormat.kColwise
    build = sparse.csc_array if by_column else sparse.csr_array
    integer = [kind == highspy.HighsVarType.kInteger for kind in lp.integrality_]
    return Mip(
        np.array(lp.col_cost_),
        np.array(lp.col_lower_),
        np.array(lp.col_upper_),
        np.array(integer or [False] * lp.num_col_),
        sparse.csr_array(build(matrix, shape=shape)),
        np.array(lp.row_lower_),
        np.array(lp.row_upper_),
    )


def blocks(mip: Mip, linking: Bools) -> list[tuple[Ints, Ints]]:
    """Columns and rows of each part that only ``linking`` rows hold together."""
    own = np.flatnonzero(~linking)
    pattern = sparse.csr_array(abs(mip.rows[own]) > 0).astype(np.int8)
    corner = sparse.csr_array((len(own), len(own)), dtype=np.int8)
    other = sparse.csr_array((len(mip.cost), len(mip.cost)), dtype=np.int8)
    graph = sparse.vstack(
        [sparse.hstack([corner, pattern]), sparse.hstack([sparse.csr_array(pattern.T), other])]
    )
    count, label = connected_components(graph, directed=False)
    of_row, of_column = label[: len(own)], label[len(own) :]
    return [(np.flatnonzero(of_column == k), own[of_row == k]) for k in range(count)]


def linking_rows(mip: Mip, shares: Bools) -> tuple[Bools, int]:
    """Rows that hold together parts which would else be apart, ``[rows]``; how many parts serve.

    ``shares`` marks the columns that say who serves what: rows with one of them make the parts.
    Any other row links if it touches two parts; it joins what it touches to a part if not. Which
    rows are found decides how fast the program is solved apart, not what comes of it.
    """
    of_shares = np.asarray((abs(mip.rows) @ shares.astype(float)) > 0)
    part = _Parts(len(mip.cost))
    columns_of = np.split(mip.rows.indices.astype(np.int64), mip.rows.indptr[1:-1])
    for i in np.flatnonzero(of_shares):
        part.join(columns_of[i])
    part.served = {part.of(j) for j in np.flatnonzero(shares).tolist()}
    linking = np.zeros(len(mip.row_lower), dtype=bool)
    for i in np.flatnonzero(~of_shares):
        linking[i] = part.served_among(columns_of[i]) > 1
        if not linking[i]:
            part.join(columns_of[i])
    return linking, len(part.served)


class _Parts:
    """Disjoint sets of columns (Tarjan's union-find), some of which serve requests."""

    def __init__(self, columns: int) -> None:
        self._parent = list(range(columns))
        self.served: set[int] = set()

    def of(self, column: int) -> int:
        while self._parent[column] != column:
            self._parent[column] = self._parent[self._parent[column]]
            column = self._parent[column]
        return column

    def join(self, columns: Ints) -> None:
        roots = {self.of(j) for j in columns.tolist()}
        if len(roots) < 2:
            return
        first, *others = sorted(roots)
        for root in others:
            self._parent[root] = first
        if self.served & roots:
            self.served = self.served - roots | {first}

    def served_among(self, columns: Ints) -> int:
        return len({self.of(j) for j in columns.tolist()} & self.served)


class Solver:
    """HiGHS with one program in it, solved again and again with other costs."""

    def __init__(self, mip: Mip) -> None:
        self._mip = mip
        self._highs = highspy.Highs()
        for option, value in (
            ("output_flag", False),
            ("threads", 1),
            ("mip_feasibility_tolerance", INTEGER_TOLERANCE),
        ):
            self._highs.setOptionValue(option, value)
        for search in SEARCHES_LEFT_OUT:
            self._highs.setOptionValue(search, False)
        self._highs.passModel(highs_lp(mip))

    def solve(
        self,
        *,
        time_limit_s: float,
        gap: float = 0.0,
        cost: Floats | None = None,
        start: Floats | None = None,
    ) -> Answer:
        """The best values; a found answer that breaks a limit is tried again without presolve.

        HiGHS 1.15 has returned wrong optima of general-integer programs after presolve.
        """
        highs, n = self._highs, len(self._mip.cost)
        highs.clearSolver()
        highs.setOptionValue("time_limit", highs.getRunTime() + max(time_limit_s, 0.01))
        highs.setOptionValue("mip_rel_gap", gap)
        if cost is not None:
            highs.changeColsCost(n, np.arange(n, dtype=np.int32), cost)
        if start is not None:
            given = highspy.HighsSolution()
            given.col_value = start.tolist()
            highs.setSolution(given)
        answer = self._run()
        if answer.values is not None and not self._mip.keeps(answer.values):
            highs.clearSolver()
            highs.setOptionValue("presolve", "off")
            answer = self._run()
            highs.setOptionValue("presolve", "choose")
        return answer

    def _run(self) -> Answer:
        self._highs.run()
        status, info = self._highs.getModelStatus(), self._highs.getInfo()
        solution = self._highs.getSolution()
        mixed = bool(self._mip.integer.any())
        found = info.primal_solution_status == highspy.kSolutionStatusFeasible
        objective = float(info.objective_function_value) if found else np.inf
        bound = float(info.mip_dual_bound) if mixed else objective
        return Answer(
            values=self._rounded(np.array(solution.col_value)) if found else None,
            objective=objective,
            bound=bound if status in SOLVED else -np.inf,
            duals=np.array(solution.row_dual),
            infeasible=status == highspy.HighsModelStatus.kInfeasible,
        )

    def _rounded(self, values: Floats) -> Floats:
        rounded: Floats = np.where(self._mip.integer, np.round(values), values)
        return rounded


def highs_lp(mip: Mip) -> Any:
    lp = highspy.HighsLp()
    lp.num_row_, lp.num_col_ = mip.rows.shape
    lp.col_cost_, lp.col_lower_, lp.col_upper_ = mip.cost, mip.lower, mip.upper
    lp.row_lower_, lp.row_upper_ = mip.row_lower, mip.row_upper
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_ = mip.rows.indptr
    lp.a_matrix_.index_ = mip.rows.indices
    lp.a_matrix_.value_ = mip.rows.data
    if mip.integer.any():
        kinds = highspy.HighsVarType
        lp.integrality_ = [kinds.kInteger if i else kinds.kContinuous for i in mip.integer]
    return lp
