"""In real time the engine answers exactly when the simulator says, and owns up when it is late."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.simulator import Timings, simulate_replica
from profiler.core import Profile
from profiler.emulated.pacer import Pacer
from profiler.emulated.replica import Request
from tests import builders
from tests.profiler.emulated.clock import TurnedClock

Load = tuple[list[float], list[int], list[int]]


class Heard:
    """When each request's first and last token appeared."""

    def __init__(self, clock: TurnedClock) -> None:
        self.clock = clock
        self.times: dict[Request, list[float]] = {}

    def __call__(self, request: Request) -> None:
        self.times.setdefault(request, []).append(self.clock.time())


def profile(overhead_s: float = 0.0, seqs: int = 4, kv_tokens: int = 480) -> Profile:
    made = builders.profile(
        kv_capacity_tokens=kv_tokens, max_model_len=300, max_num_seqs=seqs,
        max_num_batched_tokens=64,
    )  # fmt: skip
    return made.model_copy(update={"request_overhead_s": overhead_s})


@st.composite
def loads(draw: st.DrawFn) -> Load:
    """Arrivals, inputs and outputs; gaps of zero make bursts, and gaps of a step meet its end."""
    size = draw(st.integers(1, 20))
    gaps = draw(
        st.lists(
            st.one_of(st.just(0.0), st.just(0.0101), st.floats(0, 0.3)),
            min_size=size, max_size=size,
        )
    )  # fmt: skip
    sizes = st.lists(st.integers(1, 120), min_size=size, max_size=size)
    return np.cumsum(gaps).tolist(), draw(sizes), draw(sizes)


def paced(p: Profile, load: Load, speed: float = 1.0) -> tuple[list[Request], Heard, Pacer]:
    clock = TurnedClock()
    heard = Heard(clock)
    pacer = Pacer(p, clock, heard, speed=speed)
    requests = [Request(0.0, i, o) for i, o in zip(*load[1:], strict=True)]
    for at, request in zip(load[0], requests, strict=True):
        clock.call_at(at / speed, partial(pacer.submit, request))
    clock.run()
    return requests, heard, pacer


def simulated(p: Profile, load: Load) -> Timings:
    return simulate_replica(p, *(np.array(part) for part in load))


@given(loads(), st.sampled_from([0.0, 0.004]), st.sampled_from([2, 8]))
@settings(max_examples=60)
def test_tokens_appear_when_the_simulator_says(load: Load, overhead_s: float, seqs: int) -> None:
    p = profile(overhead_s, seqs)
    expected = simulated(p, load)
    requests, heard, _ = paced(p, load)
    assert [heard.times[r][0] for r in requests] == expected.first_token_s.tolist()
    assert [heard.times[r][-1] for r in requests] == expected.finish_s.tolist()
    assert [len(heard.times[r]) for r in requests] == load[2]
    assert [r.preemptions for r in requests] == expected.preemptions.tolist()


def test_twice_the_speed_halves_every_time() -> None:
    load: Load = ([0.0, 0.02, 0.5], [100, 30, 7], [20, 3, 50])
    plain = simulated(profile(), load)
    requests, heard, _ = paced(profile(), load, speed=2.0)
    assert [heard.times[r][-1] for r in requests] == pytest.approx((plain.finish_s / 2).tolist())


def test_a_machine_that_is_late_answers_late_but_the_engine_does_not_drift() -> None:
    clock = TurnedClock(late_s=0.003)
    heard = Heard(clock)
    pacer = Pacer(profile(), clock, heard)
    request = Request(0.0, 50, 100)
    pacer.submit(request)
    clock.run()
    exact = simulated(profile(), ([0.0], [50], [100]))
    assert request.finish_s == exact.finish_s[0]
    assert heard.times[request][-1] == pytest.approx(exact.finish_s[0] + 0.003)
    assert pacer.lateness.steps == 100
    assert pacer.lateness.max_s == pytest.approx(0.003)


def test_what_was_missed_is_caught_up_and_told() -> None:
    clock = TurnedClock()
    pacer = Pacer(profile(), clock, Heard(clock))
    request = Request(0.0, 50, 100)
    pacer.submit(request)
    clock.now = 0.6  # the machine was elsewhere
    clock.run()
    assert request.finish_s == simulated(profile(), ([0.0], [50], [100])).finish_s[0]
    assert pacer.lateness.late_steps > 50
    assert 0.5 < pacer.lateness.max_s < 0.6


def test_a_slow_engine_takes_its_factor_longer() -> None:
    clock = TurnedClock()
    pacer = Pacer(profile(), clock, Heard(clock))
    pacer.slowdown = 3.0
    request = Request(0.0, 50, 10)
    pacer.submit(request)
    clock.run()
    plain = simulated(profile(), ([0.0], [50], [10])).finish_s[0]
    assert request.finish_s == pytest.approx(3 * plain)


def test_a_frozen_engine_goes_on_where_it_was() -> None:
    clock = TurnedClock()
    heard = Heard(clock)
    pacer = Pacer(profile(), clock, heard)
    request = Request(0.0, 50, 10)
    pacer.submit(request)
    clock.run(until_s=0.05)
    told = len(heard.times[request])
    pacer.freeze()
    clock.call_at(5.0, lambda: None)
    clock.run()
    assert len(heard.times[request]) == told < 10
    pacer.thaw()
    clock.run()
    assert len(heard.times[request]) == 10
    assert heard.times[request][told] == 5.0


@given(loads(), st.data())
@settings(max_examples=40)
def test_those_who_leave_hold_nothing_and_the_rest_are_answered(
    load: Load, data: st.DataObject
) -> None:
    clock = TurnedClock()
    heard = Heard(clock)
    pacer = Pacer(profile(), clock, heard)
    requests = [Request(0.0, i, o) for i, o in zip(*load[1:], strict=True)]
    leaving = data.draw(st.lists(st.tuples(st.sampled_from(requests), st.floats(0, 1.0))))
    for at, request in zip(load[0], requests, strict=True):
        clock.call_at(at, partial(pacer.submit, request))
    for request, after_s in leaving:
        at = load[0][requests.index(request)] + after_s
        clock.call_at(at, partial(pacer.cancel, request))
    clock.run()
    replica = pacer.replica
    assert (replica.running, replica.waiting, replica.kv_usage) == (0, 0, 0.0)
    gone: Sequence[Request] = [request for request, _ in leaving]
    stayed = [r for r in requests if r not in gone]
    assert [r.generated for r in stayed] == [r.output_tokens for r in stayed]


def test_a_slot_is_free_within_the_step_in_which_its_client_left() -> None:
    clock = TurnedClock()
    pacer = Pacer(profile(seqs=1), clock, Heard(clock))
    first, second = Request(0.0, 10, 100), Request(0.0, 10, 1)
    pacer.submit(first)
    pacer.submit(second)
    clock.run(until_s=0.1)
    assert (pacer.replica.running, pacer.replica.waiting) == (1, 1)
    pacer.cancel(first)
    step_ends_s = pacer.replica.clock_s
    clock.run()
    alone_s = simulated(profile(), ([0.0], [10], [1])).finish_s[0]
    assert second.finish_s == pytest.approx(step_ends_s + alone_s)
