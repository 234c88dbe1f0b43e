"""A measurement probes inside the engine's limits, says what it skipped, and fits a profile."""

from __future__ import annotations

import datetime as dt
import socket

import numpy as np
import pytest

from profiler.core import EngineOptions, ReplicaConfig
from profiler.errors import ClusterError, EngineError, InputError, UnknownNameError
from profiler.measure import Measurement, Progress, measure, measure_engine
from profiler.probes import design, limits_of
from tests.fake_engine import FakeEngine


def config(max_num_seqs: int = 4, max_num_batched_tokens: int = 2048) -> ReplicaConfig:
    engine = EngineOptions(max_num_seqs=max_num_seqs, max_num_batched_tokens=max_num_batched_tokens)
    return ReplicaConfig(model="fake-model", gpu="cpu", engine=engine)


class Ticks:
    """A clock that moves when it is read: times count what the client saw, not this machine."""

    def __init__(self, tick_s: float = 1e-3) -> None:
        self.tick_s = tick_s
        self.now_s = 0.0

    def __call__(self) -> float:
        self.now_s += self.tick_s
        return self.now_s


async def run(engine: FakeEngine, *, budget_s: float = 3.0, **options) -> Measurement:
    given = {"clock": Ticks(), "max_drift": np.inf, "rng": np.random.default_rng(0)}
    async with engine.serve() as url:
        return await measure(url, config(), budget_s=budget_s, **(given | options))


async def test_a_measurement_becomes_a_profile_with_its_provenance():
    seen: list[Progress] = []
    today = dt.date(2026, 1, 2)
    engine = FakeEngine()
    found = await run(
        engine, today=today, hardware="Imaginary CPU", host="here", on_progress=seen.append
    )
    profile = found.profile
    assert (profile.kv_capacity_tokens, profile.max_model_len) == (182 * 128, 2048)
    made = profile.provenance
    assert (made.kind, made.date, made.host) == ("measured", today, "here")
    assert (made.hardware, made.engine, made.driver) == ("Imaginary CPU", "vllm 9.9.9", None)
    assert made.points == len(found.points) == len(found.residuals())
    assert {p.kind for p in found.points} == {"prefill", "decode", "mixed"}
    assert {p.sequences for p in found.points if p.kind == "decode"} >= {1, 3, 4}
    low, high = profile.step_time_95
    assert low.base_s <= profile.step_time.base_s <= high.base_s
    assert profile.request_overhead_s == found.fit.overhead_s
    assert made.drift is not None
    assert found.held_out and found.held_out_error is not None
    assert sum(p.repeats for p in (*found.points, *found.held_out)) <= sum(
        len(p.points) for p in seen
    )
    prompts = {tuple(body["prompt"]) for body in engine.seen}
    assert len(prompts) == len(engine.seen), "a prefix cache must never help"


async def test_too_small_a_budget_is_an_input_error():
    with pytest.raises(InputError, match="raise the time budget"):
        await run(FakeEngine(), budget_s=1e-6)


async def test_limits_come_from_arguments_where_the_server_does_not_tell():
    silent = FakeEngine(kv_blocks=None, max_model_len=None)
    with pytest.raises(InputError, match="max_model_len"):
        await run(silent)
    with pytest.raises(InputError, match="kv_capacity_tokens"):
        await run(silent, max_model_len=1024)
    found = await run(silent, max_model_len=1024, kv_capacity_tokens=9000)
    assert (found.profile.max_model_len, found.profile.kv_capacity_tokens) == (1024, 9000)


@pytest.mark.parametrize(
    ("engine", "error", "words"),
    [
        (FakeEngine(running=3), ClusterError, "busy with 3 requests"),
        (FakeEngine(healthy=False), EngineError, "engine is dead"),
        (FakeEngine(fault="wrong_input"), EngineError, "usage says 9 input tokens, but 8 were"),
        (FakeEngine(fault="few_in_usage"), EngineError, "usage says 1 output tokens, but 2"),
        (FakeEngine(fault="status", status=500), EngineError, "500.*engine's log"),
        (FakeEngine(fault="die", after_tokens=10), EngineError, "connection lost"),
        (FakeEngine(fault="empty"), EngineError, "without a token"),
        (FakeEngine(usage=False), EngineError, "by chunks.*ignore_eos and stream usage"),
    ],
    ids=["busy", "dead", "lies in", "lies out", "500", "dies", "empty", "no usage"],
)
async def test_trouble_is_an_error_that_names_the_url(engine, error, words):
    with pytest.raises(error, match=rf"http://127\.0\.0\.1:\d+.*{words}") as raised:
        await run(engine)
    assert type(raised.value) is error


async def test_an_unknown_model_names_those_served():
    with pytest.raises(UnknownNameError, match="did you mean 'fake-model'"):
        await run(FakeEngine(), model="fake-modle")


def test_nobody_there_is_a_cluster_error():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(ClusterError, match=f"{url}/v1/models: no answer.*engine runs"):
            measure_engine(url, config())


def test_a_url_that_is_none_says_so():
    with pytest.raises(ClusterError, match="not a URL"):
        measure_engine("nonsense", config())


class Pauses(Ticks):
    """Counts pauses instead of sleeping through them, and moves the clock by them."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.taken.append(seconds)
        self.now_s += seconds


async def test_an_engine_that_sheds_is_asked_again_until_the_budget_ends():
    pauses = Pauses()
    with pytest.raises(ClusterError, match=r"429.*wait until it is idle"):
        await run(
            FakeEngine(fault="status", status=429),
            budget_s=20.0,
            sleep=pauses.sleep,
            clock=pauses,
        )
    assert pauses.taken[:4] == [0.5, 1.0, 2.0, 4.0]
    assert sum(pauses.taken) <= 20.0


async def test_an_engine_that_sheds_for_a_while_is_measured():
    engine = FakeEngine(fault="status", status=429)
    pauses = Pauses()

    async def recover(seconds: float) -> None:
        engine.fault = "none"
        await pauses.sleep(seconds)

    found = await run(engine, sleep=recover, clock=pauses)
    assert pauses.taken == [0.5]
    assert found.points


async def test_an_interrupted_measurement_resumes_and_measures_nothing_twice(tmp_path):
    points = tmp_path / "cpu.points.parquet"
    first: list[Progress] = []
    engine = FakeEngine(die_after_requests=8, after_tokens=10)
    with pytest.raises(EngineError, match=r"connection lost.* safe in .*points\.parquet: run the"):
        await run(engine, points_path=points, on_progress=first.append)
    assert first
    again: list[Progress] = []
    notes: list[str] = []
    # The same engine, brought back: no fault, no time for more than what is missing.
    found = await run(
        FakeEngine(), points_path=points, on_progress=again.append, on_note=notes.append
    )
    assert found.resumed == len(first)
    assert notes == [f"{points}: going on from {len(first)} probes measured before"]
    designed = design(limits_of(config(), 2048, 182 * 128))
    missing = set(designed) - {p.probe for p in first}
    order = [p.probe for p in again]
    known = [order.index(p.probe) for p in first if p.probe != designed[0] and p.probe in order]
    assert missing <= set(order)
    assert max(order.index(probe) for probe in missing) < min(known, default=len(order))


async def test_points_of_another_engine_are_left_alone(tmp_path):
    points = tmp_path / "p.parquet"
    await run(FakeEngine(), points_path=points, host="here", budget_s=1.0)
    other = await run(FakeEngine(), points_path=points, host="elsewhere", budget_s=1.0)
    assert other.resumed == 0


async def test_a_damaged_points_file_is_kept_aside_and_said(tmp_path):
    points = tmp_path / "p.parquet"
    points.write_bytes(b"PAR1 half a fil")
    notes: list[str] = []
    found = await run(FakeEngine(), points_path=points, on_note=notes.append)
    assert found.points
    assert (tmp_path / "p.parquet.aside-1").read_bytes() == b"PAR1 half a fil"
    assert len(notes) == 1 and "damaged" in notes[0] and "p.parquet.aside-1" in notes[0]


async def test_a_machine_that_changes_its_speed_is_named_and_refused():
    def clocked() -> dict[str, object]:
        ticks, probes = Ticks(), iter(range(1000))

        def slower(_: Progress) -> None:
            ticks.tick_s = 1e-3 if next(probes) < 8 else 3e-3

        return {"clock": ticks, "on_progress": slower}

    with pytest.raises(ClusterError, match=r"speed changed.*strayed \d+% .*while nothing else"):
        await run(FakeEngine(), max_drift=0.4, **clocked())
    found = await run(FakeEngine(), **clocked())
    assert "the machine drifted" in found.profile.provenance.note
    assert found.profile.provenance.drift > 0.4
