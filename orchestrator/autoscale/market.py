"""What the plan's groups cost beside all that could be rented instead, turn by turn.

A fleet of other groups is looked for by a solver, which takes seconds; whether it is worth looking
is told here by a few sums. `Standing` is what a pool costs as it is, misses included; `Market`
gives the least that the same load could cost anywhere, in fractions of replicas. What lies between
is the most that another plan could save. How much of it cannot be had (replicas are whole) is
learned each time that the solver has looked: it looks again only when there is more to gain.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from orchestrator.autoscale.pools import Bucket, Pool

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Standing:
    """One pool's load, and what carrying it costs with the plan's own groups.

    ``high`` is the work per second that is held to be worth carrying (in $/s; see `Pool`),
    ``mix_rps`` the rates it is made of, in whatever scale. ``usd_per_s`` is the rent of the
    replicas wanted and what is expected to miss for want of more, at what a miss is worth;
    ``rent_usd_per_s`` the rent alone. ``replicas`` are those wanted by group, and ``out``
    groups that cannot be had at present.
    """

    pool: Pool
    mix_rps: Floats
    high: float
    usd_per_s: float
    rent_usd_per_s: float
    replicas: Mapping[str, int] = field(default_factory=dict)
    out: tuple[str, ...] = ()

    @property
    def rates_rps(self) -> dict[Bucket, float]:
        """Rates of the classes' whole streams when the load is ``high``."""
        work = self.pool.work(self.mix_rps)
        scale = self.high / work if work > 0 else 0.0
        return dict(zip(self.pool.classes, (self.mix_rps * scale).tolist(), strict=True))


@dataclass(frozen=True)
class Market:
    """Every replica that the service may rent, whether the plan has it or not.

    ``request_usd[o]`` is the rent that a request of each class takes on option o at the highest
    rate inside the SLO; a class is left out where it cannot meet it. ``place[o]`` is where its
    accelerators come from: options of one place run out together.
    """

    model: Mapping[str, str]
    place: Mapping[str, str]
    request_usd: Mapping[str, Mapping[Bucket, float]]

    def least_usd_per_s(self, standing: Standing) -> float:
        """What a pool's load costs at least: every class where it is cheapest, nothing idle.

        Options whose accelerators cannot be had are left out. A class that nothing here can serve
        costs what it does in the pool.
        """
        pool = standing.pool
        gone = {self.place[n] for n in standing.out if n in self.place}
        offered = [
            self.request_usd[o]
            for o, model in self.model.items()
            if model == pool.model and self.place[o] not in gone
        ]
        total = 0.0
        rates = standing.rates_rps
        for c, name in enumerate(pool.classes):
            found = [usd[name] for usd in offered if name in usd]
            each = min(found, default=float(pool.work_usd[c]))
            total += rates[name] * float(pool.share[c]) * each
        return total


@dataclass
class Potential:
    """Whether another plan may pay. ``horizon_s`` is how long it would stand."""

    market: Market
    horizon_s: float
    cold_s: float
    drain_s: float
    _idle: float = field(default=0.0)

    def usd_per_s(self, standings: Iterable[Standing]) -> tuple[float, float]:
        """What is paid over the least that could be, and that least."""
        standings = tuple(standings)
        least = sum(self.market.least_usd_per_s(s) for s in standings)
        return sum(s.usd_per_s for s in standings) - least, least

    def due(self, standings: Collection[Standing]) -> bool:
        """Whether what may be saved while the new plan stands is more than moving there costs.

        Moving is priced as if everything moved: the new replicas' rent while they start, the old
        ones' while they drain. A plan that moves a part costs that part, and saves no more.
        """
        over, least = self.usd_per_s(standings)
        rent = sum(s.rent_usd_per_s for s in standings)
        moving_usd = least * self.cold_s + rent * self.drain_s
        return (over - self._idle * least) * self.horizon_s > moving_usd

    def looked(self, standings: Collection[Standing], saved_usd_per_s: float) -> None:
        """The solver has looked, and what it found saves so much: the rest cannot be had.

        That rest is remembered in proportion to the load.
        """
        over, least = self.usd_per_s(standings)
        self._idle = max(0.0, over - saved_usd_per_s) / least if least > 0 else 0.0
