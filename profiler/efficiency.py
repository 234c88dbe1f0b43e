"""The shares of a GPU's peak that inference reaches, per GPU generation, and how sure they are.

The figures live in ``profiler/data/efficiency.yaml``, which `profiler.calibration` writes: fitted
to published runs of real engines, and judged on runs it never saw. A generation of which no run
was published takes the figures fitted to all others together (with the shares of compute and
bandwidth that its kernels reach, where those were timed). Its error is what such figures are off
by on a generation left out of the fit.
"""

from __future__ import annotations

import datetime as dt
import functools
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from profiler import documents
from profiler.core import Count, Dtype, GpuType, NonNegative, Noun, Share

FILE = Path(__file__).parent / "data" / "efficiency.yaml"
OTHER = "other"
CPU = "cpu"


class Efficiency(Noun):
    """What inference reaches of the peak, and the fixed costs of a step."""

    compute: Share = Field(description="of the FLOP/s of 16-bit weights")
    bandwidth: Share
    link: Share = Field(1.0, description="of the nominal rate, in all-reduces")
    pcie_link: Share = Field(1.0, description="the same where peers are joined by PCIe")
    fp8_compute: Share = Field(1.0, description="times compute, with 8-bit weights")
    fp4_compute: Share = Field(1.0, description="times compute, with 4-bit weights")
    moe_compute: Share = Field(1.0, description="times compute, with experts")
    step_overhead_s: NonNegative = Field(0.0, description="scheduling and launch, every step")
    layer_overhead_s: NonNegative = Field(0.0, description="kernel launches and tails of a layer")
    moe_layer_overhead_s: NonNegative = Field(0.0, description="more of it, for routing")
    sequence_overhead_s: NonNegative = Field(0.0, description="sampling, per sequence and step")
    allreduce_latency_s: NonNegative = Field(0.0, description="each of two in a layer")

    def compute_share(self, weights: Dtype, *, experts: bool) -> float:
        """Share of the peak FLOP/s of that dtype which the matrices reach."""
        narrow = {"fp8": self.fp8_compute, "fp4": self.fp4_compute}.get(weights, 1.0)
        return self.compute * narrow * (self.moe_compute if experts else 1.0)


class Errors(Noun):
    """Median absolute relative errors on runs that the figures were not fitted to."""

    tpot: NonNegative
    ttft: NonNegative
    throughput: NonNegative
    rows: Count


class Generation(Noun):
    """GPU types of one make: a type belongs by its name, or by what comes before a dash in it."""

    gpus: tuple[str, ...] = ()
    efficiency: Efficiency
    held_out: Errors | None = Field(None, description="none where nothing was measured")


class EngineCosts(Noun):
    """What an engine adds to a request, and how its closed-loop runs behave."""

    step_overhead_s: NonNegative
    request_s: NonNegative = Field(description="HTTP, tokenising and scheduling, once a request")
    request_layer_s: NonNegative = Field(description="the same, per layer of the model")
    in_step: Share = Field(description="of a closed loop's clients: those that ask all at once")


class Rows(Noun):
    """How many published runs were used, and why the others were not."""

    fitted: Count
    held_out: Count
    unused: dict[str, int]


class Calibration(Noun):
    """The whole data file."""

    source: str
    version: str
    license: str
    as_of: dt.date
    split: str
    rows: Rows
    engines: dict[str, EngineCosts]
    generations: dict[str, Generation]


@dataclass(frozen=True)
class Calibrated:
    """The figures for one GPU type: the generation they are of, and their errors if known."""

    generation: str
    efficiency: Efficiency
    errors: Errors | None


@functools.cache
def calibration() -> Calibration:
    """The built-in figures."""
    return documents.parse(FILE.read_text(encoding="utf-8"), Calibration, FILE.name)


def generation_of(gpu: GpuType) -> str:
    """The generation whose figures hold for a GPU type: by vendor and name, else ``other``."""
    if gpu.vendor == "cpu":
        return CPU
    make = gpu.name.split("-", maxsplit=1)[0]
    for name, generation in calibration().generations.items():
        if gpu.name in generation.gpus or make in generation.gpus:
            return name
    return OTHER


def calibrated(gpu: GpuType) -> Calibrated:
    """The efficiencies to use for a GPU type."""
    name = generation_of(gpu)
    found = calibration().generations[name]
    return Calibrated(name, found.efficiency, found.held_out)
