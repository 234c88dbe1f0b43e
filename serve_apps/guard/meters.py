"""The meters of all keys, joined with what other ingresses used.

`sync` reads and writes files, and so may run in another thread; what it learns is left in a
ledger that the thread of the requests empties.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from profiler.errors import InputError
from serve_apps.guard.keys import KeyEntry
from serve_apps.guard.limits import MINUTE_S, Bucket, Meter, Totals, day_of
from serve_apps.guard.usage import Kept, UsageFiles

log = logging.getLogger("orchestrator.guard")


class Meters:
    """One meter per key that was used; made when it is first needed."""

    def __init__(
        self,
        directory: str | Path | None = None,
        *,
        shares: int = 1,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        """``directory``: see `usage`; without it each of ``shares`` ingresses gives out its part.

        Raises:
            InputError: the directory cannot be used.
        """
        self._files = UsageFiles(directory) if directory is not None else None
        self._shares = 1 if directory is not None else shares
        self._clock = clock
        self._now = now
        self._before = self._files.mine() if self._files else {}
        self._meters: dict[str, tuple[KeyEntry, Meter]] = {}
        self._seen: dict[tuple[str, str], Totals] = {}
        self._written: dict[str, Totals] = {}
        self._others: dict[str, Totals] = {}
        self._debts: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()  # of the debts: one thread adds, another takes
        self._baseline()

    def of(self, entry: KeyEntry) -> Meter:
        """The meter of a key; when its limits were changed, new ones with what it used so far."""
        self._pay()
        known = self._meters.get(entry.id)
        if known is not None and (known[0] is entry or known[0] == entry):
            self._meters[entry.id] = (entry, known[1])
            return known[1]
        meter = self._meter(entry)
        if known is not None:
            old = known[1]
            meter.mine, meter.others = old.mine, old.others
            meter.held_tokens = old.held_tokens
            meter.mean_output_tokens = old.mean_output_tokens
            meter.usd_per_token = old.usd_per_token
            _carry(old.requests, meter.requests)
            _carry(old.tokens, meter.tokens)
        self._meters[entry.id] = (entry, meter)
        return meter

    def known(self, key_id: str) -> Meter | None:
        """The meter of a key that was used."""
        self._pay()
        found = self._meters.get(key_id)
        return found[1] if found is not None else None

    def sync(self) -> None:
        """Write what was used here and take in what was used elsewhere.

        A file that cannot be written is said in the log; requests go on.
        """
        if self._files is None:
            return
        try:
            self._write(self._files)
        except InputError as error:
            log.error("usage is not kept: %s", error)
        self._take_in(self._files)

    def close(self) -> None:
        """Write once more, and leave the file to the next ingress."""
        if self._files is not None:
            self.sync()
            self._files.close()
            self._files = None

    def _write(self, files: UsageFiles) -> None:
        meters = [(key, meter) for key, (_, meter) in list(self._meters.items())]
        totals = {key: dataclasses.replace(meter.mine) for key, meter in meters}
        if totals == self._written:
            return
        now = self._now()
        kept = {key: _line(meter, now) for key, meter in meters}
        files.write(self._before | kept)
        self._written = totals

    def _take_in(self, files: UsageFiles) -> None:
        day = day_of(self._now())
        sums: dict[str, Totals] = {}
        for name, lines in files.others():
            for key, kept in lines.items():
                self._debit(name, key, kept.totals)
                _add(sums.setdefault(key, Totals()), kept.totals, day)
        self._others = sums
        for key, (_, meter) in list(self._meters.items()):
            meter.others = sums.get(key, Totals())

    def _baseline(self) -> None:
        """What was used before we came is no one's debt of now."""
        if self._files is not None:
            for name, lines in self._files.others():
                self._seen |= {(name, key): kept.totals for key, kept in lines.items()}
            self._take_in(self._files)

    def _debit(self, name: str, key: str, totals: Totals) -> None:
        """Note what others took since we last looked."""
        seen = self._seen.get((name, key), Totals())
        self._seen[name, key] = totals
        requests, tokens = totals.requests - seen.requests, totals.tokens - seen.tokens
        if requests > 0 or tokens > 0:
            with self._lock:  # a sum a key: who stands by for weeks never pays
                before = self._debts.get(key, (0, 0))
                self._debts[key] = before[0] + max(0, requests), before[1] + max(0, tokens)

    def _pay(self) -> None:
        """Take from our buckets what others took."""
        if not self._debts:
            return
        with self._lock:
            debts, self._debts = self._debts, {}
        for key, (requests, tokens) in debts.items():
            if key not in self._meters:
                continue  # nobody used it here; at worst its first minute starts full
            meter = self._meters[key][1]
            if meter.requests is not None:
                meter.requests.take(requests)
            if meter.tokens is not None:
                meter.tokens.take(tokens)

    def _meter(self, entry: KeyEntry) -> Meter:
        now_s = self._clock()
        share = self._shares
        meter = Meter(
            _bucket(entry.requests_per_minute, share, now_s),
            _bucket(entry.tokens_per_minute, share, now_s),
            entry.budget_usd_per_day and entry.budget_usd_per_day / share,
            entry.budget_usd_per_month and entry.budget_usd_per_month / share,
            others=self._others.get(entry.id, Totals()),
        )
        if (kept := self._before.get(entry.id)) is not None:
            meter.mine = dataclasses.replace(kept.totals)
            away_min = max(0.0, self._now() - kept.at_unix_s) / MINUTE_S
            _restore(meter.requests, kept.requests_owed, entry.requests_per_minute, away_min)
            _restore(meter.tokens, kept.tokens_owed, entry.tokens_per_minute, away_min)
        return meter


def _bucket(per_minute: int | None, shares: int, now_s: float) -> Bucket | None:
    return None if per_minute is None else Bucket(per_minute / shares, now_s)


def _restore(bucket: Bucket | None, owed: float, per_minute: int | None, away_min: float) -> None:
    """As full as it would be had we not been away."""
    if bucket is not None and per_minute is not None:
        bucket.take(max(0.0, owed - per_minute * away_min))


def _carry(old: Bucket | None, new: Bucket | None) -> None:
    if old is not None and new is not None:
        new.take(old.owed)


def _line(meter: Meter, now_unix_s: float) -> Kept:
    return Kept(
        dataclasses.replace(meter.mine),
        meter.requests.owed if meter.requests else 0.0,
        meter.tokens.owed if meter.tokens else 0.0,
        now_unix_s,
    )


def _add(total: Totals, more: Totals, day: str) -> None:
    """Add what counts for this day and its month."""
    total.turn(day)
    total.requests += more.requests
    total.tokens += more.tokens
    total.day_usd += more.day_usd if more.day == day else 0.0
    total.month_usd += more.month_usd if more.month == day[:7] else 0.0
