"""Arrival processes: when requests come, as settings of a service file and as times.

Each has `arrival_times`: ascending seconds from 0 to ``duration_s``, after a request at time 0.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from profiler.core import NonNegative, Noun, Positive, Share

Floats = npt.NDArray[np.float64]


class PoissonArrivals(Noun):
    """Requests that come independently of each other at one rate; CV 1."""

    kind: Literal["poisson"] = "poisson"
    rate_rps: Positive

    def expected_requests(self, duration_s: float) -> float:
        """Mean number of arrivals within the duration."""
        return self.rate_rps * duration_s

    def arrival_times(self, duration_s: float, rng: np.random.Generator) -> Floats:
        """Seconds, ascending."""
        return _poisson_times(np.array([0.0, duration_s]), np.array([self.rate_rps]), rng)


class GammaArrivals(Noun):
    """Gaps between requests follow a Gamma distribution with this mean rate and CV."""

    kind: Literal["gamma"] = "gamma"
    rate_rps: Positive
    cv: Annotated[float, Field(ge=0.01, le=100)] = Field(
        description="coefficient of variation of the gaps: 1 is Poisson, more is burstier"
    )

    def expected_requests(self, duration_s: float) -> float:
        """Mean number of arrivals within the duration, in the long run."""
        return self.rate_rps * duration_s

    def arrival_times(self, duration_s: float, rng: np.random.Generator) -> Floats:
        """Seconds, ascending."""
        shape = self.cv**-2
        chunk = int(self.expected_requests(duration_s)) + 100
        times = np.empty(0)
        while times.size == 0 or times[-1] <= duration_s:
            gaps = rng.gamma(shape, 1 / (shape * self.rate_rps), chunk)
            times = np.concatenate([times, (times[-1] if times.size else 0.0) + np.cumsum(gaps)])
        return times[times <= duration_s]


class BurstArrivals(Noun):
    """Two states in turn, calm and burst, each Poisson at its own rate, dwell exponential.

    The two-state Markov-modulated Poisson process of Fischer and Meier-Hellstern (1993), "The
    Markov-modulated Poisson process (MMPP) cookbook".
    """

    kind: Literal["bursts"] = "bursts"
    calm_rps: NonNegative
    burst_rps: Positive
    calm_s: Positive = Field(description="mean length of a calm spell")
    burst_s: Positive = Field(description="mean length of a burst")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.calm_rps > self.burst_rps:
            found = f"calm_rps is {self.calm_rps:g} and burst_rps {self.burst_rps:g}"
            raise ValueError(f"{found}; expected calm_rps <= burst_rps")
        return self

    @property
    def rate_rps(self) -> float:
        """Mean rate in the long run."""
        weighted = self.calm_rps * self.calm_s + self.burst_rps * self.burst_s
        return weighted / (self.calm_s + self.burst_s)

    @property
    def cv(self) -> float:
        """Coefficient of variation of the gaps in the long run."""
        calm, burst = 1 / self.calm_s, 1 / self.burst_s
        spread = (self.burst_rps - self.calm_rps) ** 2 * calm * burst
        rates = self.burst_rps * self.calm_rps + self.burst_rps * calm + self.calm_rps * burst
        return math.sqrt(1 + 2 * spread / ((calm + burst) ** 2 * rates))

    def expected_requests(self, duration_s: float) -> float:
        """Mean number of arrivals within the duration."""
        return self.rate_rps * duration_s

    def arrival_times(self, duration_s: float, rng: np.random.Generator) -> Floats:
        """Seconds, ascending; the first state is drawn as in the long run."""
        starts_in_burst = rng.random() * (self.calm_s + self.burst_s) < self.burst_s
        dwell = (self.burst_s, self.calm_s) if starts_in_burst else (self.calm_s, self.burst_s)
        rates = (self.calm_rps, self.burst_rps)
        turn = rates[::-1] if starts_in_burst else rates
        chunk = int(duration_s / (self.calm_s + self.burst_s)) + 10
        edges = np.zeros(1)
        while edges[-1] < duration_s:
            spells = rng.exponential(dwell, (chunk, 2)).ravel()
            edges = np.concatenate([edges, edges[-1] + np.cumsum(spells)])
        last = int(np.searchsorted(edges, duration_s))
        edges = np.append(edges[:last], duration_s)
        return _poisson_times(edges, np.resize(turn, len(edges) - 1), rng)


class Spike(Noun):
    """A time at which the rate is multiplied, and for how long."""

    at_s: NonNegative
    length_s: Positive
    factor: NonNegative = Field(description="times the base rate; below 1 is a dip")


class SpikeArrivals(Noun):
    """Poisson at a base rate, multiplied during each spike; spikes that overlap multiply."""

    kind: Literal["spikes"] = "spikes"
    rate_rps: Positive = Field(description="base rate, between spikes")
    spikes: tuple[Spike, ...] = Field(min_length=1)

    def expected_requests(self, duration_s: float) -> float:
        """Mean number of arrivals within the duration."""
        edges, rates = self._segments(duration_s)
        return float(np.diff(edges) @ rates)

    def arrival_times(self, duration_s: float, rng: np.random.Generator) -> Floats:
        """Seconds, ascending."""
        return _poisson_times(*self._segments(duration_s), rng)

    def _segments(self, duration_s: float) -> tuple[Floats, Floats]:
        """Edges of the spans of constant rate, and the rate in each."""
        ends = [t for s in self.spikes for t in (s.at_s, s.at_s + s.length_s)]
        edges = np.unique(np.clip([0.0, *ends, duration_s], 0.0, duration_s))
        rates = np.full(len(edges) - 1, self.rate_rps)
        for spike in self.spikes:
            during = (edges[:-1] >= spike.at_s) & (edges[:-1] < spike.at_s + spike.length_s)
            rates[during] *= spike.factor
        return edges, rates


class DiurnalArrivals(Noun):
    """Poisson whose rate swings as a cosine: rate x (1 + amplitude cos(2 pi (t - peak)/period))."""

    kind: Literal["diurnal"] = "diurnal"
    rate_rps: Positive = Field(description="mean over a period")
    amplitude: Share = Field(description="swing over the mean: 0.5 is from half to one and a half")
    period_s: Positive = 86_400.0
    peak_s: NonNegative = Field(50_400.0, description="time of the peak; 14:00 from midnight")

    def expected_requests(self, duration_s: float) -> float:
        """Mean number of arrivals within the duration."""
        turn = 2 * math.pi / self.period_s
        swing = math.sin(turn * (duration_s - self.peak_s)) + math.sin(turn * self.peak_s)
        return self.rate_rps * (duration_s + self.amplitude / turn * swing)

    def arrival_times(self, duration_s: float, rng: np.random.Generator) -> Floats:
        """Seconds, ascending, by thinning (Lewis and Shedler 1979)."""
        peak_rps = self.rate_rps * (1 + self.amplitude)
        times = _poisson_times(np.array([0.0, duration_s]), np.array([peak_rps]), rng)
        phase = 2 * np.pi * (times - self.peak_s) / self.period_s
        keep = (1 + self.amplitude * np.cos(phase)) / (1 + self.amplitude)
        return times[rng.random(times.size) < keep]


Arrivals = Annotated[
    PoissonArrivals | GammaArrivals | BurstArrivals | SpikeArrivals | DiurnalArrivals,
    Field(discriminator="kind"),
]
"""An arrival process, told by its ``kind``: poisson, gamma, bursts, spikes or diurnal."""


def _poisson_times(edges: Floats, rates_rps: Floats, rng: np.random.Generator) -> Floats:
    """Poisson arrivals at a rate constant between edges, by inverting the expected count."""
    expected = np.concatenate([[0.0], np.cumsum(np.diff(edges) * rates_rps)])
    arrivals = rng.uniform(0.0, expected[-1], rng.poisson(expected[-1]))
    times: Floats = np.interp(np.sort(arrivals), expected, edges)
    return times
