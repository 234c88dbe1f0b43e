"""When a group that has no replica will have one again, for who is refused meanwhile."""

from __future__ import annotations

from dataclasses import dataclass

COLD_START_S = 104.0
"""Of an 8B model, as Ray publishes it: stands in until a start was seen."""
DECIDE_S = 20.0
"""Until an autoscaler starts what is asked for and has no replica; its interval, if not changed."""
OVERDUE = 0.1
"""A start that takes longer than the last may take so much longer still, of what it took so far."""
SOONEST_S = 1.0


@dataclass(slots=True)
class Waking:
    """What is known of one group's starts: how long they take, and since when one is under way."""

    wanted: int | None = None
    """Replicas it is to have, as last told; None: nobody tells."""
    told_s: float | None = None
    """A cold start, as measured by whoever starts engines."""
    _seen_s: float | None = None
    _began_s: float | None = None
    _had: bool = False
    _told: bool = False

    def tell(self, wanted: int, cold_start_s: float | None, now: float) -> None:
        """The group is to have so many replicas from now on."""
        if wanted and self.wanted == 0:
            self._began_s, self._told = now, True
        elif not wanted:
            self._began_s = None
        self.wanted, self.told_s = wanted, cold_start_s or self.told_s

    def found(self, now: float) -> None:
        """It has a replica. The first ever may have been starting for long before."""
        if self._began_s is not None and (self._had or self._told):
            took_s = now - self._began_s
            # Counted from a refusal, a start may have been under way already.
            self._seen_s = took_s if self._told else max(took_s, self._seen_s or 0.0)
        self._began_s, self._had, self._told = None, True, False

    def ready_in_s(self, now: float) -> float:
        """For a request that finds no replica: it may be the one that has one started."""
        cold_s = self._seen_s or self.told_s or COLD_START_S
        if self.wanted == 0:
            return DECIDE_S + cold_s
        if self._began_s is None:
            self._began_s = now
        passed_s = now - self._began_s
        return max(cold_s - passed_s, OVERDUE * passed_s, SOONEST_S)
