"""Which fleet to have next: rent, moves and misses weighed against each other, in dollars.

The time ahead is cut into stages, the first as long as a cold start: what is asked for now is paid
for in it and serves after it. With load W (in dollars of work per second, uncertain), a fleet n
costs in a stage of length t

    t (sum_g p_g n_g + k E[work that misses the SLO])

where k is what a miss is worth over what serving it costs. With shedding, what exceeds the
capacity misses: E[(W - cap(n))+], the newsvendor's loss, so at the optimum the chance that one
more replica is short equals its rent over the worth of what it would save. Without shedding, all
that is served in an overloaded stage misses too.

Between stages a start costs the rent of a cold start, a stop that of draining. Dynamic programming
from the last stage back gives each fleet's cost from then on; as a move's cost is linear in each
group, the least over all fleets is one running minimum per group. So a replica is kept through a
lull that is shorter than its restart is worth, and stopped in a longer one: there is no timer.
Later stages count with the error that a forecast one cold start ahead of them will have, since
they will be decided then; and they are decided by a forecast that will have moved. So from the
second stage on there are several courses, one for each likely revision of the forecast, and the
fleet of the first has to suit all of them: to stop what one of three will call back is not free,
nor is to start what one of three will not need.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestrator.autoscale.forecast import Path
from orchestrator.autoscale.pools import Pool

Floats = NDArray[np.float64]
MAX_FLEETS = 3000
NEAR = 3


@dataclass(frozen=True)
class Worth:
    """What things cost beside rent.

    ``miss`` is k above. ``shedding`` tells whether the router turns away what it cannot serve in
    time. ``drain_s`` is for how long a replica that leaves is still paid.
    """

    miss: float = 10.0
    shedding: bool = True
    drain_s: float = 30.0


@dataclass(frozen=True)
class Now:
    """A pool's fleet: ``ready`` and ``starting`` replicas, ``[groups]``, and what they may be."""

    ready: Floats
    starting: Floats
    least: NDArray[np.int64]
    most: NDArray[np.int64]
    budget_usd_per_s: float = np.inf

    @property
    def staying(self) -> Floats:
        """Replicas that start or take requests."""
        return self.ready + self.starting


@dataclass(frozen=True)
class Choice:
    """The fleet chosen, and what staying as it is would cost more, in dollars over the horizon.

    ``rent_usd`` and ``miss_usd`` are differences too: choice less stay. ``capacity`` is in dollars
    of work per second.
    """

    replicas: NDArray[np.int64]
    saving_usd: float
    rent_usd: float
    miss_usd: float
    capacity: float


@dataclass(frozen=True)
class _Costs:
    rent: Floats
    miss: Floats

    @property
    def total(self) -> Floats:
        return self.rent + self.miss


def choose(
    pool: Pool,
    mix_rps: Floats,
    path: Path,
    stages_s: Floats,
    cold_s: Floats,
    now: Now,
    worth: Worth,
) -> Choice:
    """The fleet to ask for.

    ``path`` has one load a stage, ``[stages]``; ``stages_s`` their lengths, the first a cold start.
    ``cold_s`` is ``[groups]``. A fleet outside its limits (``now.least``, ``now.most``, the budget)
    is never chosen; where none is inside the budget, the cheapest is.
    """
    axes = _axes(pool, mix_rps, path, now, worth)
    fleets = _grid(axes)
    staying = now.staying
    capacity = pool.capacity(mix_rps, fleets)
    rent = fleets @ pool.usd_per_s
    start, stop = pool.usd_per_s * cold_s, pool.usd_per_s * worth.drain_s
    shape = tuple(len(a) for a in axes)
    following = stages_s[1] * (rent + worth.miss * _misses(path, 1, capacity, worth))
    ways, often = np.unique(path.revisions, return_counts=True)
    for way, weight in zip(ways.tolist(), (often / often.sum()).tolist(), strict=True):
        revised, later = path.revised(way), np.zeros(len(fleets))
        for t in range(len(stages_s) - 1, 1, -1):
            misses = _misses(revised, t, capacity, worth)
            later += stages_s[t] * (rent + worth.miss * misses)
            later = moved(later.reshape(shape), axes, start, stop).ravel()
        following += weight * later
    first = _first_stage(pool, mix_rps, path, stages_s[0], fleets, now, worth)
    total = first.total + following
    allowed = rent <= now.budget_usd_per_s * (1 + 1e-9)
    if allowed.any():
        total = np.where(allowed, total, np.inf)
        best = int(np.argmin(total))
    else:
        best = int(np.argmin(rent))
    stay = int(np.abs(fleets - staying).sum(axis=1).argmin())
    is_here = bool((fleets[stay] == staying).all()) and bool(allowed[stay] or not allowed.any())
    if is_here and total[stay] <= total[best] * (1 + 1e-6):
        best = stay
    horizon_s = float(stages_s.sum())
    rent_usd = float((rent[best] - rent[stay]) * horizon_s)
    saving = float(first.total[stay] + following[stay] - first.total[best] - following[best])
    return Choice(
        replicas=fleets[best].astype(np.int64),
        saving_usd=saving,
        rent_usd=rent_usd,
        miss_usd=-saving - rent_usd,
        capacity=float(capacity[best]),
    )


def _first_stage(
    pool: Pool, mix_rps: Floats, path: Path, length_s: float, fleets: Floats, now: Now, worth: Worth
) -> _Costs:
    """Until what is asked for now is ready: who stays serves, who starts is paid for."""
    there = now.ready + now.starting / 2  # those under way come some time during it
    serving = np.minimum(fleets, there)
    misses = _misses(path, 0, pool.capacity(mix_rps, serving), worth)
    leaving = np.maximum(now.staying - fleets, 0.0)
    rent = length_s * (fleets @ pool.usd_per_s) + worth.drain_s * (leaving @ pool.usd_per_s)
    return _Costs(rent, length_s * worth.miss * misses)


def _misses(path: Path, stage: int, capacity: Floats, worth: Worth) -> Floats:
    """Work per second that misses the SLO, the mean over what may come, ``[fleets]``."""
    loads = path.loads(stage)
    short = np.maximum(loads[None, :] - capacity[:, None], 0.0)
    if not worth.shedding:
        short = np.where(short > 0, loads[None, :], 0.0)
    found: Floats = short @ path.weights
    return found


def moved(costs: Floats, axes: list[Floats], start: Floats, stop: Floats) -> Floats:
    """The least of costs plus the cost of moving there, from every fleet; group by group."""
    for g, axis in enumerate(axes):
        shape = [1] * costs.ndim
        shape[g] = len(axis)
        place = axis.reshape(shape)
        up = np.flip(np.minimum.accumulate(np.flip(costs + start[g] * place, g), axis=g), g)
        down = np.minimum.accumulate(costs - stop[g] * place, axis=g)
        costs = np.minimum(up - start[g] * place, down + stop[g] * place)
    return costs


def _axes(pool: Pool, mix_rps: Floats, path: Path, now: Now, worth: Worth) -> list[Floats]:
    """Numbers of replicas of each group to choose from: all, or those near, where all are many.

    No unit of capacity pays that is used with a chance under one in ``worth.miss``; without
    shedding, where a shortage costs more than itself, the whole range is looked at.
    """
    busiest = int(np.argmax(path.mean))
    highest = path.exceeded(busiest, 1 / worth.miss if worth.shedding else 0.0)
    axes = []
    for g in range(len(pool.groups)):
        alone = np.zeros((1, len(pool.groups)))
        alone[0, g] = 1.0
        each = float(pool.capacity(mix_rps, alone)[0])
        if each <= 0:  # it cannot carry this mix alone; others do what it cannot
            each = float((pool.usd_per_s[g]) * 0.25)
        enough = int(np.ceil(min(highest / each, 1e6))) + 1
        here = int(now.staying[g])
        most = int(max(min(now.most[g], max(enough, here)), now.least[g]))
        axes.append(np.arange(int(now.least[g]), most + 1, dtype=float))
    while np.prod([len(a) for a in axes]) > MAX_FLEETS:
        longest = max(range(len(axes)), key=lambda g: len(axes[g]))
        thinner = _thinner(axes[longest], float(now.staying[longest]))
        if len(thinner) == len(axes[longest]):
            break
        axes[longest] = thinner
    return axes


def _thinner(axis: Floats, here: float) -> Floats:
    """Every second of an axis's numbers, but all those near, and both ends."""
    keep = np.abs(axis - here) <= NEAR
    keep[::2] = True
    keep[-1] = True
    if keep.all():
        keep[1:-1] = np.abs(axis[1:-1] - here) <= 1
    return axis[keep]


def _grid(axes: list[Floats]) -> Floats:
    return np.array(list(itertools.product(*axes)), dtype=float)
