"""A campaign learns an engine's law, spends its budget well, distrusts a drifting machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from profiler.campaign import DRIFT_LIMIT, Campaign, Progress
from profiler.core import EngineOptions, ReplicaConfig, StepTime
from profiler.errors import InputError
from profiler.points import Run
from profiler.power import PowerMeter
from profiler.probes import Probe, design, limits_of
from profiler.step_fit import fit_points
from profiler.timing import Outcome, RequestTiming

LAW = StepTime(base_s=0.05, per_prefill_token_s=2e-3, per_sequence_s=2e-3, per_kv_token_s=1e-5)
OVERHEAD_S = 0.01
CONFIG = ReplicaConfig(
    model="m", gpu="cpu", engine=EngineOptions(max_num_seqs=32, max_num_batched_tokens=8192)
)
LIMITS = limits_of(CONFIG, 2048, 40_000)


@dataclass
class Engine:
    """Answers probes by LAW on a clock of its own; ``slowdown`` tells its speed at a time."""

    slowdown: Callable[[float], float] = lambda _: 1.0
    law: Callable[[int, int, int], float] = LAW
    now_s: float = 0.0
    sent: list[Probe] = field(default_factory=list)

    async def send(self, probe: Probe) -> list[RequestTiming]:
        self.sent.append(probe)
        start = self.now_s
        self.now_s += OVERHEAD_S
        left = dict.fromkeys(range(probe.sequences), probe.rounds)
        running: dict[int, tuple[float, list[tuple[float, int]]]] = {}
        done = []
        while left or running:
            starting = [c for c in left if c not in running]
            for client in starting:
                running[client] = (start if not done else self.now_s, [])
            decoding = [tokens for c, (_, tokens) in running.items() if c not in starting]
            kv_tokens = sum(probe.input_tokens + len(tokens) for tokens in decoding)
            step_s = self.law(len(starting) * probe.input_tokens, len(decoding), kv_tokens)
            self.now_s += step_s * self.slowdown(self.now_s)
            for client, (sent_s, tokens) in list(running.items()):
                tokens.append((self.now_s, len(tokens) + 1))
                if len(tokens) == probe.output_of(client):
                    done.append(self._timing(probe, sent_s, tokens))
                    del running[client]
                    left[client] -= 1
                    if not left[client]:
                        del left[client]
        return done

    def _timing(self, probe: Probe, sent_s: float, tokens: list[tuple[float, int]]):
        return RequestTiming(
            sent_s,
            Outcome.OK,
            tokens=tuple(tokens),
            input_tokens=probe.input_tokens,
            output_tokens=len(tokens),
            counted_by="usage",
        )


def campaign(engine: Engine, budget_s: float = 400.0, **options) -> Campaign:
    return Campaign(
        engine.send,
        CONFIG,
        LIMITS,
        budget_s=budget_s,
        start_s=0.0,
        clock=lambda: engine.now_s,
        **({"meter": PowerMeter(lambda: None)} | options),
    )


async def test_it_finds_the_law_and_the_overhead():
    engine = Engine()
    made = campaign(engine)
    await made.run()
    fit = fit_points(made.points(held_out=False))
    for name, value in LAW.model_dump().items():
        assert getattr(fit.law, name) == pytest.approx(value, rel=1e-3)
    assert fit.overhead_s == pytest.approx(OVERHEAD_S, rel=1e-3)
    assert all(abs(fit.error(p)) < 1e-3 for p in made.points(held_out=True))
    assert made.points(held_out=True)
    assert made.drift == pytest.approx(0.0, abs=1e-6)


async def test_on_a_quiet_machine_it_ends_before_its_budget():
    engine = Engine()
    made = campaign(engine, budget_s=10_000.0)
    await made.run()
    assert engine.now_s < 1000
    assert all(p.repeats >= 2 for p in made.points(held_out=False))
    assert made.skipped == []


async def test_the_budget_bounds_it_and_what_is_left_out_is_named():
    engine = Engine()
    made = campaign(engine, budget_s=20.0)
    await made.run()
    assert engine.now_s < 25
    assert made.skipped and all("would take about" in text for text in made.skipped)
    assert fit_points(made.points(held_out=False)).law.base_s == pytest.approx(0.05, rel=0.01)


async def test_where_the_fit_is_worst_it_measures_more():
    def bent(prefill: int, sequences: int, kv_tokens: int) -> float:
        slow_kernel = 0.05 if 10 <= sequences <= 14 else 0.0
        return LAW(prefill, sequences, kv_tokens) + slow_kernel

    engine = Engine(law=bent)
    await campaign(engine).run()
    new = [p for p in dict.fromkeys(engine.sent) if p not in design(LIMITS)]
    assert any(8 <= p.sequences <= 18 for p in new)


async def test_a_law_that_fits_needs_no_new_probes():
    engine = Engine()
    await campaign(engine).run()
    assert set(engine.sent) == set(design(LIMITS))


async def test_what_was_measured_beside_a_bad_reference_is_measured_again():
    def slow_for_a_while(at_s: float) -> float:
        return 2.0 if 25.0 <= at_s < 50.0 else 1.0

    engine = Engine(slowdown=slow_for_a_while)
    made = campaign(engine)
    await made.run()
    assert made.drift > DRIFT_LIMIT
    law = fit_points(made.points(held_out=False)).law
    for name, value in LAW.model_dump().items():
        assert getattr(law, name) == pytest.approx(value, rel=0.03)


async def test_a_machine_that_slows_for_good_shows_in_the_drift():
    engine = Engine(slowdown=lambda at_s: 1.0 if at_s < 60.0 else 1.8)
    made = campaign(engine)
    await made.run()
    assert made.drift > 0.2


async def test_the_reference_comes_back_all_along():
    engine = Engine()
    await campaign(engine).run()
    reference = design(LIMITS)[0]
    places = [i for i, p in enumerate(engine.sent) if p == reference]
    assert max(b - a for a, b in pairwise(places)) <= 6


async def test_it_resumes_where_it_was():
    first_engine, kept = Engine(), list[Run]()
    await campaign(first_engine, budget_s=30.0, keep=kept.append).run()
    engine = Engine()
    made = campaign(engine)
    made.resume(kept)
    await made.run()
    missing = set(design(LIMITS)) - {run.probe for run in kept}
    reference = design(LIMITS)[0]
    first_new = [p for p in engine.sent if p != reference][: len(missing)]
    assert missing and set(first_new) == missing
    assert made.resumed == len(kept)


async def test_runs_are_kept_before_they_are_told():
    engine, order = Engine(), list[str]()

    def keep(run: Run) -> None:
        order.append(f"kept {run.probe}")

    def told(progress: Progress) -> None:
        order.append(f"told {progress.probe}")

    await campaign(engine, budget_s=10.0, keep=keep, on_progress=told).run()
    assert order[:2] == [f"kept {engine.sent[0]}", f"told {engine.sent[0]}"]


async def test_a_failure_to_keep_ends_it_with_what_was_kept():
    def full(_: Run) -> None:
        raise InputError("disk full")

    with pytest.raises(InputError, match="disk full"):
        await campaign(Engine(), keep=full).run()


async def test_power_is_the_mean_over_time():
    made = campaign(Engine(), budget_s=10.0, meter=PowerMeter(lambda: 250.0, every_s=1000.0))
    await made.run()
    assert made.power_w == pytest.approx(250.0)
    unmetered = campaign(Engine(), budget_s=10.0)
    await unmetered.run()
    assert unmetered.power_w is None
