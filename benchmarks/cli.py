"""How long the command line takes: `orchestrator --help`, and `plan` on a public trace.

    python -m benchmarks.cli [--trace azure2023_conv.csv.gz] [--runs 5]

Plans Llama-3.1-8B on every catalog GPU, TTFT 2 s and TPOT 60 ms. Times are wall-clock of the
whole process, start-up included: the median of the runs. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TRACE = ROOT.parent / "shared/data/traces/azure2023_conv.csv.gz"
COMMAND = [sys.executable, "-m", "orchestrator"]

SERVICE = """\
name: chat
models: [{{model: llama-3.1-8b}}]
gpus: all
slo: {{ttft_s: 2.0, tpot_s: 0.06}}
workload: {{{workload}}}
"""
GENERATED = "arrivals: {kind: gamma, rate_rps: 5.5, cv: 1.1}, sizes: azure-chat, duration_s: 3480"


def timed(args: list[str], runs: int) -> tuple[float, str]:
    """Median wall seconds of a command, and what it last printed."""
    seconds, out = [], ""
    for _ in range(runs):
        start = time.perf_counter()
        out = subprocess.run(args, check=True, capture_output=True, text=True, cwd=ROOT).stdout
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), out


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trace", type=Path, default=TRACE, help="request trace to plan for")
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    workload = f"trace: {args.trace.resolve()}"
    if not args.trace.exists():
        print(f"{args.trace} is not here; planning for a generated trace of its rate and sizes")
        workload = GENERATED
    help_s, _ = timed([*COMMAND, "--help"], args.runs)
    with tempfile.TemporaryDirectory() as tmp:
        service = Path(tmp, "service.yaml")
        service.write_text(SERVICE.format(workload=workload))
        plan_s, out = timed([*COMMAND, "plan", str(service), "-o", "json"], args.runs)
    plan = json.loads(out)
    alone = [a["usd_per_hour"] for a in plan["alternatives"] if "usd_per_hour" in a]
    print(f"orchestrator --help  {help_s:.2f} s")
    print(f"orchestrator plan    {plan_s:.2f} s")
    figures = {
        "help_s": round(help_s, 3),
        "plan_s": round(plan_s, 3),
        "plan_usd_per_hour": plan["cost"]["usd_per_hour"],
        "best_single_usd_per_hour": min(alone),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
