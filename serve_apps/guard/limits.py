"""Token buckets and budgets of one key. Times are passed in; nothing here reads a clock."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field

MINUTE_S = 60.0
FIRST_OUTPUT_TOKENS = 256.0
"""Expected of a key's first answers; what its answers were like counts from then on."""
MEMORY = 0.05
"""Weight of the latest answer in the running means."""


class Bucket:
    """So much a minute: a minute's worth may be taken at once, then as it fills again.

    In any minute at most twice the rate is taken, in the long run at most the rate. What is
    corrected later may leave a debt; nothing is given out before it is paid.
    """

    __slots__ = ("_at_s", "_capacity", "_per_s", "level")

    def __init__(self, per_minute: float, now_s: float) -> None:
        self._per_s = per_minute / MINUTE_S
        self._capacity = per_minute
        self._at_s = now_s
        self.level = per_minute

    def wait_s(self, amount: float, now_s: float) -> float:
        """Until ``amount`` can be taken; for more than a minute's worth, until it is full."""
        self.level = min(self._capacity, self.level + (now_s - self._at_s) * self._per_s)
        self._at_s = now_s
        return max(0.0, (min(amount, self._capacity) - self.level) / self._per_s)

    def take(self, amount: float) -> None:
        """Take, even into debt; a negative amount is given back."""
        self.level = min(self._capacity, self.level - amount)

    @property
    def owed(self) -> float:
        """How far it is from full; what a restart must remember."""
        return self._capacity - self.level


@dataclass(slots=True)
class Totals:
    """What a key used: since ever, on the current day and in the current month (UTC)."""

    requests: int = 0
    tokens: int = 0
    day: str = ""
    day_usd: float = 0.0
    month: str = ""
    month_usd: float = 0.0

    def add_usd(self, usd: float, day: str) -> None:
        """Count a cost on this day, ``YYYY-MM-DD``."""
        self.turn(day)
        self.day_usd += usd
        self.month_usd += usd

    def turn(self, day: str) -> None:
        """Begin a new day or month, if it is one."""
        if self.day != day:
            self.day, self.day_usd = day, 0.0
        if self.month != day[:7]:
            self.month, self.month_usd = day[:7], 0.0


@dataclass(slots=True)
class Meter:
    """What one key may still use here."""

    requests: Bucket | None
    tokens: Bucket | None
    day_budget_usd: float | None
    month_budget_usd: float | None
    mine: Totals = field(default_factory=Totals)
    others: Totals = field(default_factory=Totals)
    held_tokens: float = 0.0
    mean_output_tokens: float = FIRST_OUTPUT_TOKENS
    usd_per_token: float = 0.0

    def expected_tokens(
        self, input_tokens: int, max_output_tokens: int | None, answers: int = 1
    ) -> int:
        """Input and expected output of a request: its own limit, or what this key's answers had.

        The limit holds for each of the ``answers`` that are asked for at once.
        """
        output = self.mean_output_tokens
        if max_output_tokens is not None:
            output = min(output, max_output_tokens)
        return input_tokens + round(answers * output)

    def over_budget(self, day: str, tokens: float) -> str | None:
        """``day`` or ``month``, when its budget is spent by what was used and what is under way."""
        self.mine.turn(day)
        self.others.turn(day)
        pending = (self.held_tokens + tokens) * self.usd_per_token
        spent = {
            "day": (self.mine.day_usd + self.others.day_usd, self.day_budget_usd),
            "month": (self.mine.month_usd + self.others.month_usd, self.month_budget_usd),
        }
        for period, (usd, budget) in spent.items():
            if budget is not None and (usd >= budget or usd + pending > budget):
                return period
        return None

    def hold(self, tokens: int) -> None:
        """A request begins that is expected to use these tokens."""
        self.held_tokens += tokens
        if self.tokens is not None:
            self.tokens.take(tokens)

    def settle(
        self,
        held: int,
        input_tokens: int,
        output_tokens: int,
        usd: float,
        day: str,
        answers: int = 1,
    ) -> None:
        """A request is over that used these tokens, over all its answers, and cost so much."""
        used = input_tokens + output_tokens
        self.held_tokens = max(0.0, self.held_tokens - held)
        if self.tokens is not None:
            self.tokens.take(used - held)
        self.mine.tokens += used
        self.mine.add_usd(usd, day)
        if output_tokens:
            self.mean_output_tokens += MEMORY * (output_tokens / answers - self.mean_output_tokens)
        if used and usd:
            mean = self.usd_per_token or usd / used
            self.usd_per_token = mean + MEMORY * (usd / used - mean)


def day_of(unix_s: float) -> str:
    """The day of UTC, ``YYYY-MM-DD``."""
    return dt.datetime.fromtimestamp(unix_s, dt.UTC).date().isoformat()


def until_next(period: str, unix_s: float) -> float:
    """Seconds until the next day or month of UTC begins."""
    now = dt.datetime.fromtimestamp(unix_s, dt.UTC)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if period == "day":
        then = midnight + dt.timedelta(days=1)
    else:
        then = (midnight.replace(day=1) + dt.timedelta(days=32)).replace(day=1)
    return (then - now).total_seconds()
