"""Where nobody may wait, slots go by weight and not by how often one asks."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_apps.flow.claims import LATEST_S, MOST_BEHIND, SLACK_S
from serve_apps.flow.nouns import Anyone, Lease, Refused, Result
from serve_apps.flow.queue import FairQueue
from tests import builders
from tests.serve_apps.flow import flows
from tests.serve_apps.flow.flows import Flow
from tests.serve_apps.flow.test_queue import filled, served, wait

NOBODY_WAITS = builders.slo(ttft_s=0.02, tpot_s=0.1)
GAP_S = 0.03


class Crowd:
    """A full group whose slots come free one by one."""

    def __init__(self, slots: int, seed: int) -> None:
        self.flow = Flow(flows.plan(flows.group(replicas=1, max_num_seqs=slots), slo=NOBODY_WAITS))
        self.rng = random.Random(seed)
        self.held = self.flow.fill(caller=Anyone("loud"))
        self.slots = len(self.held)

    def free_one(self) -> None:
        self.flow.now += GAP_S
        self.flow.dispatcher.tick()
        if self.held:
            lease = self.held.pop(self.rng.randrange(len(self.held)))
            lease.done(Result.OK, 10)

    def ask(self, caller: Anyone) -> bool:
        answer = self.flow.ask(caller=caller)
        if isinstance(answer, Lease):
            self.held.append(answer)
        else:
            assert isinstance(answer, Refused)
        return isinstance(answer, Lease)


@given(
    st.sampled_from([2, 8, 20]),
    st.sampled_from([0.5, 1.0, 2.0]),
    st.integers(1, 20),
    st.integers(0, 2**16),
)
@settings(max_examples=20, deadline=None)
def test_shares_follow_weights_however_often_one_asks(
    slots: int, weight: float, times: int, seed: int
) -> None:
    crowd, turns = Crowd(slots, seed), 60
    loud, quiet = Anyone("loud"), Anyone("quiet", weight=weight)
    got = {"loud": 0, "quiet": 0}
    for _ in range(turns):
        crowd.free_one()
        for caller in crowd.rng.sample([loud] * times + [quiet] * 2, times + 2):
            got[caller.tenant] += crowd.ask(caller)
        assert len(crowd.held) >= crowd.slots - max(1, crowd.slots // 8)
    share = weight / (1 + weight)
    assert got["quiet"] / sum(got.values()) == pytest.approx(share, abs=0.12)


@given(st.sampled_from([1, 2, 8]), st.integers(0, 2**16))
@settings(max_examples=10, deadline=None)
def test_one_may_have_all_when_the_others_ask_no_more(slots: int, seed: int) -> None:
    crowd = Crowd(slots, seed)
    for _ in range(20):
        assert not crowd.ask(Anyone("quiet"))
    crowd.flow.now += LATEST_S + SLACK_S
    crowd.flow.dispatcher.tick()
    for _ in range(20):
        crowd.free_one()
        assert crowd.ask(Anyone("loud"))


def test_who_is_alone_never_leaves_a_slot_empty() -> None:
    crowd = Crowd(8, 0)
    for _ in range(30):
        assert not crowd.ask(Anyone("loud"))
        crowd.free_one()
        assert crowd.ask(Anyone("loud"))


def test_a_seldom_guest_finds_a_slot_when_it_comes_again() -> None:
    crowd = Crowd(8, 0)
    assert not crowd.ask(Anyone("guest"))
    for _ in range(30):
        crowd.free_one()
        crowd.ask(Anyone("loud"))
    assert crowd.ask(Anyone("guest"))


def after(refused: int) -> FairQueue:
    """One tenant had a hundred turns while another was refused so often."""
    queue = filled(*(wait(Anyone("had")) for _ in range(200)))
    for _ in range(refused):
        queue.refused(Anyone("refused"), 1.0, until_s=10.0)
    served(queue, 100)
    for _ in range(50):
        queue.push(wait(Anyone("refused")))
    return queue


def test_who_was_refused_keeps_its_place_up_to_a_bound() -> None:
    assert served(after(3), int(MOST_BEHIND)) == ["refused"] * int(MOST_BEHIND)
    assert served(after(3), 40).count("refused") == pytest.approx(20 + MOST_BEHIND / 2, abs=1)
    assert served(after(0), 40).count("refused") == pytest.approx(20, abs=1)


def test_it_keeps_its_place_for_a_while_only() -> None:
    queue = filled(*(wait(Anyone("had")) for _ in range(200)))
    queue.refused(Anyone("refused"), 1.0, until_s=10.0)
    served(queue, 100)
    queue.pass_time(10.0)
    assert not queue.contested
    for _ in range(50):
        queue.push(wait(Anyone("refused")))
    assert served(queue, 40).count("refused") == pytest.approx(20, abs=1)
