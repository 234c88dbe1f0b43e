"""The parts of a service file that limit the fleet, beside stock and the latency target."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from profiler.core import Market, NonNegative, Noun, Positive, Share, SizeBucket, Slo

Below1 = Annotated[float, Field(ge=0, lt=1)]


class NodeOffer(Noun):
    """Accelerators sold by the whole node only."""

    gpus: Annotated[int, Field(ge=2)] = Field(description="accelerators in a node")
    usd_per_hour: Positive | None = Field(
        None, description="the node; without it, its accelerators at their price"
    )


class QualityTarget(Noun):
    """How good the answers to requests that name no model must be."""

    mean: Share | None = Field(None, description="least mean score over all of them")
    floor: Share | None = Field(None, description="least mean score of every request class")
    outcomes: str | None = Field(
        None, description="outcome table to read each model's quality from, where it gives none"
    )

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.mean is None and self.floor is None and self.outcomes is None:
            raise ValueError("expected at least one of mean, floor, outcomes; found none of them")
        return self

    @property
    def aims(self) -> bool:
        """Whether it asks for a quality, rather than only telling where quality is written."""
        return self.mean is not None or self.floor is not None


class ClassRule(Noun):
    """What differs for some request classes; the first rule that covers a class decides.

    A class is covered when all of its sizes are inside every bound given.
    """

    stream: str | None = Field(None, description="auto or a model; without it, any")
    input_over: NonNegative | None = Field(None, description="more prompt tokens than this")
    input_up_to: Positive | None = None
    output_over: NonNegative | None = None
    output_up_to: Positive | None = None
    slo: Slo | None = Field(None, description="instead of the service's")
    quality: Share | None = Field(None, description="least mean score of each class covered")
    dataset: str | None = Field(
        None, description="rows of quality.outcomes that tell the models' scores on these requests"
    )

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.slo is None and self.quality is None and self.dataset is None:
            raise ValueError("expected at least one of slo, quality, dataset; found none of them")
        return self

    def covers(self, stream: str, bucket: SizeBucket) -> bool:
        """Whether the rule is for requests of this stream and bucket."""
        (in_low, in_high), (out_low, out_high) = bucket.input_range, bucket.output_range
        return (
            self.stream in (None, stream)
            and (self.input_over is None or in_low >= self.input_over)
            and (self.input_up_to is None or in_high <= self.input_up_to)
            and (self.output_over is None or out_low >= self.output_over)
            and (self.output_up_to is None or out_high <= self.output_up_to)
        )


class SpotLimits(Noun):
    """How far a fleet may rest on capacity that can be taken away."""

    share: Share | None = Field(None, description="largest share of accelerators on spot")
    reserve: Below1 = Field(
        0.0, description="share of every spot group that may vanish at once and not be missed"
    )


class ReplicaRule(Noun):
    """How many replicas there must or may be of a model, on a GPU type, in a market or region."""

    model: str | None = None
    gpu: str | None = None
    market: Market | None = None
    region: str | None = None
    min: Annotated[int, Field(ge=0)] = 0
    max: Annotated[int, Field(ge=0)] | None = None
    exactly: Annotated[int, Field(ge=0)] | None = Field(None, description="instead of both")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.exactly is not None and (self.min or self.max is not None):
            raise ValueError("exactly: it stands for min and max; remove them")
        if self.exactly is None and not self.min and self.max is None:
            raise ValueError("expected at least one of min, max, exactly; found none of them")
        if self.max is not None and self.max < self.min:
            raise ValueError(f"max is {self.max}, less than min, {self.min}")
        return self


class NodeLoss(Noun):
    """Spare capacity, so that the load can still be carried after any one node is lost."""

    headroom: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="largest load of a replica meanwhile"
    )


class Moving(Noun):
    """The fleet that runs now, and what it costs to change it."""

    running: str | dict[str, Annotated[int, Field(ge=0)]] = Field(
        description="a plan file, or replicas by group name"
    )
    start_usd: NonNegative = Field(0.0, description="to start a replica")
    stop_usd: NonNegative = Field(0.0, description="to stop one")
    horizon_h: Positive = Field(24.0, description="hours that the new plan will stand")
