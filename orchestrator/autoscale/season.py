"""The shape of a day or a week, learned from the days before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
DAY_S = 86_400.0
SLOT_S = 600.0
NEW_DAY_WEIGHT = 0.4
DAYS_FOR_WEEK = 14


class Season:
    """Mean load by the time of the day, or of the week once two weeks are known.

    Times are seconds in one clock whose days begin at multiples of 86,400. Each slot of ten
    minutes keeps a mean in which the last day counts 0.4; between the middles of slots it is
    linear. Only its shape is used, never its level.
    """

    def __init__(self, slots: Mapping[int, float] | None = None) -> None:
        self._slots: dict[int, float] = dict(slots or {})  # by number since time 0
        self._now: int | None = None
        self._sum = self._time_s = 0.0
        self._curve: Floats | None = None
        self._learn()

    @classmethod
    def of(cls, history: Iterable[tuple[float, float]]) -> Season:
        """From (time_s, load) of times past, also negative ones; several a slot are averaged."""
        found: dict[int, list[float]] = {}
        for time_s, load in history:
            found.setdefault(int(time_s // SLOT_S), []).append(load)
        return cls({k: float(np.mean(v)) for k, v in found.items()})

    @property
    def known(self) -> bool:
        """Whether there is at least a day of it."""
        return self._curve is not None

    def at(self, time_s: float) -> float:
        """What is usual at a time; 1 while nothing is known."""
        if self._curve is None:
            return 1.0
        place = time_s / SLOT_S - 0.5
        first = int(np.floor(place))
        part, size = place - first, len(self._curve)
        return float(
            (1 - part) * self._curve[first % size] + part * self._curve[(first + 1) % size]
        )

    def observe(self, time_s: float, interval_s: float, load: float) -> None:
        """Take in the mean load of the interval that ends at a time."""
        slot = int((time_s - interval_s / 2) // SLOT_S)
        if self._now is not None and slot != self._now and self._time_s >= SLOT_S / 2:
            self._slots[self._now] = self._sum / self._time_s
            self._learn()
        if slot != self._now:
            self._now, self._sum, self._time_s = slot, 0.0, 0.0
        self._sum += load * interval_s
        self._time_s += interval_s

    def _learn(self) -> None:
        per_day = int(DAY_S / SLOT_S)
        if len(self._slots) < 0.9 * per_day:
            return
        latest = max(self._slots)
        self._slots = {k: v for k, v in self._slots.items() if k > latest - 4 * 7 * per_day}
        weeks = len(self._slots) >= 0.9 * DAYS_FOR_WEEK * per_day
        size = per_day * (7 if weeks else 1)
        curve = np.full(size, np.nan)
        for slot in sorted(self._slots):
            old, new = curve[slot % size], self._slots[slot]
            curve[slot % size] = new if np.isnan(old) else old + NEW_DAY_WEIGHT * (new - old)
        known = np.flatnonzero(~np.isnan(curve))
        curve = np.interp(np.arange(size), known, curve[known], period=size)
        self._curve = np.maximum(curve, 1e-3 * curve.mean())

    def become(self, other: Season) -> None:
        """Know what another knows; for whoever shares this one."""
        self._slots = dict(other._slots)
        self._curve = None
        self._learn()

    def state(self) -> dict[str, Any]:
        """All it knows, as plain data."""
        return {"slots": {str(k): round(v, 6) for k, v in self._slots.items()}}

    @classmethod
    def restored(cls, state: Mapping[str, Any]) -> Season:
        """From what `state` gave; KeyError, TypeError or ValueError where it is damaged."""
        return cls({int(k): float(v) for k, v in state["slots"].items()})
