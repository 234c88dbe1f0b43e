"""The highest rate per request size of a replica: as measured where it was, else by the law.

A rate measured under the very SLO that is asked stands. One measured under a stricter SLO is a
floor, for what kept that keeps this too; one measured under a looser SLO is a ceiling. Between
measured sizes the logarithm of the rate is linear in the logarithms of both sizes; outside their
hull nothing is extrapolated: the step-time law (`profiler.capacity`) speaks alone, and says so.
Between a size that had a rate and one that had none, nothing is promised: the rate is zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from profiler import capacity
from profiler.core import MeasuredRate, Profile, Slo

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
SAME = 1e-6
"""Relative difference below which two limits, or two sizes, are one."""


@dataclass(frozen=True)
class Rates:
    """Requests per second of one replica, per size; ``measured`` where a measurement decided."""

    rate_rps: Floats
    measured: Bools


def max_rates(profile: Profile, input_tokens: Floats, output_tokens: Floats, slo: Slo) -> Rates:
    """The highest rate per size inside the SLO; 0 where there is none.

    ``input_tokens`` and ``output_tokens`` are arrays of one shape ``[sizes]``.
    """
    return rates_of([profile], input_tokens, output_tokens, slo)[0]


def rates_of(
    profiles: Sequence[Profile], input_tokens: Floats, output_tokens: Floats, slo: Slo
) -> list[Rates]:
    """`max_rates` of several profiles, in a fraction of the time."""
    inputs, outputs = np.asarray(input_tokens, float), np.asarray(output_tokens, float)
    by_law = capacity.Replica(profiles, inputs, outputs).max_rate_rps(slo)
    return [
        _measured(profile, rate, inputs, outputs, slo)
        for profile, rate in zip(profiles, by_law, strict=True)
    ]


def _measured(profile: Profile, rate: Floats, inputs: Floats, outputs: Floats, slo: Slo) -> Rates:
    """What the law says, where a measurement does not decide."""
    measured = np.zeros(rate.shape, dtype=bool)
    bounds: tuple[tuple[Callable[[Slo], bool], Callable[[Floats, Floats], Floats]], ...] = (
        (lambda m: is_stricter(slo, m), np.minimum),
        (lambda m: is_stricter(m, slo), np.maximum),
        (lambda m: is_same(m, slo), lambda _, found: found),
    )
    for applies, combine in bounds:
        for group in _by_slo(r for r in profile.rates if applies(r.slo)):
            found = interpolate(group, inputs, outputs)
            known = ~np.isnan(found)
            better = np.where(known, combine(rate, np.nan_to_num(found)), rate)
            measured |= known & (better == np.nan_to_num(found))
            rate = better
    return Rates(rate, measured)


def why_infeasible(profile: Profile, input_tokens: float, output_tokens: float, slo: Slo) -> str:
    """The limit that a lone request of this size breaks on this replica, in words."""
    found = max_rates(profile, np.array([input_tokens]), np.array([output_tokens]), slo)
    if found.measured[0]:
        return "measured: at this size or next to it no rate kept the SLO"
    return capacity.why_infeasible(profile, input_tokens, output_tokens, slo)


def is_same(one: Slo, other: Slo) -> bool:
    """Whether two SLOs ask the same."""
    return all(abs(a - b) <= SAME * b for a, b in zip(_limits(one), _limits(other), strict=True))


def is_stricter(one: Slo, other: Slo) -> bool:
    """Whether what keeps ``one`` keeps ``other`` too, and they are not the same."""
    pairs = zip(_limits(one), _limits(other), strict=True)
    return all(a <= b * (1 + SAME) for a, b in pairs) and not is_same(one, other)


def interpolate(rates: Iterable[MeasuredRate], inputs: Floats, outputs: Floats) -> Floats:
    """Rates at sizes inside the hull of the measured ones, ``[sizes]``; NaN outside it."""
    by_size = {(r.input_tokens, r.output_tokens): r.rate_rps for r in rates}
    at = np.log(np.array(list(by_size), dtype=float).reshape(-1, 2))
    values = np.array(list(by_size.values()))
    zero = (values == 0).astype(float)
    logs = np.log(np.where(values > 0, values, 1.0))
    asked = np.log(np.column_stack([inputs, outputs]))
    found = _linear(at, np.column_stack([logs, zero]), asked)
    rate: Floats = np.where(found[:, 1] > SAME, 0.0, np.exp(found[:, 0]))
    return np.where(np.isnan(found[:, 0]), np.nan, rate)


def _linear(at: Floats, values: Floats, asked: Floats) -> Floats:
    """Linear interpolation between scattered points that may all lie on a line, or be but one.

    ``at`` is ``[points, 2]``, ``values`` ``[points, k]``, ``asked`` ``[sizes, 2]``.
    """
    centre = at.mean(axis=0)
    _, spread, axes = np.linalg.svd(at - centre, full_matrices=False)
    rank = int((spread > SAME).sum())
    if rank == 2:
        from scipy.interpolate import LinearNDInterpolator

        found: Floats = LinearNDInterpolator(at, values)(asked)
        return found
    on_axis, of_asked = (at - centre) @ axes[0], (asked - centre) @ axes[0]
    off_axis = asked - centre - np.outer(of_asked if rank else 0 * of_asked, axes[0])
    order = np.argsort(on_axis)
    inside = (np.abs(off_axis) <= SAME).all(axis=1)
    if rank:
        low, high = on_axis[order[0]] - SAME, on_axis[order[-1]] + SAME
        inside &= (of_asked >= low) & (of_asked <= high)
    columns = [np.interp(of_asked, on_axis[order], column[order]) for column in values.T]
    return np.where(inside[:, None], np.column_stack(columns), np.nan)


def _by_slo(rates: Iterable[MeasuredRate]) -> list[list[MeasuredRate]]:
    groups: dict[Slo, list[MeasuredRate]] = {}
    for rate in rates:
        groups.setdefault(rate.slo, []).append(rate)
    return list(groups.values())


def _limits(slo: Slo) -> tuple[float, float, float]:
    """The smaller, the stricter."""
    return slo.ttft_s, slo.tpot_s, 1 - slo.attainment
