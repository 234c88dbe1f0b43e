"""Taking out what no answer needs, exactly: options never better than another, alike classes.

Option r is dominated by s where, in any fleet, each replica of r can give way to k of s: s serves
what r serves, at no less quality, and k replicas of it carry as much; they cost no more, moves
included; they come from the same stock or from one that never ends, fit where r stood, and no limit
counts them worse. Some answer of least cost then has no r. Options are taken out one at a time, so
that each step is of a problem which has the same optimum as the last.

Classes of one stream whose loads differ by a factor alone are served as one: any shares of two can
be replaced by their mean, weighted by load, of which no group sees anything. Where quality counts
the factor must be 1 and the qualities the same, so that their mean is kept as well.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from placement.limits import Limits
from placement.problem import Floats, Option, Problem, RequestClass
from placement.solution import Solution, priced

SAME = 1e-12
"""Relative difference of two loads, or of two qualities, that are one: that of their rounding."""


@dataclass(frozen=True)
class Reduced:
    """A problem of the same least cost, with some of the options and with classes merged.

    ``options`` are the columns of ``original`` that are kept; ``merged`` is the row of ``problem``
    that each class of ``original`` is part of, ``[classes]``.
    """

    original: Problem
    problem: Problem
    options: tuple[int, ...]
    merged: NDArray[np.int64]

    def widened(self, solution: Solution) -> Solution:
        """An answer of the smaller problem as one of the original, with the same bounds."""
        replicas = np.zeros(len(self.original.options), dtype=np.int64)
        shares = np.zeros(self.original.load_s.shape)
        replicas[list(self.options)] = solution.replicas
        shares[:, list(self.options)] = solution.shares[self.merged]
        found = priced(
            self.original,
            replicas,
            shares,
            lower_bound=solution.lower_bound_usd_per_hour,
            lp_bound=solution.lp_bound_usd_per_hour,
        )
        return replace(found, quality_bound=solution.quality_bound)


def reduced(problem: Problem) -> Reduced:
    """The problem without its dominated options, and with classes that are alike merged."""
    kept = kept_options(problem)
    smaller = problem.part(options=kept)
    # Stocks without an option left are kept: answers say how many nodes of each are bought.
    smaller = replace(smaller, stocks=problem.stocks)
    rows, merged = _alike(smaller)
    return Reduced(problem, _merged(smaller, rows, merged), kept, merged)


def unreduced(problem: Problem) -> Reduced:
    """The problem as it is."""
    everything = tuple(range(len(problem.options)))
    return Reduced(problem, problem, everything, np.arange(len(problem.classes)))


def kept_options(problem: Problem) -> tuple[int, ...]:
    """Options that no other one left dominates, in order; of two that are alike, the first."""
    rule = _Dominance(problem)
    left = list(range(len(problem.options)))
    for r in reversed(range(len(problem.options))):
        others = [s for s in left if s != r]
        if rule.dominated(r, others):
            left = others
    return tuple(left)


class _Dominance:
    def __init__(self, problem: Problem) -> None:
        self._problem, self._limits = problem, problem.limits
        self._served = ~np.isnan(problem.load_s)
        self._load = np.where(self._served, problem.load_s, np.inf)
        self._usable = problem.usable
        self._scarce = {s.pool for s in problem.stocks if s.available is not None}
        self._pools = [o.pool for o in problem.options]
        both = self._served.T.astype(float) @ self._served
        self._serves_all_of = both == np.diag(both)[:, None]  # [option, rival]

    def dominated(self, r: int, others: list[int]) -> bool:
        """Whether one of ``others`` can stand in for every replica of option ``r``."""
        option = self._problem.options[r]
        moving = self._limits.switching
        if moving is not None and moving.running.get(option.name, 0):
            return False
        serves = self._serves_all_of[r].tolist()
        rivals = [s for s in others if serves[s] and self._may_replace(r, s)]
        if not rivals:
            return False
        least = self._least_replicas(r, np.array(rivals))
        return any(
            math.isfinite(k) and any(self._no_worse(r, s, n) for n in self._counts(r, s, k))
            for s, k in zip(rivals, least.tolist(), strict=True)
        )

    def _may_replace(self, r: int, s: int) -> bool:
        """Whether accelerators of the rival ``s`` can be had wherever those of ``r`` could be."""
        pool, other = self._pools[r], self._pools[s]
        if pool == other:
            # A node that is lost takes more with it where two groups become one.
            return pool.node_gpus == 1 or self._limits.node_loss_headroom is None
        return pool.node_gpus == other.node_gpus == 1 and other not in self._scarce

    def _least_replicas(self, r: int, rivals: NDArray[np.int64]) -> Floats:
        """Replicas of each rival that carry what one of ``r`` does; infinite where they cannot."""
        rows = self._served[:, r]
        if not rows.any():
            return np.ones(len(rivals))
        load = self._load[np.ix_(rows, rivals)] / self._load[rows, r][:, None]
        most: Floats = load.max(axis=0)
        fuller = self._usable[r] / self._usable[rivals]
        if self._limits.node_loss_headroom is not None:  # then filled as much as any other
            fuller = np.maximum(fuller, 1.0)
        needed: Floats = np.maximum(np.ceil(most * fuller), 1.0)
        needed[self._worse_quality(rows, r, rivals)] = np.inf
        return needed

    def _worse_quality(
        self, rows: NDArray[np.bool_], r: int, rivals: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        quality = self._problem.quality
        if quality is None:
            return np.zeros(len(rivals), dtype=bool)
        worse: NDArray[np.bool_] = (quality[np.ix_(rows, rivals)] < quality[rows, r][:, None]).any(
            axis=0
        )
        return worse

    def _counts(self, r: int, s: int, least: float) -> Iterator[int]:
        """How many of ``s`` to try for one of ``r``: the fewest, or as many accelerators."""
        yield int(least)
        alike, over = divmod(self._problem.options[r].gpus, self._problem.options[s].gpus)
        if not over and alike > least:
            yield alike

    def _no_worse(self, r: int, s: int, k: int) -> bool:
        option, rival = self._problem.options[r], self._problem.options[s]
        pool = self._pools[r] != self._pools[s] or k * rival.slot_gpus <= option.slot_gpus
        return pool and _costs_no_more(self._limits, option, rival, k) and self._counted(r, s, k)

    def _counted(self, r: int, s: int, k: int) -> bool:
        """Whether the limits that count replicas or accelerators still hold."""
        option, rival = self._problem.options[r], self._problem.options[s]
        cap = self._limits.spot_share
        if cap is not None:
            before = option.gpus * ((option.market == "spot") - cap)
            if k * rival.gpus * ((rival.market == "spot") - cap) > before:
                return False
        for bound in self._limits.replicas:
            more = k * bound.covers(rival) - bound.covers(option)
            if (more < 0 and bound.minimum) or (more > 0 and bound.maximum is not None):
                return False
        return True


def _costs_no_more(limits: Limits, option: Option, rival: Option, k: int) -> bool:
    """In rent and in moves: starting one more of ``rival`` costs at most what a start does."""
    moving = limits.switching
    start = moving.start_usd / moving.horizon_h if moving is not None else 0.0
    # What is bought by the node is not paid by the replica; see `_may_replace` and `slot_gpus`.
    paid, saved = (o.usd_per_hour if o.node_gpus == 1 else 0.0 for o in (rival, option))
    return k * (paid + start) <= saved + start


def _alike(problem: Problem) -> tuple[list[int], NDArray[np.int64]]:
    """The first class of each set that is served as one; for each class, which set it is in."""
    sets: dict[bytes, list[int]] = defaultdict(list)
    for c in range(len(problem.classes)):
        sets[_pattern(problem, c)].append(c)
    first: list[int] = []
    merged = np.zeros(len(problem.classes), dtype=np.int64)
    for members in sets.values():
        found: list[int] = []
        for c in members:
            twin = next((k for k in found if _same(problem, first[k], c)), None)
            if twin is None:
                twin = len(first)
                first.append(c)
                found.append(twin)
            merged[c] = twin
    return first, merged


def _pattern(problem: Problem, c: int) -> bytes:
    """What classes that are served as one have in common, coarsely: cheap to look up."""
    row = problem.load_s[c]
    shape = np.round(row / _largest(row), 6)
    floor = problem.classes[c].quality_floor
    key: bytes = repr((problem.classes[c].stream, floor)).encode() + shape.tobytes()
    return key


def _largest(row: Floats) -> float:
    """The largest load in a row; 1 where there is none."""
    return float(np.nan_to_num(row).max(initial=0.0)) or 1.0


def _same(problem: Problem, one: int, other: int) -> bool:
    a, b = problem.load_s[one], problem.load_s[other]
    if problem.quality is None:
        return np.allclose(a / _largest(a), b / _largest(b), rtol=SAME, atol=0, equal_nan=True)
    loads = np.allclose(a, b, rtol=SAME, atol=0, equal_nan=True)
    return loads and np.allclose(problem.quality[one], problem.quality[other], rtol=SAME, atol=0)


def _merged(problem: Problem, rows: list[int], merged: NDArray[np.int64]) -> Problem:
    """The problem of the first of each set, at the rates that carry all of its load."""
    if len(rows) == len(problem.classes):
        return problem
    scale = np.array([_largest(row) for row in problem.load_s])
    work = np.bincount(merged, weights=problem.rates_rps * scale, minlength=len(rows))
    part = problem.part(classes=rows)
    classes: tuple[RequestClass, ...] = tuple(
        replace(c, rate_rps=float(w / scale[row]))
        for c, w, row in zip(part.classes, work, rows, strict=True)
    )
    return replace(part, classes=classes, stocks=problem.stocks)
