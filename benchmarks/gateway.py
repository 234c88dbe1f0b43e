"""What the gateway adds to a request, beside other gateways, all over one trivial backend.

    python -m benchmarks.gateway [--seconds S] [--rounds N] [--only NAME ...] [--quick]

Backend, gateway and load generator are processes of their own on this machine. Each round asks each
in turn, so drift of the machine hits all alike; figures are medians over the rounds. ``direct`` is
the backend without a gateway; "added" is a gateway's latency less the direct one's, at one
connection. ``ours`` is the whole path on Ray Serve: guard, learned routing between two models,
dispatcher, metrics, journal. Rivals are installed from PyPI on first use. The last line is JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.gateway_rivals import RIVALS, NotInstallableError, Rival, installed
from profiler.engine import free_port

ROOT = Path(__file__).parents[1]
START_TIMEOUT_S = 180.0
LARGE_BYTES = 220_000


@dataclass(frozen=True)
class Load:
    """One way of asking: connections, streamed or not, bytes of prompt beyond a short one."""

    name: str
    connections: int
    stream: bool = False
    pad_bytes: int = 0


LOADS = (
    Load("one", 1),
    Load("many", 32),
    Load("stream", 8, stream=True),
    Load("large", 1, pad_bytes=LARGE_BYTES),
    Load("large_many", 8, pad_bytes=LARGE_BYTES),
)


@dataclass
class Subject:
    """What is measured: a port that answers, and the processes that it takes."""

    name: str
    port: int
    model: str
    pid: int
    found: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    cpu_us: dict[str, list[float]] = field(default_factory=dict)

    def median(self, load: str, what: str) -> float:
        """Of a figure, over the rounds."""
        return statistics.median(run[what] for run in self.found[load])

    @property
    def failed(self) -> int:
        """Requests that were not answered with success."""
        return int(sum(run["failed"] for runs in self.found.values() for run in runs))


def main() -> None:
    """Print the figures, then all of them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="of ours, vllm-router, litellm")
    parser.add_argument("--quick", action="store_true", help="one round of one second")
    given = parser.parse_args()
    seconds, rounds = (1.0, 1) if given.quick else (given.seconds, given.rounds)
    wanted = given.only or ["ours", *(r.name for r in RIVALS)]
    skipped: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        backend = stack.enter_context(_backend())
        subjects = [Subject("direct", backend, "m", 0)]
        if "ours" in wanted:
            subjects.append(stack.enter_context(_ours(backend)))
        for rival in RIVALS:
            if rival.name in wanted:
                try:
                    subjects.append(stack.enter_context(_rival(rival, backend)))
                except (NotInstallableError, TimeoutError) as error:
                    skipped[rival.name] = str(error)
                    print(f"{rival.name}: skipped: {error}", flush=True)
        _measure(subjects, seconds, rounds)
        memory = {s.name: _rss_mb(s.pid) for s in subjects[1:]}
    print(f"load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} processors")
    print(json.dumps(_summary(subjects, memory, skipped)))


def _measure(subjects: list[Subject], seconds: float, rounds: int) -> None:
    for subject in subjects:
        _ask(subject, LOADS[0], min(seconds, 1.0))  # warm
    for _ in range(rounds):
        for load in LOADS:
            for subject in subjects:
                before_s = _cpu_s(subject.pid)
                run = _ask(subject, load, seconds)
                subject.found.setdefault(load.name, []).append(run)
                used_us = (_cpu_s(subject.pid) - before_s) * 1e6 / max(run["answers"], 1)
                subject.cpu_us.setdefault(load.name, []).append(used_us)
                print(
                    f"{subject.name:12s} {load.name:10s} {run['rps']:9,.0f}/s  "
                    f"p50 {run['p50_us']:8,.0f} us  p99 {run['p99_us']:8,.0f} us  "
                    f"failed {run['failed']:.0f}  CPU {used_us:5.0f} us a request",
                    flush=True,
                )


def _ask(subject: Subject, load: Load, seconds: float) -> dict[str, float]:
    command = [
        sys.executable, "-m", "benchmarks.gateway_load", str(subject.port),
        str(load.connections), str(seconds), "--pad", str(load.pad_bytes),
        "--model", subject.model, *(["--stream"] if load.stream else []),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    found: dict[str, float] = json.loads(done.stdout)
    return found


@contextlib.contextmanager
def _child(module: str, *arguments: str) -> Iterator[list[str]]:
    """A module of ours as a process that ends with its standard input; its first line's words."""
    child = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        yield child.stdout.readline().split()
    finally:
        child.stdin.close()
        child.wait(timeout=60)


@contextlib.contextmanager
def _backend() -> Iterator[int]:
    with _child("benchmarks.gateway_backend") as said:
        yield int(said[0])


@contextlib.contextmanager
def _ours(backend: int) -> Iterator[Subject]:
    with _child("benchmarks.gateway_ours", str(backend)) as said:
        port, pid = map(int, said)
        yield Subject("ours", port, "auto", pid)


@contextlib.contextmanager
def _rival(rival: Rival, backend: int) -> Iterator[Subject]:
    home = installed(rival)
    port = free_port()
    child = subprocess.Popen(
        list(rival.command(home, port, backend)),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=home,
        env={**os.environ, **rival.environment},
    )  # fmt: skip
    try:
        _until_answers(port, child)
        yield Subject(rival.name, port, "m", child.pid)
    finally:
        child.terminate()
        try:
            child.wait(timeout=20)
        except subprocess.TimeoutExpired:
            child.kill()


def _until_answers(port: int, child: subprocess.Popen[Any]) -> None:
    fields = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    headers = {"content-type": "application/json", "authorization": "Bearer sk-none"}
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline_s and child.poll() is None:
        asked = urllib.request.Request(url, json.dumps(fields).encode(), headers=headers)
        try:
            with urllib.request.urlopen(asked, timeout=10):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise TimeoutError(f"it did not answer (exit code {child.poll()})")


def _summary(
    subjects: list[Subject], memory: dict[str, float], skipped: dict[str, str]
) -> dict[str, Any]:
    direct = subjects[0]
    figures: dict[str, Any] = {}
    for s in subjects:
        figures[s.name] = {
            "added_p50_us": round(s.median("one", "p50_us") - direct.median("one", "p50_us"), 1),
            "added_p99_us": round(s.median("one", "p99_us") - direct.median("one", "p99_us"), 1),
            "rps_32": round(s.median("many", "rps")),
            "sse_per_s_8": round(s.median("stream", "rps")),
            "large_added_p50_us": round(
                s.median("large", "p50_us") - direct.median("large", "p50_us"), 1
            ),
            "large_rps_8": round(s.median("large_many", "rps")),
            "cpu_us_32": round(statistics.median(s.cpu_us["many"]), 1),
            "rss_mb": memory.get(s.name),
            "failed": s.failed,
        }
    ours = figures.pop("ours", {})
    return {**ours, **figures, "skipped": skipped}


def _family(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found += map(int, task.read_text().split())
    return found


def _cpu_s(pid: int) -> float:
    if not pid:
        return 0.0
    total = 0
    for one in _family(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def _rss_mb(pid: int) -> float:
    pages = 0
    for one in _family(pid):
        with contextlib.suppress(OSError):
            pages += int(Path(f"/proc/{one}/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


if __name__ == "__main__":
    main()
