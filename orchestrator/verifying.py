"""Plans that hold: try the cheapest, tighten the headroom of groups that fall short, plan again.

A round plans and tries. While a plan falls short, each group at fault gets less headroom, by how
much too often its requests miss; when one holds, the headrooms between it and the last that fell
short are halved towards the cheapest that holds. Every arrival counts, and the plan has to hold on
the trace, on traffic drawn anew from several seeds, and by their spread on a seed not tried.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from orchestrator.traffic import Traffic, scenario
from orchestrator.trying import Fared, Scenario, Trial, try_plan
from placement.plan import Plan
from placement.planner import Mix, mix, without_unservable
from placement.problem import Problem
from placement.solver import TimeLimitError
from placement.verification import TriedStream, Verification
from profiler.errors import InfeasibleError

SEEDS, SEEDS_OF_LONG = 6, 3
LONG = 150_000
"""Requests from which the trace is so long that fewer seeds tell enough."""

MAX_ROUNDS = 20
RELAXING_ROUNDS = 4
TIME_LIMIT_S = 180.0
LEAST_HEADROOM = 0.02

SUSPECT_ROUNDS = 3
"""Rounds after which options not tried yet get no more headroom than the best of those at fault."""

MISSES_TO_LOAD = 1 / 3
"""Misses fall about with the third power of the load where bursts make them."""

STEP = (0.5, 0.95)
"""Least and largest factor on a headroom in one round."""


@dataclass(frozen=True)
class Verified:
    """The plan that came out, the problem whose cheapest it is, and the record for its file."""

    mix: Mix
    record: Verification

    def stamp(self, plan: Plan) -> Plan:
        """A plan made of this mix, with the record."""
        return plan.model_copy(update={"verification": self.record})


def verify(
    problem: Problem,
    service: str,
    traffic: Mapping[str, Traffic],
    *,
    solver_limit_s: float = 30.0,
    gap: float = 1e-4,
    time_limit_s: float = TIME_LIMIT_S,
    on_step: Callable[[str], None] = lambda _: None,
) -> Verified:
    """The cheapest plan found that keeps its SLO when tried; the best where none does.

    ``record.holds`` says which, and ``record.note`` why the search ended.

    Raises:
        InfeasibleError: there is no plan even before it is tried.
        TimeLimitError: none was found in time.
    """
    on_step("drawing the traffic")
    first = scenario(traffic, None)
    requests = sum(len(t) for t in first.values())
    seeds = tuple(range(1, 1 + (SEEDS if requests < LONG else SEEDS_OF_LONG)))
    scenarios: list[Scenario] = [first, *(scenario(traffic, seed) for seed in seeds)]
    search = _Search(
        without_unservable(problem),
        service,
        scenarios,
        solver_limit_s,
        gap,
        time.monotonic() + time_limit_s,
        on_step,
    )
    search.run()
    return Verified(search.best.mix, _record(search, seeds, requests))


@dataclass(frozen=True)
class _Round:
    mix: Mix
    trial: Trial

    @property
    def rank(self) -> tuple[float, float, float]:
        """Less is better: what holds before what lacks, by how much it lacks, then as the planner
        prefers: by its cost, under a budget by its quality first.
        """
        lacks = max(self.trial.lacks, 0.0) if not self.trial.holds else -1.0
        return lacks, *self.mix.solution.preference


@dataclass
class _Search:
    problem: Problem
    service: str
    scenarios: list[Scenario]
    solver_limit_s: float
    gap: float
    deadline: float
    on_step: Callable[[str], None]
    rounds: list[_Round] = field(default_factory=list)
    note: str | None = None

    @property
    def best(self) -> _Round:
        return min(self.rounds, key=lambda r: r.rank)

    def run(self) -> None:
        """Tighten until a plan holds, then see whether less would do."""
        headroom: dict[str, float] = {}
        while True:
            try:
                now = self._round(headroom)
            except (InfeasibleError, TimeLimitError) as error:
                if not self.rounds:
                    raise
                self.note = f"with more room there is no plan: {error}"
                return
            if now.trial.holds:
                break
            tightened = self._tightened(now, headroom)
            if self._over() or tightened is None:
                why = "the time allowed" if tightened is not None else "more room helps no further"
                self.note = f"no plan tried holds; stopped at {why}"
                return
            headroom = tightened
        if len(self.rounds) > 1:
            self._relax()

    def _round(self, headroom: Mapping[str, float]) -> _Round:
        problem = replace(self.problem, headroom_of=dict(headroom))
        found = mix(problem, self.service, time_limit_s=self.solver_limit_s, gap=self.gap)
        number = len(self.rounds) + 1
        self.on_step(f"trying plan {number}, ${found.plan.cost.usd_per_hour:,.2f}/h")
        trial = try_plan(found.plan, self.scenarios, to_the_end=not self.rounds)
        self.rounds.append(_Round(found, trial))
        return self.rounds[-1]

    def _over(self) -> bool:
        return len(self.rounds) >= MAX_ROUNDS or time.monotonic() > self.deadline

    def _tightened(self, now: _Round, headroom: dict[str, float]) -> dict[str, float] | None:
        """Less headroom for the groups at fault; None where they can be given no less."""
        changed = dict(headroom)
        usable = dict(
            zip([o.name for o in now.mix.problem.options], now.mix.problem.usable, strict=True)
        )
        for name, excess in now.trial.short_groups().items():
            factor = min(max(excess**-MISSES_TO_LOAD, STEP[0]), STEP[1])
            had = changed.get(name, self.problem.headroom)
            # replicas come whole: what is planned may be less than what is allowed
            full = min(1.0, now.mix.plan.group(name).load / usable[name])
            changed[name] = max(LEAST_HEADROOM, had * full * factor)
        if changed == headroom:
            return None
        if len(self.rounds) >= SUSPECT_ROUNDS:
            most = max(changed.values())
            for option in self.problem.options:
                changed.setdefault(option.name, most)
        return changed

    def _relax(self) -> None:
        """Halve the way between the last headrooms that failed and those that hold."""
        short, tight = (_headrooms(r.mix.problem) for r in self.rounds[-2:])
        for _ in range(RELAXING_ROUNDS):
            if self._over():
                return
            between = {n: (short[n] + tight[n]) / 2 for n in tight}
            best = self.best.mix.solution.preference
            now = self._round(between)
            if now.trial.holds or now.mix.solution.preference >= best:
                tight = between
            else:
                short = between


def _headrooms(problem: Problem) -> dict[str, float]:
    """Of every option."""
    own = problem.headroom_of
    return {o.name: own.get(o.name, problem.headroom) for o in problem.options}


def _record(search: _Search, seeds: tuple[int, ...], requests: int) -> Verification:
    first, best = search.rounds[0], search.best
    before = {(f.stream, f.slo): f.worst for f in first.trial.fared}
    headrooms = _headrooms(best.mix.problem)
    after, was = (r.mix.plan.cost.usd_per_hour for r in (best, first))
    return Verification(
        holds=best.trial.holds,
        streams=tuple(_tried(f, before[f.stream, f.slo]) for f in best.trial.fared),
        rounds=len(search.rounds),
        seeds=seeds,
        requests=requests,
        unverified_usd_per_hour=was,
        promise_usd_per_hour=round(after - was, 6),
        unverified_quality=_bought_quality(first.mix.plan),
        headroom={
            g.name: round(h, 6)
            for g in best.mix.plan.groups
            if (h := headrooms[g.name]) < search.problem.headroom
        },
        note=None if best.trial.holds else search.note,
    )


def _bought_quality(plan: Plan) -> float | None:
    """Expected quality where a budget made it the aim."""
    return plan.quality.mean if plan.quality and plan.quality.bound is not None else None


def _tried(fared: Fared, before: float) -> TriedStream:
    return TriedStream(
        stream=fared.stream,
        slo=fared.slo,
        trace=_share(fared.trace),
        mean=_share(fared.mean),
        worst=_share(fared.worst),
        expected_worst=_share(fared.expected_worst),
        before=_share(before),
    )


def _share(share: float) -> float:
    return round(share, 6)
