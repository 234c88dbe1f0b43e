"""A plan: the fleet to rent, which group serves which requests, what it costs and how sure that is.

A plan file holds all that deploying needs (specs, profiles, shares), so it can be read, diffed,
committed and deployed elsewhere.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from placement.explanation import Explanation, Prices
from placement.verification import Verification
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

REMARKS = {"alternatives", "explanation", "notes", "verification"}
"""Parts of a plan that explain it: with or without them, the same fleet serves the same way."""

SHARE_TOLERANCE = 1e-4
"""Shares are written with six decimals."""

ServiceName = Annotated[str, Field(pattern=r"^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$")]
"""Lower-case letters, digits and dashes, at most 40: it names files and processes too."""

RouterPolicy = Literal["utility", "lin_ucb", "thompson"]
"""By the plan's prices and shares, or a bandit that learns from feedback."""

GroupName = Annotated[str, Field(pattern=r"^[a-z]([a-z0-9-]{0,46}[a-z0-9])?$")]
"""DNS-1035 and at most 48 characters: valid as a Serve application and a Kubernetes name."""


class ReplicaGroup(Noun):
    """A replica config, bought in one market, and how many replicas of it run."""

    name: GroupName
    market: Market
    replicas: Count
    usd_per_hour: Positive = Field(description="one replica, all its accelerators")
    load: NonNegative = Field(description="planned load over saturation inside the SLO, 0..1")
    region: str | None = None
    node_gpus: Count = Field(1, description="over 1: it stands on whole nodes; see `nodes`")
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
    difficulty: int | None = Field(None, description="bin of the router's, where it has one")
    slo: Slo | None = Field(None, description="instead of the plan's, for these requests")
    shares: dict[str, Share] = Field(min_length=1)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        total = sum(self.shares.values())
        if abs(total - 1) > SHARE_TOLERANCE:
            raise ValueError(f"shares sum to {total:g}, expected 1")
        return self


class Cost(Noun):
    """What the plan costs, and the proof of how much cheaper any other could be.

    The bounds and the gap are of the rent and the moves together.
    """

    usd_per_hour: NonNegative
    usd_per_million_tokens: NonNegative = Field(description="input plus output, at planned rates")
    lower_bound_usd_per_hour: NonNegative = Field(description="no fleet in these limits costs less")
    gap: NonNegative = Field(description="(cost - bound) / cost")
    lp_bound_usd_per_hour: NonNegative = Field(description="with fractional replicas")
    switching_usd_per_hour: NonNegative = Field(
        0.0, description="starting and stopping replicas, spread over the horizon asked for"
    )


class ExpectedQuality(Noun):
    """Mean score expected of the answers to requests that name no model."""

    mean: Share
    bound: Share | None = Field(
        None, description="no fleet within the budget has a higher mean; set where a budget was"
    )


class NodePurchase(Noun):
    """Whole nodes that groups stand on; they are what is paid there."""

    gpu: Name
    market: Market
    region: str | None = None
    gpus_per_node: Count
    nodes: Count
    usd_per_node_hour: Positive

    @property
    def total_usd_per_hour(self) -> float:
        """All nodes of the purchase."""
        return self.nodes * self.usd_per_node_hour


class Alternative(Noun):
    """The cheapest fleet of one GPU type alone, or why there is none."""

    gpu: Name
    chosen: bool = Field(description="the plan rents this type, alone or with others")
    usd_per_hour: NonNegative | None = None
    switching_usd_per_hour: NonNegative = Field(0.0, description="moving to it, as in `cost`")
    replicas: dict[str, int] = Field(default_factory=dict)
    reason: str


class ExcludedClass(Noun):
    """Requests that no GPU type offered can serve inside the SLO; they count as misses."""

    stream: str
    bucket: SizeBucket
    rate_rps: Positive
    reason: str


class LocalTarget(Noun):
    """This machine."""

    host: Annotated[str, Field(min_length=1)] = Field(
        "127.0.0.1", description="address that clients come to; 0.0.0.0: all of this machine's"
    )
    port: Annotated[int, Field(ge=1, le=65535)] = 8000


class PlannedLoadPolicy(Noun):
    """A load policy that was trained for this very plan, and comes with it.

    ``insist``: use it although its own trial does not say that it is better than prices.
    """

    file: str = Field(description="what it was called where it was deployed from")
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    content: str = Field(repr=False, description="the file itself in base64")
    insist: bool = False

    @property
    def version(self) -> str:
        """A short identity of the file."""
        return self.sha256[:12]


class PlannedRouter(Noun):
    """The learned router that the plan was made with: it is deployed with the same artefact."""

    artefact: str = Field(description="the file; relative to the plan file")
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    policy: RouterPolicy = "utility"
    models: dict[str, str] = Field(
        min_length=1, description="the pool, each model with its name in the artefact"
    )
    edges: tuple[float, ...] = Field(
        (), description="difficulty at which one bin ends and the next begins, ascending"
    )
    described: str = ""
    load_policy: PlannedLoadPolicy | None = Field(
        None, description="what chooses the model under load; prices without one"
    )

    @property
    def version(self) -> str:
        """A short identity of the artefact."""
        return self.sha256[:12]


class Targets(Noun):
    """Settings of the places where a plan can be put."""

    local: LocalTarget = LocalTarget()


class Plan(Noun):
    """The answer of the planner, complete enough to deploy."""

    version: Literal[1] = 1
    service: ServiceName
    slo: Slo
    headroom: Share
    targets: Targets = Targets()
    gateway: dict[str, Any] = Field(
        default_factory=dict,
        description="as in the service file; see `serve_apps.gateway_settings.GatewaySettings`",
    )
    cost: Cost
    quality: ExpectedQuality | None = None
    groups: tuple[ReplicaGroup, ...] = Field(min_length=1)
    nodes: tuple[NodePurchase, ...] = ()
    alternatives: tuple[Alternative, ...] = ()
    excluded: tuple[ExcludedClass, ...] = ()
    models: dict[str, ModelSpec]
    gpus: dict[str, GpuType]
    routes: tuple[Route, ...]
    notes: tuple[str, ...] = Field((), description="how sure the figures are that it rests on")
    prices: Prices | None = Field(None, description="what the router weighs quality and load by")
    router: PlannedRouter | None = None
    explanation: Explanation | None = None
    verification: Verification | None = None

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        names = [g.name for g in self.groups]
        if twice := next((n for n in names if names.count(n) > 1), None):
            raise ValueError(f"groups: two are named {twice!r}")
        for g in self.groups:
            if g.config.model not in self.models:
                raise ValueError(f"models: {g.config.model!r}, which {g.name!r} runs, is missing")
            if g.config.gpu not in self.gpus:
                raise ValueError(f"gpus: {g.config.gpu!r}, which {g.name!r} runs on, is missing")
        for r in self.routes:
            if r.stream not in (AUTO, *self.models):
                raise ValueError(f"routes: no model is named {r.stream!r}")
            if unknown := next((n for n in r.shares if n not in names), None):
                raise ValueError(f"routes: {r.bucket.key} goes to {unknown!r}, which is no group")
        return self

    @property
    def digest(self) -> str:
        """Identity of what is deployed and promised; what a plan says about itself is left out."""
        promised = self.model_dump_json(exclude=REMARKS)
        return hashlib.sha256(promised.encode()).hexdigest()[:12]

    def group(self, name: str) -> ReplicaGroup:
        """The group of that name; KeyError when there is none."""
        return {g.name: g for g in self.groups}[name]
