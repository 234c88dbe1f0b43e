"""However short its turns, the fleet asked for never exceeds what the highest plausible rate needs.

The highest plausible rate is half as much again as the most work that came in any five seconds.
Counts are told once a second, so that five seconds of them hold up to six of arrivals.
"""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.autoscale.controller import Controller, ScalePolicy
from orchestrator.autoscale.pools import pools_of
from orchestrator.simulation.events import GroupState, Observation
from tests import builders, plan_builders

GROWTH = 1.5
SPAN_S, TOLD_S = 5.0, 1.0
SMALL, LARGE = (0, 100), (100, 2000)


def fleet():
    """One group, and answers of which one in twenty is twenty times as long."""
    law = builders.step_time(0.01, 5e-5, 1e-4, 1e-7)
    made = plan_builders.group("a", "m1", gpu="gpu-a")
    profile = builders.profile("m1", "gpu-a", law=law)
    group = made.model_copy(update={"usd_per_hour": 1.0, "profile": profile})
    routes = tuple(
        plan_builders.route({"a": 1.0}, outputs=outputs, rate_rps=rps)
        for outputs, rps in ((SMALL, 9.5), (LARGE, 0.5))
    )
    return plan_builders.plan((group,), routes)


PLAN = fleet()
POOL = pools_of(PLAN)[0]


def arrivals(rng, phases):
    """Times, and which of the pool's classes: Poisson, at each phase's rate for its seconds."""
    times, start_s = [], 0.0
    for seconds, rps in phases:
        times.append(start_s + np.sort(rng.uniform(0, seconds, rng.poisson(seconds * rps))))
        start_s += seconds
    time_s = np.concatenate(times)
    return time_s, (rng.uniform(size=len(time_s)) < 0.05).astype(int), start_s


def highest_plausible(time_s, usd, until_s):
    """Work per second: see the module."""
    seen = time_s <= until_s
    time_s, total = time_s[seen], np.concatenate([[0.0], np.cumsum(usd[seen])])
    ends = np.searchsorted(time_s, time_s + SPAN_S + TOLD_S, side="right")
    inside = total[ends] - total[np.arange(len(time_s))]
    return GROWTH * float(inside.max(initial=0.0)) / SPAN_S


def asked_for(turn_s, phases, seed, cold_s=6.0, worth=10.0):
    """(time, replicas asked for, replicas that the highest plausible rate needs), turn by turn."""
    rng = np.random.default_rng(seed)
    time_s, which, end_s = arrivals(rng, phases)
    usd = POOL.work_usd[which]
    told_s = np.ceil(time_s / TOLD_S) * TOLD_S
    policy = ScalePolicy(miss_worth=worth, cold_start_s=cold_s, warm_up_s=0.0)
    controller, starts, ready = Controller(PLAN, policy), [], 1
    last_s = now_s = 0.0
    while now_s < end_s:
        now_s += turn_s + rng.uniform(0, 0.05)
        came = (told_s > last_s) & (told_s <= now_s)
        counts = np.bincount(which[came], minlength=2)
        ready += sum(s <= now_s for s in starts)
        starts = [s for s in starts if s > now_s]
        group = GroupState(ready, len(starts), 0, 0, 0)
        told = dict(zip(POOL.classes, counts.tolist(), strict=True))
        wanted = controller(Observation(now_s, now_s - last_s, {"a": group}, told))["a"]
        last_s, more = now_s, wanted - group.staying
        starts += [now_s + cold_s] * more
        if more < 0:
            gone = min(-more, len(starts))
            starts, ready = starts[gone:], ready + more + gone
        mix = controller.standings()[0].mix_rps if controller.standings() else POOL.planned_rps
        each = float(POOL.capacity(mix, np.ones((1, 1)))[0])
        yield now_s, wanted, highest_plausible(time_s, usd, now_s) / each


rates = st.tuples(st.floats(5, 60), st.sampled_from([0.0, 1.0, 6.0, 20.0, 80.0]))


@settings(deadline=None, max_examples=12)
@given(
    st.sampled_from([1.0, 2.0, 3.0, 5.0, 20.0]),
    st.lists(rates, min_size=1, max_size=3),
    st.integers(0, 1000),
)
def test_never_more_than_the_highest_plausible_rate_needs(turn_s, phases, seed):
    for now_s, wanted, needed in asked_for(turn_s, phases, seed):
        assert wanted <= np.ceil(needed) + 1, now_s


def test_a_burst_is_met_within_seconds_all_the_same():
    burst = [(60.0, 6.0), (30.0, 60.0)]
    told = list(asked_for(2.0, burst, seed=1))
    before = max(w for t, w, _ in told if 40 < t <= 60)
    soon = max(w for t, w, _ in told if t <= 74)
    assert soon >= 4 * before
