"""What a plan says of itself: shadow prices for the router, and the reasons behind the fleet.

Plain nouns, written into the plan file. How they are found is in `placement.prices` and
`placement.explain`.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from profiler.core import Name, NonNegative, Noun, Share


class Prices(Noun):
    """Exchange rates between quality and load in the fleet as rented; see `placement.prices`.

    The worth of sending a request to a group is ``quality[stream] * q - load_s * load[group]``,
    with q the expected quality of its answer there and load_s the replica-seconds it takes. It
    comes in $/h per request/s, which over 3600 is dollars per request.
    """

    quality: dict[str, NonNegative] = Field(
        default_factory=dict,
        description="per stream with a quality to reach, $/h for one more unit of quality at one "
        "request per second; 0 where the cheapest assignment is good enough",
    )
    floors: dict[str, NonNegative] = Field(
        default_factory=dict,
        description="the same per request class whose own floor costs something, to be added",
    )
    load: dict[str, NonNegative] = Field(
        description="per group, $/h for one replica kept at saturation: its rent over the headroom "
        "where there is room, more where the group is full"
    )
    classes: dict[str, float] = Field(
        default_factory=dict,
        description="per request class ('stream: bucket'), $/h for one more request per second",
    )


class Use(Noun):
    """What one GPU type is rented for."""

    gpu: Name
    groups: tuple[str, ...]
    usd_per_hour: NonNegative
    request_share: Share = Field(description="of all requests that the plan serves")
    token_share: Share = Field(description="of their input and output tokens")
    input_tokens: NonNegative = Field(description="mean of the requests it serves")
    output_tokens: NonNegative = Field(description="mean of the requests it serves")
    words: str = Field(description="such as 'long prompts, short answers'")


class Loser(Noun):
    """Why a GPU type is not rented, judged by its best replica option."""

    gpu: Name
    option: str | None = Field(None, description="the option that came nearest")
    usd_per_hour: NonNegative | None = Field(None, description="its price")
    worth_usd_per_hour: NonNegative | None = Field(
        None, description="the price at which the fractional optimum would begin to rent it"
    )
    forced_usd_per_hour: float | None = Field(
        None, description="what the best plan with one of them costs more; found by planning again"
    )
    reason: str


class LimitUse(Noun):
    """A limit, how much of it is used, and whether it is what keeps the plan from being cheaper."""

    limit: str
    used: NonNegative
    allowed: NonNegative
    binds: bool
    words: str


class Marginal(Noun):
    """What moving one limit a little would save.

    ``shadow`` follows from the duals of the LP relaxation: the most that the fractional optimum
    could fall. ``resolved`` is the difference to the best plan found with the limit moved, whole
    replicas and all; it may exceed the shadow figure, for whole replicas jump.
    """

    change: str
    shadow_usd_per_hour: float | None = None
    resolved_usd_per_hour: float | None = None
    note: str = ""


class Explanation(Noun):
    """Why the plan is as it is."""

    uses: tuple[Use, ...]
    losers: tuple[Loser, ...] = ()
    limits: tuple[LimitUse, ...] = ()
    marginals: tuple[Marginal, ...] = ()


class ParetoPoint(Noun):
    """The cheapest plan at one setting of a limit, or why there is none."""

    value: float
    usd_per_hour: NonNegative | None = None
    switching_usd_per_hour: NonNegative = Field(0.0, description="moving to it")
    lower_bound_usd_per_hour: NonNegative | None = Field(None, description="of rent and moves")
    quality: Share | None = Field(None, description="expected mean, where known")
    replicas: dict[str, int] = Field(default_factory=dict, description="by group")
    gpus: dict[str, int] = Field(default_factory=dict, description="accelerators by type")
    excluded_share: Share = Field(0.0, description="of requests that no option can serve")
    asked: bool = Field(False, description="the setting of the service file")
    reason: str = ""


class Pareto(Noun):
    """Cost against one limit, from the strictest setting to the loosest."""

    over: Literal["quality", "ttft", "tpot"]
    unit: str
    points: tuple[ParetoPoint, ...] = Field(min_length=1)
