"""Routers are compared on prompts they have not seen, beside baselines that are always there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from profiler.errors import InputError
from serve_apps.router.estimates import Estimates
from serve_apps.router.evaluation.comparison import DEFINITIONS, Comparison
from serve_apps.router.evaluation.contenders import Contender
from serve_apps.router.evaluation.evaluate import TokenCost, compare_pair, compare_pool, complete
from serve_apps.router.evaluation.splits import hash_splits
from serve_apps.router.outcomes import Outcomes
from serve_apps.router.prompts import Prompt
from tests.serve_apps.router.evaluation.pools import MODELS, outcomes

COST = TokenCost({"small": (0.0, 1.0), "large": (0.0, 10.0)})
BASELINES = {"random", "prompt length", "best single", "zero router", "oracle"}


def reader() -> Contender:
    """It reads "hard" in the prompt; what it learns from is kept in ``trained_on``."""

    def fit(train: Outcomes, rng: np.random.Generator) -> object:
        seen = {p.text for p in train.prompts}

        def predict(prompts: Sequence[Prompt]) -> Estimates:
            assert not seen & {p.text for p in prompts}
            hard = np.array(["hard" in p.text for p in prompts])
            quality = np.stack([np.where(hard, 0.1, 0.9), np.full(len(hard), 0.95)], axis=1)
            return Estimates(MODELS, quality, quality * 0, np.full(quality.shape, 10.0))

        return predict

    return Contender("reader", fit)  # type: ignore[arg-type]


def pair(draws: int = 40) -> Comparison:
    found = outcomes()
    splits = hash_splits([p.text for p in found.prompts], 3)
    return compare_pair(found, *MODELS, [reader()], splits, np.random.default_rng(0), draws=draws)


def test_the_baselines_are_always_there_and_every_figure_is_defined() -> None:
    found = pair()
    assert {r.name for r in found.rows} == BASELINES | {"reader"}
    assert {m for r in found.rows for m in r.figures} <= DEFINITIONS.keys()
    assert {r.name for r in found.rows if r.baseline} == BASELINES


def test_two_models_by_hand() -> None:
    found = pair()
    assert found.row("zero router").figures["APGR"].mean == pytest.approx(0.5)
    # It ranks as the oracle does: the hard half first.
    reader_apgr = found.row("reader").figures["APGR"]
    assert reader_apgr.mean == pytest.approx(found.row("oracle").figures["APGR"].mean)
    assert 0.7 < reader_apgr.mean < 0.8
    lead = found.row("reader").leads["random"]
    assert lead.low > 0
    assert lead.p_not_better == 0.0


def test_a_pool_by_hand() -> None:
    found = outcomes()
    splits = hash_splits([p.text for p in found.prompts], 3)
    table = compare_pool(found, COST, [reader()], splits, np.random.default_rng(0), draws=20)
    assert {r.name for r in table.rows} == BASELINES | {"reader"}
    ours, oracle = table.row("reader").figures, table.row("oracle").figures
    assert ours["oracle share"].mean == pytest.approx(1.0)
    assert ours["AIQ"].mean == pytest.approx(oracle["AIQ"].mean)
    assert ours["worst lead"].mean >= 0
    hard = 1 - found.score[:, 0].mean()
    assert ours["cost@100%"].mean == pytest.approx(hard + 0.1 * (1 - hard), abs=0.02)
    assert table.row("best single").figures["cost@95%"].mean == 1.0
    zero = table.row("zero router").figures
    assert zero["oracle share"].mean == pytest.approx(0.0, abs=1e-9)
    assert zero["worst lead"].mean == pytest.approx(0.0, abs=1e-9)
    for name in BASELINES | {"reader"}:
        assert table.row(name).figures["AIQ"].mean <= oracle["AIQ"].mean + 1e-9


def test_costs_need_a_rate_and_lengths() -> None:
    with pytest.raises(InputError, match="no rate for 'large'"):
        TokenCost({"small": (0, 1)}).of(MODELS, np.ones((1, 2)), np.ones((1, 2)))
    with pytest.raises(InputError, match="output tokens"):
        COST.of(MODELS, np.ones((1, 2)), np.full((1, 2), np.nan))


def test_only_prompts_that_all_models_answered_are_compared() -> None:
    found = outcomes()
    found.score[:7, 1] = np.nan
    assert len(complete(found).prompts) == 113
    found.score[:, 1] = np.nan
    with pytest.raises(InputError, match="answered by all"):
        complete(found)


def test_folds_keep_a_prompt_on_one_side_and_test_each_once() -> None:
    keys = [f"q{i % 50}" for i in range(100)]
    splits = hash_splits(keys, 5, repeats=2)
    assert len(splits) == 10
    for split in splits:
        assert not {keys[i] for i in split.train} & {keys[i] for i in split.test}
    assert sorted(np.concatenate([s.test for s in splits[:5]])) == list(range(100))
    assert not np.array_equal(splits[0].test, splits[5].test)
    with pytest.raises(InputError, match="too few"):
        hash_splits(["one"] * 9, 5)
