"""What was decided, when and why: one line each, kept in a file that does not grow for ever."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from profiler import files
from profiler.errors import InputError

KEPT = 5000


@dataclass(frozen=True)
class ScaleDecision:
    """One group's change, and what it rests on.

    ``forecast_rps`` and ``high_rps`` are requests per second of the group's model one cold start
    ahead: the mean, and what one in twenty such moments exceeds. ``rent_usd`` and ``miss_usd`` are
    how much more rent and misses the move costs than staying, over ``horizon_s``; their sum is
    the saving, negative. Money is that of the whole pool's move, of which this group is a part.
    """

    time_s: float
    group: str
    before: int
    after: int
    reason: str
    forecast_rps: float
    high_rps: float
    rent_usd: float
    miss_usd: float
    horizon_s: float
    usd_per_hour: float

    @property
    def saving_usd(self) -> float:
        """What the move saves over the horizon."""
        return -(self.rent_usd + self.miss_usd)

    def line(self) -> str:
        """One line for a log."""
        money = f"rent {self.rent_usd:+.2f}, misses {self.miss_usd:+.2f} $"
        load = f"{self.forecast_rps:.2f} req/s ahead, {self.high_rps:.2f} at worst 1 in 20"
        return (
            f"{self.group} {self.before} -> {self.after}: {self.reason} ({load}; {money} "
            f"over {self.horizon_s / 60:.0f} min; fleet ${self.usd_per_hour:.2f}/h)"
        )


Action = Literal["suggested", "applied", "failed"]


@dataclass(frozen=True)
class ReplanDecision:
    """Another plan that pays better than this one, and what was done about it.

    ``file`` is where it is written, ``replicas`` its fleet by group. Rents are of that fleet and of
    the cheapest of this plan's groups that carries the same load, None where none does;
    ``saving_usd`` is over ``horizon_h``, all moves paid.
    """

    time_s: float
    action: Action
    file: str
    replicas: dict[str, int]
    usd_per_hour: float
    stay_usd_per_hour: float | None
    moving_usd: float
    saving_usd: float | None
    horizon_h: float
    reason: str = ""

    def line(self) -> str:
        """One line for a log."""
        fleet = ", ".join(f"{n} {name}" for name, n in self.replicas.items())
        if self.stay_usd_per_hour is None or self.saving_usd is None:
            pays = "this plan's groups cannot carry the load to come"
        else:
            pays = (
                f"${self.usd_per_hour:.2f}/h instead of ${self.stay_usd_per_hour:.2f}/h saves "
                f"${self.saving_usd:.2f} in {self.horizon_h:g} h, "
                f"after ${self.moving_usd:.2f} of moves"
            )
        done = {
            "suggested": f"to put it in force: orchestrator deploy {self.file}",
            "applied": f"in force; it is in {self.file}",
            "failed": f"not put in force: {self.reason}",
        }[self.action]
        return f"another plan ({fleet}): {pays}; {done}"


class Journal:
    """The last decisions in a file of JSON lines, oldest first."""

    def __init__(self, path: Path, kept: int = KEPT) -> None:
        self._path, self._kept = path, kept
        self._lines = len(path.read_text().splitlines()) if path.exists() else 0

    def add(self, decisions: Iterable[ScaleDecision | ReplanDecision]) -> None:
        """Put down decisions; the oldest half goes once there are twice as many as are kept.

        Raises:
            InputError: the file cannot be written.
        """
        text = "".join(json.dumps(asdict(d)) + "\n" for d in decisions)
        if not text:
            return
        try:
            with self._path.open("a", encoding="utf-8") as f:
                f.write(text)
        except OSError as error:
            raise InputError(f"{self._path}: could not be written: {error.strerror}") from None
        self._lines += text.count("\n")
        if self._lines > 2 * self._kept:
            last = files.read_text(self._path).splitlines(keepends=True)[-self._kept :]
            files.write(self._path, "".join(last))
            self._lines = len(last)


def read_journal(path: str | Path) -> list[ScaleDecision]:
    """The changes of groups in a journal; a last line that was cut off is passed over.

    Raises:
        InputError: there is no such file, or a line is no decision.
    """
    return [d for d in _read(path) if isinstance(d, ScaleDecision)]


def read_replans(path: str | Path) -> list[ReplanDecision]:
    """The plans in a journal that would have been better; as `read_journal`."""
    return [d for d in _read(path) if isinstance(d, ReplanDecision)]


def _read(path: str | Path) -> list[ScaleDecision | ReplanDecision]:
    lines = files.read_text(path).splitlines()
    found: list[ScaleDecision | ReplanDecision] = []
    for number, line in enumerate(lines, 1):
        try:
            fields = json.loads(line)
            found.append((ReplanDecision if "action" in fields else ScaleDecision)(**fields))
        except (ValueError, TypeError) as error:
            if number < len(lines):
                raise InputError(
                    f"{path}, line {number}: found no scaling decision ({error}); expected a file "
                    "that `orchestrator autoscale` wrote"
                ) from None
    return found
