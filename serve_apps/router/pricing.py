"""What an answer costs now: load times the price of load, where the prefix lies, and how it rises.

    price(m) = min over groups r of model m, inside the SLO:  load_r(prefill, output) * pi_r(now)

A session's prompt is cached where it was last answered. There only its new tokens are prefilled;
anywhere else all of them are, so leaving has a price, and it is in the load.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

Load = Callable[[float, float], float]
"""(prefill tokens, output tokens) to load: the share of a replica's second that a request takes."""


@dataclass(frozen=True, slots=True)
class GroupPrice:
    """A replica group now: ``price`` is pi_r, per unit of load; ``feasible``: inside the SLO."""

    group: str
    model: str
    load: Load
    price: float
    feasible: bool = True


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """The cheapest group for one model; price infinite and group "" where none is feasible."""

    price: float
    group: str = ""

    @property
    def feasible(self) -> bool:
        """Some group would answer inside the SLO."""
        return bool(self.group)


def price_models(
    models: Sequence[str],
    groups: Iterable[GroupPrice],
    input_tokens: int,
    output_tokens: Sequence[float],
    cached_tokens: Mapping[str, int] | None = None,
) -> list[ModelPrice]:
    """Price every model for one request.

    ``output_tokens`` is expected per model; ``cached_tokens`` says how much of this prompt each
    group still holds from the session's earlier turns.
    """
    found = [ModelPrice(math.inf)] * len(models)
    place = {model: i for i, model in enumerate(models)}
    cached = cached_tokens or {}
    for g in groups:
        i = place.get(g.model)
        if i is None or not g.feasible:
            continue
        prefill = max(input_tokens - cached.get(g.group, 0), 0)
        price = g.load(prefill, output_tokens[i]) * g.price
        if price < found[i].price:
            found[i] = ModelPrice(price, g.group)
    return found


class LivePrice:
    """pi_r(now): the plan's price in a quiet hour, higher while a group is busier than planned.

    Ascent on the dual of the group's headroom constraint: now = planned + base * (e^rise - 1),
    where rise grows by gain * (utilisation - ``target``) each second, and falls back to 0.
    """

    def __init__(
        self,
        planned: float,
        *,
        base: float,
        target: float,
        gain_per_s: float = 1.0,
        most: float = 1e3,
    ) -> None:
        """``planned`` is the plan's pi_r, 0 where the group has slack; ``base`` what a unit of its
        load costs to rent, above 0; ``target`` its headroom; ``most`` bounds e^rise.
        """
        self._planned = planned
        self._base = base
        self._target = target
        self._gain_per_s = gain_per_s
        self._most = math.log(most)
        self._rise = 0.0

    @property
    def now(self) -> float:
        """The price per unit of load."""
        return self._planned + self._base * math.expm1(self._rise)

    def observe(self, utilisation: float, elapsed_s: float) -> float:
        """Take in work in progress and queued over capacity; returns the new price."""
        moved = self._rise + self._gain_per_s * elapsed_s * (utilisation - self._target)
        self._rise = min(max(moved, 0.0), self._most)
        return self.now

    def relax(self, left: float) -> None:
        """Keep only this share of the rise, for the queue that it stands for is gone."""
        self._rise *= left
