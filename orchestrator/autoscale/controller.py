"""The autoscaler: what it sees at each turn becomes how many replicas each group should have."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.autoscale.decisions import ScaleDecision
from orchestrator.autoscale.economics import Choice, Now
from orchestrator.autoscale.market import Standing
from orchestrator.autoscale.mind import Mind
from orchestrator.autoscale.policy import COLD_START_S, DEFAULTS, ScalePolicy, check
from orchestrator.autoscale.pools import Pool, pools_of
from orchestrator.autoscale.season import Season
from orchestrator.autoscale.shortage import Shortage
from orchestrator.simulation.events import GroupState, Observation
from placement.plan import Plan
from profiler import files
from profiler.errors import InputError

__all__ = ["COLD_START_S", "Controller", "ScalePolicy"]
BISECTIONS = 14
VERSION = 1


class Controller:
    """An `orchestrator.simulation.events.Autoscaler`; see the package for how it decides.

    ``told`` gets every decision. Nothing it knows is needed to go on: without a state file it
    starts from the fleet it finds, stops nothing until it has seen load, and learns anew.

    Raises:
        InputError: a figure of the policy makes no sense.
        UnknownNameError: the policy names a group that the plan has not.
    """

    def __init__(
        self,
        plan: Plan,
        policy: ScalePolicy = DEFAULTS,
        *,
        season: Season | None = None,
        told: Callable[[ScaleDecision], None] = lambda _: None,
    ) -> None:
        check(plan, policy)
        self._policy = policy
        self._told = told
        self._season = season or Season()
        self._digest = plan.digest
        pools = pools_of(
            plan,
            minimum=dict(policy.minimum),
            maximum=dict(policy.maximum),
            keep_shares=policy.keep_shares,
            headroom=policy.headroom,
        )
        self._minds = [Mind(pool, policy, self._season) for pool in pools]
        self._shortage = Shortage()
        self._wished: dict[str, int] = {}
        self._now_s = 0.0

    def __call__(self, seen: Observation) -> dict[str, int]:
        """Replicas wanted of each group that was seen, counting those that start."""
        self._now_s = seen.time_s
        groups = {n: g for m in self._minds for n in m.pool.groups if (g := seen.groups.get(n))}
        for name, group in groups.items():
            self._shortage.see(
                name,
                seen.time_s,
                ready=group.ready,
                starting=group.starting,
                refused=seen.refused.get(name, 0),
                cold_s=self._policy.cold_s(name),
            )
        if seen.arrivals is None:
            return self._kept(groups)
        self._season.observe(seen.time_s, seen.interval_s, sum(seen.arrivals.values()))
        for mind in self._minds:
            mind.see(seen)
        seeing = [m for m in self._minds if all(n in groups for n in m.pool.groups)]
        blind = {
            n: groups[n]
            for m in self._minds
            if m not in seeing
            for n in m.pool.groups
            if n in groups
        }
        wished = self._kept(blind)
        rest = sum(g.staying * self._price(n) for n, g in blind.items())
        for mind, choice, now in self._choices(seeing, groups, seen, rest):
            wished |= self._decided(mind, choice, now, seen)
        self._wished |= wished
        return wished

    def _kept(self, groups: Mapping[str, GroupState]) -> dict[str, int]:
        """Without knowing the load: what was wanted before, never less than there is."""
        return {n: max(g.staying, self._wished.get(n, 0)) for n, g in groups.items()}

    def _price(self, name: str) -> float:
        for m in self._minds:
            if name in m.pool.groups:
                return float(m.pool.usd_per_s[m.pool.groups.index(name)])
        return 0.0

    def _choices(
        self,
        minds: list[Mind],
        groups: Mapping[str, GroupState],
        seen: Observation,
        elsewhere_usd_per_s: float,
    ) -> list[tuple[Mind, Choice, Now]]:
        """Each pool's best fleet; where they exceed the budget together, misses count for less."""
        nows = [self._now(m.pool, groups, seen.time_s) for m in minds]
        budget = self._policy.budget_usd_per_hour
        limit = np.inf if budget is None else max(0.0, budget / 3600 - elsewhere_usd_per_s)
        paths = [m.path(seen, groups) for m in minds]

        def chosen(factor: float) -> list[Choice]:
            pairs = zip(minds, nows, paths, strict=True)
            return [m.choose(now, path, factor) for m, now, path in pairs]

        def rent(found: list[Choice]) -> float:
            return sum(
                float(c.replicas @ m.pool.usd_per_s) for m, c in zip(minds, found, strict=True)
            )

        found = chosen(1.0)
        if rent(found) > limit * (1 + 1e-9):
            low, high = -20.0, 0.0  # of the logarithm
            found = chosen(np.exp(low))
            for _ in range(BISECTIONS):
                middle = (low + high) / 2
                tried = chosen(np.exp(middle))
                if rent(tried) <= limit * (1 + 1e-9):
                    low, found = middle, tried
                else:
                    high = middle
        return list(zip(minds, found, nows, strict=True))

    def _now(self, pool: Pool, groups: Mapping[str, GroupState], time_s: float) -> Now:
        states = [groups[n] for n in pool.groups]
        staying = np.array([g.staying for g in states])
        blocked = np.array([self._shortage.until_s(n, time_s) is not None for n in pool.groups])
        most = np.maximum(np.where(blocked, np.minimum(pool.maximum, staying), pool.maximum), 0)
        return Now(
            ready=np.array([g.ready for g in states], dtype=float),
            starting=np.array([g.starting for g in states], dtype=float),
            least=np.minimum(pool.minimum, most),
            most=most,
        )

    def _decided(
        self,
        mind: Mind,
        choice: Choice,
        now: Now,
        seen: Observation,
    ) -> dict[str, int]:
        """The choice, with the old kept until what replaces it is there; told where it changes."""
        staying = now.staying.astype(np.int64)
        wanted = choice.replicas.copy()
        one = None if wanted.any() else mind.awake(now, seen.time_s, self._left(mind, seen))
        if one is not None:
            wanted[one] = 1
        over = self._policy.budget_usd_per_hour is not None and (
            float(np.maximum(wanted, staying) @ mind.pool.usd_per_s) * 3600
            > self._policy.budget_usd_per_hour * (1 + 1e-9)
        )
        falls = (wanted < staying) & (staying <= np.minimum(now.most, mind.pool.maximum))
        cold = mind.forecaster.seen_s < self._policy.warm_up_s
        replacing = bool((wanted > staying).any() or now.starting.any())
        if falls.any() and not over and (cold or replacing):
            wanted = np.where(falls, staying, wanted)
        for g, name in enumerate(mind.pool.groups):
            if wanted[g] != staying[g]:
                self._told(
                    self._decision(mind, choice, name, int(staying[g]), int(wanted[g]), seen)
                )
        return dict(zip(mind.pool.groups, wanted.tolist(), strict=True))

    def _left(self, mind: Mind, seen: Observation) -> float:
        """What the budget leaves for one pool beside what runs of the others, $/s."""
        budget = self._policy.budget_usd_per_hour
        others = [g.staying * self._price(n) for n, g in seen.groups.items()
                  if n not in mind.pool.groups]  # fmt: skip
        return np.inf if budget is None else budget / 3600 * (1 + 1e-9) - sum(others)

    def _decision(
        self, mind: Mind, choice: Choice, name: str, before: int, after: int, seen: Observation
    ) -> ScaleDecision:
        pool, each = mind.pool, mind.request_usd
        rent = sum(
            g.staying * self._price(n) for n, g in seen.groups.items() if n not in pool.groups
        ) + float(choice.replicas @ pool.usd_per_s)
        out = [n for n in pool.groups if self._shortage.until_s(n, seen.time_s) is not None]
        return ScaleDecision(
            time_s=seen.time_s,
            group=name,
            before=before,
            after=after,
            reason=_reason(before, after, choice, [n for n in out if n != name]),
            forecast_rps=float(mind.last.mean[1]) / each,
            high_rps=mind.last.exceeded(1, 0.05) / each,
            rent_usd=choice.rent_usd,
            miss_usd=choice.miss_usd,
            horizon_s=float(mind.stages_s.sum()),
            usd_per_hour=rent * 3600,
        )

    def standings(self) -> tuple[Standing, ...]:
        """What each pool's load costs with the plan's groups; none before the warm-up is over."""
        warm = [m for m in self._minds if m.forecaster.seen_s >= self._policy.warm_up_s]
        return tuple(
            m.standing(
                self._wished,
                [n for n in m.pool.groups if self._shortage.until_s(n, self._now_s) is not None],
            )
            for m in (warm if len(warm) == len(self._minds) else ())
        )

    def state(self) -> dict[str, Any]:
        """All it knows, as plain data."""
        return {
            "version": VERSION,
            "plan": self._digest,
            "season": self._season.state(),
            "shortage": self._shortage.state(),
            "wished": self._wished,
            "pools": {m.pool.model: m.state() for m in self._minds},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Know again what `state` gave; what another plan learned but its season is left aside.

        Raises:
            InputError: it is damaged; the controller is then as it was.
        """
        try:
            season = Season.restored(state["season"])
            if state["version"] == VERSION and state["plan"] == self._digest:
                for mind in self._minds:
                    mind.restore(state["pools"][mind.pool.model])
                self._shortage.restore(state["shortage"])
                self._wished = {str(k): int(v) for k, v in state["wished"].items()}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"found no autoscaler's state ({error!r})") from None
        self._season.become(season)

    def save(self, path: Path) -> None:
        """Write what it knows in one step; raises InputError where that cannot be."""
        files.write(path, json.dumps(self.state()))

    def load(self, path: Path) -> None:
        """Know again what was saved.

        Raises:
            InputError: there is no such file, or it is damaged.
        """
        try:
            state = json.loads(files.read_text(path))
        except ValueError as error:
            raise InputError(f"{path}: not JSON: {error}") from None
        try:
            self.restore(state)
        except InputError as error:
            raise InputError(f"{path}: {error}; move it away to start anew") from None


def _reason(before: int, after: int, choice: Choice, short: list[str]) -> str:
    instead = f", as {', '.join(short)} cannot be had" if short else ""
    if after > before:
        if not choice.replicas.any():
            return f"it is asked for and has no replica{instead}"
        if choice.miss_usd < 0 <= choice.rent_usd:
            return f"misses would cost more than its rent{instead}"
        return f"a cheaper fleet for this mix{instead}"
    if choice.rent_usd < 0:
        return "its rent is more than the misses it averts and than starting it again"
    return "what replaces it is ready, or a limit asks for it"
