"""What a plan must keep besides serving every class inside its SLO, and what moving costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from profiler.core import Market

if TYPE_CHECKING:
    from placement.problem import Option


@dataclass(frozen=True)
class ReplicaBound:
    """How many replicas there may be of the options it covers; what is None covers any.

    ``minimum`` equal to ``maximum`` fixes the number.
    """

    minimum: int = 0
    maximum: int | None = None
    model: str | None = None
    gpu: str | None = None
    market: Market | None = None
    region: str | None = None

    def covers(self, option: Option) -> bool:
        """Whether the option's replicas count."""
        return all(
            wanted is None or wanted == found
            for wanted, found in (
                (self.model, option.model),
                (self.gpu, option.gpu),
                (self.market, option.market),
                (self.region, option.region),
            )
        )

    def __str__(self) -> str:
        parts = [p for p in (self.model, self.gpu, self.market, self.region) if p]
        return " on ".join(parts[:2]) + "".join(f", {p}" for p in parts[2:]) or "all groups"


@dataclass(frozen=True)
class Switching:
    """What it costs to move from the fleet that runs now, spread over the time the plan stands.

    ``running`` is replicas by option name. Starting a replica pays for the time it loads weights
    and serves nothing; stopping one, for the time it drains.
    """

    running: Mapping[str, int]
    start_usd: float = 0.0
    stop_usd: float = 0.0
    horizon_h: float = 1.0


@dataclass(frozen=True)
class Limits:
    """Every limit of a problem that is not a stock or a latency target; formulas: `model`.

    ``quality_mean`` is the least mean quality per stream. With a budget, mean quality is what is
    maximised, and cost is only what decides between fleets of that quality. ``spot_share`` is of
    accelerators. ``spot_reserve`` is the share of every spot group that may vanish at once.
    ``node_loss_headroom`` is how full replicas may be once any one node is lost; None asks for no
    such spare capacity.
    """

    quality_mean: Mapping[str, float] = field(default_factory=dict)
    budget_usd_per_hour: float | None = None
    spot_share: float | None = None
    spot_reserve: float = 0.0
    replicas: tuple[ReplicaBound, ...] = ()
    node_loss_headroom: float | None = None
    switching: Switching | None = None
