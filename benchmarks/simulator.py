"""How fast the fleet simulator is, and how far from the engine taken step by step.

    python -m benchmarks.simulator [--quick] [--trace azure2023_conv.csv.gz]

Speed: requests per CPU-second of `simulate` from trace to timings, with the plan's route table
dealing every request and the replica with the fewest in flight taking it: Llama-3.1-8B on 1, 4 and
8 A100-80GB (computed profile), on the trace as it is, and on the trace laid over itself until the
fleet carries three quarters of what its profile sustains inside TTFT 2 s and TPOT 60 ms. The best
of several runs after one that compiles; the compiler's time is printed apart, from processes of
their own. Beside it the step-by-step engine (which does not route) on a part of the same trace,
a fleet of two groups, and a route table that is asked in Python for each request.

Error: the largest difference of any first token or last token between both engines over random
workloads, most of which preempt, in seconds; infinite if they ever reject, place or preempt
differently. The last line is JSON; its rates are those on the trace as it is.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from orchestrator.simulation.result import FleetTimings
from orchestrator.simulation.run import Conditions, simulate
from orchestrator.simulator import attainment, simulate_trace
from placement.plan import AUTO, Cost, Plan, ReplicaGroup, Route
from profiler.arrivals import GammaArrivals
from profiler.catalog import load_catalog
from profiler.core import (
    EngineOptions,
    Profile,
    Provenance,
    ReplicaConfig,
    Slo,
    StepTime,
    Workload,
)
from profiler.generator import generate
from profiler.rates import max_rates
from profiler.roofline import DoesNotFit, roofline_profile
from profiler.traces import Trace, read_trace
from profiler.workload import workload_from_trace
from serve_apps.router.table import RouteTable

ROOT = Path(__file__).resolve().parent.parent
TRACE = ROOT.parent / "shared/data/traces/azure2023_conv.csv.gz"
MODEL, GPU = "llama-3.1-8b", "A100-80GB"
SLO = Slo(ttft_s=2.0, tpot_s=0.06)
FLEETS = (1, 4, 8)
LOAD = 0.75
CASES = 300
STEPWISE_REQUESTS = 1500
FIRST = "from benchmarks.simulator import first_simulation_s; print(first_simulation_s())"


def fleet_plan(profile: Profile, workload: Workload, replicas: int, groups: int = 1) -> Plan:
    """Equal groups with equal shares of every class."""
    catalog = load_catalog()
    names = [f"a{g}" for g in range(groups)]
    shares = dict.fromkeys(names, 1 / groups)
    price = catalog.gpu(GPU).price.on_demand_usd_per_hour
    return Plan(
        service="bench",
        slo=SLO,
        headroom=LOAD,
        cost=Cost(
            usd_per_hour=price * replicas,
            usd_per_million_tokens=0,
            lower_bound_usd_per_hour=0,
            gap=1,
            lp_bound_usd_per_hour=0,
        ),
        groups=tuple(
            ReplicaGroup(
                name=name,
                market="on_demand",
                replicas=replicas // groups,
                usd_per_hour=price,
                load=LOAD,
                profile=profile,
            )
            for name in names
        ),
        models={MODEL: catalog.model(MODEL)},
        gpus={GPU: catalog.gpu(GPU)},
        routes=tuple(
            Route(stream=AUTO, bucket=r.bucket, rate_rps=r.rate_rps, shares=shares)
            for r in workload.rates
        ),
    )


def sustained_rps(profile: Profile, workload: Workload) -> float:
    """The rate of this mix that one replica sustains inside the SLO, where it can serve it."""
    inputs = np.array([r.bucket.input_tokens for r in workload.rates])
    outputs = np.array([r.bucket.output_tokens for r in workload.rates])
    rates = np.array([r.rate_rps for r in workload.rates])
    highest = max_rates(profile, inputs, outputs, SLO).rate_rps
    fits = highest > 0
    return float(rates.sum() / (rates[fits] / highest[fits]).sum())


def best_cpu_s(run: Callable[[], FleetTimings], runs: int) -> tuple[float, FleetTimings]:
    """The least CPU seconds of several runs, and what the last gave."""
    seconds = []
    for _ in range(runs):
        start = time.process_time()
        found = run()
        seconds.append(time.process_time() - start)
    return min(seconds), found


def speeds(profile: Profile, trace: Trace, runs: int) -> dict[str, int]:
    """Requests per CPU-second of each fleet and load, printed as they come."""
    workload = workload_from_trace(trace)
    sustained = sustained_rps(profile, workload)
    print(f"{trace.source}: {len(trace)} requests, {trace.mean_rate_rps:.2f}/s")
    print(f"one {GPU} sustains {sustained:.2f}/s of it inside {SLO}\n")
    print("replicas  load                groups   requests  requests/CPU-s  busy  attainment")
    figures: dict[str, int] = {}

    def measure(key: str, label: str, load: Trace, replicas: int, groups: int = 1) -> None:
        plan = fleet_plan(profile, workload, replicas, groups)
        seconds, found = best_cpu_s(lambda: simulate(plan, load), runs)
        figures[key] = round(len(load) / seconds)
        share, busy = attainment(found, SLO), np.mean(list(found.utilisation.values()))
        print(
            f"{replicas:8}  {label:18} {groups:7} {len(load):10} {figures[key]:15,}"
            f" {busy:5.0%} {share:11.4f}"
        )

    for replicas in FLEETS:
        measure(f"requests_per_cpu_s_{replicas}", "as it is", trace, replicas)
    for replicas in FLEETS:
        factor = LOAD * replicas * sustained / trace.mean_rate_rps
        loaded = trace.scaled(factor, "superpose", seed=0)
        key = f"requests_per_cpu_s_{replicas}_loaded"
        measure(key, f"x{factor:.2f}, superposed", loaded, replicas)
    measure("requests_per_cpu_s_4_two_groups", "as it is", trace, 4, groups=2)
    return figures


def asked_in_python(profile: Profile, trace: Trace, runs: int) -> int:
    """Requests per CPU-second when a Python router is asked for each."""
    plan = fleet_plan(profile, workload_from_trace(trace), 4)
    seconds, _ = best_cpu_s(lambda: simulate(plan, trace, router=RouteTable(plan)), runs)
    return round(len(trace) / seconds)


def stepwise(profile: Profile, trace: Trace, requests: int) -> dict[str, int]:
    """Requests per CPU-second of the step-by-step engine, on the trace's first requests."""
    part = trace.slice(0.0, float(trace.arrival_s[min(requests, len(trace) - 1)]))
    figures: dict[str, int] = {}
    for replicas in FLEETS:
        start = time.process_time()
        simulate_trace(profile, part, replicas=replicas)
        cpu_s = time.process_time() - start
        figures[f"stepwise_requests_per_cpu_s_{replicas}"] = round(len(part) / cpu_s)
    return figures


@dataclass(frozen=True)
class Case:
    """One random workload for both engines."""

    profile: Profile
    replicas: int
    trace: Trace


def random_case(seed: int) -> Case:
    """Small caches and budgets, bursts, long answers: most cases preempt and cut prompts."""
    rng = np.random.default_rng(seed)
    size = int(rng.integers(20, 200))
    gaps = rng.exponential(rng.choice([0.001, 0.02, 0.2, 2.0]), size) * (rng.random(size) < 0.8)
    gaps[0] = 0.0
    inputs = rng.integers(1, 400, size)
    law = StepTime(
        base_s=rng.uniform(1e-3, 2e-2),
        per_prefill_token_s=rng.uniform(0, 1e-3),
        per_sequence_s=rng.uniform(0, 1e-3),
        per_kv_token_s=rng.uniform(0, 1e-5),
    )
    engine = EngineOptions(
        max_num_seqs=int(rng.integers(2, 40)), max_num_batched_tokens=int(rng.integers(8, 600))
    )
    profile = Profile(
        config=ReplicaConfig(model="m", gpu="g", engine=engine),
        step_time=law,
        kv_capacity_tokens=int(rng.integers(600, 3000)),
        kv_block_tokens=int(rng.choice([1, 16, 32, 128])),
        max_model_len=1000,
        provenance=Provenance(kind="roofline", date=dt.date(2026, 1, 1)),
    )
    trace = Trace(
        arrival_s=np.cumsum(gaps),
        input_tokens=inputs,
        output_tokens=rng.integers(1, 400, size),
        prefix_hit_tokens=rng.integers(0, inputs) * (rng.random(size) < 0.3),
        source=f"random {seed}",
    )
    return Case(profile, int(rng.integers(1, 5)), trace)


def error_s(case: Case, plan: Plan) -> tuple[float, int]:
    """The largest difference between both engines, and how often the workload preempted."""
    trace = case.trace
    want = simulate_trace(case.profile, trace, replicas=case.replicas)
    (group,) = plan.groups
    group = group.model_copy(update={"profile": case.profile, "replicas": case.replicas})
    conditions = Conditions(queue_factor=float("inf"))
    got = simulate(plan.model_copy(update={"groups": (group,)}), trace, conditions=conditions)
    alike = (
        (got.rejected == want.rejected).all()
        and (got.replica[~got.rejected] == want.replica[~want.rejected]).all()
        and (got.preemptions == want.preemptions).all()
    )
    if not alike:
        return float("inf"), int(want.preemptions.sum())
    served = ~want.rejected
    with np.errstate(invalid="ignore"):  # infinite for both where rejected
        gaps = [got.first_token_s - want.first_token_s, got.finish_s - want.finish_s]
    return float(np.max(np.abs(gaps)[:, served], initial=0.0)), int(want.preemptions.sum())


def first_simulation_s() -> float:
    """CPU seconds until this process has simulated its first requests, imports left out."""
    trace = generated().slice(0.0, 5.0)
    plan = fleet_plan(engine_profile(), workload_from_trace(trace), 1)
    start = time.process_time()
    simulate(plan, trace)
    return time.process_time() - start


def start_times_s() -> tuple[float, float]:
    """Of `first_simulation_s` in new processes: compiled anew, and from the compiler's cache."""
    with tempfile.TemporaryDirectory() as cache:
        env = os.environ | {"NUMBA_CACHE_DIR": cache}
        runs = [
            subprocess.run(
                [sys.executable, "-c", FIRST],
                env=env,
                cwd=ROOT,
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        ]
    return float(runs[0].stdout), float(runs[1].stdout)


def engine_profile() -> Profile:
    """The replica that all speeds are measured with."""
    catalog = load_catalog()
    profile = roofline_profile(catalog.model(MODEL), catalog.gpu(GPU))
    assert not isinstance(profile, DoesNotFit), profile.reason
    return profile


def generated() -> Trace:
    """A trace of the same rate, sizes and burstiness."""
    return generate(GammaArrivals(rate_rps=5.5, cv=1.1), "azure-chat", 3480.0, seed=0)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trace", type=Path, default=TRACE, help="request trace")
    parser.add_argument("--quick", action="store_true", help="fewer runs and cases")
    args = parser.parse_args()
    runs, cases = (2, 40) if args.quick else (7, CASES)
    cold_s, cached_s = start_times_s()
    print(f"first simulation: {cold_s:.1f} CPU-s where all is compiled anew, {cached_s:.2f} after")
    if not args.trace.exists():
        print(f"{args.trace} is not here; a generated trace of its rate and sizes instead")
    trace = read_trace(args.trace) if args.trace.exists() else generated()
    profile = engine_profile()
    simulate(fleet_plan(profile, workload_from_trace(trace), 1), trace)
    figures: dict[str, float] = {**speeds(profile, trace, runs)}
    figures["python_router_requests_per_cpu_s_4"] = asked_in_python(profile, trace, 1)
    figures |= stepwise(profile, trace, STEPWISE_REQUESTS)
    steps = [figures[f"stepwise_requests_per_cpu_s_{n}"] for n in FLEETS]
    print(f"\nstep by step, {FLEETS} replicas: {steps} requests/CPU-s")
    print(f"route table asked in Python: {figures['python_router_requests_per_cpu_s_4']:,}")
    plan = fleet_plan(profile, workload_from_trace(trace), 1)
    found = [error_s(random_case(seed), plan) for seed in range(cases)]
    preempting = sum(count > 0 for _, count in found)
    figures["max_error_s"] = max(error for error, _ in found)
    print(
        f"{cases} random workloads, {preempting} of which preempt, {sum(n for _, n in found):,} "
        f"times in all: largest difference {figures['max_error_s']:.1e} s"
    )
    first_s = {"compile_cpu_s": round(cold_s, 2), "cached_start_cpu_s": round(cached_s, 2)}
    print(json.dumps(figures | first_s))


if __name__ == "__main__":
    main()
