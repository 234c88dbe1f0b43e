"""Size and arrival figures of a trace, and how well they fit it.

The figures in ``profiler/data/sizes.yaml`` are `fit_trace` of the public traces it names.
"""

from __future__ import annotations

import datetime as dt
import math

import numpy as np
import numpy.typing as npt

from profiler.arrivals import BurstArrivals, GammaArrivals
from profiler.core import Workload
from profiler.sizes import (
    FitQuality,
    FittedArrivals,
    FittedTrace,
    QuantileTokens,
    SizeDistribution,
    TokenDistribution,
    whole_tokens,
)
from profiler.traces import Trace
from profiler.workload import window_rates_rps, workload_from_sizes, workload_from_trace

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

COPULA_BANDS = 24
PROBABILITIES = (
    *(0.0, 0.001, 0.005),
    *(round(k / 100, 2) for k in range(1, 100)),
    *(0.995, 0.998, 0.999, 0.9995, 1.0),
)
_BURSTY_CV = 2.0
_POINTS = 1 << 16


def fit_sizes(trace: Trace, bands: int = COPULA_BANDS) -> SizeDistribution:
    """The size distribution of a trace: quantile tables and a checkerboard copula.

    Nothing is drawn at random. Requests of equal size share their ranks evenly.
    """
    share_in, share_out = (
        _band_shares(tokens, bands) for tokens in (trace.input_tokens, trace.output_tokens)
    )
    density = share_in.T @ share_out / len(trace) * bands**2
    return SizeDistribution(
        input_tokens=_quantile_table(trace.input_tokens),
        output_tokens=_quantile_table(trace.output_tokens),
        copula=tuple(tuple(round(x, 3) for x in row) for row in density.tolist()),
    )


def fit_arrivals(trace: Trace) -> GammaArrivals | BurstArrivals:
    """An arrival process with the mean rate and the CV of a trace.

    Up to a CV of 2 it is Gamma. Above, gaps of a Gamma distribution would put nearly all requests
    at one moment, so bursts between silent spells are taken: the burst rate is the 95th percentile
    of the one-minute rates, and the dwell times follow from CV^2 = 1 + 2 burst_rps w1/(w1 + w2)^2,
    with w1 and w2 the inverse dwell times of burst and calm.

    Raises:
        InputError: all requests arrive at one moment.
    """
    rate_rps, cv = trace.mean_rate_rps, trace.arrival_cv
    burst_rps = float(np.quantile(window_rates_rps(trace), 0.95))
    if cv <= _BURSTY_CV or burst_rps <= rate_rps:
        return GammaArrivals(rate_rps=rate_rps, cv=min(max(cv, 0.01), 100.0))
    share = rate_rps / burst_rps
    total = 2 * burst_rps * (1 - share) / (cv**2 - 1)
    return BurstArrivals(
        calm_rps=0.0,
        burst_rps=burst_rps,
        calm_s=1 / (share * total),
        burst_s=1 / ((1 - share) * total),
    )


def fit_quality(trace: Trace, sizes: SizeDistribution) -> FitQuality:
    """How far a size distribution is from a trace; see the fields of `FitQuality`.

    Raises:
        InputError: all requests arrive at one moment.
    """
    from scipy.stats import spearmanr

    drawn = sizes.sample(_POINTS, np.random.default_rng(0))
    real = spearmanr(trace.input_tokens, trace.output_tokens).statistic
    there = _shares(workload_from_trace(trace, plan_for="mean"))
    here = _shares(workload_from_sizes(1.0, sizes))
    distance = sum(abs(there.get(k, 0.0) - here.get(k, 0.0)) for k in there | here) / 2
    return FitQuality(
        ks_input=round(_ks(trace.input_tokens, sizes.input_tokens), 4),
        ks_output=round(_ks(trace.output_tokens, sizes.output_tokens), 4),
        input_error=_errors(trace.input_tokens, sizes.input_tokens),
        output_error=_errors(trace.output_tokens, sizes.output_tokens),
        rank_correlation=round(float(real), 3),
        rank_correlation_fitted=round(float(spearmanr(*drawn).statistic), 3),
        misplaced_share=round(distance, 4),
    )


def fit_trace(trace: Trace, *, source: str, license: str, as_of: dt.date) -> FittedTrace:  # noqa: A002
    """All figures of a trace, as ``profiler/data/sizes.yaml`` holds them.

    Raises:
        InputError: all requests arrive at one moment.
    """
    sizes = fit_sizes(trace)
    return FittedTrace(
        source=source,
        license=license,
        as_of=as_of,
        rows=len(trace),
        duration_s=trace.duration_s,
        arrivals=FittedArrivals(
            mean_rate_rps=trace.mean_rate_rps,
            p95_rate_rps=float(np.quantile(window_rates_rps(trace), 0.95)),
            cv=trace.arrival_cv,
            process=fit_arrivals(trace),
        ),
        sizes=sizes,
        quality=fit_quality(trace, sizes),
    )


def _quantile_table(tokens: Ints) -> QuantileTokens:
    """Knots of the cumulative share, in which n tokens fill the range from n - 1 to n."""
    values, counts = np.unique(tokens, return_counts=True)
    upper = np.cumsum(counts) / len(tokens)
    knots = np.concatenate([[0.0], np.repeat(upper, 2)[:-1]])
    sizes = np.column_stack([values - 1, values]).ravel()
    table = np.interp(PROBABILITIES, knots, sizes)
    return QuantileTokens(
        probabilities=PROBABILITIES, tokens=tuple(round(x, 4) for x in table.tolist())
    )


def _band_shares(tokens: Ints, bands: int) -> Floats:
    """(requests, bands) share of each request's rank interval that lies in each band."""
    values, index, counts = np.unique(tokens, return_inverse=True, return_counts=True)
    upper = np.cumsum(counts) / len(tokens)
    lower = upper - counts / len(tokens)
    edges = np.arange(bands + 1) / bands
    overlap = np.minimum(upper[:, None], edges[1:]) - np.maximum(lower[:, None], edges[:-1])
    shares = np.maximum(overlap, 0.0)[: len(values)]
    normal: Floats = shares / shares.sum(axis=1, keepdims=True)
    return normal[index]


def _fitted_tokens(distribution: TokenDistribution) -> Ints:
    return whole_tokens(distribution, (np.arange(_POINTS) + 0.5) / _POINTS)


def _ks(tokens: Ints, distribution: TokenDistribution) -> float:
    """Kolmogorov-Smirnov distance of the trace's cumulative shares from the fitted ones."""
    fitted = _fitted_tokens(distribution)
    at = np.union1d(tokens, fitted)
    real, here = (np.searchsorted(np.sort(x), at, side="right") / len(x) for x in (tokens, fitted))
    return float(np.abs(real - here).max())


def _errors(tokens: Ints, distribution: TokenDistribution) -> dict[str, float]:
    fitted = _fitted_tokens(distribution)
    errors = {"mean": fitted.mean() / tokens.mean() - 1}
    for percent in (50, 90, 99):
        real, here = (np.percentile(x, percent) for x in (tokens, fitted))
        errors[f"p{percent}"] = here / real - 1
    return {name: round(float(error), 4) for name, error in errors.items()}


def _shares(workload: Workload) -> dict[str, float]:
    rates = [r.rate_rps for r in workload.rates]
    total = math.fsum(rates)
    return {r.bucket.key: rate / total for r, rate in zip(workload.rates, rates, strict=True)}
