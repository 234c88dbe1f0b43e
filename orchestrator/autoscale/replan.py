"""Another plan, once it pays: looked for beside the turns, then said, or put in force.

Solving and deploying take from seconds to minutes. Both are done elsewhere (a process, a thread),
and each turn only asks whether they are done. What is under way when this process dies is lost, and
found again: the fleet and the load are what count, not what was remembered.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from orchestrator.autoscale.decisions import Action, ReplanDecision
from orchestrator.autoscale.market import Market, Potential, Standing
from orchestrator.autoscale.pools import Bucket
from placement.plan import Plan
from profiler.errors import OrchestratorError

Found = TypeVar("Found")
Result = TypeVar("Result")


class Better(Protocol):
    """What `Solver.replan` finds; see `orchestrator.replanning.Answer`."""

    @property
    def plan(self) -> Plan: ...

    @property
    def usd_per_hour(self) -> float: ...

    @property
    def moving_usd(self) -> float: ...

    @property
    def stay_usd_per_hour(self) -> float | None: ...

    @property
    def horizon_h(self) -> float: ...

    @property
    def saving_usd(self) -> float: ...


@dataclass(frozen=True)
class Wish:
    """A load to plan for, from a fleet that runs; ``out`` are groups of which there are no more."""

    plan: Plan
    rates_rps: Mapping[Bucket, float]
    running: Mapping[str, int]
    out: tuple[str, ...]


class Solver(Protocol):
    """Finds plans; both calls may take long, run in a worker, and raise OrchestratorError."""

    def survey(self) -> Market:
        """What requests cost on all that may be rented."""
        ...

    def replan(self, wish: Wish) -> Better | None:
        """The cheapest plan and what it saves; None where none can carry the load."""
        ...


@dataclass
class Replanner(Generic[Found]):
    """Looks for a better plan when there is enough to gain; call `turn` after each turn.

    ``workers`` makes what the solver runs in, anew should it break. ``keep`` writes a plan to a
    file and returns its name. ``apply`` puts one in force and gives what reaches the fleet then;
    without it plans are only written. Plans over ``budget_usd_per_hour`` are passed over.
    """

    plan: Plan
    solver: Solver
    workers: Callable[[], Executor]
    potential: Callable[[Market], Potential]
    keep: Callable[[Plan], str]
    told: Callable[[ReplanDecision], None]
    say: Callable[[str], None]
    apply: Callable[[Plan], Found] | None = None
    appliers: Callable[[], Executor] | None = None
    budget_usd_per_hour: float | None = None
    _pool: Executor | None = None
    _surveyed: Future[Market] | None = None
    _gain: Potential | None = None
    _asked: tuple[Future[Better | None], tuple[Standing, ...]] | None = None
    _applied: tuple[Future[Found], Better, str, tuple[Standing, ...]] | None = None
    _hands: Executor | None = None
    _off: bool = False

    @property
    def busy(self) -> bool:
        """Whether something is solved or put in force now."""
        return self._asked is not None or self._applied is not None

    def turn(self, standings: tuple[Standing, ...], now_s: float) -> Found | None:
        """Go on with what is under way; once a plan has come in force, what reaches the fleet."""
        if self._applied is not None:
            return self._put_in_force(now_s)
        if self._asked is not None:
            self._answered(now_s)
        elif self._ready() and standings:
            assert self._gain is not None
            if self._gain.due(standings):
                self._ask(standings)
        return None

    def close(self) -> None:
        """Let go of the workers; what they solve is dropped, what they put in force is not."""
        for pool in (self._pool, self._hands):
            if pool is not None:
                pool.shutdown(wait=pool is self._hands, cancel_futures=True)

    def _ready(self) -> bool:
        """Whether it is known what all that may be rented costs."""
        if self._gain is not None or self._off:
            return not self._off
        if self._surveyed is None:
            self._surveyed = self._submit(self.solver.survey)
        if self._surveyed.done():
            market = self._result(self._surveyed)
            self._off = market is None
            self._gain = None if market is None else self.potential(market)
        return self._gain is not None

    def _ask(self, standings: tuple[Standing, ...]) -> None:
        rates: dict[Bucket, float] = {}
        running: dict[str, int] = {}
        for s in standings:
            for bucket, rps in s.rates_rps.items():
                rates[bucket] = max(rps, rates.get(bucket, 0.0))
            running |= s.replicas
        out = tuple(n for s in standings for n in s.out)
        wish = Wish(self.plan, rates, running, out)
        self._asked = (self._submit(self.solver.replan, wish), standings)

    def _answered(self, now_s: float) -> None:
        assert self._asked is not None
        assert self._gain is not None
        future, standings = self._asked
        if not future.done():
            return
        self._asked = None
        found = self._result(future)
        if found is None or not self._pays(found):
            self._gain.looked(standings, 0.0)
            return
        self._gain.looked(standings, 0.0)  # nor is it looked for again if it fails, or is left
        file = self.keep(found.plan)
        if self.apply is None:
            self._tell("suggested", found, file, now_s)
            return
        self.say(f"another plan is being put in force: {file}")
        if self._hands is None:
            self._hands = (self.appliers or self.workers)()
        self._applied = (self._hands.submit(self.apply, found.plan), found, file, standings)

    def _pays(self, found: Better) -> bool:
        budget = self.budget_usd_per_hour
        if budget is not None and found.usd_per_hour > budget * (1 + 1e-9):
            return False
        here = {g.name: g.replicas for g in self.plan.groups}
        there = {g.name: g.replicas for g in found.plan.groups}
        return found.saving_usd > 0 and set(there) != set(here)

    def _put_in_force(self, now_s: float) -> Found | None:
        assert self._applied is not None
        assert self._gain is not None
        future, found, file, standings = self._applied
        if not future.done():
            return None
        self._applied = None
        try:
            reached = future.result()
        except OrchestratorError as error:
            self._tell("failed", found, file, now_s, str(error))
            return None
        self.plan = found.plan
        over, _ = self._gain.usd_per_s(standings)
        self._gain.looked(standings, min(over, found.saving_usd / found.horizon_h / 3600))
        self._tell("applied", found, file, now_s)
        return reached

    def _submit(self, call: Callable[..., Result], *args: object) -> Future[Result]:
        if self._pool is None:
            self._pool = self.workers()
        try:
            return self._pool.submit(call, *args)
        except BrokenExecutor:
            self._pool = self.workers()
            return self._pool.submit(call, *args)

    def _result(self, future: Future[Result]) -> Result | None:
        try:
            return future.result()
        except (OrchestratorError, BrokenExecutor) as error:
            self.say(f"no other plan was found: {str(error) or 'the worker that solves died'}")
            return None

    def _tell(
        self, action: Action, found: Better, file: str, now_s: float, reason: str = ""
    ) -> None:
        self.told(
            ReplanDecision(
                time_s=now_s,
                action=action,
                file=file,
                replicas={g.name: g.replicas for g in found.plan.groups},
                usd_per_hour=found.usd_per_hour,
                stay_usd_per_hour=found.stay_usd_per_hour,
                moving_usd=found.moving_usd,
                saving_usd=found.saving_usd if math.isfinite(found.saving_usd) else None,
                horizon_h=found.horizon_h,
                reason=reason,
            )
        )
