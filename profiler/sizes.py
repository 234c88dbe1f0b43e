"""Request sizes as distributions: input and output tokens, and how they depend on each other.

A distribution is a quantile function of u in (0, 1), rounded up to whole tokens, so that the
share of requests of at most Q(u) tokens is u. The two are joined by a checkerboard copula: the
unit square cut into k x k equal cells, with a density in each that is 1 where input and output
do not depend on each other. Unlike one correlation it holds the lumps of real traces, where
prompts of one kind draw answers of one length (Li, Mikusinski, Sherwood and Taylor 1997, "On
approximation of copulas").
"""

from __future__ import annotations

import datetime as dt
import functools
from importlib import resources
from typing import Annotated, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Discriminator, Field, Tag, model_validator

from profiler import documents
from profiler.arrivals import Arrivals
from profiler.core import Count, NonNegative, Noun, Positive, Share
from profiler.errors import UnknownNameError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Tokens = Annotated[int, Field(ge=1, le=2**31 - 1)]

_COPULA_TOLERANCE = 0.01


class FixedTokens(Noun):
    """Every request has this many tokens."""

    kind: Literal["fixed"] = "fixed"
    tokens: Tokens

    def quantile(self, u: Floats) -> Floats:
        """Tokens at each u, not yet whole."""
        return np.full(u.shape, float(self.tokens))


class UniformTokens(Noun):
    """Every whole number from ``min`` to ``max`` is equally likely."""

    kind: Literal["uniform"] = "uniform"
    min: Tokens
    max: Tokens

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min is {self.min} and max {self.max}; expected min <= max")
        return self

    def quantile(self, u: Floats) -> Floats:
        """Tokens at each u, not yet whole."""
        return self.min - 1 + u * (self.max - self.min + 1)


class LognormalTokens(Noun):
    """Lognormal with this median and 95th percentile; what exceeds ``max`` is cut to it."""

    kind: Literal["lognormal"] = "lognormal"
    median: Positive
    p95: Positive
    max: Tokens = 131_072

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.median <= self.p95 <= self.max:
            found = f"median is {self.median:g}, p95 {self.p95:g} and max {self.max}"
            raise ValueError(f"{found}; expected median <= p95 <= max")
        return self

    def quantile(self, u: Floats) -> Floats:
        """Tokens at each u, not yet whole."""
        from scipy.special import ndtri

        sigma = np.log(self.p95 / self.median) / ndtri(0.95)
        tokens: Floats = np.minimum(self.median * np.exp(sigma * ndtri(u)), self.max)
        return tokens


class QuantileTokens(Noun):
    """A table: a share ``probabilities[i]`` of requests has at most ``tokens[i]`` tokens.

    Linear in between. Probabilities run from 0 to 1; ``tokens[0]`` lies just below the smallest.
    """

    kind: Literal["quantiles"] = "quantiles"
    probabilities: tuple[Share, ...] = Field(min_length=2)
    tokens: tuple[NonNegative, ...] = Field(min_length=2)

    @model_validator(mode="after")
    def _table(self) -> Self:
        p, q = np.array(self.probabilities), np.array(self.tokens)
        if len(p) != len(q):
            raise ValueError(f"{len(p)} probabilities and {len(q)} tokens; expected as many")
        if p[0] != 0 or p[-1] != 1 or (np.diff(p) <= 0).any():
            raise ValueError("probabilities must rise from 0 to 1")
        if (np.diff(q) < 0).any() or not 1 <= q[-1] <= 2**31 - 1:
            raise ValueError("tokens must not fall, and end at 1 or above")
        return self

    def quantile(self, u: Floats) -> Floats:
        """Tokens at each u, not yet whole."""
        return np.interp(u, self.probabilities, self.tokens)


TokenDistribution = Annotated[
    FixedTokens | UniformTokens | LognormalTokens | QuantileTokens, Field(discriminator="kind")
]


def whole_tokens(distribution: TokenDistribution, u: Floats) -> Ints:
    """Tokens at each u in (0, 1), as whole numbers of at least 1."""
    # the small step down keeps 44.000000001, a rounding error, at 44
    tokens: Ints = np.maximum(np.ceil(distribution.quantile(u) - 1e-6), 1).astype(np.int64)
    return tokens


class SizeDistribution(Noun):
    """Joint distribution of input and output tokens.

    ``copula`` has one row a band of input sizes and one column a band of output sizes, smallest
    first, each band holding the same share of requests; its entries are densities relative to
    independence, so every row and column has mean 1. None stands for independence.
    """

    input_tokens: TokenDistribution
    output_tokens: TokenDistribution
    copula: tuple[tuple[NonNegative, ...], ...] | None = None

    @model_validator(mode="after")
    def _square(self) -> Self:
        if self.copula is None:
            return self
        k = len(self.copula)
        if k == 0 or any(len(row) != k for row in self.copula):
            raise ValueError("copula must have as many columns as rows, and at least one")
        density = np.array(self.copula)
        worst = max(np.abs(density.mean(axis=axis) - 1).max() for axis in (0, 1))
        if worst > _COPULA_TOLERANCE:
            raise ValueError(
                f"copula has a row or column with a mean {worst:.3g} from 1; expected a mean of 1 "
                "in each, since its bands hold equal shares of the requests"
            )
        return self

    @property
    def copula_shares(self) -> Floats:
        """(k, k) share of requests in each cell of the copula; sums to 1."""
        density = np.array(self.copula if self.copula is not None else [[1.0]])
        shares: Floats = density / density.sum()
        return shares

    def sample(self, requests: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
        """Input and output tokens of ``requests`` requests, drawn independently of each other."""
        shares = self.copula_shares
        k = len(shares)
        cells = np.searchsorted(np.cumsum(shares)[:-1], rng.random(requests), side="right")
        u_input = (cells // k + _open_unit(requests, rng)) / k
        u_output = (cells % k + _open_unit(requests, rng)) / k
        return (
            whole_tokens(self.input_tokens, u_input),
            whole_tokens(self.output_tokens, u_output),
        )


def _open_unit(count: int, rng: np.random.Generator) -> Floats:
    """Uniform in (0, 1) without its ends, at which a lognormal would be 0 or infinite."""
    return np.clip(rng.random(count), 2**-53, 1 - 2**-53)


BuiltinName = Literal["azure-chat", "azure-code"]

Sizes = Annotated[
    Annotated[BuiltinName, Tag("name")] | Annotated[SizeDistribution, Tag("distribution")],
    Discriminator(lambda value: "name" if isinstance(value, str) else "distribution"),
]
"""Request sizes in a service file: the name of a fitted trace, or a distribution."""


class FitQuality(Noun):
    """How far a fitted distribution is from the trace it was fitted to."""

    ks_input: Share = Field(description="largest distance between the cumulative shares")
    ks_output: Share
    input_error: dict[str, float] = Field(description="relative error of mean, p50, p90, p99")
    output_error: dict[str, float]
    rank_correlation: float = Field(description="Spearman, of the trace")
    rank_correlation_fitted: float
    misplaced_share: Share = Field(
        description="share of requests that the fit puts into another bucket of the default grid"
    )


class FittedArrivals(Noun):
    """How the requests of a trace arrived, and a process with the same mean rate and CV."""

    mean_rate_rps: Positive
    p95_rate_rps: Positive = Field(description="95th percentile over one-minute windows")
    cv: NonNegative = Field(description="coefficient of variation of inter-arrival times")
    process: Arrivals


class FittedTrace(Noun):
    """The figures of one public trace: where it is from, what it was, and how well they fit."""

    source: str
    license: str
    as_of: dt.date
    rows: Count
    duration_s: Positive
    arrivals: FittedArrivals
    sizes: SizeDistribution
    quality: FitQuality


class _Catalog(Noun):
    traces: dict[str, FittedTrace]


@functools.cache
def builtin_traces() -> dict[str, FittedTrace]:
    """The fitted public traces by name, from ``profiler/data/sizes.yaml``."""
    file = resources.files("profiler") / "data" / "sizes.yaml"
    return documents.parse(file.read_text(encoding="utf-8"), _Catalog, "sizes.yaml").traces


def builtin_sizes(name: str) -> SizeDistribution:
    """The sizes of a fitted public trace: ``azure-chat`` or ``azure-code``.

    Raises:
        UnknownNameError: there is none of that name; the message names the nearest.
    """
    traces = builtin_traces()
    if name not in traces:
        raise UnknownNameError("sizes", name, traces)
    return traces[name].sizes


def resolve_sizes(sizes: Sizes) -> SizeDistribution:
    """The distribution that a `Sizes` value stands for.

    Raises:
        UnknownNameError: it is a name, and there is none of that name.
    """
    return sizes if isinstance(sizes, SizeDistribution) else builtin_sizes(sizes)
