"""The last requests can be explained, in data and in words; memory is bounded."""

import json

from hypothesis import given
from hypothesis import strategies as st

from serve_apps.seeing.explain import explanation, words
from serve_apps.seeing.journal import MOST_ATTEMPTS, MOST_CANDIDATES, MOST_TEXT, Journal
from serve_apps.seeing.plain import finite
from serve_apps.seeing.record import Attempt, Candidate, Outcome, Refusal
from tests.seeing_builders import ARRIVED_S, record, refused


@given(st.integers(0, 5), st.lists(st.integers(0, 9), max_size=20))
def test_the_journal_holds_the_last_ones(most, ids):
    journal = Journal(most)
    for i in ids:
        journal.add(record(f"r{i}"))
    assert len(journal) <= most
    kept = [r.request_id for r in journal.latest(100)]
    assert all(journal.find(i) is not None for i in kept)
    if ids and most:
        assert journal.find(f"r{ids[-1]}") is not None


def test_newest_first_and_the_oldest_is_forgotten():
    journal = Journal(2)
    for i in range(3):
        journal.add(record(f"r{i}"))
    assert [r.request_id for r in journal.latest(9)] == ["r2", "r1"]
    assert journal.find("r0") is None


def test_what_a_client_makes_long_is_cut():
    journal = Journal(1)
    candidates = tuple(Candidate(f"m{i}", 0.5, 0.1, True) for i in range(1000))
    tried = [Attempt("a", f"a#{i}", 1.0, None, 2.0, "unreachable") for i in range(100)]
    journal.add(record(model_asked="x" * 10**6, candidates=candidates, tried=tried))
    kept = journal.find("req_1")
    assert kept is not None
    assert len(kept.model_asked) == MOST_TEXT
    assert len(kept.candidates) == MOST_CANDIDATES
    assert [a.replica for a in kept.tried] == [f"a#{i}" for i in range(100 - MOST_ATTEMPTS, 100)]


def test_words_tell_the_choice_the_course_and_the_end():
    assert list(words(record())) == [
        "team-a asked for auto as a stream, about 120 tokens in the prompt.",
        "Model m1 in group a was chosen: quality 0.80 at $0.00021 beats m2.",
        "The decision took 80 µs.",
        "Also weighed: m2 (quality 0.90, no price, outside the latency targets).",
        "It waited 50 ms for a slot.",
        "Replica a#1 had it.",
        "It ended with 200 after 500 ms: it was answered.",
        "First token after 400 ms (320 ms predicted, 25% more).",
        "Each further token took 10 ms, as predicted.",
        "11 output tokens, 22 expected.",
        "It took about $0.00021 of the fleet at the plan's prices.",
    ]


def test_words_tell_a_retry_a_fallback_and_shed_load():
    failed = Attempt("a", "a#2", ARRIVED_S, None, ARRIVED_S + 0.02, "unreachable")
    told = "\n".join(
        words(
            record(attempts=2, tried=[failed, record().tried[0]], shed=True, router_fallback=True)
        )
    )
    assert "Replica a#2 gave unreachable after 20 ms; another was taken." in told
    assert "the plan's shares decided" in told
    assert "In a quiet hour it would have gone to a better model" in told


def test_words_tell_every_refusal_and_every_end():
    for refusal in Refusal:
        assert "refused with 429: " in "\n".join(words(refused(refusal=refusal)))
    assert "It ended after 500 ms: the client went away." in words(
        record(outcome=Outcome.CANCELLED, status=0)
    )
    for outcome in Outcome:
        assert "It ended with 200" in "\n".join(words(record(outcome=outcome)))


def test_data_sets_predicted_beside_measured():
    found = explanation(record())
    assert found["predicted"]["ttft_s"] == 0.32
    assert abs(found["measured"]["ttft_s"] - 0.4) < 1e-9
    assert [c["chosen"] for c in found["candidates"]] == [True, False]
    assert abs(found["attempts"][0]["after_s"] - 0.1) < 1e-9


def test_infinite_prices_become_json():
    text = json.dumps(finite(explanation(record())), allow_nan=False)
    assert json.loads(text)["candidates"][1]["price_usd"] is None
