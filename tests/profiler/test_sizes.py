"""Size distributions draw the tokens their tables say, joined as their copula says."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import stats

from profiler.errors import UnknownNameError
from profiler.sizes import (
    FixedTokens,
    LognormalTokens,
    QuantileTokens,
    SizeDistribution,
    UniformTokens,
    builtin_sizes,
    builtin_traces,
    whole_tokens,
)

U = (np.arange(100_000) + 0.5) / 100_000


def joint(**changes):
    tokens = UniformTokens(min=1, max=100)
    return SizeDistribution(**{"input_tokens": tokens, "output_tokens": tokens, **changes})


def test_fixed_and_uniform_tokens_are_exact():
    assert set(whole_tokens(FixedTokens(tokens=44), U)) == {44}
    values, counts = np.unique(whole_tokens(UniformTokens(min=3, max=6), U), return_counts=True)
    assert values.tolist() == [3, 4, 5, 6]
    assert set(counts.tolist()) == {25_000}


def test_lognormal_tokens_have_the_median_and_p95_asked_for_and_stop_at_max():
    tokens = whole_tokens(LognormalTokens(median=500, p95=2000, max=3000), U)
    assert (tokens <= 500).mean() == pytest.approx(0.5, abs=1e-3)
    assert (tokens <= 2000).mean() == pytest.approx(0.95, abs=1e-3)
    assert tokens.max() == 3000
    assert whole_tokens(LognormalTokens(median=0.5, p95=0.6), U).min() == 1


def test_a_quantile_table_gives_its_shares():
    table = QuantileTokens(probabilities=(0, 0.25, 0.5, 1), tokens=(0, 10, 10, 20))
    tokens = whole_tokens(table, U)
    assert (tokens <= 10).mean() == pytest.approx(0.5)
    assert (tokens == 10).mean() == pytest.approx(0.25 + 0.025)
    assert (tokens.min(), tokens.max()) == (1, 20)


def test_without_a_copula_input_and_output_do_not_depend_on_each_other():
    inputs, outputs = joint().sample(50_000, np.random.default_rng(1))
    table = np.histogram2d(inputs, outputs, bins=5)[0]
    assert stats.chi2_contingency(table).pvalue > 0.01


def test_a_copula_keeps_the_marginals_and_sets_the_dependence():
    tied = joint(copula=((2, 0), (0, 2)))
    inputs, outputs = tied.sample(50_000, np.random.default_rng(1))
    assert np.array_equal(inputs > 50, outputs > 50)
    low = inputs <= 50
    assert abs(np.corrcoef(inputs[low], outputs[low])[0, 1]) < 0.03
    for tokens in (inputs, outputs):
        counts = np.bincount(tokens, minlength=101)[1:]
        assert stats.chisquare(counts).pvalue > 0.01


@pytest.mark.parametrize(
    "copula", [(), ((1, 1),), ((1, 1), (1,)), ((2, 0), (1, 1)), ((1.5, 1.5), (0.5, 0.5))]
)
def test_a_copula_must_be_square_with_even_margins(copula):
    with pytest.raises(ValidationError, match="copula"):
        joint(copula=copula)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (UniformTokens, {"min": 5, "max": 4}),
        (UniformTokens, {"min": 0, "max": 4}),
        (FixedTokens, {"tokens": 0}),
        (LognormalTokens, {"median": 500, "p95": 400}),
        (LognormalTokens, {"median": 500, "p95": 4000, "max": 1000}),
        (QuantileTokens, {"probabilities": (0, 1), "tokens": (0, 5, 6)}),
        (QuantileTokens, {"probabilities": (0, 0.9), "tokens": (0, 5)}),
        (QuantileTokens, {"probabilities": (0, 0.5, 0.5, 1), "tokens": (0, 1, 2, 5)}),
        (QuantileTokens, {"probabilities": (0, 0.5, 1), "tokens": (0, 6, 5)}),
        (QuantileTokens, {"probabilities": (0, 1), "tokens": (0, 0)}),
    ],
)
def test_impossible_tokens_are_refused(kind, settings):
    with pytest.raises(ValidationError):
        kind(**settings)


def test_builtin_traces_say_where_they_are_from():
    assert set(builtin_traces()) == {"azure-chat", "azure-code"}
    for trace in builtin_traces().values():
        assert "Azure/AzurePublicDataset" in trace.source
        assert trace.license == "CC-BY-4.0"
    assert builtin_sizes("azure-chat") == builtin_traces()["azure-chat"].sizes
    with pytest.raises(UnknownNameError, match="did you mean 'azure-chat'"):
        builtin_sizes("azure-chit")
