"""The loads that `benchmarks.autoscale` runs: draws to tune on, draws to judge by, and a fleet."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from placement.limits import Limits
from placement.plan import AUTO, Plan, ReplicaGroup
from placement.planner import mix, without_unservable
from placement.problem import Option, Problem, RequestClass, Stock, load_matrix
from profiler.arrivals import GammaArrivals, Spike, SpikeArrivals
from profiler.catalog import load_catalog
from profiler.core import Slo
from profiler.generator import generate
from profiler.resample import resample
from profiler.roofline import DoesNotFit, roofline_profile
from profiler.traces import Trace, read_trace
from profiler.workload import workload_from_trace

TRACES = Path(__file__).resolve().parents[2] / "shared/data/traces"
MODEL = "llama-3.1-8b"
GPUS, GPUS_DAY = ("L40S", "H100"), ("L40S", "A100-80GB")
"""The days' rates are low: on an H100 each, they would need one replica and no autoscaler."""
SLO = Slo(ttft_s=2.0, tpot_s=0.06)
HEADROOM = 0.85
DAY_S = 86_400.0
HOUR_S = 3600.0
SCALE_HOUR, SCALE_DAY = 8.0, 4.0
SPIKE_BASE_RPS, GAMMA_RPS = 20.0, 40.0
SPIKE_FROM_S, SPIKE_TO_S = 900.0, 2400.0
SERVEGEN_DAY = 2
"""Which of the 14 days the trace is, counted from 0: the one whose rate curve it follows."""
DIURNAL_DAY = 3
TUNED_HOURS_S = (5 * 3600.0, 13 * 3600.0)
DIURNAL_RPS = 15.0

History = tuple[tuple[float, float], ...]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Draw:
    """One load: requests, what is known of the days before, and when its spike ends if any."""

    trace: Trace = field(repr=False)
    history: History = field(default=(), repr=False)
    spike_end_s: float | None = None


@dataclass(frozen=True)
class Case:
    """A kind of load; ``draws(judging)`` gives the draws to tune on, or those to judge by."""

    name: str
    draws: Callable[[bool], list[Draw]]
    long: bool = False

    @property
    def tuning(self) -> list[Draw]:
        """Draws to tune on."""
        return self.draws(False)

    @property
    def judging(self) -> list[Draw]:
        """Draws to judge by."""
        return self.draws(True)


def cases() -> dict[str, Case]:
    """All cases whose data is here, by name."""
    found = [Case(f"spike-{f}x-{s}s", _spikes(f, s)) for f in (3, 5, 10) for s in (30, 120, 600)]
    found += [Case(f"gamma-cv{cv}", _gamma(cv)) for cv in (1, 2, 4, 8)]
    if (TRACES / "azure2023_conv.csv.gz").exists():
        found.append(Case("azure-chat", _resampled("azure2023_conv")))
        found.append(Case("azure-code", _resampled("azure2023_code_first_half")))
        found.append(Case("servegen-day", _servegen, long=True))
        found.append(Case("azure2024-diurnal", _diurnal, long=True))
    return {c.name: c for c in found}


def _seeds(judging: bool) -> tuple[int, ...]:
    return (101, 102) if judging else (1, 2)


def _resampled(name: str) -> Callable[[bool], list[Draw]]:
    def draws(judging: bool) -> list[Draw]:
        trace = read_trace(TRACES / f"{name}.csv.gz")
        return [Draw(resample(trace, s, rate_factor=SCALE_HOUR)) for s in _seeds(judging)]

    return draws


def _spikes(factor: int, length_s: float) -> Callable[[bool], list[Draw]]:
    def draws(judging: bool) -> list[Draw]:
        found = []
        for seed in _seeds(judging):
            at_s = float(np.random.default_rng(1000 + seed).uniform(SPIKE_FROM_S, SPIKE_TO_S))
            spike = Spike(at_s=at_s, length_s=length_s, factor=factor)
            arrivals = SpikeArrivals(rate_rps=SPIKE_BASE_RPS, spikes=(spike,))
            trace = generate(arrivals, "azure-chat", HOUR_S, seed=seed)
            found.append(Draw(trace, spike_end_s=at_s + length_s))
        return found

    return draws


def _gamma(cv: float) -> Callable[[bool], list[Draw]]:
    def draws(judging: bool) -> list[Draw]:
        arrivals = GammaArrivals(rate_rps=GAMMA_RPS, cv=cv)
        return [Draw(generate(arrivals, "azure-chat", HOUR_S, seed=s)) for s in _seeds(judging)]

    return draws


def _servegen(judging: bool) -> list[Draw]:
    """Draws of a production day: each as many independent users as it takes, by the minute.

    They share the day's course and differ in arrivals and sizes. The history is the days before
    it, of which only rates every ten minutes are known.
    """
    trace = read_trace(TRACES / "servegen_mlarge_day3_4rps.csv.gz")
    rates = _rates("servegen_rates_10min.csv.gz", "m-large")
    history = _days_before(rates, SERVEGEN_DAY)
    whole = Draw(resample(trace, _seeds(judging)[0], rate_factor=SCALE_DAY), history)
    return [whole if judging else _working_hours(whole)]


def _diurnal(judging: bool) -> list[Draw]:
    """Two working days of a public week of rates; sizes of a public chat trace, Poisson arrivals.

    Judged is the day after the one tuned on; the history is all days before each.
    """
    sizes = read_trace(TRACES / "azure2023_conv.csv.gz")
    rates = _rates("azure2024_conv_rate_week_digitised.csv.gz", None)
    number = DIURNAL_DAY if judging else DIURNAL_DAY - 1
    start_s = number * DAY_S
    day = [(t - start_s, r) for t, r in rates if 0 <= t - start_s < DAY_S]
    drawn = _drawn(day, DIURNAL_RPS, sizes, seed=number)
    whole = Draw(drawn, _days_before(rates, number))
    return [whole if judging else _working_hours(whole)]


def _working_hours(day: Draw) -> Draw:
    """A third of a day, to tune on in a third of the time."""
    part = day.trace.slice(*TUNED_HOURS_S)
    early_s = float(day.trace.arrival_s[np.searchsorted(day.trace.arrival_s, TUNED_HOURS_S[0])])
    return Draw(part, tuple((t - early_s, r) for t, r in day.history))


@cache
def _rates(name: str, model: str | None) -> tuple[tuple[float, float], ...]:
    """(time_s, requests per second) of a file of rates."""
    with gzip.open(TRACES / name, "rt") as f:
        rows = [r for r in csv.DictReader(f) if model is None or r["model"] == model]
    time, rate = [k for k in rows[0] if k != "model"][:2]
    found = sorted((float(r[time]), float(r[rate])) for r in rows)
    return tuple(found)


def _days_before(rates: tuple[tuple[float, float], ...], day: int) -> History:
    """Rates of the days before one, at times before 0."""
    start_s = day * DAY_S
    return tuple((t - start_s, r) for t, r in rates if t < start_s)


def _drawn(curve: list[tuple[float, float]], mean_rps: float, sizes: Trace, seed: int) -> Trace:
    """Poisson arrivals along a rate curve, each with the sizes of some request of a trace."""
    rng = np.random.default_rng(seed)
    times = np.array([t for t, _ in curve])
    rates = np.array([r for _, r in curve])
    grid = np.arange(0.0, DAY_S, 10.0)
    rps = np.interp(grid, times, rates)
    rps *= mean_rps / rps.mean()
    counts = rng.poisson(rps * 10.0)
    arrival_s = np.sort(np.repeat(grid, counts) + rng.uniform(0, 10.0, counts.sum()))
    rows = rng.integers(0, len(sizes), len(arrival_s))
    return sizes.picked(rows, "drawn along a rate curve", arrival_s - arrival_s[0])


def fleet_plan(trace: Trace, gpus: tuple[str, ...] = GPUS) -> Plan:
    """The cheapest fleet for a trace's 95th percentile, with at least one replica of each type."""
    catalog = load_catalog()
    workload = workload_from_trace(trace)
    classes = tuple(RequestClass(AUTO, r.bucket, r.rate_rps) for r in workload.rates)
    options = []
    for gpu in gpus:
        profile = roofline_profile(catalog.model(MODEL), catalog.gpu(gpu))
        assert not isinstance(profile, DoesNotFit), profile.reason
        price = catalog.gpu(gpu).price.on_demand_usd_per_hour
        options.append(Option(profile, "on_demand", price))
    problem = Problem(
        slo=SLO,
        classes=classes,
        options=tuple(options),
        stocks=tuple(Stock(g, "on_demand") for g in gpus),
        headroom=HEADROOM,
        load_s=load_matrix(classes, tuple(options), SLO),
        limits=Limits(),
        models={MODEL: catalog.model(MODEL)},
        gpus={g: catalog.gpu(g) for g in gpus},
    )
    plan = mix(without_unservable(problem), "bench", gap=1e-3).plan
    there = {g.config.gpu for g in plan.groups}
    more = tuple(
        ReplicaGroup(
            name=o.name,
            market=o.market,
            replicas=1,
            usd_per_hour=o.usd_per_hour,
            load=0.0,
            profile=o.profile,
        )
        for o in options
        if o.gpu not in there
    )
    return plan.model_copy(update={"groups": plan.groups + more, "gpus": problem.gpus})
