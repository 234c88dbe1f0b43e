"""How long one must look at arrivals before their mean can be believed as a rate."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

SHORTEST_S = 5.0
"""Counts are told once a second: over less than this, when they are told is most of the rate."""
LONGEST_S = 20.0
"""What is longer than this is news whatever it rests on; a turn by default."""
SURE = 0.2
"""Relative standard error of a mean that is believed: that of 25 requests of one size."""


@dataclass(frozen=True)
class Bin:
    """Work that arrived in a time: ``usd`` in all, ``squares`` the sum of each request's squared.

    Of Poisson arrivals ``squares`` is the variance of ``usd``, however unlike their sizes are.
    """

    seconds: float
    usd: float
    squares: float


class Evidence:
    """The latest bins, as few as tell a rate.

    A bin of 2 s with a few large requests, or with what was told late of the bin before, is no
    rate: its mean is taken with those before it, until its standard error is a fifth, or it spans
    20 s. Bins as long as that are taken as they are.
    """

    def __init__(self, bins: Iterable[Bin] = ()) -> None:
        self._bins = deque(bins)

    def add(self, new: Bin) -> tuple[float, float] | None:
        """Take in a bin; the rate of work now, in $/s, and over how many seconds it was seen.

        None while all that was seen is too short for a rate.
        """
        self._bins.append(new)
        while sum(b.seconds for b in self._bins) - self._bins[0].seconds >= LONGEST_S:
            self._bins.popleft()
        seconds = usd = squares = 0.0
        for b in reversed(self._bins):
            seconds, usd, squares = seconds + b.seconds, usd + b.usd, squares + b.squares
            if seconds >= SHORTEST_S and 0 < squares <= (SURE * usd) ** 2:
                break
        return (usd / seconds, seconds) if seconds >= SHORTEST_S else None

    def state(self) -> list[list[float]]:
        """All it knows, as plain data."""
        return [[b.seconds, b.usd, b.squares] for b in self._bins]

    @classmethod
    def restored(cls, state: Iterable[Iterable[float]]) -> Evidence:
        """From what `state` gave; TypeError or ValueError where it is damaged."""
        return cls(Bin(*map(float, row)) for row in state)
