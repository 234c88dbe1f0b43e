"""An autoscaler at work on one service, whichever plan of it runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.autoscale.controller import Controller
from orchestrator.autoscale.decisions import ReplanDecision, ScaleDecision
from orchestrator.autoscale.loop import Loop
from orchestrator.autoscale.policy import ScalePolicy
from orchestrator.autoscale.replan import Replanner
from orchestrator.autoscale.season import Season
from orchestrator.autoscale_targets import Target, target_of
from placement.plan import Plan
from profiler import documents
from profiler.errors import ClusterError

Told = Callable[[ScaleDecision | ReplanDecision], None]


def replanned_path(plan_file: Path, plan: Plan) -> Path:
    """Where a plan that was made meanwhile is kept: beside the file of the first one."""
    return plan_file.with_suffix(f".replanned-{plan.digest}.yaml")


def reached(plan_file: Path, target: str) -> tuple[Plan, Target]:
    """The plan in a file and its fleet; or one that was put in force in its place, if that runs.

    Raises:
        InputError: the file is no plan.
        ClusterError: neither runs.
    """
    plan = documents.read(plan_file, Plan)
    try:
        return plan, target_of(target, plan)
    except ClusterError:
        for path in sorted(plan_file.parent.glob(f"{plan_file.stem}.replanned-*.yaml")):
            other = documents.read(path, Plan)
            try:
                return other, target_of(target, other)
            except ClusterError:
                continue
        raise


@dataclass
class Session:
    """Turns of the loop, and of the replanner where there is one.

    When another plan comes in force, a new controller takes over: it begins with the new plan's
    replicas, knows the season, and learns the rest anew.
    """

    plan: Plan
    place: Target
    policy: ScalePolicy
    told: Told
    say: Callable[[str], None]
    state_file: Path | None = None
    dry_run: bool = False
    clock: Callable[[], float] = time.time
    replanner: Replanner[Target] | None = None

    def __post_init__(self) -> None:
        self._season = Season()
        self.loop = self._looped()

    def start(self) -> None:
        """Take up what was learned before."""
        self.loop.start()

    def wait(self, seconds: float) -> None:
        """Until the next turn is due."""
        self.place.wait(seconds)

    def turn(self) -> None:
        """One turn; nothing in it waits for a plan."""
        self.loop.turn()
        if self.replanner is None:
            return
        place = self.replanner.turn(self.loop.controller.standings(), self.clock())
        if place is not None:
            self.place, self.plan = place, self.replanner.plan
            self.loop = self._looped()
            self.loop.start_anew()

    def close(self) -> None:
        """Write what was learned, and let go of what is solved."""
        self.loop.save()
        if self.replanner is not None:
            self.replanner.close()

    def _looped(self) -> Loop:
        return Loop(
            Controller(
                self.plan,
                within(self.policy, self.plan, self.place.least),
                season=self._season,
                told=self.told,
            ),
            self.place.actuator,
            self.place.meter,
            clock=self.clock,
            say=self.say,
            state_file=self.state_file,
            dry_run=self.dry_run,
        )


def within(policy: ScalePolicy, plan: Plan, least: int = 0) -> ScalePolicy:
    """What an operator said of groups, as far as a plan that was made meanwhile has them.

    No group has fewer than ``least``, the fewest that its target knows.
    """
    names = {g.name for g in plan.groups}
    return replace(
        policy,
        minimum={n: max(least, policy.minimum.get(n, 0)) for n in names},
        maximum={n: k for n, k in policy.maximum.items() if n in names},
    )
