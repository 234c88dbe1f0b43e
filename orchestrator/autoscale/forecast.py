"""Load one cold start ahead, with what may come of it.

Several simple forecasts run side by side: levels smoothed over 30 s to half an hour (exponential
smoothing), a damped trend (Gardner and McKenzie 1985), and the season's shape at the level of the
last minutes or hours (without a history a flat shape: more levels). Each is judged by how it
foretold what has come since, and they are mixed accordingly (exponential weights; Cesa-Bianchi and
Lugosi 2006, ch. 2). How far the mixture was off is kept: its quantiles are the uncertainty. So is
how far it moved itself in that time, which tells a load that is noisy from one that wanders.

A load that leaves them twice running is a jump, where the second sight of it rests on no arrival
that the first did: for one horizon the forecast is the new level as
far as jumps have been found to last (a Beta mean, one half before any was seen), the mixture for
the rest. Then it shows whether this one lasted; if so all levels start anew from there, but for
the one that bursts never seen are measured by.

Every update is a few operations on a dozen numbers. Libraries that fit such models (statsmodels'
ETS, for one) fit them anew to the whole history, some 50 ms at each of a day's thousands of
decisions, and none mixes them or keeps the errors at the horizon that counts here.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.autoscale.season import Season

Floats = NDArray[np.float64]
LEVEL_HALF_LIVES_S = (30.0, 120.0, 480.0, 1800.0)
SEASON_HALF_LIVES_S = (120.0, 480.0, 1800.0, 7200.0)
LEVEL_OF_TREND_S, TREND_HALF_LIFE_S, DAMPING_S = 120.0, 600.0, 600.0
JUDGED_HALF_LIFE_S = 3600.0
SHARPNESS = 8.0
ERRORS_KEPT = 2000
QUANTILES = (np.arange(31) + 0.5) / 31
REVISIONS = (np.arange(3) + 0.5) / 3
"""Likely ways in which the forecast itself moves while a replica starts."""
UNSEEN = 0.01
BURSTS = 1.5 * 1.3 ** np.arange(10)
"""A burst such as was never seen has a chance of one in a hundred, with a Pareto tail of index 1:
what is said to be worth much is insured against it."""
WEIGHTS = np.concatenate(
    [
        np.full(len(QUANTILES), (1 - UNSEEN) / len(QUANTILES)),
        UNSEEN * -np.diff(np.append(1.5 / BURSTS, 0.0)),
    ]
)
PRIOR_SIGMA = 0.35
PRIOR_UNTIL = 250
USUAL_GROWTH = 1.5
MOST_HALF_LIFE_S = 6 * 3600.0
SURPRISE = 0.995
FORGET = 0.9
REREAD = 50
"""Quantiles are read anew once this part of the errors is new."""
TINY = 1e-12


@dataclass(frozen=True)
class Path:
    """Load expected at several times, and how it may come otherwise.

    ``mean`` is ``[times]``, in the unit observed. ``errors`` are in units of ``base``, the level
    of the last half hour, for what is quiet now may burst again; above it they grow with the root
    of the mean. Beyond ``most``, the highest load of the last hours, and half as much again as the
    mean they are cut off: a burst seldom bursts. They have probabilities ``weights``, of which the
    last ones are of bursts never seen, in units of ``usual``: the level of the last half hour that
    no jump has moved, for what is a burst already seldom bursts. ``revisions``, in the errors' unit
    and equally likely, are how far the mean itself will have moved one cold start from now.
    """

    mean: Floats
    errors: Floats
    weights: Floats
    base: float
    most: float
    usual: float
    revisions: Floats = field(default_factory=lambda: np.zeros(1))

    def revised(self, by: float) -> Path:
        """The path as it looks one cold start from now, after one of the revisions."""
        unit = np.sqrt(np.maximum(self.mean, self.base) * self.base)
        return replace(self, mean=np.maximum(self.mean + by * unit, 0.0))

    def loads(self, stage: int) -> Floats:
        """What may come at one of the times, with probabilities ``weights``."""
        mean = float(self.mean[stage])
        seen = mean + self.errors * math.sqrt(max(mean, self.base) * self.base)
        seen = np.clip(seen, 0.0, max(self.most, USUAL_GROWTH * mean))
        return np.concatenate([seen, np.maximum(mean, self.usual * BURSTS)])

    def exceeded(self, stage: int, chance: float) -> float:
        """The least load that is exceeded at one of the times with no more than this chance."""
        loads = self.loads(stage)
        order = np.argsort(loads)
        place = np.searchsorted(np.cumsum(self.weights[order]), 1 - chance)
        return float(loads[order][min(int(place), len(order) - 1)])


class Forecaster:
    """Foretells one series: non-negative, observed at equal or unequal intervals."""

    def __init__(self, horizon_s: float, season: Season) -> None:
        self._horizon_s = horizon_s
        self._season = season
        self._levels = np.zeros(len(LEVEL_HALF_LIVES_S))
        self._trend = np.zeros(2)  # level, and change per second
        self._ratios = np.zeros(len(SEASON_HALF_LIVES_S))  # of level to season
        self._losses = np.zeros(len(LEVEL_HALF_LIVES_S) + 1 + len(SEASON_HALF_LIVES_S))
        self._made: deque[tuple[float, Floats, float]] = deque()
        self._errors: deque[float] = deque(maxlen=ERRORS_KEPT)
        self._next_errors: deque[float] = deque(maxlen=ERRORS_KEPT)
        self._revisions: deque[float] = deque(maxlen=ERRORS_KEPT)
        self._moves = np.zeros(len(REVISIONS))
        self._next: float | None = None
        self._outside = 0
        self._outside_since_s = 0.0
        self._most = 0.0
        self._usual_level = 0.0
        self._jump: tuple[float, float, float] | None = None  # when, from what, to what
        self._lasted = np.array([1.0, 2.0])  # jumps that lasted, of how many
        self._knew_season = season.known
        self._read_errors()
        self.seen_s = 0.0

    def observe(
        self, time_s: float, interval_s: float, load: float, over_s: float | None = None
    ) -> None:
        """Take in the mean load of the interval that ends at a time.

        Where the interval is too short for a rate, it is the mean over the last ``over_s``.
        """
        over_s = interval_s if over_s is None else over_s
        if self.seen_s == 0:
            self._restart(time_s, load)
            self._usual_level = load
        elif self._knew_season != self._season.known:
            self._ratios[:] = self._levels[2] / max(self._season.at(time_s), TINY)
        self._knew_season = self._season.known
        self._most = max(load, self._most * 0.5 ** (interval_s / MOST_HALF_LIFE_S))
        self._judge(time_s, interval_s, load, over_s)
        if self._jump and time_s - self._jump[0] >= self._horizon_s:
            self._end_jump(time_s, load)
        self._smooth(time_s, interval_s, load)
        self.seen_s += interval_s
        each = self._each(time_s, self._horizon_s)
        self._made.append((time_s + self._horizon_s, each, self._mixed(self._weights, each)))
        self._next = self._mixed(self._weights, self._each(time_s, interval_s))

    def path(self, time_s: float, ahead_s: Floats) -> Path:
        """What is expected at times ``ahead_s`` after a time, ``[times]``."""
        weights = self._weights
        mean = np.array([self._mixed(weights, self._each(time_s, h)) for h in ahead_s])
        base = float(self._levels[-1])
        return Path(
            mean, self._quantiles, WEIGHTS, base, self._most, self._usual_level, self._moves
        )

    def _error(self, load: float, expected: float) -> float:
        base = max(float(self._levels[-1]), TINY)
        unit = math.sqrt(max(expected, base) * base)
        return min(max((load - expected) / unit, -1e3), 1e3)

    @property
    def _weights(self) -> Floats:
        best = float(self._losses.min())
        worse = self._losses / best - 1 if best > 0 else self._losses
        found: Floats = np.exp(-SHARPNESS * worse)
        found /= found.sum()
        return found

    def _mixed(self, weights: Floats, each: Floats) -> float:
        mixed = max(0.0, float(weights @ each))
        if self._jump is None:
            return mixed
        trust = self._lasted[0] / self._lasted[1]
        return float(trust * self._levels[0] + (1 - trust) * mixed)

    def _each(self, time_s: float, ahead_s: float) -> Floats:
        """Every forecast of the load so long after a time."""
        damped_s = DAMPING_S * -math.expm1(-ahead_s / DAMPING_S)
        trend = max(0.0, self._trend[0] + self._trend[1] * damped_s)
        seasonal = self._ratios * self._season.at(time_s + ahead_s)
        return np.concatenate([self._levels, [trend], seasonal])

    def _judge(self, time_s: float, interval_s: float, load: float, over_s: float) -> None:
        keep = 0.5 ** (interval_s / JUDGED_HALF_LIFE_S)
        while self._made and self._made[0][0] <= time_s:
            due_s, each, mixed = self._made.popleft()
            if time_s - due_s < interval_s:
                self._losses = keep * self._losses + (1 - keep) * np.abs(each - load)
                self._errors.append(self._error(load, mixed))
                now = self._mixed(self._weights, self._each(time_s, self._horizon_s))
                self._revisions.append(self._error(now, mixed))
        if self._next is None:
            return
        spread = self._usual
        error = self._error(load, self._next)
        side = int(error > spread[1]) - int(error < spread[0])
        if side * self._outside > 0:
            self._outside += side
        else:
            self._outside, self._outside_since_s = side, time_s
        self._next_errors.append(error)
        self._unread += 1
        if self._unread > len(self._next_errors) / REREAD:
            self._read_errors()
        apart = time_s - self._outside_since_s >= over_s * (1 - 1e-9)
        if abs(self._outside) >= 2 and apart and self._jump is None:
            self._jump = (time_s, self._next, load)
            self._levels[0] = load
            self._outside = 0

    def _read_errors(self) -> None:
        """Their quantiles, which change slowly once there are many."""
        self._usual = self._spread(self._next_errors, (1 - SURPRISE, SURPRISE))
        self._quantiles = self._spread(self._errors, QUANTILES)
        if self._revisions:
            self._moves = np.quantile(np.fromiter(self._revisions, dtype=float), REVISIONS)
        self._unread = 0

    def _end_jump(self, time_s: float, load: float) -> None:
        assert self._jump is not None
        _, before, after = self._jump
        now = float(self._levels[0])
        lasted = all(abs(level - after) < abs(level - before) for level in (now, load))
        self._lasted[:] = FORGET * self._lasted + (float(lasted), 1.0)
        self._jump = None
        if lasted:
            self._restart(time_s, now)

    def _restart(self, time_s: float, load: float) -> None:
        self._levels[:] = load
        self._trend[:] = load, 0.0
        self._ratios[:] = load / max(self._season.at(time_s), TINY)
        self._outside = 0

    def _smooth(self, time_s: float, interval_s: float, load: float) -> None:
        gains = 1 - 0.5 ** (interval_s / np.array(LEVEL_HALF_LIVES_S))
        self._levels += gains * (load - self._levels)
        self._usual_level += float(gains[-1]) * (load - self._usual_level)
        before, slope = self._trend
        fall = math.exp(-interval_s / DAMPING_S)
        level = before + slope * interval_s * fall
        level += (1 - 0.5 ** (interval_s / LEVEL_OF_TREND_S)) * (load - level)
        change = (level - before) / interval_s - slope * fall
        self._trend[:] = (
            level,
            slope * fall + change * (1 - 0.5 ** (interval_s / TREND_HALF_LIFE_S)),
        )
        gains = 1 - 0.5 ** (interval_s / np.array(SEASON_HALF_LIVES_S))
        usual = max(self._season.at(time_s - interval_s / 2), TINY)
        self._ratios += gains * (load / usual - self._ratios)

    def _spread(self, errors: deque[float], quantiles: Any) -> Floats:
        """Quantiles of the errors, with a prior until there are many."""
        prior = np.exp(PRIOR_SIGMA * _NORMAL) - 1
        seen = np.fromiter(errors, dtype=float)
        if len(seen) < PRIOR_UNTIL:
            seen = np.concatenate([seen, prior])
        found: Floats = np.quantile(seen, quantiles)
        return found

    def state(self) -> dict[str, Any]:
        """All it knows, as plain data."""
        return {
            "levels": self._levels.tolist(),
            "trend": self._trend.tolist(),
            "ratios": self._ratios.tolist(),
            "losses": self._losses.tolist(),
            "made": [[at_s, each.tolist(), mixed] for at_s, each, mixed in self._made],
            "errors": list(self._errors),
            "next_errors": list(self._next_errors),
            "revisions": list(self._revisions),
            "moves": self._moves.tolist(),
            "next": self._next,
            "outside": self._outside,
            "outside_since_s": self._outside_since_s,
            "seen_s": self.seen_s,
            "knew_season": self._knew_season,
            "usual": self._usual.tolist(),
            "quantiles": self._quantiles.tolist(),
            "unread": self._unread,
            "most": self._most,
            "usual_level": self._usual_level,
            "jump": self._jump,
            "lasted": self._lasted.tolist(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Know again what `state` gave; KeyError, TypeError or ValueError where it is damaged."""
        self._levels = _array(state["levels"], self._levels)
        self._trend = _array(state["trend"], self._trend)
        self._ratios = _array(state["ratios"], self._ratios)
        self._losses = _array(state["losses"], self._losses)
        self._made = deque((float(t), np.array(e, float), float(m)) for t, e, m in state["made"])
        if any(each.shape != self._losses.shape for _, each, _ in self._made):
            raise ValueError("found forecasts of another kind")
        self._errors = deque(map(float, state["errors"]), ERRORS_KEPT)
        self._next_errors = deque(map(float, state["next_errors"]), ERRORS_KEPT)
        self._revisions = deque(map(float, state.get("revisions", ())), ERRORS_KEPT)
        self._moves = _array(state.get("moves", np.zeros(len(REVISIONS))), self._moves)
        self._next = None if state["next"] is None else float(state["next"])
        self._outside, self.seen_s = int(state["outside"]), float(state["seen_s"])
        self._outside_since_s = float(state.get("outside_since_s", 0.0))
        self._knew_season = bool(state["knew_season"])
        self._usual = np.array(state["usual"], dtype=float)
        self._quantiles = _array(state["quantiles"], self._quantiles)
        self._unread = int(state["unread"])
        self._most = float(state["most"])
        self._usual_level = float(state.get("usual_level", self._levels[-1]))
        jump = state["jump"]
        self._jump = None if jump is None else (float(jump[0]), float(jump[1]), float(jump[2]))
        self._lasted = _array(state["lasted"], self._lasted)


def _array(values: Any, like: Floats) -> Floats:
    found = np.array(values, dtype=float)
    if found.shape != like.shape:
        raise ValueError(f"found {found.shape} numbers, expected {like.shape}")
    return found


_NORMAL = np.array(
    [
        math.sqrt(2) * x
        for x in (-1.52, -1.17, -0.95, -0.78, -0.64, -0.51, -0.39, -0.28, -0.17, -0.06)
    ]
)
_NORMAL = np.concatenate([_NORMAL, [0.0], -_NORMAL[::-1]])
"""Quantiles of the standard normal distribution, about equally likely."""
