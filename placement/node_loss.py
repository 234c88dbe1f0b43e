"""Spare capacity for the loss of any one node: what is left must carry the load, re-routed at will.

For a fleet n and a node that takes w replicas of one option with it, shares y must exist with

    sum_r y_cr = 1,   sum_c rate_c load_cr y_cr <= h (n_r - w_r),   sum_c y_cr <= |C_r| (n_r - w_r)

with h the headroom allowed meanwhile. Rather than a copy of all shares per node that may be lost,
the program has only the rows that its answers were found to break: by linear duality (Benders) a
failing fleet yields a row in n and w that every surviving fleet keeps. No answer is worse for it.

Most rows are found beforehand with fleets of a program that has replicas but no shares: it takes
milliseconds, and the rows that its answers break are true of any program's.

A node is what is rented as one: a replica's own machine, or a whole node, which groups then do not
share. Quality is not asked for while a node is missing; a named model still answers its requests.
"""

from __future__ import annotations

import time

import highspy
import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from placement.apart import run_apart
from placement.mip import Ints, Mip, highs_lp
from placement.model import Survival, build
from placement.problem import Floats, Problem
from placement.solution import Counts
from profiler.errors import OrchestratorError

TOLERANCE = 1e-6
DUST = 1e-12
MOST_ROUNDS = 200
"""Fleets tried beforehand."""
EARLY_GAP = 1e-3
"""Relative gap of those: what their rows leave open is found with the whole program."""


def broken_survivals(problem: Problem, replicas: Counts) -> list[Survival]:
    """Rows that this fleet breaks, from every option whose lost node it does not survive.

    What prices the loss of one option's node is true of any other's, so a row stands for all.
    """
    return Losses(problem).broken(replicas)


class Losses:
    """The loss of each node of a fleet, tried on one fleet after another.

    Models that share no class are tried apart, and each row is of one model's replicas.
    """

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        headroom = problem.limits.node_loss_headroom
        self._per_node = np.array([o.per_node for o in problem.options], dtype=np.int64)
        alone = np.full(len(problem.options), headroom or 1.0)
        parts = [] if headroom is None else _parts(problem)
        self._after_loss = [_Recourse(problem, part, alone) for part in parts]
        self._before_loss = [_Recourse(problem, part, problem.usable) for part in parts]

    def broken(self, replicas: Counts) -> list[Survival]:
        """See `broken_survivals`."""
        rows = []
        for recourse in self._after_loss:
            for j in recourse.options[replicas[recourse.options] > 0]:
                left = replicas.astype(float)
                left[j] -= min(replicas[j], self._per_node[j])
                rows += recourse.broken(left, loses_node=True)
        return rows

    def found_early(self, known: list[Survival], deadline: float) -> list[Survival]:
        """Rows that fleets break which know nothing of shares, but for these rows themselves."""
        rows: list[Survival] = []
        if not self._after_loss:
            return rows
        for _ in range(MOST_ROUNDS):
            model = build(self._problem, survivals=[*known, *rows], shares=False)
            left_s = deadline - time.monotonic()
            outcome = run_apart(model.lp, time_limit_s=left_s, gap=EARLY_GAP)
            if outcome.status != "solved":
                break
            replicas = np.array([round(v.value() or 0) for v in model.replicas], dtype=np.int64)
            whole = replicas.astype(float)
            found = [
                row for part in self._before_loss for row in part.broken(whole, loses_node=False)
            ]
            found += self.broken(replicas)
            if not found:
                break
            rows += found
        return [row for row in rows if row.loses_node]


def sole_servers(problem: Problem) -> list[Survival]:
    """Rows to start from: of the options that some class can only be served by, one must be left.

    Of sets of options that hold one another only the smallest matter.
    """
    if problem.limits.node_loss_headroom is None:
        return []
    sets = {frozenset(np.flatnonzero(row).tolist()) for row in ~np.isnan(problem.load_s)}
    smallest = [s for s in sets if not any(other < s for other in sets)]
    options = range(len(problem.options))
    return [Survival(1.0, tuple(-float(r in s) for r in options)) for s in smallest]


def _parts(problem: Problem) -> list[tuple[Ints, Ints]]:
    """Classes and options of each part of the problem that no class holds to another."""
    rows, columns = np.nonzero(~np.isnan(problem.load_s))
    size = len(problem.classes) + len(problem.options)
    edges = (rows, len(problem.classes) + columns)
    graph = sparse.csr_array((np.ones(len(rows)), edges), shape=(size, size))
    _, label = connected_components(graph, directed=False)
    of_class, of_option = label[: len(problem.classes)], label[len(problem.classes) :]
    return [
        (np.flatnonzero(of_class == k), np.flatnonzero(of_option == k)) for k in np.unique(of_class)
    ]


class _Recourse:
    """The least by which any routing exceeds what is left, and the price of each replica in it.

    One LP, solved again for each fleet from where the last left it: only its limits change.
    """

    def __init__(self, problem: Problem, part: tuple[Ints, Ints], headroom: Floats) -> None:
        of_classes, self.options = part
        load_s = problem.load_s[np.ix_(*part)]
        rows, columns = np.nonzero(~np.isnan(load_s))
        classes, options = load_s.shape
        cells = np.arange(len(rows))
        work = problem.rates_rps[of_classes][rows] * load_s[rows, columns]
        work = work / headroom[self.options][columns]
        reach = np.maximum(np.bincount(columns, minlength=options), 1)
        load = sparse.csr_array((work, (columns, cells)), (options, len(rows)))
        opened = sparse.csr_array((1 / reach[columns], (columns, cells)), (options, len(rows)))
        served = sparse.csr_array((np.ones(len(rows)), (rows, cells)), (classes, len(rows)))
        # Excesses of both kinds come after the shares.
        excess = -sparse.eye_array(2 * options, format="csr")
        none = sparse.csr_array((classes, 2 * options))
        upper = sparse.hstack([sparse.vstack([load, opened]), excess])
        matrix = sparse.vstack([upper, sparse.hstack([served, none])])
        columns_of = len(rows) + 2 * options
        program = Mip(
            cost=np.concatenate([np.zeros(len(rows)), np.ones(2 * options)]),
            lower=np.zeros(columns_of),
            upper=np.full(columns_of, np.inf),
            integer=np.zeros(columns_of, dtype=bool),
            rows=sparse.csr_array(matrix),
            row_lower=np.concatenate([np.full(2 * options, -np.inf), np.ones(classes)]),
            row_upper=np.concatenate([np.zeros(2 * options), np.ones(classes)]),
        )
        self._count, self._all = options, len(problem.options)
        self._highs = highspy.Highs()
        self._highs.setOptionValue("output_flag", False)
        self._highs.setOptionValue("threads", 1)
        self._highs.passModel(highs_lp(program))

    def broken(self, left: Floats, *, loses_node: bool) -> list[Survival]:
        """The row that what is left breaks, if it does."""
        excess, constant, prices = self._solve(left[self.options])
        if excess <= TOLERANCE:
            return []
        per_replica = np.zeros(self._all)
        per_replica[self.options] = prices
        return [Survival(constant, tuple(per_replica.tolist()), loses_node)]

    def _solve(self, left: Floats) -> tuple[float, float, Floats]:
        """Least excess in replicas, and ``constant + per_replica . left``, which is that excess
        here and no more than it for any other fleet.
        """
        highs, limits = self._highs, 2 * self._count
        rows = np.arange(limits, dtype=np.int32)
        highs.changeRowsBounds(limits, rows, np.full(limits, -np.inf), np.concatenate([left, left]))
        highs.run()
        if highs.getModelStatus() != highspy.HighsModelStatus.kOptimal:
            highs.clearSolver()
            highs.run()
        status = highs.getModelStatus()
        if status != highspy.HighsModelStatus.kOptimal:
            reason = highs.modelStatusToString(status)
            raise OrchestratorError(f"the loss of a node could not be tried: {reason}")
        prices = np.array(highs.getSolution().row_dual)
        per_replica = prices[: self._count] + prices[self._count : limits]
        per_replica[np.abs(per_replica) < DUST] = 0.0
        found = float(highs.getInfo().objective_function_value)
        return found, float(prices[limits:].sum()), per_replica
