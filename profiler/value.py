"""Tokens per dollar: what each GPU type gives for its price, per model and request size.

    tokens per dollar = rate * (input + output tokens) * 3600 / (dollars per hour of the replica)

at the highest rate one replica sustains inside the SLO (`profiler.rates`), kept up all hour. Both
input and output tokens count, as in Melange (Griggs et al., 2024); compare along a size, not
across sizes: an input token is cheaper than an output token. Of the tensor-parallel sizes offered
the best one is taken for each cell; where one was measured, sizes that are only estimated do not
compete with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from profiler.core import Count, Market, NonNegative, Noun, Positive, Profile, Slo
from profiler.rates import Rates, max_rates, why_infeasible

Basis = Literal["measured rate", "measured", "silicon", "roofline"]
INPUT_TOKENS = (128, 512, 2048, 8192)
OUTPUT_TOKENS = (64, 256, 1024)


class Size(Noun):
    """A request size, tokens."""

    input_tokens: Positive
    output_tokens: Positive

    def __str__(self) -> str:
        return f"{self.input_tokens:g}+{self.output_tokens:g}"


DEFAULT_SIZES = tuple(
    Size(input_tokens=i, output_tokens=o) for o in OUTPUT_TOKENS for i in INPUT_TOKENS
)


@dataclass(frozen=True)
class Offer:
    """A replica that can be rented in one market: its profile, and all its accelerators' price."""

    profile: Profile
    market: Market
    usd_per_hour: float


class Cell(Noun):
    """The best a GPU type does for one model, size and market, or why it cannot."""

    model: str
    gpu: str
    market: Market
    size: Size
    tokens_per_usd: NonNegative = 0.0
    usd_per_million_tokens: Positive | None = None
    rate_rps: NonNegative = 0.0
    tensor_parallel: Count | None = None
    usd_per_hour: Positive | None = None
    basis: Basis | None = None
    error: NonNegative | None = None
    reason: str | None = None

    @property
    def feasible(self) -> bool:
        """Whether some rate keeps the SLO."""
        return self.tokens_per_usd > 0


class Winner(Noun):
    """The GPU type that gives most tokens per dollar for a model, size and market."""

    model: str
    market: Market
    size: Size
    gpu: str
    tensor_parallel: Count
    tokens_per_usd: Positive
    runner_up: str | None = None
    lead: Positive | None = None


class ValueTable(Noun):
    """Tokens per dollar of every GPU type x model x size x market, and the best of each."""

    slo: Slo
    sizes: tuple[Size, ...]
    cells: tuple[Cell, ...]
    winners: tuple[Winner, ...]

    @property
    def panels(self) -> list[tuple[str, Market]]:
        """The models and markets that have cells, in their order."""
        return list(dict.fromkeys((c.model, c.market) for c in self.cells))

    def gpus(self, model: str, market: Market) -> list[str]:
        """The GPU types of a panel: the most often best first, then the best on average."""
        score: dict[str, tuple[float, float]] = {}
        for size in self.sizes:
            row = {c.gpu: c for c in self.row(model, market, size)}
            best = max(c.tokens_per_usd for c in row.values()) or 1.0
            for gpu, cell in row.items():
                wins, share = score.get(gpu, (0.0, 0.0))
                part = cell.tokens_per_usd / best
                score[gpu] = (wins + (part == 1.0), share + part)
        return sorted(score, key=lambda gpu: score[gpu], reverse=True)

    def row(self, model: str, market: Market, size: Size) -> list[Cell]:
        """What every GPU type does for one size."""
        return [
            c for c in self.cells if (c.model, c.market, c.size) == (model, market, size)
        ]  # fmt: skip

    def winner(self, model: str, market: Market, size: Size) -> Winner | None:
        """The best GPU type for one size; None where none can serve it."""
        key = (model, market, size)
        return next((w for w in self.winners if (w.model, w.market, w.size) == key), None)


Misfits = Mapping[tuple[str, str], str]


def value_table(
    offers: Sequence[Offer],
    slo: Slo,
    sizes: Sequence[Size] = DEFAULT_SIZES,
    misfits: Misfits | None = None,
) -> ValueTable:
    """Tokens per dollar of offers, per size; sizes that a GPU type cannot serve keep the reason.

    Args:
        misfits: (model, GPU type) -> why no replica of it could be offered.
    """
    inputs = np.array([s.input_tokens for s in sizes])
    outputs = np.array([s.output_tokens for s in sizes])
    rates = {p: max_rates(p, inputs, outputs, slo) for p in {o.profile for o in offers}}
    cells: list[Cell] = []
    grouped: dict[tuple[str, Market, str], list[Offer]] = {}
    for offer in offers:
        grouped.setdefault(_panel_key(offer), []).append(offer)
    for key, same in grouped.items():
        cells += [_best(key, same, rates, i, size, slo) for i, size in enumerate(sizes)]
    markets = dict.fromkeys(o.market for o in offers)
    for (model, gpu), reason in (misfits or {}).items():
        cells += [
            Cell(model=model, gpu=gpu, market=market, size=size, reason=reason)
            for market in markets
            if (model, market, gpu) not in grouped
            for size in sizes
        ]
    return ValueTable(
        slo=slo, sizes=tuple(sizes), cells=tuple(cells), winners=tuple(_winners(cells))
    )


def _panel_key(offer: Offer) -> tuple[str, Market, str]:
    config = offer.profile.config
    return config.model, offer.market, config.gpu


def _best(
    key: tuple[str, Market, str],
    offers: Sequence[Offer],
    rates: Mapping[Profile, Rates],
    index: int,
    size: Size,
    slo: Slo,
) -> Cell:
    model, market, gpu = key
    cells = [_cell(o, rates[o.profile], index, size) for o in offers]
    # An estimate, which may flatter, does not beat a replica that was measured.
    best = max(cells, key=lambda c: (c.feasible and c.basis != "roofline", c.tokens_per_usd))
    if best.feasible:
        return best
    # The fastest replica's limit is the one to look at: smaller ones break it too.
    fastest = min((o.profile for o in offers), key=lambda p: p.step_time.base_s)
    reason = why_infeasible(fastest, size.input_tokens, size.output_tokens, slo)
    tp = fastest.config.tensor_parallel
    return Cell(
        model=model, gpu=gpu, market=market, size=size,
        reason=f"{reason} (tensor parallel {tp})" if len(offers) > 1 else reason,
    )  # fmt: skip


def _cell(offer: Offer, rates: Rates, index: int, size: Size) -> Cell:
    config, source = offer.profile.config, offer.profile.provenance
    rate = float(rates.rate_rps[index])
    per_usd = rate * (size.input_tokens + size.output_tokens) * 3600 / offer.usd_per_hour
    measured = bool(rates.measured[index])
    return Cell(
        model=config.model,
        gpu=config.gpu,
        market=offer.market,
        size=size,
        tokens_per_usd=per_usd,
        usd_per_million_tokens=1e6 / per_usd if per_usd else None,
        rate_rps=rate,
        tensor_parallel=config.tensor_parallel,
        usd_per_hour=offer.usd_per_hour,
        basis="measured rate" if measured else source.kind,
        error=None if measured else source.tpot_error,
    )


def _winners(cells: Iterable[Cell]) -> Iterable[Winner]:
    groups: dict[tuple[str, Market, Size], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.model, cell.market, cell.size), []).append(cell)
    for (model, market, size), group in groups.items():
        ranked = sorted((c for c in group if c.feasible), key=lambda c: -c.tokens_per_usd)
        if not ranked:
            continue
        best, second = ranked[0], ranked[1] if len(ranked) > 1 else None
        yield Winner(
            model=model,
            market=market,
            size=size,
            gpu=best.gpu,
            tensor_parallel=best.tensor_parallel or 1,
            tokens_per_usd=best.tokens_per_usd,
            runner_up=second.gpu if second else None,
            lead=best.tokens_per_usd / second.tokens_per_usd if second else None,
        )
