"""What every deploy target offers, and how a running pool is described."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

from pydantic import Field

from placement.plan import Plan
from profiler.core import NonNegative, Noun, Positive

PoolState = Literal["starting", "updating", "running", "degraded", "failed", "stopping", "stopped"]
GroupState = Literal["starting", "ready", "unhealthy", "failed", "stopping", "idle"]
SETTLED: tuple[PoolState, ...] = ("running", "degraded", "failed", "stopped")


class AutoscaleSettings(Noun):
    """How a pool's own autoscaler decides; see `orchestrator.autoscale.controller.ScalePolicy`."""

    interval_s: Positive = 20.0
    miss_worth: Positive = 10.0
    budget_usd_per_hour: NonNegative | None = None
    minimum: dict[str, int] = Field({}, description="replicas by group")
    maximum: dict[str, int] = Field({}, description="replicas by group")
    cold_start_s: Positive | None = Field(
        None, description="as measured at the start, if not given"
    )
    warm_up_s: NonNegative = Field(120.0, description="nothing is stopped before")


class PlanRequest(Noun):
    """A plan that a command asked for. Its id tells it from others that asked for the same."""

    id: str
    plan: Plan
    emulate: bool = Field(False, description="with emulated engines in the place of real ones")
    autoscale: AutoscaleSettings | None = None


class ScaleRequest(Noun):
    """Replicas of groups that an autoscaler wants; void once another plan was asked for."""

    id: str
    request: str = Field(description="the plan request whose pool this is about")
    replicas: dict[str, int]


class GroupStatus(Noun):
    """One replica group as it is now."""

    name: str
    model: str
    gpu: str
    wanted: int
    ready: int
    state: GroupState
    planned: int | None = Field(None, description="by the plan, where other than wanted")
    draining: int = Field(0, description="finish what they have, then end")
    failed_starts: int = Field(0, description="times that a replica too many could not be had")
    message: str = ""
    log: str | None = Field(None, description="the newest engine log of the group")
    load: float | None = Field(
        None, description="requests in work and waiting, over what its replicas take at a time"
    )
    usd_per_hour: float | None = Field(None, description="what it rents now")
    usd_so_far: float | None = Field(None, description="rent of what runs now, since it started")


class Failure(Noun):
    """Why a plan could not be put in force."""

    message: str
    log_tail: str = ""
    plan_digest: str
    request: str = Field(description="the request that asked for it")
    exit_code: int = 4


class Status(Noun):
    """A deployed pool as it is now."""

    name: str
    state: PoolState
    message: str = ""
    url: str = Field(description="base URL for OpenAI clients, ending in /v1")
    plan_digest: str = Field(description="the plan in force, or being put in force")
    request: str = Field("", description="the newest request that was taken up")
    scale: str = Field("", description="the newest scale request that was taken up")
    emulated: bool = Field(False, description="the engines only keep the time of real ones")
    router: str = Field("", description="the learned router, with its version; empty without one")
    autoscaled: bool = Field(False, description="the pool changes its replicas by itself")
    started_in_s: float | None = Field(
        None, description="from starting the plan's engines to all of them ready"
    )
    groups: tuple[GroupStatus, ...] = ()
    failure: Failure | None = None
    pid: int = Field(0, description="process that keeps the pool, on this machine")
    updated_s: float = Field(description="Unix time of this status")


Progress = Callable[[Status], None]


class Target(Protocol):
    """A place where a plan can run. All calls block; none prints."""

    def deploy(self, plan: Plan, *, wait_s: float, on_progress: Progress) -> Status:
        """Make the plan run here and wait until it does; safe to repeat.

        Raises:
            InputError: what the user gave cannot be used here.
            ClusterError: the place lacks something, or an engine failed (`EngineError`).
        """
        ...

    def status(self, name: str) -> Status | None:
        """The pool of that name, None when there is none."""
        ...

    def delete(self, name: str, on_progress: Progress) -> bool:
        """Remove the pool; False when there was none."""
        ...
