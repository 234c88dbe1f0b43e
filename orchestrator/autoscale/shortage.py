"""Which groups cannot be had at present: asked for and refused, or starting far too long."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FIRST_BACK_OFF_S = 60.0
LONGEST_BACK_OFF_S = 1800.0
STUCK_AFTER = 3.0
"""Times its cold start that a replica may take until it counts as not to be had."""


@dataclass(slots=True)
class _Group:
    back_off_s: float = 0.0
    until_s: float = 0.0
    waiting_since_s: float | None = None
    ready: int = 0


class Shortage:
    """Remembers what could not be had; each refusal doubles how long it is not asked for again."""

    def __init__(self) -> None:
        self._groups: dict[str, _Group] = {}

    def see(
        self, name: str, time_s: float, *, ready: int, starting: int, refused: int, cold_s: float
    ) -> None:
        """Take in a group's state."""
        group = self._groups.setdefault(name, _Group(ready=ready))
        if ready > group.ready or starting == 0:
            group.waiting_since_s = None
        if ready > group.ready and not refused:
            group.back_off_s = 0.0
        group.ready = ready
        if starting and group.waiting_since_s is None:
            group.waiting_since_s = time_s
        stuck = (
            group.waiting_since_s is not None
            and time_s - group.waiting_since_s > STUCK_AFTER * cold_s + FIRST_BACK_OFF_S
        )
        if refused or (stuck and time_s >= group.until_s):
            doubled = max(2 * group.back_off_s, FIRST_BACK_OFF_S)
            group.back_off_s = min(doubled, LONGEST_BACK_OFF_S)
            group.until_s = time_s + group.back_off_s

    def until_s(self, name: str, time_s: float) -> float | None:
        """Until when no more of a group is asked for; None where it may be."""
        group = self._groups.get(name)
        return group.until_s if group and group.until_s > time_s else None

    def state(self) -> dict[str, Any]:
        """All it knows, as plain data."""
        return {
            n: [g.back_off_s, g.until_s, g.waiting_since_s, g.ready]
            for n, g in self._groups.items()
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Know again what `state` gave; TypeError or ValueError where it is damaged."""
        for name, (back_off_s, until_s, since_s, ready) in state.items():
            since = None if since_s is None else float(since_s)
            self._groups[name] = _Group(float(back_off_s), float(until_s), since, int(ready))
