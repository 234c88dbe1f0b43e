"""The fleet that every load policy drives, and what its models make of real prompts.

Two nodes of eight H200: one replica of Llama-3.1-405B (tensor parallel 8) on the first; three of
70B (tensor parallel 2) and two of 8B on the second. Profiles are computed (roofline). Each GPU
belongs to one model; nothing is swapped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from benchmarks.router_data import CONTENDER, SEED, told_of
from benchmarks.router_tasks import DATA, LLAMA_8B, LLAMA_70B, LLAMA_405B
from orchestrator.simulator import Arrivals, Floats, Ints
from placement.plan import AUTO, Cost, Plan, ReplicaGroup, Route
from profiler.catalog import load_catalog
from profiler.core import Profile, SizeBucket, Slo
from profiler.rates import max_rates
from profiler.roofline import roofline_profile
from serve_apps.router.evaluation.splits import hash_splits
from serve_apps.router.outcomes import read_outcomes

SLO = Slo(ttft_s=3.0, tpot_s=0.1, attainment=0.95)
HEADROOM = 0.85
OUTCOMES = DATA / "zeroeval.parquet"
BUCKETS = 6


@dataclass(frozen=True)
class Part:
    """One model of a fleet: its name in the catalog and in the outcomes, and what it stands on."""

    model: str
    outcome: str
    gpu: str
    tensor_parallel: int
    replicas: int


LADDER = (
    Part("llama-3.1-405b", LLAMA_405B, "H200", 8, 1),
    Part("llama-3.1-70b", LLAMA_70B, "H200", 2, 3),
    Part("llama-3.1-8b", LLAMA_8B, "H200", 1, 2),
)
"""The large model first: all that speaks of places means this order."""
PAIR = (
    Part("llama-3.1-70b", LLAMA_70B, "H100", 4, 1),
    Part("llama-3.1-8b", LLAMA_8B, "H100", 1, 4),
)
"""A wider gap in quality and a narrower one in speed: what is lost when there is no middle."""
FLEETS: Mapping[str, tuple[Part, ...]] = {"ladder": LADDER, "pair": PAIR}


@dataclass(frozen=True)
class Fleet:
    """A plan, and what is to be known of it; per model in the order of its parts.

    ``capacity_rps`` is the highest rate of the trace's requests that all replicas of a model
    keep inside the SLO; ``full_batch`` how many they then hold.
    """

    plan: Plan
    parts: tuple[Part, ...]
    capacity_rps: tuple[float, ...]
    full_batch: Mapping[str, float]

    @property
    def gpus(self) -> int:
        """Of all models."""
        return sum(p.tensor_parallel * p.replicas for p in self.parts)

    @property
    def model_of_group(self) -> Ints:
        """The place of each group's model: the groups come in the parts' order."""
        return np.arange(len(self.parts))


def fleet_of(parts: tuple[Part, ...], sizes: Arrivals) -> Fleet:
    """The fleet, told what requests are like by a trace (of the time before the test)."""
    catalog = load_catalog()
    inputs, outputs = np.asarray(sizes.input_tokens), np.asarray(sizes.output_tokens)
    groups, rates, full = [], [], {}
    for part in parts:
        gpu = catalog.gpu(part.gpu)
        profile = roofline_profile(catalog.model(part.model), gpu, part.tensor_parallel)
        assert isinstance(profile, Profile), profile
        rate = part.replicas * _rate_rps(profile, inputs, outputs)
        rates.append(rate)
        full[part.model] = rate * float(outputs.mean()) * SLO.tpot_s
        groups.append(
            ReplicaGroup(
                name=part.model.replace(".", "-"),
                market="on_demand",
                replicas=part.replicas,
                usd_per_hour=part.tensor_parallel * gpu.price.on_demand_usd_per_hour,
                load=HEADROOM,
                profile=profile,
            )
        )
    usd = sum(g.total_usd_per_hour for g in groups)
    plan = Plan(
        service="burst",
        slo=SLO,
        headroom=HEADROOM,
        cost=Cost(
            usd_per_hour=usd,
            usd_per_million_tokens=0,
            lower_bound_usd_per_hour=0,
            gap=1,
            lp_bound_usd_per_hour=0,
        ),
        groups=tuple(groups),
        models={p.model: catalog.model(p.model) for p in parts},
        gpus={p.gpu: catalog.gpu(p.gpu) for p in parts},
        routes=_routes(groups[0].name, inputs, outputs, HEADROOM * rates[0]),
    )
    return Fleet(plan, parts, tuple(rates), full)


def _rate_rps(profile: Profile, inputs: Ints, outputs: Ints) -> float:
    """Of the mixture: one over the mean load of a sample of its requests."""
    pick = np.linspace(0, len(inputs) - 1, min(len(inputs), 400)).astype(int)
    rates = max_rates(profile, inputs[pick].astype(float), outputs[pick].astype(float), SLO)
    able = rates.rate_rps > 0
    return float(1 / (1 / rates.rate_rps[able]).mean())


def _routes(group: str, inputs: Ints, outputs: Ints, rate_rps: float) -> tuple[Route, ...]:
    """All to the large model, in buckets by input, so that answers' lengths are known in mean."""
    edges = np.unique(np.quantile(inputs, np.linspace(0, 1, BUCKETS + 1)[1:-1]).astype(int))
    bounds = [0, *edges.tolist(), int(max(inputs.max(), edges[-1] + 1))]
    found = []
    for low, high in pairwise(bounds):
        rows = (inputs > low) & (inputs <= high)
        if rows.any():
            bucket = SizeBucket(
                input_range=(low, high),
                output_range=(0, int(outputs.max())),
                input_tokens=max(round(float(inputs[rows].mean())), 1),
                output_tokens=max(round(float(outputs[rows].mean())), 1),
            )
            rate = max(rate_rps * float(rows.mean()), 1e-9)
            found.append(Route(stream=AUTO, bucket=bucket, rate_rps=rate, shares={group: 1.0}))
    return tuple(found)


@dataclass(frozen=True)
class Prompts:
    """What each model scored on prompts, and what it was expected to: ``[prompts, models]``."""

    score: Floats
    expected: Floats

    def drawn(self, count: int, rng: np.random.Generator) -> Prompts:
        """So many, with repetition: which prompt belongs to which request is pure chance."""
        rows = rng.integers(len(self.score), size=count)
        return Prompts(self.score[rows], self.expected[rows])


def prompts_of(parts: tuple[Part, ...]) -> tuple[Prompts, Prompts]:
    """For tuning and for the test, apart by hash of the prompt.

    Estimates are by text features and a low-rank model fitted on the first part alone; there
    they are cross-fitted.
    """
    outcomes = read_outcomes(OUTCOMES)
    split = hash_splits([p.text for p in outcomes.prompts], 2, repeats=1, seed=SEED)[0]
    told = told_of(outcomes.only([p.outcome for p in parts]), split)
    assert CONTENDER is not None
    return (
        Prompts(told.train.score, told.train_told.quality),
        Prompts(told.test.score, told.test_told.quality),
    )
