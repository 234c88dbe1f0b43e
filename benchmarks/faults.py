"""What happens when something fails, with figures: live engines (emulated) and a live ingress.

    python -m benchmarks.faults [--only NAME ...] [--quick]

Each case starts from a stand of processes: two emulated engines of one model, and the ingress with
its listening socket (no Ray; `tests/e2e/test_gateway_faults.py` does the same on Ray Serve).
"limit" is what the case must keep. Times hold for the machine at hand. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import fault_cases as faults
from benchmarks import load_cases as loads
from benchmarks.fault_cases import Figures
from benchmarks.stand import Pool, Stand
from serve_apps.pool import IngressSettings

LEAVING = Pool(max_num_seqs=4)
"""Small enough for a queue to form."""


@dataclass(frozen=True)
class Limit:
    """A figure and the most (or least) it may be."""

    figure: str
    most: float = float("inf")
    least: float = float("-inf")

    def kept(self, figures: Figures) -> bool:
        """Whether it is."""
        return self.least <= figures[self.figure] <= self.most

    def __str__(self) -> str:
        if self.most == self.least:
            return f"{self.figure} = {self.most:g}"
        sign, bound = ("<=", self.most) if self.most < float("inf") else (">=", self.least)
        return f"{self.figure} {sign} {bound:g}"


def exactly(figure: str, value: float) -> Limit:
    """A limit that leaves no room."""
    return Limit(figure, value, value)


@dataclass(frozen=True)
class Case:
    """One fault: what it is done to, and what must hold."""

    run: Callable[[float], Figures]
    """Told by how much to shorten it."""
    limits: tuple[Limit, ...]


def _plain(
    case: Callable[[Stand, float], Coroutine[Any, Any, Figures]], pool: Pool | None = None
) -> Callable[[float], Figures]:
    def run(scale: float) -> Figures:
        with Stand(pools=(pool or Pool(),)) as stand:
            return asyncio.run(case(stand, scale))

    return run


def _overload(scale: float) -> Figures:
    with loads.slow_stand() as stand:
        return asyncio.run(loads.overload(stand, 5.0, 20 * scale))


def _tenants(scale: float) -> Figures:
    with tempfile.TemporaryDirectory() as directory:
        guard, keys = loads.keys_of(Path(directory), ("loud", "quiet"))
        with loads.slow_stand(IngressSettings(port=0, guard=guard)) as stand:
            return asyncio.run(loads.unequal_tenants(stand, keys, 4 + 16 * scale))


def _router(harm: str) -> Callable[[float], Figures]:
    def run(scale: float) -> Figures:
        with tempfile.TemporaryDirectory() as directory:
            plan, artefact = loads.learned_plan(Path(directory))
            with Stand(plan=plan, artefact=artefact) as stand:
                return asyncio.run(loads.router_in_trouble(stand, harm, round(100 * scale)))

    return run


NONE_FAILED = exactly("failed", 0)
CASES: dict[str, Case] = {
    "engine killed under 40 requests/s": Case(
        _plain(lambda s, x: faults.kill_an_engine(s, 10 * x)), (NONE_FAILED,)
    ),
    "streams on a killed engine": Case(
        _plain(lambda s, _: faults.streams_of_a_killed_engine(s)),
        (exactly("unexplained", 0), exactly("told_it_was_complete", 0)),
    ),
    "client leaves a stream": Case(
        _plain(lambda s, x: faults.client_leaves(s, stream=True, times=round(20 * x))),
        (Limit("longest_s", 0.2),),
    ),
    "client leaves a plain request": Case(
        _plain(lambda s, x: faults.client_leaves(s, stream=False, times=round(20 * x))),
        (Limit("longest_s", 0.2),),
    ),
    "engine hangs (SIGSTOP)": Case(
        _plain(lambda s, _: faults.hanging_engine(s)), (Limit("failed", 1), Limit("timed_out", 1))
    ),
    "bad input": Case(
        _plain(lambda s, _: faults.bad_input(s)), (NONE_FAILED, exactly("ejected", 0))
    ),
    "no engine left": Case(
        _plain(lambda s, _: faults.no_engine_left(s)),
        (Limit("slowest_503_s", 0.1), Limit("back_in_rotation_s", 1.0)),
    ),
    "SIGTERM under 10 streams": Case(
        _plain(lambda s, _: faults.told_to_end(s)), (exactly("complete", 10),)
    ),
    "1,000 clients leave at random points": Case(
        _plain(lambda s, x: faults.clients_leave(s, round(1000 * x)), LEAVING),
        (exactly("in_flight", 0), Limit("engines_free_s", 1.0)),
    ),
    "all engines answer 503": Case(
        _plain(lambda s, _: faults.all_answer_503(s)),
        (Limit("attempts_per_request", 1.2), Limit("back_in_rotation_s", 1.0)),
    ),
    "an engine fails fast with 500": Case(
        _plain(lambda s, _: faults.fails_fast(s, 500)), (Limit("tries_share", 0.05),)
    ),
    "an engine fails fast with 503": Case(
        _plain(lambda s, _: faults.fails_fast(s, 503)),
        (Limit("tries_share", 0.05), Limit("failed", 3)),
    ),
    "learned router raises": Case(_router("raise"), (NONE_FAILED, Limit("added_most_s", 0.05))),
    "learned router hangs": Case(_router("hang"), (NONE_FAILED, Limit("added_most_s", 0.05))),
    "learned router answers nonsense": Case(
        _router("garble"), (NONE_FAILED, Limit("added_most_s", 0.05))
    ),
    "5 times overload": Case(
        _overload,
        (
            Limit("goodput_share", least=0.95),
            exactly("refused_otherwise", 0),
            Limit("refused_p99_s", 0.05),
        ),
    ),
    "tenants 10 to 1": Case(_tenants, (Limit("jain", least=0.95),)),
}


def main() -> None:
    """Print each case, then all figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=[], help="cases whose name has such a word")
    parser.add_argument("--quick", action="store_true", help="a third of the requests")
    given = parser.parse_args()
    scale = 1 / 3 if given.quick else 1.0
    told: dict[str, dict[str, object]] = {}
    for name, case in CASES.items():
        if given.only and not any(word in name for word in given.only):
            continue
        figures = case.run(scale)
        broken = [str(limit) for limit in case.limits if not limit.kept(figures)]
        told[name] = {"kept": not broken, **{k: round(v, 4) for k, v in figures.items()}}
        shown = ", ".join(f"{k} {v:.4g}" for k, v in figures.items())
        print(f"{'ok    ' if not broken else 'BROKEN'} {name}: {shown}", flush=True)
        for limit in broken:
            print(f"       must be {limit}", flush=True)
    print(json.dumps({"kept": all(case["kept"] for case in told.values()), "cases": told}))


if __name__ == "__main__":
    main()
