"""Hand out turns in given proportions, so that no count ever strays a full turn from its share."""

from __future__ import annotations

from collections.abc import Mapping


class Quota:
    """A deterministic sequence of names whose frequencies follow the given weights.

    After any n turns, each name has had within one turn of ``n * weight / sum(weights)``. This is
    the earliest-deadline rule for the chairman assignment problem (R. Tijdeman, Discrete
    Mathematics 32, 1980), which bounds the deviation for k names by 1 - 1/(2k - 2), the best
    bound possible. Largest-deficit rules have no such bound from below for many names.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        """Weights need not sum to one; names of weight zero never get a turn.

        Raises:
            ValueError: no weight is positive.
        """
        positive = {name: w for name, w in weights.items() if w > 0}
        total = sum(positive.values())
        if not total:
            raise ValueError("a quota needs a positive weight")
        self._shares = {name: w / total for name, w in positive.items()}
        self._served = dict.fromkeys(positive, 0)
        self._turns = 0
        self._slack = 1 / (2 * len(positive) - 2) if len(positive) > 1 else 0.0

    @property
    def shares(self) -> dict[str, float]:
        """The share of each name; they sum to one."""
        return dict(self._shares)

    def next(self) -> str:
        """The name whose turn it is."""
        self._turns += 1
        chosen = min(self._eligible(), key=self._deadline_turn)
        self._served[chosen] += 1
        return chosen

    def _eligible(self) -> list[str]:
        """Names that a turn now would not put too far ahead of their share."""
        owed = {n: s * self._turns - self._served[n] for n, s in self._shares.items()}
        due = [n for n, turns in owed.items() if turns >= self._slack]
        # Rounding can leave nobody due at an exact tie: then whoever is owed most.
        return due or [max(owed, key=owed.__getitem__)]

    def _deadline_turn(self, name: str) -> float:
        """The last turn by which this name must be served to stay inside the bound."""
        return (self._served[name] + 1 - self._slack) / self._shares[name]
