"""Why a plan is as it is, from a problem and its solution; pure functions, each a part of it.

What each GPU type is used for, why the others lost, what binds, and what moving a limit would
save. Figures from duals are of the LP relaxation (`placement.fractional`), and said to be.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from placement.explanation import Explanation, Loser, Use
from placement.fractional import NEGLIGIBLE, Fractional, cost_problem, fractional_optimum
from placement.limit_use import budget_use, limit_uses, share_of
from placement.marginals import Resolve, marginals, resolved
from placement.moved import with_replica_on
from placement.plan import Plan
from placement.problem import Floats, Option, Problem
from placement.solution import Solution
from placement.solver import TimeLimitError

LONG, SHORT = 1.4, 1 / 1.4
"""Mean tokens over those of all requests, from which they are called long or short."""


def explain(problem: Problem, solution: Solution, *, resolve: Resolve | None = None) -> Explanation:
    """The whole explanation.

    ``problem`` is without the classes that nothing can serve. With ``resolve``, which solves a
    problem, marginal values are also found by planning again with the limit moved.
    """
    budget = list(budget_use(problem, solution))
    problem = cost_problem(problem, solution.shares)
    fractional = fractional_optimum(problem)
    return Explanation(
        uses=tuple(uses(problem, solution)),
        losers=tuple(losers(problem, solution, fractional, resolve)),
        limits=(*limit_uses(problem, solution, fractional), *budget),
        marginals=tuple(marginals(problem, solution, fractional, resolve)),
    )


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
    rent = {gpu: _rent(problem, solution, gpu) for gpu in _rented(problem, solution)}
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
            request_share=share_of(part.sum(), rates.sum()),
            token_share=share_of(part.sum(axis=1) @ (inputs + outputs), tokens.sum()),
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
            saved, _ = resolved(solution, with_replica_on(problem, gpu), resolve)
            more = None if saved is None else -saved + 0.0
            loser = loser.model_copy(update={"forced_usd_per_hour": more})
        yield loser


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
    """Where not even one replica is allowed, or to be had."""
    if option.market == "spot" and problem.limits.spot_share == 0:
        return "spot.share allows none"
    stock = next((s for s in problem.stocks if s.pool == option.pool), None)
    if stock is None or stock.available is None or stock.available >= option.gpus:
        return ""
    few = "none" if stock.available == 0 else f"only {stock.available}"
    return f"{few} to be had"


def _price_reason(problem: Problem, option: Option, even: float, fraction: float) -> str:
    name, price = _describe(problem, option), option.usd_per_hour
    if even >= price * (1 - NEGLIGIBLE):
        if fraction > NEGLIGIBLE:
            return f"{name} at ${price:,.2f}/h pays only in part: {fraction:.2g} of one would do"
        return f"{name} at ${price:,.2f}/h would do as well as what is rented, no better"
    if even <= 0:
        return f"{name} would pay at no price"
    return f"{name} at ${price:,.2f}/h would pay at ${even:,.2f}/h ({even / price - 1:+.0%})"


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


def _rent(problem: Problem, solution: Solution, gpu: str) -> float:
    """What a type costs, $/h: its replicas, or the whole nodes they stand on."""
    by_replica = [(j, o) for j, o in _of(problem, gpu) if o.node_gpus == 1]
    nodes = [(k, s) for k, s in enumerate(problem.stocks) if s.gpu == gpu and s.node_gpus > 1]
    replicas = sum(o.usd_per_hour * int(solution.replicas[j]) for j, o in by_replica)
    return replicas + sum(s.usd_per_node_hour * int(solution.nodes[k]) for k, s in nodes)


def _rented(problem: Problem, solution: Solution) -> set[str]:
    return {o.gpu for o, n in zip(problem.options, solution.replicas, strict=True) if n}
