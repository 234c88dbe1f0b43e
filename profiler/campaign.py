"""The course of a measurement: which probe next, for how long, and what to do about a bad machine.

First the probes of `profiler.probes.design`, in order of what they tell. Then, while the budget
lasts: repeats of what was measured once, new probes near the worst of the fit, repeats of the
points whose repeats differ most. One cheap probe, the reference, comes back all along: where it
is off its median, the machine was not itself, and what was measured beside it is taken again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

from profiler.core import ReplicaConfig
from profiler.errors import InputError
from profiler.points import Run
from profiler.power import PowerMeter
from profiler.probes import Limits, Probe, design, fold, nearby, points_of
from profiler.step_fit import Fit, Point, fit_points, rough_step_time
from profiler.timing import Clock, RequestTiming

SETTLED_SPREAD = 0.05
"""Repeats that differ by less than this are not repeated again."""

MAX_REPEATS = 5
MAX_REFINEMENTS = 4

BAD_FIT = 0.08
"""A relative error that calls for another point near it."""

DRIFT_LIMIT = 0.15
"""The reference this far off its median: what was measured beside it is measured again."""

REFERENCE_EVERY = 5
"""Probes between two references; they then take about a tenth of the time."""

Send = Callable[[Probe], Awaitable[list[RequestTiming]]]


@dataclass(frozen=True)
class Progress:
    """Where a measurement stands; ``probe`` has just ended and gave ``points``."""

    probe: Probe
    points: tuple[Point, ...]
    elapsed_s: float
    budget_s: float


@dataclass
class Campaign:
    """Runs probes and keeps what they gave and cost. ``send`` runs one probe on the engine."""

    send: Send
    config: ReplicaConfig
    limits: Limits
    budget_s: float
    start_s: float
    clock: Clock = time.perf_counter
    on_progress: Callable[[Progress], None] | None = None
    keep: Callable[[Run], None] = lambda _: None
    meter: PowerMeter = field(default_factory=PowerMeter)
    runs: list[Run] = field(default_factory=list)
    resumed: int = 0
    skipped: list[str] = field(default_factory=list)
    _refinements: int = 0
    _since_reference: int = 0

    def resume(self, runs: Sequence[Run]) -> None:
        """Start from what an earlier measurement kept."""
        self.runs = list(runs)
        self.resumed = len(runs)

    def points(self, *, held_out: bool) -> tuple[Point, ...]:
        """Each point folded from its repeats; those of a drifted machine only where no other is."""
        steady = {id(run) for run in self._steady()}
        folded = []
        for probe, runs in self._by_probe().items():
            if probe.held_out is held_out:
                used = [r for r in runs if id(r) in steady] or runs
                folded += [fold(p) for p in zip(*(r.points for r in used), strict=True)]
        return tuple(folded)

    @property
    def drift(self) -> float | None:
        """The largest departure of the reference from its median; None before two of them."""
        times = [_decode_s(run) for run in self._references()]
        middle = median(times) if len(times) > 1 else 0.0
        return max(abs(t / middle - 1) for t in times) if middle else None

    @property
    def power_w(self) -> float | None:
        """Mean watts over all runs; None where NVML told none."""
        known = [(r.power_w, r.cost_s) for r in self.runs if r.power_w is not None]
        total_s = sum(s for _, s in known)
        return sum(w * s for w, s in known) / total_s if total_s else None

    async def warm_up(self) -> None:
        """First requests pay for compilation and caches; nobody should see their times."""
        await self.send(Probe(1, 8, 2))
        await self.send(Probe(min(4, self.config.engine.max_num_seqs), 8, 4))

    async def run(self) -> None:
        """The whole course, until the budget is spent or nothing is left to learn."""
        await self._first_pass(design(self.limits))
        failed: set[Probe] = set()
        while (probe := self._next(failed)) is not None:
            if not await self._run(probe):
                failed.add(probe)
            if self._since_reference >= REFERENCE_EVERY:
                await self._refer()
        if self._since_reference:
            await self._refer()

    async def _first_pass(self, probes: Sequence[Probe]) -> None:
        known = {run.probe for run in self.runs}
        for probe in probes:
            # Even a resumed measurement takes the reference: the machine may have changed.
            if probe in known and probe != probes[0]:
                continue
            cost, left = self._estimate_s(probe), self._left_s()
            if cost > left:
                self.skipped.append(
                    f"{probe}: would take about {cost:.0f} s of the {max(left, 0):.0f} s left"
                )
                continue
            await self._run(probe)
            if self._since_reference >= REFERENCE_EVERY:
                await self._refer()

    async def _refer(self) -> None:
        reference = self._reference()
        if reference is not None and self._cost_s(reference) <= self._left_s():
            await self._run(reference)

    def _next(self, failed: set[Probe]) -> Probe | None:
        """What to spend time on next; None when nothing is left, or no time for it."""
        by_probe = self._by_probe()
        affordable = {
            p: runs
            for p, runs in by_probe.items()
            if p not in failed and self._cost_s(p) <= self._left_s()
        }
        unsteady = [p for p in self._unsteady_only(by_probe) if p in affordable]
        if unsteady:
            return unsteady[0] if self._machine_is_steady() else self._reference()
        once, fit = [p for p, runs in affordable.items() if len(runs) < 2], self._fit()
        if once:
            return min(once, key=lambda p: (p.held_out, -_error(p, by_probe, fit)))
        refined = self._refine(failed)
        if refined is not None:
            return refined
        noisy = {p: _spread(runs) for p, runs in affordable.items() if _unsettled(runs)}
        return max(noisy, key=lambda p: noisy[p], default=None)

    def _refine(self, failed: set[Probe]) -> Probe | None:
        """A new probe beside the one that the law fits worst, of those without much noise."""
        fit = self._fit()
        if fit is None or self._refinements >= MAX_REFINEMENTS:
            return None
        by_probe = {
            p: runs
            for p, runs in self._by_probe().items()
            if not p.held_out and p.rounds == 1 and _spread(runs) < BAD_FIT
        }
        if not by_probe:
            return None
        worst = max(by_probe, key=lambda p: _error(p, by_probe, fit))
        if _error(worst, by_probe, fit) < BAD_FIT:
            return None
        done = [*self._by_probe(), *failed]
        probe = nearby(worst, done, self.limits)
        if probe is None or self._estimate_s(probe) > self._left_s():
            return None
        self._refinements += 1
        return probe

    async def _run(self, probe: Probe) -> bool:
        """Run a probe once; False when it showed nothing."""
        began = self.clock()
        with self.meter.running():
            timings = await self.send(probe)
        points = points_of(probe, timings, self.config)
        if not points:
            self.skipped.append(
                f"{probe}: its requests never all decoded at once; is the engine's max_num_seqs "
                f"really {self.config.engine.max_num_seqs}?"
            )
            return False
        run = Run(
            probe, points, self.clock() - began, time.time(), os.getloadavg()[0], self.meter.mean_w
        )
        self._since_reference = 0 if probe == self._reference() else self._since_reference + 1
        self.runs.append(run)
        self.keep(run)
        if self.on_progress is not None:
            elapsed = self.clock() - self.start_s
            self.on_progress(Progress(probe, points, elapsed, self.budget_s))
        return True

    def _reference(self) -> Probe | None:
        return next(iter(design(self.limits)), None)

    def _references(self) -> list[Run]:
        reference = self._reference()
        return [run for run in self.runs if run.probe == reference]

    def _good_references(self) -> set[int]:
        """The ids of the references near the median of all."""
        references = self._references()
        if not references:
            return set()
        middle = median(_decode_s(r) for r in references)
        return {id(r) for r in references if abs(_decode_s(r) / middle - 1) <= DRIFT_LIMIT}

    def _machine_is_steady(self) -> bool:
        return id(self._references()[-1]) in self._good_references()

    def _steady(self) -> list[Run]:
        """Runs whose nearest references, before and after, are good; so far as there are any."""
        reference, good = self._reference(), self._good_references()
        steady, since, trusted = list[Run](), list[Run](), True
        for run in self.runs:
            if run.probe != reference:
                since.append(run)
                continue
            trusted_now = id(run) in good
            steady += since if trusted and trusted_now else []
            steady += [run] if trusted_now else []
            since, trusted = [], trusted_now
        return steady + (since if trusted else [])

    def _unsteady_only(self, by_probe: dict[Probe, list[Run]]) -> list[Probe]:
        """Probes that were only ever measured while the machine was not itself."""
        known = {run.probe for run in self._steady()} | {self._reference()}
        return [p for p, runs in by_probe.items() if p not in known and len(runs) < MAX_REPEATS]

    def _by_probe(self) -> dict[Probe, list[Run]]:
        found: dict[Probe, list[Run]] = {}
        for run in self.runs:
            found.setdefault(run.probe, []).append(run)
        return found

    def _fit(self) -> Fit | None:
        try:
            return fit_points(self.points(held_out=False), intervals=False)
        except InputError:
            return None

    def _left_s(self) -> float:
        return self.budget_s - (self.clock() - self.start_s)

    def _cost_s(self, probe: Probe) -> float:
        return max((r.cost_s for r in self.runs if r.probe == probe), default=0.0)

    def _estimate_s(self, probe: Probe) -> float:
        """About how long a probe takes by the points so far; too little while they are few."""
        law = rough_step_time([point for run in self.runs for point in run.points])
        context = probe.input_tokens + probe.output_tokens / 2
        steps = probe.rounds * probe.output_of(1)
        return law(probe.requests * probe.input_tokens, 0, 0) + steps * law(
            0, probe.sequences, probe.sequences * context
        )


def _decode_s(run: Run) -> float:
    return next(p.time_s for p in run.points if p.kind == "decode")


def _spread(runs: Sequence[Run]) -> float:
    """The largest spread of any point that a probe shows."""
    return max(fold(repeats).spread for repeats in zip(*(r.points for r in runs), strict=True))


def _unsettled(runs: Sequence[Run]) -> bool:
    return _spread(runs) > SETTLED_SPREAD and len(runs) < MAX_REPEATS


def _error(probe: Probe, by_probe: dict[Probe, list[Run]], fit: Fit | None) -> float:
    """The largest relative error of the fit on what a probe shows; 0 without a fit."""
    if fit is None:
        return 0.0
    folded = [fold(p) for p in zip(*(r.points for r in by_probe[probe]), strict=True)]
    return max(abs(fit.error(p)) for p in folded)
