"""Benchmark runs of other tools, as points of the step-time law and as rates inside an SLO.

A run sends requests of one mean size at a steady load. Its mean time per output token is the
mean step: n sequences decode in it, and it prefills the prompts that arrive meanwhile. By
Little's law n = rate (output - 1) TPOT; a request that arrives at random (Poisson) finds that
many others, so n + 1 decode with it; in a closed loop of a fixed number, all that decode are
that n. A run of single requests also shows the prefill of a lone prompt, as its TTFT.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from profiler.core import GpuType, MeasuredRate, Profile, Provenance, Slo
from profiler.errors import InputError
from profiler.evidence import as_noun
from profiler.importers.setting import Setting
from profiler.step_fit import Point, fit_points

MIN_ROUNDS = 3
"""A closed loop that is run through fewer times shows its start and its end."""


@dataclass(frozen=True)
class Run:
    """One benchmark at a steady load: means over its requests.

    ``arrivals`` are ``closed`` (a fixed number in flight: ``concurrency``), ``even``, ``poisson``.
    ``tails`` maps a share of requests to the TTFT and the TPOT they stayed under.
    """

    where: str
    input_tokens: float
    output_tokens: float
    rate_rps: float
    ttft_s: float
    tpot_s: float
    arrivals: Literal["closed", "even", "poisson"]
    concurrency: float | None = None
    completed: int | None = None
    tails: Mapping[float, tuple[float, float]] = field(default_factory=dict)

    @property
    def lone(self) -> bool:
        """Whether each request had the engine to itself."""
        return self.arrivals == "closed" and self.concurrency == 1

    def why_useless(self) -> str | None:
        """Why its times say nothing of a steady load; None when they do."""
        if self.output_tokens < 2:
            return "its answers have one token, so it has no time per output token"
        if self.arrivals == "closed" and self.completed and self.concurrency:
            needed = math.ceil(MIN_ROUNDS * self.concurrency) if self.concurrency > 1 else 1
            if self.completed < needed:
                return (
                    f"{self.completed} requests at concurrency {self.concurrency:g} are no steady "
                    f"load; send {needed} or more"
                )
        return None

    def points(self, token_budget: int) -> list[Point]:
        """What it shows of the law; ``token_budget`` is the engine's max_num_batched_tokens."""
        n = self.rate_rps * (self.output_tokens - 1) * self.tpot_s
        n = 1.0 if self.lone else n + 1 if self.arrivals == "poisson" else max(n, 1.0)
        others = (n - 1) / n if self.arrivals == "closed" else 1.0
        prompts = 0 if self.lone else others * self.rate_rps * self.input_tokens * self.tpot_s
        context = self.input_tokens + self.output_tokens / 2
        decode = Point(
            "decode", self.tpot_s, prefill_tokens=prompts, sequences=n, kv_tokens=n * context
        )
        if not self.lone:
            return [decode]
        steps = math.ceil(self.input_tokens / token_budget)
        return [
            Point("prefill", self.ttft_s, steps=steps, prefill_tokens=self.input_tokens), decode
        ]  # fmt: skip

    def keeps(self, slo: Slo) -> bool | None:
        """Whether the SLO's share of requests kept both limits; None where the file cannot say."""
        known = [share for share in self.tails if share >= slo.attainment]
        if not known:
            return None
        ttft_s, tpot_s = self.tails[min(known)]
        return ttft_s <= slo.ttft_s and tpot_s <= slo.tpot_s


@dataclass(frozen=True)
class Source:
    """Where runs come from, for the provenance."""

    tool: str
    engine: str | None
    date: dt.date | None


def profile_of(runs: Sequence[Run], setting: Setting, gpu: GpuType, source: Source) -> Profile:
    """The profile that runs of one engine show.

    Raises:
        InputError: no run is of use, or they cannot tell the coefficients apart.
    """
    reasons = [f"{r.where}: {why}" for r in runs if (why := r.why_useless())]
    usable = [r for r in runs if not r.why_useless()]
    if not usable:
        raise InputError("no run can be used:\n" + "\n".join(reasons))
    plain = setting.profile(gpu)
    budget = plain.config.engine.max_num_batched_tokens
    points = [p for r in usable for p in r.points(budget)]
    try:
        fit = fit_points(points)
    except InputError as error:
        raise InputError(
            f"{usable[0].where}: {len(usable)} runs do not identify the step-time law ({error}); "
            "give files of several prompt lengths and concurrencies, one of them 1" + _list(reasons)
        ) from None
    note = f"imported from {source.tool}, {len(usable)} runs; limits computed, not measured"
    note += f"; {len(reasons)} runs left out" if reasons else ""
    provenance = Provenance(
        kind="measured",
        date=source.date or setting.read_on,
        hardware=gpu.name,
        engine=source.engine,
        note=note,
        points=len(points),
        tpot_error=fit.median_error(points, "decode"),
        ttft_error=fit.median_error(points, "prefill"),
    )
    return plain.model_copy(
        update={
            "step_time": fit.law,
            "step_time_95": (fit.low, fit.high),
            "request_overhead_s": fit.overhead_s,
            "provenance": provenance,
            "points": tuple(as_noun(p) for p in points),
            "rates": rates_of(usable, setting, usable[0].where),
        }
    )


def rates_of(runs: Sequence[Run], setting: Setting, where: str) -> tuple[MeasuredRate, ...]:
    """The highest rate per size that kept the SLO the user asks about; none without one.

    A size counts only where a run missed the SLO too: the best of runs that all kept it says
    nothing of how much more would have.
    """
    if setting.ttft_s is None and setting.tpot_s is None:
        return ()
    slo = setting.slo(where)
    found = []
    for same in _by_size(runs):
        kept = [r for r in same if r.keeps(slo)]
        missed = [r for r in same if r.keeps(slo) is False]
        if not missed or not (kept or any(r.lone for r in missed)):
            continue
        best = max(kept, key=lambda r: r.rate_rps, default=missed[0])
        rate = best.rate_rps if kept else 0.0
        found.append(
            MeasuredRate(
                input_tokens=best.input_tokens, output_tokens=best.output_tokens,
                rate_rps=rate, slo=slo,
            )
        )  # fmt: skip
    return tuple(found)


def _by_size(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs of about the same size together: equal in two significant digits."""
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        key = (f"{run.input_tokens:.1e}", f"{run.output_tokens:.1e}")
        groups.setdefault(key, []).append(run)
    return list(groups.values())


def _list(reasons: Sequence[str]) -> str:
    return "".join(f"\nleft out: {reason}" for reason in reasons)
