"""Do verified plans hold on arrivals they were not verified on?

    python -m benchmarks.verify [--only NAME ...] [--seeds 3] [--attainment 0.95]

For each public trace: plan Llama-3.1-8B on every catalog GPU, verify the plan (`plan --verify`),
and simulate it on seeds of the same traffic that verification did not use. Request traces are drawn
anew by `profiler.resample`; of rate curves the two busiest hours are taken, scaled to a mean of 10
requests/s, with Poisson arrivals and the sizes of a public trace. Mooncake's arrivals are logged to
3 s, and are spread over those. 95 % of requests are to meet the SLO: TTFT 2 s and TPOT 60 ms; 5 s
for ServeGen's day, whose longest prompts take more than 2 s on any GPU; 30 s and 100 ms for
Mooncake, whose prompts are 12,000 tokens long. The last line is JSON: the share of (trace, seed)
pairs that hold, the least margin over the share asked, and the mean relative cost of the promise.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from orchestrator.loading import load_service
from orchestrator.planning import build_problem, traces_of
from orchestrator.traffic import scenario, traffic_of
from orchestrator.trying import try_plan
from orchestrator.verifying import verify
from placement.verification import Verification
from profiler import documents
from profiler.traces import read_trace, write_trace

TRACES = Path(__file__).resolve().parent.parent.parent / "shared/data/traces"
UNSEEN = 10_001
"""First of the seeds that verification does not use."""

CURVE_H, CURVE_RPS = 2, 10.0
CHAT, LONG = {"ttft_s": 2.0, "tpot_s": 0.06}, {"ttft_s": 30.0, "tpot_s": 0.1}


@dataclass(frozen=True)
class Case:
    """Traffic, as the workload of a service file, and the SLO asked of it."""

    name: str
    workload: dict[str, object]
    slo: dict[str, float]


@dataclass(frozen=True)
class Found:
    """What verification recorded, and the shares that unseen seeds reached."""

    case: Case
    record: Verification
    unseen: tuple[float, ...]
    cpu_s: float

    @property
    def asked(self) -> float:
        """The SLO's share."""
        return self.record.streams[0].slo.attainment


def cases(scratch: Path) -> list[Case]:
    """Every file of the traces directory."""
    found = []
    for path in sorted(TRACES.glob("*.csv.gz")):
        name = path.name.removesuffix(".csv.gz")
        if name == "servegen_rates_10min":
            found += [
                Case(f"{name}, {model}", curve(times, rates, "azure-chat"), CHAT)
                for model, (times, rates) in servegen_rates(path).items()
            ]
        elif name.endswith("_digitised"):
            sizes = "azure-code" if "_code_" in name else "azure-chat"
            found.append(Case(name, curve(*azure_rates(path), sizes), CHAT))
        elif name.startswith("mooncake"):
            found.append(Case(name, {"trace": str(spread(path, scratch))}, LONG))
        else:
            slo = CHAT | {"ttft_s": 5.0} if name.startswith("servegen") else CHAT
            found.append(Case(name, {"trace": str(path)}, slo))
    return found


def spread(path: Path, scratch: Path) -> Path:
    """A trace logged to 3 s with its arrivals spread over those."""
    trace = read_trace(path)
    jitter = np.random.default_rng(0).uniform(0, 3, len(trace))
    out = scratch / "spread.csv"
    write_trace(trace.picked(np.arange(len(trace)), path.name, trace.arrival_s + jitter), out)
    return out


def servegen_rates(path: Path) -> dict[str, tuple[list[float], list[float]]]:
    """Window starts and requests per second of each model."""
    found: dict[str, tuple[list[float], list[float]]] = {}
    with gzip.open(path, "rt") as file:
        for row in csv.DictReader(file):
            times, rates = found.setdefault(row["model"], ([], []))
            times.append(float(row["window_start_s"]))
            rates.append(float(row["req_per_s"]))
    return found


def azure_rates(path: Path) -> tuple[list[float], list[float]]:
    """Times and requests per second of a digitised curve."""
    with gzip.open(path, "rt") as file:
        rows = list(csv.DictReader(file))
    return [float(r["t_s"]) for r in rows], [float(r["req_per_min"]) / 60 for r in rows]


def curve(times: list[float], rates: list[float], sizes: str) -> dict[str, object]:
    """The busiest two hours of a rate curve, scaled, as spikes on a base rate."""
    step_s = float(np.median(np.diff(times)))
    count = round(CURVE_H * 3600 / step_s)
    start = int(np.argmax(np.convolve(rates, np.ones(count), "valid")))
    part = np.array(rates[start : start + count])
    factors = (part / part.mean()).tolist()
    spikes = [
        {"at_s": k * step_s, "length_s": step_s, "factor": factor}
        for k, factor in enumerate(factors)
    ]
    arrivals = {"kind": "spikes", "rate_rps": CURVE_RPS, "spikes": spikes}
    return {"arrivals": arrivals, "sizes": sizes, "duration_s": count * step_s}


def run(case: Case, scratch: Path, seeds: int, attainment: float) -> Found:
    """Plan, verify, and try on unseen seeds."""
    service = {
        "name": "bench",
        "models": [{"model": "llama-3.1-8b"}],
        "gpus": "all",
        "slo": case.slo | {"attainment": attainment},
        "workload": case.workload,
    }
    path = scratch / "service.yaml"
    path.write_text(documents.dump_data(service))
    start = time.process_time()
    loaded = load_service(path)
    traces = traces_of(loaded)
    traffic = traffic_of(loaded, traces)
    verified = verify(build_problem(loaded, traces=traces), "bench", traffic, time_limit_s=1e9)
    cpu_s = time.process_time() - start
    unseen = [scenario(traffic, UNSEEN + k) for k in range(seeds)]
    shares = try_plan(verified.mix.plan, unseen).fared[0].shares
    return Found(case, verified.record, shares, cpu_s)


def line(found: Found) -> str:
    """A row of the table."""
    record, tried = found.record, found.record.streams[0]
    seeds = " ".join(f"{share:7.2%}" for share in found.unseen)
    return (
        f"{found.case.name:36} {tried.before:8.2%} {tried.worst:8.2%}  {seeds}  "
        f"{record.unverified_usd_per_hour:8.2f} {record.promise_usd_per_hour:+7.2f} "
        f"{record.rounds:6} {found.cpu_s:6.1f}  {'' if record.holds else record.note}"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", help="parts of the traces' names")
    parser.add_argument("--seeds", type=int, default=3, help="unseen seeds")
    parser.add_argument("--attainment", type=float, default=0.95, help="the share asked")
    args = parser.parse_args()
    if not TRACES.exists():
        parser.error(f"{TRACES} is not here; this benchmark needs its public traces")
    print(
        f"{'trace':36} {'before':>8} {'verified':>8}  {'unseen seeds':{8 * args.seeds - 1}}  "
        f"{'$/h':>8} {'promise':>7} {'rounds':>6} {'CPU s':>6}"
    )
    results = []
    with tempfile.TemporaryDirectory() as tmp:
        for case in cases(Path(tmp)):
            if args.only and not any(part in case.name for part in args.only):
                continue
            results.append(run(case, Path(tmp), args.seeds, args.attainment))
            print(line(results[-1]), flush=True)
    margins = [share - f.asked for f in results for share in f.unseen]
    records = [f.record for f in results]
    figures = {
        "held_share": round(sum(m >= 0 for m in margins) / len(margins), 4),
        "worst_margin": round(min(margins), 4),
        "mean_promise_cost": round(
            sum(r.promise_usd_per_hour / r.unverified_usd_per_hour for r in records) / len(records),
            4,
        ),
        "pairs": len(margins),
        "verified": sum(r.holds for r in records),
        "traces": len(records),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
