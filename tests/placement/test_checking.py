"""The check finds every kind of limit broken, and a wrong answer is solved again or refused."""

from dataclasses import replace

import numpy as np
import pytest

from placement.checking import check, violations
from placement.ilp import solve
from placement.limits import Limits, ReplicaBound, Switching
from placement.problem import Stock
from placement.solution import priced
from placement.solver import Outcome, run_highs
from profiler.errors import InfeasibleError, OrchestratorError
from tests.placement.problems import loaded, option

OPTIONS = (option("A", 2.0), option("A", 1.0, market="spot"))
NODE = Stock("N", "on_demand", 8, node_gpus=8, usd_per_node_hour=8.0)
MOVING = Switching({}, start_usd=6.0, horizon_h=2.0)


def answer(problem, replicas, shares):
    return priced(problem, np.array(replicas), np.array(shares, float), lower_bound=0.0)


def problem(limits=None, **kwargs):
    return loaded(OPTIONS, rates=(2.0,), limits=limits or Limits(), **kwargs)


@pytest.mark.parametrize(
    ("p", "replicas", "shares", "found"),
    [
        (problem(), [1, 0], [[0.5, 0.0]], "shares do not sum to one"),
        (problem(), [0, 2], [[-0.5, 1.5]], "shares do not sum to one"),
        (problem(load_s=[[1, np.nan]]), [2, 2], [[0.5, 0.5]], "where it cannot be served"),
        (problem(), [1, 0], [[1, 0]], "above its headroom"),
        (problem(headroom=0.9), [2, 0], [[1, 0]], "above its headroom"),
        (problem(Limits(spot_reserve=0.1)), [0, 2], [[0, 1]], "above its headroom"),
        (problem(load_s=1e-9), [1, 0], [[0.5, 0.5]], "a group of no replicas"),
        (problem(stocks=(Stock("A", "spot", 1),)), [0, 2], [[0, 1]], "more A (spot) than offered"),
        (problem(Limits(spot_share=0.4)), [1, 1], [[0.5, 0.5]], "1 of 2 accelerators on spot"),
        (problem(Limits(replicas=(ReplicaBound(3, 4),))), [2, 0], [[1, 0]], "2 replicas of all"),
        (problem(Limits(replicas=(ReplicaBound(0, 1),))), [2, 0], [[1, 0]], "2 replicas of all"),
        (problem(Limits(budget_usd_per_hour=3.0)), [2, 0], [[1, 0]], "$4.00/h of a budget of $3"),
        (problem(Limits(node_loss_headroom=1.0)), [2, 0], [[1, 0]], "the loss of one node"),
        (
            problem(Limits(quality_mean={"auto": 0.8}), quality=[0.9, 0.5]),
            [1, 1],
            [[0.5, 0.5]],
            "mean quality of auto short by 0.1000",
        ),
    ],
)
def test_a_broken_limit_is_found_and_no_other(p, replicas, shares, found):
    (broken,) = violations(p, answer(p, replicas, shares))
    assert found in broken
    with pytest.raises(OrchestratorError, match="breaks its own limits"):
        check(p, answer(p, replicas, shares))


def test_a_class_below_its_floor_is_found():
    p = problem(quality=[0.9, 0.5])
    p = replace(p, classes=(replace(p.classes[0], quality_floor=0.8),))
    (broken,) = violations(p, answer(p, [1, 1], [[0.5, 0.5]]))
    assert "short by 0.1000" in broken


def test_nodes_too_few_or_too_many_are_found():
    p = loaded((option("N", 1.0, node_gpus=8),), rates=(9.0,), stocks=(NODE,))
    too_many = answer(p, [9], [[1]])
    assert violations(p, too_many) == ["more N (on-demand, nodes of 8) than offered"]
    few = replace(too_many, nodes=np.array([1]))
    assert "replicas do not fit into the nodes bought" in violations(p, few)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"usd_per_hour": 3.0}, "it costs $4.000000/h, not $3.000000/h"),
        ({"switching_usd_per_hour": 0.0}, "moving costs $6.000000/h, not $0.000000/h"),
        ({"lower_bound_usd_per_hour": 11.0}, "less than its own lower bound"),
        ({"lp_bound_usd_per_hour": 11.0}, "less than its own lower bound"),
    ],
)
def test_a_wrong_figure_is_found(change, found):
    p = problem(Limits(switching=MOVING))
    right = answer(p, [2, 0], [[1, 0]])
    assert violations(p, right) == []
    (broken,) = violations(p, replace(right, **change))
    assert found in broken


class Faulty:
    """HiGHS whose presolve is at fault, or that always is; ``calls`` tells how it was run."""

    def __init__(self, spoil, always=False):
        self.spoil, self.always, self.calls = spoil, always, []

    def __call__(self, lp, *, time_limit_s, gap, presolve):
        self.calls.append(presolve)
        outcome = run_highs(lp, time_limit_s=time_limit_s, gap=gap, presolve=presolve)
        return self.spoil(lp, outcome) if presolve or self.always else outcome


def one_replica_less(lp, outcome):
    for variable in lp.variables():
        if variable.name.startswith("n_") and variable.varValue:
            variable.varValue -= 1
    return outcome


def none_there_is(lp, outcome):
    return Outcome("infeasible")


def twice_the_cost(lp, outcome):
    """A worse answer claimed to be the best there is."""
    if not lp.isMIP():
        return outcome
    for variable in lp.variables():
        if variable.name.startswith("n_"):
            variable.varValue *= 2
    return Outcome(outcome.status, 2 * outcome.bound)


@pytest.mark.parametrize("spoil", [one_replica_less, none_there_is, twice_the_cost])
def test_a_wrong_answer_is_solved_again_without_presolve(spoil):
    p = problem()
    faulty = Faulty(spoil)
    assert solve(p, run=faulty).usd_per_hour == solve(p).usd_per_hour == 2.0
    assert faulty.calls[0] is True
    assert faulty.calls[-1] is False


def test_an_answer_wrong_both_times_is_a_bug_and_says_so():
    with pytest.raises(OrchestratorError, match="above its headroom") as caught:
        solve(problem(), run=Faulty(one_replica_less, always=True))
    assert caught.value.exit_code == 1


def test_a_problem_that_has_no_answer_is_tried_both_ways_before_it_is_called_so():
    faulty = Faulty(lambda lp, outcome: outcome)
    with pytest.raises(InfeasibleError):
        solve(problem(stocks=tuple(Stock("A", m, 0) for m in ("on_demand", "spot"))), run=faulty)
    assert faulty.calls == [True, False]
