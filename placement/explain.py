"""Why a plan is as it is, from a problem and its solution; pure functions, each a part of it.

What each GPU type is used for, why the others lost, what binds, and what moving a limit would
save. Figures from duals are of the LP relaxation (`placement.fractional`), and said to be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from placement.checking import violations
from placement.explanation import Explanation, LimitUse, Loser, Marginal, Prices, Use
from placement.fractional import Fractional, cost_problem, fractional_optimum
from placement.moved import with_quality, with_replica_on, with_slo, with_stock
from placement.plan import Plan
from placement.prices import fleet_prices, mean_quality, qualities, quality_rows, to_plan
from placement.problem import Floats, Option, Problem, Stock
from placement.solution import Solution
from placement.solution import mean_quality as mean_quality_of
from placement.solver import DUST, TimeLimitError
from profiler.errors import InfeasibleError

LONG, SHORT = 1.4, 1 / 1.4
"""Mean tokens over those of all requests, from which they are called long or short."""

NOTHING = 1e-6
FULL = 0.995
"""Part of the headroom from which a group is called full."""

SIDES = {"min": "least", "max": "most"}
MORE_TTFT_S, MORE_TPOT_S, LESS_QUALITY = 0.1, 0.01, 0.01

Resolve = Callable[[Problem], Solution]


def explain(problem: Problem, solution: Solution, *, resolve: Resolve | None = None) -> Explanation:
    """The whole explanation.

    ``problem`` is without the classes that nothing can serve. With ``resolve``, which solves a
    problem, marginal values are also found by planning again with the limit moved.
    """
    budget = list(_budget(problem, solution))
    problem = cost_problem(problem, solution.shares)
    fractional = fractional_optimum(problem)
    return Explanation(
        uses=tuple(uses(problem, solution)),
        losers=tuple(losers(problem, solution, fractional, resolve)),
        limits=(*limits(problem, solution, fractional), *budget),
        marginals=tuple(marginals(problem, solution, fractional, resolve)),
    )


def settled(problem: Problem, solution: Solution) -> tuple[Solution, Prices]:
    """The fleet with the assignment that its own prices imply, and those prices.

    Of the many assignments that a fleet allows a solver returns any; this one takes the least
    rent's worth of capacity, and it is what a router does that goes by the prices.
    """
    found = fleet_prices(problem, solution.replicas, solution.shares)
    clean = np.where(found.shares < DUST, 0.0, found.shares)
    shares = clean / clean.sum(axis=1, keepdims=True)
    quality = None if solution.quality is None else mean_quality_of(problem, shares)
    better = replace(solution, shares=shares, quality=quality)
    kept = solution if violations(problem, better) else better
    return kept, to_plan(problem, found)


def tell(plan: Plan, problem: Problem, solution: Solution, resolve: Resolve | None) -> Plan:
    """The plan with its explanation; without where time ran out."""
    try:
        told = explain(problem, solution, resolve=resolve)
    except TimeLimitError:
        return plan
    return plan.model_copy(update={"explanation": told})


def uses(problem: Problem, solution: Solution) -> Iterator[Use]:
    """What each GPU type that is rented serves, most dollars first."""
    rates = problem.rates_rps[:, None] * solution.shares
    inputs = np.array([c.bucket.input_tokens for c in problem.classes])
    outputs = np.array([c.bucket.output_tokens for c in problem.classes])
    overall = _means(rates, inputs, outputs)
    several = len({o.model for o in problem.options}) > 1
    rent = {
        gpu: sum(o.usd_per_hour * int(solution.replicas[j]) for j, o in _of(problem, gpu))
        for gpu in _rented(problem, solution)
    }
    for gpu in sorted(rent, key=lambda g: -rent[g]):
        used = [j for j, _ in _of(problem, gpu) if solution.replicas[j]]
        part = rates[:, used]
        means = _means(part, inputs, outputs)
        words = _size_words(means, overall, alone=len(rent) == 1)
        if several:
            models = dict.fromkeys(problem.options[j].model for j in used if rates[:, j].sum() > 0)
            words = f"{' and '.join(models)}: {words}" if models else "spare replicas"
        tokens = rates.sum(axis=1) * (inputs + outputs)
        yield Use(
            gpu=gpu,
            groups=tuple(problem.options[j].name for j in used),
            usd_per_hour=round(rent[gpu], 6),
            request_share=_share(part.sum(), rates.sum()),
            token_share=_share(part.sum(axis=1) @ (inputs + outputs), tokens.sum()),
            input_tokens=round(means[0], 1),
            output_tokens=round(means[1], 1),
            words=words,
        )


def losers(
    problem: Problem, solution: Solution, fractional: Fractional, resolve: Resolve | None
) -> Iterator[Loser]:
    """Why each GPU type that is not rented is not."""
    rented = _rented(problem, solution)
    for gpu in problem.gpus:
        if gpu in rented:
            continue
        loser = _loser(problem, gpu, fractional)
        if resolve is not None and loser.option is not None:
            saved, _ = _resolved(solution, with_replica_on(problem, gpu), resolve)
            more = None if saved is None else -saved + 0.0
            loser = loser.model_copy(update={"forced_usd_per_hour": more})
        yield loser


def limits(problem: Problem, solution: Solution, fractional: Fractional) -> Iterator[LimitUse]:
    """Every limit that the plan touches or might, and whether it binds."""
    yield from _headrooms(problem, solution)
    yield from _stocks(problem, solution, fractional)
    yield from _qualities(problem, solution, fractional)
    yield from _others(problem, solution, fractional)


def marginals(
    problem: Problem, solution: Solution, fractional: Fractional, resolve: Resolve | None
) -> Iterator[Marginal]:
    """What one more accelerator of each bounded stock, a looser SLO or less quality would save."""
    for change, moved, shadow in _moves(problem, fractional):
        if resolve is None:
            yield Marginal(change=change, shadow_usd_per_hour=_rounded(shadow))
            continue
        saved, note = _resolved(solution, moved, resolve)
        yield Marginal(
            change=change,
            shadow_usd_per_hour=_rounded(shadow),
            # What the limit allowed it allows still; a dearer answer is the solver's gap.
            resolved_usd_per_hour=None if saved is None else max(saved, 0.0),
            note=note,
        )


def _moves(problem: Problem, fractional: Fractional) -> Iterator[tuple[str, Problem, float | None]]:
    """Each change, the problem with it, and the most it could save by the duals."""
    for k, stock in enumerate(problem.stocks):
        if stock.available is None or not any(o.pool == stock.pool for o in problem.options):
            continue
        more = stock.node_gpus
        price = fractional.duals.get(f"stock_{k}", 0.0) * more
        unit = f"one more node of {more} x {stock.gpu}" if more > 1 else f"one more {stock.gpu}"
        market = " on spot" if stock.market == "spot" else ""
        where = f" in {stock.region}" if stock.region else ""
        yield f"{unit}{market}{where}", with_stock(problem, stock, stock.available + more), price
    ttft = with_slo(problem, lambda s: s.model_copy(update={"ttft_s": s.ttft_s + MORE_TTFT_S}))
    tpot = with_slo(problem, lambda s: s.model_copy(update={"tpot_s": s.tpot_s + MORE_TPOT_S}))
    for name, moved in (
        (f"{MORE_TTFT_S * 1e3:g} ms more TTFT", ttft),
        (f"{MORE_TPOT_S * 1e3:g} ms more TPOT", tpot),
    ):
        yield name, moved, fractional.saving_usd_per_hour(problem, moved.load_s)
    for s, (stream, mean) in enumerate(problem.limits.quality_mean.items()):
        of = "" if len(problem.limits.quality_mean) == 1 else f" of {stream}"
        price = fractional.duals.get(f"quality_{s}", 0.0) * LESS_QUALITY
        yield (
            f"{LESS_QUALITY:g} less mean quality{of}",
            with_quality(problem, stream, max(mean - LESS_QUALITY, 0.0)),
            price,
        )

    if problem.limits.node_loss_headroom is not None:
        limits = replace(problem.limits, node_loss_headroom=None)
        yield "no spare for a lost node", replace(problem, limits=limits), None


def _resolved(solution: Solution, moved: Problem, resolve: Resolve) -> tuple[float | None, str]:
    try:
        found = resolve(moved)
    except (InfeasibleError, TimeLimitError) as error:
        return None, str(error)
    return round(solution.objective_usd_per_hour - found.objective_usd_per_hour, 6) + 0.0, ""


def _loser(problem: Problem, gpu: str, fractional: Fractional) -> Loser:
    options = _of(problem, gpu)
    if not options:
        return Loser(gpu=gpu, reason="; ".join(problem.misfits.get(gpu, ("not offered",))))
    able = [(j, o) for j, o in options if not np.isnan(problem.load_s[:, j]).all()]
    if not able:
        return Loser(gpu=gpu, reason="serves no size of request inside the SLO")
    even = fractional.break_even_usd_per_hour
    j, option = max(able, key=lambda jo: even[jo[0]] / jo[1].usd_per_hour)
    return Loser(
        gpu=gpu,
        option=option.name,
        usd_per_hour=round(option.usd_per_hour, 6),
        worth_usd_per_hour=round(max(float(even[j]), 0.0), 6),
        reason=_stock_reason(problem, option)
        or _price_reason(problem, option, float(even[j]), float(fractional.replicas[j])),
    )


def _stock_reason(problem: Problem, option: Option) -> str:
    """Where there are too few to be had for even one replica."""
    stock = next((s for s in problem.stocks if s.pool == option.pool), None)
    if stock is None or stock.available is None or stock.available >= option.gpus:
        return ""
    few = "none" if stock.available == 0 else f"only {stock.available}"
    return f"{few} to be had"


def _price_reason(problem: Problem, option: Option, even: float, fraction: float) -> str:
    name, price = _describe(problem, option), option.usd_per_hour
    if even >= price * (1 - NOTHING):
        if fraction > NOTHING:
            return f"{name} at ${price:,.2f}/h pays only in part: {fraction:.2g} of one would do"
        return f"{name} at ${price:,.2f}/h would do as well as what is rented, no better"
    if even <= 0:
        return f"{name} would pay at no price"
    return f"{name} at ${price:,.2f}/h would pay at ${even:,.2f}/h ({even / price - 1:+.0%})"


def _headrooms(problem: Problem, solution: Solution) -> Iterator[LimitUse]:
    used = np.nansum(problem.rates_rps[:, None] * problem.load_s * solution.shares, axis=0)
    for option, n, work, usable in zip(
        problem.options, solution.replicas, used, problem.usable, strict=True
    ):
        if n:
            load = float(work / n)
            full = load >= usable * FULL
            yield LimitUse(
                limit=f"headroom of {option.name}",
                used=round(load, 6),
                allowed=float(usable),
                binds=full,
                words=f"{option.name} is planned at {load:.0%} of saturation, {usable:.0%} allowed",
            )


def _stocks(problem: Problem, solution: Solution, fractional: Fractional) -> Iterator[LimitUse]:
    for k, stock in enumerate(problem.stocks):
        options = [(j, o) for j, o in enumerate(problem.options) if o.pool == stock.pool]
        if stock.available is None or not options:
            continue
        used = _used(stock, options, solution)
        price = fractional.duals.get(f"stock_{k}", 0.0)
        left = stock.available - used
        binds = price > NOTHING or (used > 0 and left < min(o.gpus for _, o in options))
        yield LimitUse(
            limit=f"stock of {stock.pool}",
            used=used,
            allowed=stock.available,
            binds=binds,
            words=f"{used} of {stock.available} {stock.pool} in use",
        )


def _used(stock: Stock, options: list[tuple[int, Option]], solution: Solution) -> int:
    gpus = sum(o.slot_gpus * int(solution.replicas[j]) for j, o in options)
    return -(-gpus // stock.node_gpus) * stock.node_gpus


def _qualities(problem: Problem, solution: Solution, fractional: Fractional) -> Iterator[LimitUse]:
    streams = list(problem.limits.quality_mean)
    for row in quality_rows(problem):
        reached = mean_quality(problem, solution.shares, row)
        of = "" if row.name == "auto" else f" of {row.name}"
        name = (
            f"floor_{int(np.argmax(row.members))}"
            if row.is_floor
            else (f"quality_{streams.index(row.name)}")
        )
        price = fractional.duals.get(name, 0.0)
        yield LimitUse(
            limit=f"{'quality floor' if row.is_floor else 'mean quality'}{of}",
            used=round(reached, 6),
            allowed=row.target,
            binds=price > NOTHING,
            words=f"quality{of} is {reached:.3f}, at least {row.target:.3f} asked",
        )


def _others(problem: Problem, solution: Solution, fractional: Fractional) -> Iterator[LimitUse]:
    """The spot share and the bounds on replicas."""
    held = solution.replicas
    cap = problem.limits.spot_share
    if cap is not None:
        gpus = np.array([o.gpus for o in problem.options]) * held
        spot = np.array([o.market == "spot" for o in problem.options])
        share = _share(float(gpus[spot].sum()), float(gpus.sum()))
        yield LimitUse(
            limit="spot share",
            used=share,
            allowed=cap,
            binds=fractional.duals.get("spot_share", 0.0) > NOTHING,
            words=f"{share:.0%} of accelerators on spot, {cap:.0%} allowed",
        )
    for b, bound in enumerate(problem.limits.replicas):
        count = sum(int(n) for n, o in zip(held, problem.options, strict=True) if bound.covers(o))
        for side, value in (("min", bound.minimum), ("max", bound.maximum)):
            if (not value and side == "min") or value is None:
                continue
            dual = fractional.duals.get(f"replicas_{side}_{b}", 0.0)
            yield LimitUse(
                limit=f"replicas.{side} of {bound}",
                used=count,
                allowed=value,
                binds=dual > NOTHING,
                words=f"{count} replicas of {bound}, at {SIDES[side]} {value}",
            )


def _budget(problem: Problem, solution: Solution) -> Iterator[LimitUse]:
    budget = problem.limits.budget_usd_per_hour
    if budget is None:
        return
    best = qualities(problem)[~np.isnan(problem.load_s)].max(initial=0.0)
    binds = solution.quality is not None and solution.quality < best - NOTHING
    yield LimitUse(
        limit="budget",
        used=round(solution.usd_per_hour, 6),
        allowed=budget,
        binds=binds,
        words=f"${solution.usd_per_hour:,.2f}/h of a budget of ${budget:,.2f}/h",
    )


def _means(rates: Floats, inputs: Floats, outputs: Floats) -> tuple[float, float]:
    per_class = rates.sum(axis=1)
    total = per_class.sum() or 1.0
    return float(per_class @ inputs / total), float(per_class @ outputs / total)


def _size_words(means: tuple[float, float], overall: tuple[float, float], *, alone: bool) -> str:
    if alone:
        return "all requests"
    words = []
    for what, mean, usual in zip(("prompts", "answers"), means, overall, strict=True):
        ratio = mean / usual if usual else 1.0
        size = "long" if ratio >= LONG else "short" if ratio <= SHORT else ""
        words += [f"{size} {what}"] if size else []
    return ", ".join(words) or "requests of every size"


def _describe(problem: Problem, option: Option) -> str:
    several = len({o.model for o in problem.options}) > 1
    spot = " on spot" if option.market == "spot" else ""
    return f"{option.gpus} x {option.gpu}{spot}{f' with {option.model}' if several else ''}"


def _of(problem: Problem, gpu: str) -> list[tuple[int, Option]]:
    return [(j, o) for j, o in enumerate(problem.options) if o.gpu == gpu]


def _rented(problem: Problem, solution: Solution) -> set[str]:
    return {o.gpu for o, n in zip(problem.options, solution.replicas, strict=True) if n}


def _rounded(usd: float | None) -> float | None:
    return None if usd is None else round(usd, 6)


def _share(part: float, whole: float) -> float:
    return round(min(max(float(part) / float(whole), 0.0), 1.0), 6) if whole else 0.0
