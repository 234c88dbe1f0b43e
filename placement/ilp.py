"""Solving a placement problem: the cheapest fleet, or the best one a budget buys.

`model` states the program, `solver` runs it, `checking` verifies every answer, `node_loss` adds
the rows of fleets that survive a lost node, `relaxing` says what would make a problem feasible.

With a budget the order is lexicographic: first the highest mean quality of the requests that leave
the model to the router, then the lowest cost at that quality.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

import numpy as np

from placement.apart import run_apart
from placement.checking import check, violations
from placement.model import Model, Objective, Survival, build
from placement.node_loss import Losses, sole_servers
from placement.plan import AUTO
from placement.problem import Floats, Problem
from placement.reduce import reduced, unreduced
from placement.relaxing import relaxations
from placement.solution import Counts, Solution, mean_quality, priced
from placement.solver import Outcome, Runner, TimeLimitError, fractions, run_highs, values
from profiler.errors import InfeasibleError, OrchestratorError

__all__ = ["Solution", "TimeLimitError", "check", "lp_bound_usd_per_hour", "solve"]

AT_THAT_QUALITY = 1e-6
"""Mean quality that may be given up for a lower cost, under a budget."""

SAME = 1e-6
"""Relative difference of two costs that are one."""


def solve(
    problem: Problem,
    *,
    time_limit_s: float = 30.0,
    gap: float = 1e-4,
    lp_bound: bool = True,
    run: Runner = run_apart,
) -> Solution:
    """The cheapest fleet; without ``lp_bound`` the MIP's own bound stands in for the LP's.

    Solved without the options and classes that no answer needs (`reduce`). Every answer is checked
    against the whole problem. One that fails, and a claim that there is none, is solved again,
    unreduced and without presolve, whose reductions have been at fault in HiGHS before.

    Raises:
        InfeasibleError: no fleet keeps every limit; names those that bind and by how much.
        TimeLimitError: no answer was found in time.
        OrchestratorError: no answer passed the check: a bug in the solver or in the model.
    """
    if problem.limits.quality_mean and problem.quality is None:
        raise OrchestratorError("a quality target needs the quality of each option")
    deadline = time.monotonic() + time_limit_s
    broken: list[str] = []
    for presolve, part in ((True, reduced(problem)), (False, unreduced(problem))):
        search = _Search(part.problem, deadline, gap, presolve, run)
        solution = search.best()
        if solution is None:
            continue
        broken = violations(problem, part.widened(solution))
        if not broken and lp_bound:
            solution, broken = search.bounded(solution)
        if not broken:
            return part.widened(solution)
    if broken:
        raise OrchestratorError(f"the solver's answer breaks its own limits: {'; '.join(broken)}")
    found = relaxations(problem, time_limit_s=time_limit_s)
    raise InfeasibleError("the limits that bind: " + "; or ".join(str(r) for r in found))


def lp_bound_usd_per_hour(problem: Problem, *, time_limit_s: float = 30.0) -> float:
    """What the fleet would cost if replicas and nodes could be bought in fractions.

    Raises:
        TimeLimitError: not found in time.
    """
    outcome = run_highs(build(problem, relax=True).lp, time_limit_s=time_limit_s)
    if outcome.status != "solved":
        raise TimeLimitError(f"no lower bound found in {time_limit_s:g} s; raise --time-limit")
    return outcome.bound


@dataclass
class _Search:
    """One way through: solve, add the rows that the fleet was found to break, solve again."""

    problem: Problem
    deadline: float
    gap: float
    presolve: bool
    run: Runner
    survivals: list[Survival] = field(init=False)
    losses: Losses = field(init=False)
    quality_at_least: float | None = None

    def __post_init__(self) -> None:
        self.survivals, self.losses = sole_servers(self.problem), Losses(self.problem)
        halfway = (self.deadline + time.monotonic()) / 2
        self.survivals += self.losses.found_early(self.survivals, halfway)

    def best(self) -> Solution | None:
        """The answer, not yet checked; None where the solver says that there is none."""
        problem, best_quality = self.problem, None
        if problem.limits.budget_usd_per_hour is not None and self._has_quality():
            first = self._solved("quality")
            if first is None:
                return None
            reached = mean_quality(problem, first[1]) or 0.0
            self.quality_at_least = reached - AT_THAT_QUALITY
            best_quality = max(-first[2].bound, reached)
        found = self._solved("cost")
        if found is None:
            return None
        replicas, shares, outcome = found
        answer = priced(problem, replicas, shares, lower_bound=outcome.bound)
        return replace(answer, quality_bound=best_quality)

    def bounded(self, solution: Solution) -> tuple[Solution, list[str]]:
        """The answer with the LP's bound, and whether a fleet rounded up from the LP is cheaper
        than what the solver claims no fleet to be.
        """
        model = self._model("cost", relax=True)
        outcome = self._run(model)
        if outcome.status != "solved":  # out of time: the bound of the MIP holds for both
            return solution, []
        bounded = replace(solution, lp_bound_usd_per_hour=outcome.bound)
        counts, shares = fractions(self.problem, model)
        whole = np.ceil(counts - SAME).astype(np.int64)
        rounded = priced(self.problem, whole, shares, lower_bound=0.0)
        claimed = solution.lower_bound_usd_per_hour * (1 - SAME) - SAME
        if rounded.objective_usd_per_hour < claimed and not violations(self.problem, rounded):
            return bounded, ["a fleet below the claimed lower bound exists"]
        return bounded, violations(self.problem, bounded)

    def _has_quality(self) -> bool:
        known = self.problem.quality is not None
        return known and any(c.stream == AUTO for c in self.problem.classes)

    def _solved(self, objective: Objective) -> tuple[Counts, Floats, Outcome] | None:
        while True:
            model = self._model(objective)
            outcome = self._run(model)
            if outcome.status == "infeasible":
                return None
            if outcome.status == "no answer":
                raise TimeLimitError("no plan found in time; raise --time-limit")
            replicas, shares = values(self.problem, model)
            broken = self.losses.broken(replicas)
            if not broken:
                return replicas, shares, outcome
            self.survivals += broken
            if time.monotonic() > self.deadline:
                raise TimeLimitError("no plan found in time that survives a node's loss")

    def _model(self, objective: Objective, *, relax: bool = False) -> Model:
        return build(
            self.problem,
            relax=relax,
            objective=objective,
            quality_at_least=self.quality_at_least,
            survivals=self.survivals,
        )

    def _run(self, model: Model) -> Outcome:
        left = max(self.deadline - time.monotonic(), 0.1)
        return self.run(model.lp, time_limit_s=left, gap=self.gap, presolve=self.presolve)
