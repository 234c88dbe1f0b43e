"""Routers judged on outcomes: pairs and pools, artefacts as they are or trained on each split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from orchestrator.routing_costs import Costs, prompt_tokens
from profiler.errors import InputError
from serve_apps.router.artefact import Artefact
from serve_apps.router.estimates import Estimates
from serve_apps.router.evaluation.comparison import Comparison
from serve_apps.router.evaluation.contenders import Contender, Predict
from serve_apps.router.evaluation.evaluate import TokenCost, compare_pair, compare_pool, complete
from serve_apps.router.evaluation.splits import Split, hash_splits
from serve_apps.router.outcomes import Floats, Outcomes, Rows
from serve_apps.router.prompts import Prompt

TYPICAL_COST = 1e3
"""Costs are put on a scale where the mean answer costs this: learned like answer lengths."""
LEAST_TEST = 100
"""Prompts that a part of the test must have, so that its figures mean something."""


@dataclass(frozen=True)
class Bench:
    """Outcomes that all models have, their true costs, and the pair for the field's metrics.

    ``pair``: (weak, strong); None where the cheapest model is also the best.
    """

    outcomes: Outcomes
    costs: Costs
    spent: Floats
    pair: tuple[str, str] | None

    @property
    def models(self) -> tuple[str, ...]:
        """The pool."""
        return self.outcomes.models


def bench_of(outcomes: Outcomes, costs: Costs, pair: tuple[str, str] | None = None) -> Bench:
    """Keep the prompts that every model answered; the pair is the cheapest and the best model.

    Raises:
        InputError: fewer than two models, no common prompts, or an unknown model in ``pair``.
    """
    require_pool(outcomes)
    common = complete(outcomes)
    spent = costs.spent(common)
    if pair is not None:
        common.only(pair)
    return Bench(common, costs, spent, pair or cheapest_and_best(common.score, spent, common))


def require_pool(outcomes: Outcomes) -> None:
    """Raises InputError unless there are at least two models to choose between."""
    if len(outcomes.models) < 2:
        raise InputError(
            f"found outcomes of one model, {outcomes.models[0]}: a router chooses between two or "
            "more; give tables with more models"
        )


def cheapest_and_best(score: Floats, spent: Floats, outcomes: Outcomes) -> tuple[str, str] | None:
    """By mean cost and mean score; None where they are the same model."""
    weak = int(spent.mean(axis=0).argmin())
    strong = int(score.mean(axis=0).argmax())
    return None if weak == strong else (outcomes.models[weak], outcomes.models[strong])


def contender(name: str, artefact: Artefact, costs: Costs, scale: float) -> Contender:
    """An artefact as it is: nothing is learned from the splits."""

    def predict(prompts: Sequence[Prompt]) -> Estimates:
        told = artefact.estimate(prompts)
        return replace(told, output_tokens=expected_price(told, prompts, costs, scale))

    def fit(_train: Outcomes, _rng: np.random.Generator) -> Predict:
        return predict

    return Contender(name, fit)


def expected_price(
    told: Estimates, prompts: Sequence[Prompt], costs: Costs, scale: float = 1.0
) -> Floats:
    """What each model's answer is expected to cost, ``[prompts, models]``; NaN without a price."""
    known = [i for i, m in enumerate(told.models) if m in costs.rates]
    found = np.full(told.quality.shape, np.nan)
    names = [told.models[i] for i in known]
    found[:, known] = costs.price(names, prompt_tokens(prompts), told.output_tokens[:, known])
    return found * scale


def trained(
    features: str, estimator: str, group: str, on_fit: Callable[[], None] = lambda: None
) -> Contender:
    """Features and estimator, trained afresh on each split; costs are learned like lengths."""
    from serve_apps.router import training

    def fit(train: Outcomes, rng: np.random.Generator) -> Predict:
        seed = int(rng.integers(2**31))
        found = training.train(
            train, features=features, estimator=estimator, group=group, seed=seed
        )
        on_fit()
        return found.estimate

    return Contender(f"{features} + {estimator}", fit)


def compare(
    bench: Bench,
    contenders: Callable[[float], Sequence[Contender]],
    splits: Sequence[Split],
    seed: int = 0,
    *,
    draws: int = 200,
) -> list[Comparison]:
    """The pair's comparison, where there is a pair, then the pool's.

    ``contenders`` are made for a scale of cost; ``splits`` are of ``bench.outcomes``.
    """
    spent = bench.spent
    scale = TYPICAL_COST / max(float(spent.mean()), 1e-300)
    priced = replace(bench.outcomes, output_tokens=spent * scale, input_tokens=np.zeros_like(spent))
    routers = list(contenders(scale))
    rng = np.random.default_rng(seed)
    found = []
    if bench.pair is not None:
        found.append(compare_pair(priced, *bench.pair, routers, splits, rng, draws=draws))
    if len(bench.models) > 2 or bench.pair is not None:
        rates = TokenCost(dict.fromkeys(bench.models, (0.0, 1.0 / scale)))
        found.append(compare_pool(priced, rates, routers, splits, rng, draws=max(draws // 2, 1)))
    judged = len({int(row) for split in splits for row in split.test})
    return [replace(c, prompts=judged) for c in found]


def fold_splits(outcomes: Outcomes, folds: int, by: str, seed: int) -> list[Split]:
    """``folds`` splits by hash of the prompt or the subject, each key tested once.

    Raises:
        InputError: too few prompts or subjects.
    """
    keys = outcomes.subject if by == "subject" else [p.text for p in outcomes.prompts]
    return hash_splits(keys, folds, seed=seed)


def held_out_splits(outcomes: Outcomes, test: Rows, folds: int, seed: int) -> list[Split]:
    """The test's prompts in at most ``folds`` parts; baselines learn from all others.

    Raises:
        InputError: there is nothing to test, or nothing for baselines to learn from.
    """
    if not 0 < test.size < len(outcomes.prompts):
        raise InputError(
            f"found {test.size} of {len(outcomes.prompts)} prompts for the test; expected some, "
            "and some others for the baselines to learn from"
        )
    parts = max(1, min(folds, test.size // LEAST_TEST))
    if parts == 1:
        inside = [test]
    else:
        keys = [outcomes.prompts[i].text for i in test]
        inside = [test[s.test] for s in hash_splits(keys, parts, seed=seed)]
    everything = np.arange(len(outcomes.prompts))
    return [Split(np.setdiff1d(everything, rows), rows) for rows in inside]
