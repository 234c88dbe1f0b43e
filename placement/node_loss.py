"""Spare capacity for the loss of any one node: what is left must carry the load, re-routed at will.

For a fleet n and a node that takes w replicas of one option with it, shares y must exist with

    sum_r y_cr = 1,   sum_c rate_c load_cr y_cr <= h (n_r - w_r),   sum_c y_cr <= |C_r| (n_r - w_r)

with h the headroom allowed meanwhile. Rather than a copy of all shares per node that may be lost,
the program has only the rows that its answers were found to break: by linear duality (Benders) a
failing fleet yields a row in n and w that every surviving fleet keeps. No answer is worse for it.

A node is what is rented as one: a replica's own machine, or a whole node, which groups then do not
share. Quality is not asked for while a node is missing; a named model still answers its requests.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.optimize import linprog

from placement.model import Survival
from placement.problem import Floats, Problem
from placement.solution import Counts
from profiler.errors import OrchestratorError

TOLERANCE = 1e-6
DUST = 1e-12


def broken_survivals(problem: Problem, replicas: Counts) -> list[Survival]:
    """Rows that this fleet breaks, from every option whose lost node it does not survive.

    What prices the loss of one option's node is true of any other's, so a row stands for all.
    """
    if problem.limits.node_loss_headroom is None:
        return []
    recourse = _Recourse(problem)
    rows = []
    for j in np.flatnonzero(replicas):
        left = replicas.astype(float)
        left[j] -= min(replicas[j], problem.options[j].per_node)
        shortfall, constant, per_replica = recourse.solve(left)
        if shortfall > TOLERANCE:
            rows.append(Survival(constant, tuple(per_replica.tolist())))
    return rows


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


class _Recourse:
    """The least by which any routing exceeds what is left, and the price of each replica in it."""

    def __init__(self, problem: Problem) -> None:
        headroom = problem.limits.node_loss_headroom or 1.0
        rows, columns = np.nonzero(~np.isnan(problem.load_s))
        classes, options = problem.load_s.shape
        cells = np.arange(len(rows))
        work = problem.rates_rps[rows] * problem.load_s[rows, columns] / headroom
        reach = np.maximum(np.bincount(columns, minlength=options), 1)
        served = sparse.csr_matrix((np.ones(len(rows)), (rows, cells)), (classes, len(rows)))
        load = sparse.csr_matrix((work, (columns, cells)), (options, len(rows)))
        opened = sparse.csr_matrix((1 / reach[columns], (columns, cells)), (options, len(rows)))
        # Excesses of both kinds come after the shares.
        excess = -sparse.identity(2 * options, format="csr")
        self._upper = sparse.hstack([sparse.vstack([load, opened]), excess], format="csr")
        none = sparse.csr_matrix((classes, 2 * options))
        self._equal = sparse.hstack([served, none], format="csr")
        self._cost = np.concatenate([np.zeros(len(rows)), np.ones(2 * options)])
        self._options, self._classes = options, classes

    def solve(self, left: Floats) -> tuple[float, float, Floats]:
        """Least excess in replicas, and ``constant + per_replica . left``, which is that excess
        here and no more than it for any other fleet.
        """
        found = linprog(
            self._cost,
            A_ub=self._upper,
            b_ub=np.concatenate([left, left]),
            A_eq=self._equal,
            b_eq=np.ones(self._classes),
            method="highs",
        )
        if found.status != 0 or found.fun is None:
            raise OrchestratorError(f"the loss of a node could not be tried: {found.message}")
        prices = found.ineqlin.marginals
        per_replica = prices[: self._options] + prices[self._options :]
        per_replica[np.abs(per_replica) < DUST] = 0.0
        return float(found.fun), float(found.eqlin.marginals.sum()), per_replica
