"""What moving one limit a little would save: by the duals, and by planning again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from placement.explanation import Marginal
from placement.fractional import Fractional
from placement.moved import with_quality, with_slo, with_stock
from placement.problem import Problem
from placement.solution import Solution
from placement.solver import TimeLimitError
from profiler.errors import InfeasibleError

MORE_TTFT_S, MORE_TPOT_S, LESS_QUALITY = 0.1, 0.01, 0.01

Resolve = Callable[[Problem], Solution]


def marginals(
    problem: Problem, solution: Solution, fractional: Fractional, resolve: Resolve | None
) -> Iterator[Marginal]:
    """What one more accelerator of each bounded stock, a looser SLO or less quality would save."""
    for change, moved, shadow in _moves(problem, fractional):
        if resolve is None:
            yield Marginal(change=change, shadow_usd_per_hour=rounded(shadow))
            continue
        saved, note = resolved(solution, moved, resolve)
        yield Marginal(
            change=change,
            shadow_usd_per_hour=rounded(shadow),
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


def resolved(solution: Solution, moved: Problem, resolve: Resolve) -> tuple[float | None, str]:
    """What a moved problem costs less than the plan, $/h, or why it has no answer."""
    try:
        found = resolve(moved)
    except (InfeasibleError, TimeLimitError) as error:
        return None, str(error)
    return round(solution.objective_usd_per_hour - found.objective_usd_per_hour, 6) + 0.0, ""


def rounded(usd: float | None) -> float | None:
    """Dollars as plan files have them."""
    return None if usd is None else round(usd, 6)
