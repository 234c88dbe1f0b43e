"""Routers compared on the same splits: means, spreads, and leads over baselines with intervals.

Random, prompt length, best single model, zero router and oracle are always in the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from profiler.errors import InputError
from serve_apps.router.estimates import Estimates
from serve_apps.router.evaluation import metrics
from serve_apps.router.evaluation.bootstrap import Difference, Rows, paired_bootstrap
from serve_apps.router.evaluation.comparison import SHARES, Comparison, Figure, Row
from serve_apps.router.evaluation.contenders import LENGTH, RANDOM, Contender
from serve_apps.router.evaluation.metrics import Curve, Floats
from serve_apps.router.evaluation.reliability import brier, ece
from serve_apps.router.evaluation.splits import Split
from serve_apps.router.outcomes import Outcomes


@dataclass(frozen=True)
class TokenCost:
    """Cost per (input, output) token of each model, in any one unit."""

    rates: Mapping[str, tuple[float, float]]

    def of(self, models: Sequence[str], inputs: Floats, outputs: Floats) -> Floats:
        """``[prompts, models]``; unknown input lengths count as none.

        Raises:
            InputError: a model has no rate, or an output length is unknown.
        """
        missing = [m for m in models if m not in self.rates]
        if missing:
            raise InputError(f"cost: found no rate for {missing[0]!r}; give one per token")
        if not np.isfinite(outputs).all():
            raise InputError("cost: found answers of unknown length; expected output tokens")
        per_input, per_output = np.array([self.rates[m] for m in models]).T
        return np.asarray(np.nan_to_num(inputs) * per_input + outputs * per_output)


@dataclass(frozen=True)
class _Tested:
    """One contender on one split."""

    curve: Curve
    figures: Mapping[str, float]
    metric: Callable[[Rows], float]


def complete(outcomes: Outcomes) -> Outcomes:
    """The prompts that every model has answered.

    Raises:
        InputError: there are none.
    """
    kept = np.flatnonzero(np.isfinite(outcomes.score).all(axis=1))
    if not kept.size:
        raise InputError(f"found no prompt answered by all of {', '.join(outcomes.models)}")
    return outcomes.rows(kept)


def compare_pair(
    outcomes: Outcomes,
    weak: str,
    strong: str,
    contenders: Sequence[Contender],
    splits: Sequence[Split],
    rng: np.random.Generator,
    *,
    draws: int = 200,
) -> Comparison:
    """Two models, by the gap P(strong) - P(weak). ``splits`` are of ``outcomes`` as given.

    Contenders learn from all models in ``outcomes``; only two are routed between.
    """
    w, s = outcomes.models.index(weak), outcomes.models.index(strong)

    def judge(test: Outcomes, told: Estimates) -> _Tested:
        gap = told.quality[:, told.models.index(strong)] - told.quality[:, told.models.index(weak)]
        return _pair(gap, test.score[:, w], test.score[:, s], told, test)

    def fixed(score: Callable[[Floats, Floats], Floats]) -> Callable[[Outcomes], _Tested]:
        return lambda test: _pair(
            score(test.score[:, w], test.score[:, s]), test.score[:, w], test.score[:, s]
        )

    # Always strong and blind mixing are the same line here: neither ranks prompts.
    blind = fixed(lambda a, _: np.zeros(len(a)))
    constant: dict[str, Callable[[Outcomes], _Tested]] = {
        "best single": blind,
        "zero router": blind,
        "oracle": fixed(lambda a, b: b - a),
    }
    return _compare(
        f"{weak} to {strong}", "APGR", outcomes, contenders, constant, judge, splits, rng, draws
    )


def _pair(
    gap: Floats,
    weak: Floats,
    strong: Floats,
    told: Estimates | None = None,
    test: Outcomes | None = None,
) -> _Tested:
    curve = metrics.pgr_curve(gap, weak, strong)
    figures = {
        "APGR": metrics.area(curve),
        "CPT(50)": metrics.cost_to_reach(curve, 0.5),
        "CPT(80)": metrics.cost_to_reach(curve, 0.8),
    }
    if told is not None and test is not None:
        figures |= _calibration(told, test)
    return _Tested(curve, figures, lambda rows: metrics.apgr(gap[rows], weak[rows], strong[rows]))


def compare_pool(
    outcomes: Outcomes,
    cost: TokenCost,
    contenders: Sequence[Contender],
    splits: Sequence[Split],
    rng: np.random.Generator,
    *,
    draws: int = 100,
) -> Comparison:
    """Any number of models, by worth * quality - expected price for every worth."""

    def judge(test: Outcomes, told: Estimates) -> _Tested:
        at = [told.models.index(m) for m in test.models]
        price = cost.of(test.models, test.input_tokens, told.output_tokens[:, at])
        found = _pool(test, cost, told.quality[:, at], price)
        return _Tested(found.curve, {**found.figures, **_calibration(told, test)}, found.metric)

    def spent(test: Outcomes) -> Floats:
        return cost.of(test.models, test.input_tokens, test.output_tokens)

    def blind(test: Outcomes, models: slice | int) -> _Tested:
        level = test.score.mean(axis=0)
        only = np.full(len(level), -1e9)
        only[models] = level[models]
        shape = test.score.shape
        return _pool(
            test,
            cost,
            np.broadcast_to(only, shape),
            np.broadcast_to(spent(test).mean(axis=0), shape),
        )

    constant: dict[str, Callable[[Outcomes], _Tested]] = {
        "best single": lambda test: _only(test, spent(test)),
        "zero router": lambda test: blind(test, slice(None)),
        "oracle": lambda test: _pool(test, cost, test.score, spent(test)),
    }
    title = f"{len(outcomes.models)} models"
    return _compare(title, "AIQ", outcomes, contenders, constant, judge, splits, rng, draws)


def _pool(test: Outcomes, cost: TokenCost, expected: Floats, price: Floats) -> _Tested:
    true_cost = cost.of(test.models, test.input_tokens, test.output_tokens)
    curve = metrics.tradeoff_curve(expected, price, test.score, true_cost)

    def aiq(rows: Rows) -> float:
        quality, paid = test.score[rows], true_cost[rows]
        path = metrics.tradeoff_curve(expected[rows], price[rows], quality, paid)
        return metrics.aiq(path, *metrics.cost_range(quality, paid))

    return _Tested(curve, _pool_figures(curve, test.score, true_cost), aiq)


def _only(test: Outcomes, true_cost: Floats) -> _Tested:
    best = metrics.best_single(test.score, true_cost)
    curve = Curve(true_cost[:, [best]].mean(axis=0), test.score[:, [best]].mean(axis=0))
    figures = _pool_figures(curve, test.score, true_cost)
    return _Tested(curve, figures, lambda _: 0.0)


def _pool_figures(curve: Curve, quality: Floats, cost: Floats) -> dict[str, float]:
    low, high = metrics.cost_range(quality, cost)
    hull = metrics.upper_hull(curve.cost, curve.quality)
    grid = np.linspace(max(low, hull.cost[0]), high, 101)
    zero = metrics.zero_router(quality, cost)
    return {
        "AIQ": metrics.aiq(curve, low, high),
        **{f"cost@{s:.0%}": metrics.cost_at_quality(curve, quality, cost, s) for s in SHARES},
        "oracle share": metrics.oracle_share(curve, quality, cost),
        "worst lead": float((hull.at(grid) - zero.at(grid)).min()),
    }


def _calibration(told: Estimates, test: Outcomes) -> dict[str, float]:
    predicted = told.quality[:, [told.models.index(m) for m in test.models]]
    return {"ECE": ece(predicted, test.score), "Brier": brier(predicted, test.score)}


def _compare(
    title: str,
    lead_in: str,
    outcomes: Outcomes,
    contenders: Sequence[Contender],
    constant: Mapping[str, Callable[[Outcomes], _Tested]],
    judge: Callable[[Outcomes, Estimates], _Tested],
    splits: Sequence[Split],
    rng: np.random.Generator,
    draws: int,
) -> Comparison:
    learning = [*contenders, RANDOM, LENGTH]
    tested: dict[str, list[_Tested]] = {n: [] for n in (*(c.name for c in learning), *constant)}
    for split in splits:
        train, test = outcomes.rows(split.train), outcomes.rows(split.test)
        for contender in learning:
            tested[contender.name].append(judge(test, contender.fit(train, rng)(test.prompts)))
        for name, run in constant.items():
            tested[name].append(run(test))
    sizes = [split.test.size for split in splits]
    baselines = [RANDOM.name, LENGTH.name, "zero router"]
    rows = []
    for name, found in tested.items():
        ours = name in {c.name for c in contenders}
        against = [b for b in baselines if ours]
        leads = {b: _lead(found, tested[b], sizes, rng, draws) for b in against}
        figures = {m: Figure(tuple(t.figures[m] for t in found)) for m in found[0].figures}
        rows.append(Row(name, figures, leads, found[0].curve, baseline=not ours))
    return Comparison(title, lead_in, tuple(rows), len(splits), len(outcomes.prompts))


def _lead(
    ours: Sequence[_Tested],
    theirs: Sequence[_Tested],
    sizes: Sequence[int],
    rng: np.random.Generator,
    draws: int,
) -> Difference:
    """The mean lead over splits; prompts are resampled across all of them together."""
    ends = np.cumsum(sizes)
    starts = ends - sizes

    def lead(rows: Rows) -> float:
        found = []
        for a, b, start, end in zip(ours, theirs, starts, ends, strict=True):
            mine = rows[(rows >= start) & (rows < end)] - start
            if mine.size:
                found.append(a.metric(mine) - b.metric(mine))
        return float(np.mean(found))

    return paired_bootstrap(lead, int(ends[-1]), rng, draws)
