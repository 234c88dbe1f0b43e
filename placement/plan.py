"""A plan: the fleet to rent, which group serves which requests, what it costs and how sure that is.

A plan file holds all that deploying needs (specs, profiles, shares), so it can be read, diffed,
committed and deployed elsewhere.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

from pydantic import Field

from profiler.core import (
    Count,
    GpuType,
    Market,
    ModelSpec,
    Name,
    NonNegative,
    Noun,
    Positive,
    Profile,
    ReplicaConfig,
    Share,
    SizeBucket,
    Slo,
)

AUTO = "auto"
"""The stream of requests that name no model: any model of the pool may answer."""

GroupName = Annotated[str, Field(pattern=r"^[a-z]([a-z0-9-]{0,46}[a-z0-9])?$")]
"""DNS-1035 and at most 48 characters: valid as a Serve application and a Kubernetes name."""


class ReplicaGroup(Noun):
    """A replica config, bought in one market, and how many replicas of it run."""

    name: GroupName
    market: Market
    replicas: Count
    usd_per_hour: Positive = Field(description="one replica, all its accelerators")
    load: NonNegative = Field(description="planned load over saturation inside the SLO, 0..1")
    profile: Profile

    @property
    def config(self) -> ReplicaConfig:
        """The replica config that the profile describes."""
        return self.profile.config

    @property
    def total_usd_per_hour(self) -> float:
        """All replicas of the group."""
        return self.replicas * self.usd_per_hour


class Route(Noun):
    """Which share of one request class goes to which group; the shares sum to one."""

    stream: str = Field(description="'auto', or the model that the requests name")
    bucket: SizeBucket
    rate_rps: Positive
    shares: dict[str, Share]


class Cost(Noun):
    """What the plan costs, and the proof of how much cheaper any other could be."""

    usd_per_hour: NonNegative
    usd_per_million_tokens: NonNegative = Field(description="input plus output, at planned rates")
    lower_bound_usd_per_hour: NonNegative = Field(description="no fleet in these limits costs less")
    gap: NonNegative = Field(description="(cost - bound) / cost")
    lp_bound_usd_per_hour: NonNegative = Field(description="with fractional replicas")


class Alternative(Noun):
    """The cheapest fleet of one GPU type alone, or why there is none."""

    gpu: Name
    chosen: bool = Field(description="the plan rents this type, alone or with others")
    usd_per_hour: NonNegative | None = None
    replicas: dict[str, int] = Field(default_factory=dict)
    reason: str


class ExcludedClass(Noun):
    """Requests that no GPU type offered can serve inside the SLO; they count as misses."""

    stream: str
    bucket: SizeBucket
    rate_rps: Positive
    reason: str


class Plan(Noun):
    """The answer of the planner, complete enough to deploy."""

    version: Literal[1] = 1
    service: Name
    slo: Slo
    headroom: Share
    cost: Cost
    groups: tuple[ReplicaGroup, ...] = Field(min_length=1)
    alternatives: tuple[Alternative, ...] = ()
    excluded: tuple[ExcludedClass, ...] = ()
    models: dict[str, ModelSpec]
    gpus: dict[str, GpuType]
    routes: tuple[Route, ...]

    @property
    def digest(self) -> str:
        """Identity of the content: equal plans have equal digests."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]

    def group(self, name: str) -> ReplicaGroup:
        """The group of that name; KeyError when there is none."""
        return {g.name: g for g in self.groups}[name]
