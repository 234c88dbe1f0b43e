"""From a problem to a plan: solve, set the single-type fleets beside it, say why others lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from placement.checking import violations
from placement.explain import tell
from placement.explanation import Prices
from placement.ilp import TimeLimitError, lp_bound_usd_per_hour, solve
from placement.plan import (
    Alternative,
    Cost,
    ExcludedClass,
    ExpectedQuality,
    NodePurchase,
    Plan,
    ReplicaGroup,
    Route,
    Targets,
)
from placement.prices import settled
from placement.problem import Floats, Option, Problem, exclude_unservable, load_matrix, lost_share
from placement.solution import Counts, Solution, priced
from profiler.errors import InfeasibleError


@dataclass(frozen=True)
class _Single:
    """The cheapest fleet of one GPU type: its solution, or why there is none."""

    gpu: str
    problem: Problem
    solution: Solution | None
    reason: str


def make_plan(
    problem: Problem,
    service: str,
    *,
    targets: Targets | None = None,
    time_limit_s: float = 30.0,
    gap: float = 1e-4,
    on_step: Callable[[str], None] = lambda _: None,
    plan_again: bool = False,
    found: Mix | None = None,
) -> Plan:
    """The cheapest plan for a problem, never dearer than the best single-type fleet.

    It comes with its explanation; with ``plan_again``, what each limit costs is found by planning
    again with the limit moved, beside the figure that the duals give. A mix ``found`` before, of
    this problem, is taken as it is.

    Raises:
        InfeasibleError: some limit cannot be kept; the message names it.
        TimeLimitError: neither the mix nor any single-type fleet was found in time.
    """
    problem = found.problem if found else without_unservable(problem)
    singles = []
    for gpu in problem.gpus:
        on_step(f"{gpu} alone")
        singles.append(_single(problem, gpu, time_limit_s, gap))
    on_step(f"the mix: {len(problem.classes)} request classes, {len(problem.options)} options")
    if found is None:
        best = _best(problem, singles, time_limit_s, gap)
        on_step("the reasons")
        best, prices = settled(problem, best)
    else:
        best, prices = _bounded(found), found.prices
        on_step("the reasons")
    plan = _assemble(problem, service, targets or Targets(), best, singles)
    plan = plan.model_copy(update={"prices": prices})

    def again(moved: Problem) -> Solution:
        return solve(moved, time_limit_s=time_limit_s, gap=gap, lp_bound=False)

    return tell(plan, problem, best, again if plan_again else None)


@dataclass(frozen=True)
class Mix:
    """The cheapest fleet for a problem, as a plan without alternatives and reasons."""

    problem: Problem
    solution: Solution
    prices: Prices
    plan: Plan


def mix(problem: Problem, service: str, *, time_limit_s: float = 30.0, gap: float = 1e-4) -> Mix:
    """The mix that `make_plan` would explain: much faster, for whoever tries many.

    The problem is one of which `without_unservable` has taken out what nothing can serve.

    Raises:
        InfeasibleError: some limit cannot be kept.
        TimeLimitError: no fleet was found in time.
    """
    best, prices = settled(
        problem, solve(problem, time_limit_s=time_limit_s, gap=gap, lp_bound=False)
    )
    return Mix(problem, best, prices, _assemble(problem, service, Targets(), best, []))


def _bounded(found: Mix) -> Solution:
    """A mix's solution with the bound of fractional replicas, which trying many goes without."""
    bound = min(lp_bound_usd_per_hour(found.problem), found.solution.objective_usd_per_hour)
    return replace(found.solution, lp_bound_usd_per_hour=bound)


def without_unservable(problem: Problem) -> Problem:
    """Take out what no option can serve, and hold the rest to a share that makes up for it.

    What is taken out misses the SLO. Of each stream at most half of what the strictest SLO
    forgives may go that way; the other half is left for the requests that are served.

    Raises:
        InfeasibleError: more than that cannot be served.
    """
    strictest = max([problem.slo_of(c).attainment for c in problem.classes], default=1.0)
    made_up_for = 0.0
    while True:
        problem = exclude_unservable(problem)
        lost = lost_share(problem)
        if lost > (1 - strictest) / 2:
            raise InfeasibleError(_too_much_lost(problem, lost, (1 - strictest) / 2))
        if lost <= made_up_for + 1e-12:
            return problem
        made_up_for = lost
        load_s = load_matrix(
            problem.classes, problem.options, problem.slo, served_share=1 - made_up_for
        )
        problem = replace(problem, load_s=load_s)


def _too_much_lost(problem: Problem, lost: float, allowed: float) -> str:
    worst = sorted(problem.excluded, key=lambda e: -e.request_class.rate_rps)[:3]
    lines = [f"  {e.request_class}: {e.reason}" for e in worst]
    misfits = [f"  {gpu}: {reason}" for gpu, rs in problem.misfits.items() for reason in rs]
    unhosted = {e.request_class.stream for e in worst} - {o.model for o in problem.options}
    return (
        f"no GPU type offered keeps the SLO for {lost:.1%} of the requests "
        f"(at most {allowed:.1%} may be left out):\n"
        + "\n".join(lines + (misfits if unhosted else []))
    )


def _best(problem: Problem, singles: list[_Single], time_limit_s: float, gap: float) -> Solution:
    """The mix, or the best single type where no mix was found in time or a gap left it dearer."""
    found = [w for s in singles if (w := _widened(problem, s)) is not None]
    cheapest = min(found, key=lambda s: s.preference, default=None)
    try:
        best = solve(problem, time_limit_s=time_limit_s, gap=gap)
    except TimeLimitError:
        if cheapest is None:
            raise
        bound = lp_bound_usd_per_hour(problem)
        return replace(cheapest, lower_bound_usd_per_hour=bound, lp_bound_usd_per_hour=bound)
    if cheapest is not None and cheapest.preference < best.preference:
        return replace(
            cheapest,
            lower_bound_usd_per_hour=min(
                best.lower_bound_usd_per_hour, cheapest.objective_usd_per_hour
            ),
            lp_bound_usd_per_hour=min(best.lp_bound_usd_per_hour, cheapest.objective_usd_per_hour),
            quality_bound=best.quality_bound,
        )
    return best


def _single(problem: Problem, gpu: str, time_limit_s: float, gap: float) -> _Single:
    alone = replace(problem.only(gpu), excluded=())
    if not alone.options:
        return _Single(gpu, alone, None, "; ".join(problem.misfits.get(gpu, ("not offered",))))
    unserved = exclude_unservable(alone).excluded
    if unserved:
        share = sum(e.request_class.rate_rps for e in unserved) / problem.rates_rps.sum()
        first = max(unserved, key=lambda e: e.request_class.rate_rps)
        reason = f"cannot serve {share:.2%} of requests, such as {first.request_class}: "
        return _Single(gpu, alone, None, reason + first.reason)
    try:
        found = solve(alone, time_limit_s=time_limit_s, gap=gap, lp_bound=False)
        return _Single(gpu, alone, found, "")
    except (InfeasibleError, TimeLimitError) as error:
        return _Single(gpu, alone, None, str(error))


def _widened(problem: Problem, single: _Single) -> Solution | None:
    """A single type's solution in the terms of the whole problem, if it keeps all its limits."""
    if single.solution is None:
        return None
    widened = priced(problem, *_whole(problem, single.gpu, single.solution), lower_bound=0.0)
    if violations(problem, widened):  # such as replicas of another type that there must be
        return None
    return replace(widened, quality_bound=single.solution.quality_bound)


def _whole(problem: Problem, gpu: str, alone: Solution) -> tuple[Counts, Floats]:
    """Replicas ``[options]`` and shares ``[classes, options]`` of a single type's solution."""
    columns = [j for j, o in enumerate(problem.options) if o.gpu == gpu]
    replicas = np.zeros(len(problem.options), dtype=np.int64)
    shares = np.zeros(problem.load_s.shape)
    replicas[columns], shares[:, columns] = alone.replicas, alone.shares
    return replicas, shares


def _assemble(
    problem: Problem, service: str, targets: Targets, best: Solution, singles: list[_Single]
) -> Plan:
    bought = {o.gpu for o, n in zip(problem.options, best.replicas, strict=True) if n}
    served = problem.classes
    tokens_per_s = sum(
        c.rate_rps * (c.bucket.input_tokens + c.bucket.output_tokens) for c in served
    )
    return Plan(
        service=service,
        slo=problem.slo,
        headroom=problem.headroom,
        targets=targets,
        cost=Cost(
            usd_per_hour=_money(best.usd_per_hour),
            usd_per_million_tokens=_money(best.usd_per_hour / (tokens_per_s * 3600 / 1e6)),
            lower_bound_usd_per_hour=_money(best.lower_bound_usd_per_hour),
            gap=_gap(best),
            lp_bound_usd_per_hour=_money(best.lp_bound_usd_per_hour),
            switching_usd_per_hour=_money(best.switching_usd_per_hour),
        ),
        quality=_quality(best),
        groups=_groups(problem, best),
        nodes=_nodes(problem, best),
        alternatives=tuple(_alternative(problem, s, best, bought) for s in singles),
        excluded=tuple(
            ExcludedClass(
                stream=e.request_class.stream,
                bucket=e.request_class.bucket,
                rate_rps=e.request_class.rate_rps,
                reason=e.reason,
            )
            for e in problem.excluded
        ),
        models={o.model: problem.models[o.model] for o in _used(problem, best)},
        gpus={o.gpu: problem.gpus[o.gpu] for o in _used(problem, best)},
        routes=_routes(problem, best),
        notes=problem.notes,
        router=problem.router,
    )


def _gap(best: Solution) -> float:
    return max(0.0, round(1 - best.lower_bound_usd_per_hour / best.objective_usd_per_hour, 6))


def _quality(best: Solution) -> ExpectedQuality | None:
    if best.quality is None:
        return None
    bound = best.quality_bound
    return ExpectedQuality(
        mean=round(min(best.quality, 1.0), 6),
        bound=None if bound is None else round(min(bound, 1.0), 6),
    )


def _nodes(problem: Problem, best: Solution) -> tuple[NodePurchase, ...]:
    return tuple(
        NodePurchase(
            gpu=s.gpu,
            market=s.market,
            region=s.region or None,
            gpus_per_node=s.node_gpus,
            nodes=int(count),
            usd_per_node_hour=_money(s.usd_per_node_hour),
        )
        for s, count in zip(problem.stocks, best.nodes, strict=True)
        if count
    )


def _used(problem: Problem, best: Solution) -> list[Option]:
    return [o for o, n in zip(problem.options, best.replicas, strict=True) if n]


def _groups(problem: Problem, best: Solution) -> tuple[ReplicaGroup, ...]:
    work = np.nansum(problem.rates_rps[:, None] * problem.load_s * best.shares, axis=0)
    return tuple(
        ReplicaGroup(
            name=o.name,
            market=o.market,
            replicas=int(n),
            usd_per_hour=_money(o.usd_per_hour),
            load=round(float(w / n), 4),
            region=o.region or None,
            node_gpus=o.node_gpus,
            profile=o.profile,
        )
        for o, n, w in zip(problem.options, best.replicas, work, strict=True)
        if n
    )


def _routes(problem: Problem, best: Solution) -> tuple[Route, ...]:
    return tuple(
        Route(
            stream=c.stream,
            bucket=c.bucket,
            rate_rps=c.rate_rps,
            difficulty=c.difficulty,
            slo=c.slo,
            shares={
                o.name: round(float(share), 6)
                for o, share in zip(problem.options, row, strict=True)
                if round(share, 6) > 0
            },
        )
        for c, row in zip(problem.classes, best.shares, strict=True)
    )


def _alternative(
    problem: Problem, single: _Single, best: Solution, bought: set[str]
) -> Alternative:
    chosen = single.gpu in bought
    if single.solution is None:
        return Alternative(gpu=single.gpu, chosen=chosen, reason=single.reason)
    cost = single.solution.usd_per_hour
    # what is running of other types is stopped, which the single type's own problem leaves out
    alone = priced(problem, *_whole(problem, single.gpu, single.solution), lower_bound=0.0)
    dearer = alone.objective_usd_per_hour / best.objective_usd_per_hour - 1
    reason = f"alone {dearer:+.1%}" + " with its moves" * bool(alone.switching_usd_per_hour)
    if best.quality_bound is not None:  # under a budget, fleets differ in quality first
        reason = f"{reason}, expected quality {single.solution.quality or 0.0:.4f}"
    elif chosen and dearer < 1e-9:
        reason = "this is the plan"
    if bought == {single.gpu}:
        reason = "this is the plan"
    options = single.problem.options
    return Alternative(
        gpu=single.gpu,
        chosen=chosen,
        usd_per_hour=_money(cost),
        switching_usd_per_hour=_money(alone.switching_usd_per_hour),
        replicas={
            o.name: int(n) for o, n in zip(options, single.solution.replicas, strict=True) if n
        },
        reason=reason,
    )


def _money(usd: float) -> float:
    return round(usd, 6)
