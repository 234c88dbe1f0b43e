"""How many second tries the pool can afford."""

from __future__ import annotations


class RetryBudget:
    """A token bucket that requests fill and retries empty.

    When every engine fails, retries multiply the load on those that might recover; the bucket
    holds tries to ``1 + share`` a request, beside the few of its start.
    """

    def __init__(self, share: float, start: float, most: float) -> None:
        self._share = share
        self._most = most
        self._tokens = start

    def arrived(self) -> None:
        """A request came, and pays its share of a retry."""
        self._tokens = min(self._tokens + self._share, self._most)

    @property
    def enough(self) -> bool:
        """Whether there is enough for a retry."""
        return self._tokens >= 1.0

    def spend(self) -> bool:
        """Pay for a retry, if there is enough for one."""
        if not self.enough:
            return False
        self._tokens -= 1.0
        return True
