"""Which engines are in use: ejects those that fail, has them probed, and takes them back."""

from __future__ import annotations

import random
from collections.abc import Iterable

from serve_apps.flow.engine import Engine
from serve_apps.flow.group import Group
from serve_apps.flow.nouns import Lease, Replica, Result
from serve_apps.flow.settings import FlowSettings

SOON_S = 0.05
"""A lost connection may be a fluke: the first probe comes at once."""

_FAILURES = {Result.ENGINE_ERROR, Result.UNREACHABLE, Result.TIMEOUT, Result.CUT}


class Health:
    """Outlier detection by what requests meet, recovery by probes.

    A lost connection, or silence since a request was sent, ejects a replica at once; other
    failures do when several come in a row, unless it is the last of its group: one that answers
    with errors is still better than none, and the error may be the request's doing. What a
    client does wrong says nothing about the engine.
    """

    def __init__(self, settings: FlowSettings, rng: random.Random) -> None:
        self._settings = settings
        self._rng = rng

    def note(self, group: Group, engine: Engine, lease: Lease, result: Result, now: float) -> None:
        """Take in how a request ended."""
        if result in (Result.OK, Result.CLIENT_ERROR):
            engine.went_well(now)
        elif result in _FAILURES:
            engine.failed(now)
            if (
                not engine.gone
                and not engine.ejected
                and self._gives_up(group, engine, lease, result)
            ):
                self._eject(group, engine, result, now)

    def due(self, groups: Iterable[Group], now: float) -> list[Replica]:
        """Replicas to be probed now: ejected ones, and those that seem to hang."""
        due = []
        for group in groups:
            for engine in group.engines.values():
                if not engine.ejected and (not engine.pending or not engine.hangs(now)):
                    continue
                if not engine.ejected and engine.probe_after_s > now + self._settings.probe_s * 2:
                    engine.probe_after_s = now
                if engine.probe_after_s <= now:
                    engine.probe_after_s = now + self._jittered(engine.probe_interval_s)
                    due.append(engine.replica)
        return due

    def probed(self, group: Group, engine: Engine, ok: bool, now: float) -> None:
        """Take in what a probe said."""
        if ok and engine.ejected:
            engine.recover()
            group.refresh()
        elif not ok and not engine.ejected:
            engine.eject(now + self._jittered(engine.probe_interval_s))
            group.refresh()

    def _gives_up(self, group: Group, engine: Engine, lease: Lease, result: Result) -> bool:
        last = len(group.open) <= 1
        if result is Result.UNREACHABLE:
            return not last or engine.failures >= 2
        if result is Result.TIMEOUT and engine.last_byte_s <= lease.dispatched_s:
            return True
        if result is Result.TIMEOUT:
            return engine.failures >= self._settings.failures
        return not last and (engine.warm is not None or engine.failures >= self._settings.failures)

    def _eject(self, group: Group, engine: Engine, result: Result, now: float) -> None:
        settings = self._settings
        if engine.warm is not None:
            engine.probe_interval_s = min(2 * engine.probe_interval_s, settings.slowest_probe_s)
        lost = result is Result.UNREACHABLE and engine.warm is None
        after_s = SOON_S * self._rng.random() if lost else self._jittered(engine.probe_interval_s)
        engine.eject(now + after_s)
        engine.warm = None
        group.refresh()

    def _jittered(self, interval_s: float) -> float:
        return interval_s * (0.8 + 0.4 * self._rng.random())
