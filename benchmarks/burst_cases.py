"""The cases of the burst benchmark, and one unit of its work: a scenario by one seed."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from benchmarks.burst_fleet import FLEETS, Fleet, Prompts, fleet_of, prompts_of
from benchmarks.burst_load import Scenario, load_of, part_of
from benchmarks.burst_results import Row
from benchmarks.burst_run import Asked, Tuned, causal, random_mix, run, run_hindsight
from orchestrator.simulation.load_policy import Learned
from orchestrator.simulation.load_rules import QueueSettings
from orchestrator.simulation.measures import Measures
from orchestrator.simulator import Floats
from profiler.traces import Trace
from serve_apps.router.load_values import LoadValues, pool_of


@dataclass(frozen=True)
class Case:
    """A fleet, a trace, and the parameters found for them by `benchmarks.burst_tuning`.

    ``most`` is the highest multiple of the large model's capacity worth asking for.
    """

    name: str
    fleet: str
    source: str
    most: float
    tuned: Tuned
    span_s: float = 240.0


CASES = (
    Case(
        "ladder chat",
        "ladder",
        "chat",
        40.0,
        Tuned(0.8, 0.03, QueueSettings(1.5, 1.425, 0, 0.02)),
        span_s=600.0,
    ),
    Case(
        "pair chat",
        "pair",
        "chat",
        16.0,
        Tuned(0.05, 0.0, QueueSettings(1.5, 1.125, 0, -1.0)),
        span_s=120.0,
    ),
    Case("pair code", "pair", "code", 24.0, Tuned(0.02, 0.2, QueueSettings(0.5, 0.475, 0, 0.02))),
)


@dataclass(frozen=True)
class Setting:
    """Everything that workers share, made once."""

    fleets: Mapping[str, Fleet]
    tuning: Mapping[str, tuple[Trace, Prompts]]
    test: Mapping[str, tuple[Trace, Prompts]]


@dataclass(frozen=True)
class Job:
    """A scenario of a case by one seed; ``mix`` is that of ours where it is known already."""

    case: Case
    scenario: Scenario
    seed: int
    policies: tuple[str, ...]
    mix: tuple[float, ...] | None = None


_shared: list[Setting] = []


def prepare(setting: Setting) -> None:
    """Give a worker what it shares."""
    _shared[:] = [setting]


def setting_of(cases: list[Case]) -> Setting:
    """Fleets, traces and prompts of some cases."""
    prompts = {f: prompts_of(FLEETS[f]) for f in {c.fleet for c in cases}}
    tuning = {c.name: (part_of(c.source, tuning=True), prompts[c.fleet][0]) for c in cases}
    return Setting(
        fleets={c.name: fleet_of(FLEETS[c.fleet], tuning[c.name][0]) for c in cases},
        tuning=tuning,
        test={c.name: (part_of(c.source, tuning=False), prompts[c.fleet][1]) for c in cases},
    )


def asked_of(case: Case, scenario: Scenario, seed: int, *, tuning: bool = False) -> Asked:
    """A scenario made concrete."""
    setting = _shared[0]
    fleet = setting.fleets[case.name]
    part, prompts = (setting.tuning if tuning else setting.test)[case.name]
    trace = load_of(scenario, part, fleet.capacity_rps[0], seed)
    drawn = prompts.drawn(len(trace), np.random.default_rng([seed, 5]))
    return Asked(fleet, scenario, trace, drawn, seed)


def told_of(case: Case, policy: str, learned: LoadValues | None) -> str:
    """Everything that a policy is told; see `benchmarks.burst_results`."""
    told = {
        "threshold": f"margin {case.tuned.margin:g}",
        "queue rule": str(case.tuned.queue),
        "random": f"the mix of worth {case.tuned.worth_usd:g}",
        "RL": _digest(*(part for layer in learned.layers for part in layer)) if learned else "",
        "ours": f"worth {case.tuned.worth_usd:g}",
    }
    if policy not in told:
        return ""
    return f"{told[policy]}, estimates {_digest(_shared[0].test[case.name][1].expected)}"


def _digest(*arrays: Floats) -> str:
    return f"{zlib.crc32(b''.join(np.round(a, 6).tobytes() for a in arrays)):08x}"


def run_job(job: Job, learned: Mapping[str, LoadValues]) -> list[Row]:
    """Its policies on it."""
    asked = asked_of(job.case, job.scenario, job.seed)
    case, known = job.case, learned.get(job.case.name)
    builds = causal(case.tuned, {"RL": lambda _: Learned(known)} if known else {})
    found: dict[str, Measures] = {}
    for name in sorted(job.policies, key=lambda p: p == "random"):
        if name == "hindsight":
            found[name] = run_hindsight(asked)
        elif name == "random":
            found[name] = run(asked, random_mix(job.mix or found["ours"].mix))
        else:
            found[name] = run(asked, builds[name])
    return [
        Row(case.name, job.scenario, job.seed, name, measures, told_of(case, name, known))
        for name, measures in found.items()
    ]


def train(case: Case, minutes: float) -> LoadValues:
    """A policy learned on generated arrivals, with sizes and prompts of the tuning part."""
    from orchestrator.simulation.load_episodes import Sizes
    from orchestrator.simulation.load_learning import Practice, learn

    setting = _shared[0]
    part, prompts = setting.tuning[case.name]
    fleet = setting.fleets[case.name]
    sizes = Sizes(np.asarray(part.input_tokens), np.asarray(part.output_tokens))
    practice = Practice(
        fleet.plan,
        pool_of(fleet.plan),
        sizes,
        lambda count, rng: prompts.drawn(count, rng).expected,
    )
    return learn(practice, seconds=60 * minutes)
