"""What the compiled scanner reads is what plain Python, written from its description, reads."""

import os
import re
import subprocess
import sys
from itertools import pairwise
from math import log1p

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from serve_apps.router.features.hand import NAMES
from serve_apps.router.features.kernel import BASE, BUCKETS, FORM, MIX
from serve_apps.router.features.scan import MAX_BYTES, bounded, bucket_of, hash_of, scan
from serve_apps.router.features.vocabulary import VOCABULARY

M = 1 << 64
WORD = re.compile(rb"[a-zA-Z0-9\x80-\xff]+")
SHARES = {
    "digits": rb"[0-9]", "upper": rb"[A-Z]", "spaces": rb"[ \t\r]", "questions": rb"\?",
    "maths": rb"[+*/=<>^%]", "latex": rb"[$\\]", "code": rb"[{}\[\]_;#`|]", "stops": rb"[.,!:]",
    "quotes": rb"[\"']", "wide": rb"[\x80-\xff]",
}  # fmt: skip


def polynomial(values, salt):
    mixed = (sum(v * pow(BASE, i, M) for i, v in enumerate(values)) + salt) * MIX % M
    return (mixed ^ mixed >> 32) * MIX % M


def oracle_form(raw):
    words, size = WORD.findall(raw), max(len(raw), 1)
    lengths = np.array([len(w) for w in words] or [0])
    numbers = [len(w) for w in words if w[:1].isdigit()]
    lines = raw.split(b"\n")
    starts = np.cumsum([-1, *(len(line) + 1 for line in lines)])
    chosen = [k for k in range(1, len(lines)) if re.match(rb"[A-Z][.):]", lines[k])]
    chosen_bytes = sum(len(lines[k]) - 2 for k in chosen)
    chosen_digits = sum(len(re.findall(rb"[0-9]", lines[k])) for k in chosen)
    distinct = {w.lower() for w in words}
    return {
        "log_bytes": log1p(len(raw)),
        "log_words": log1p(len(words)),
        "log_lines": log1p(len(lines) - 1),
        "word_length": lengths.mean(),
        "word_length_spread": lengths.std(),
        "long_words": (lengths >= 8).mean(),
        **{name: len(re.findall(kind, raw)) / size for name, kind in SHARES.items()},
        "log_numbers": log1p(len(numbers)),
        "number_length": sum(numbers) / max(len(numbers), 1),
        "choices": len(chosen),
        "choice_length": log1p(chosen_bytes / max(len(chosen), 1)),
        "choice_digits": chosen_digits / max(chosen_bytes, 1),
        "stem_length": log1p(starts[chosen[0]] if chosen else len(raw)),
        "blank": b"__" in raw,
        "distinct_words": len(distinct) / max(len(words), 1),
        "last_line_length": log1p(len(lines[-1])),
    }


def oracle_groups(raw):
    words = [w.lower() for w in WORD.findall(raw)]
    first = {}
    for name, members in VOCABULARY.items():
        for word in members.split():
            first.setdefault(bucket_of(word), name)
    of = [first.get(polynomial(w, 0) >> 50) for w in words]
    return {name: of.count(name) / max(len(words), 1) for name in VOCABULARY}


def oracle_buckets(raw):
    hashes = [polynomial(w, 0) for w in WORD.findall(raw.lower())]
    pairs = [polynomial([b, 0, 0, a], 99) for a, b in pairwise(hashes)]
    words = sorted(h >> 50 for h in (*hashes, *pairs))
    small = raw.lower()
    grams = [polynomial(small[i : i + 4], 4) for i in range(len(small) - 3)]
    return words, [(h >> 50) + BUCKETS for h in grams if h % 4 == 0]


def check(texts):
    s = scan(texts)
    assert s.rows == len(texts)
    for i, text in enumerate(texts):
        raw = bounded(text)
        expected = {**oracle_form(raw), **oracle_groups(raw)}
        assert list(expected) == list(NAMES[: FORM + len(VOCABULARY)])
        np.testing.assert_allclose(s.form[i], list(expected.values()), atol=1e-6)
        words, grams = oracle_buckets(raw)
        assert sorted(s.words[s.word_ends[i] : s.word_ends[i + 1]].tolist()) == words
        assert s.grams[s.gram_ends[i] : s.gram_ends[i + 1]].tolist() == grams


LIKELY = st.text(st.sampled_from('aBé1 9\n\r\tA.B):_?$\\+{"\x00日🙂'), max_size=80)


@settings(max_examples=60, deadline=None)
@given(st.lists(LIKELY | st.text(max_size=80), max_size=4))
@example([""])
@example(["", "a", "", "__", "_", "_"])
@example(["\nA.", "\nA. ", "\nB)\nC:", "A. 1\nB. 2", "\n", "\n\n"])
@example(["\0\0a\0b\0\0", "\ud800 lone", "Which of these is NOT true?\nA. 12\nB. 3 kg"])
def test_any_texts_read_as_plain_python_reads_them(texts):
    check(texts)


@pytest.mark.parametrize("unit", ["x", "Word 12? ", "日本語", "é\n", "\0", "🙂"])
def test_of_a_huge_text_both_ends_are_read_and_no_more(unit):
    text = "first " + unit * 20_000 + " last"
    raw = bounded(text)
    whole = text.encode()
    assert len(raw) == MAX_BYTES
    assert whole.startswith(raw[: MAX_BYTES // 2]) and whole.endswith(raw[MAX_BYTES // 2 :])
    assert {bucket_of("first"), bucket_of("last")} <= set(scan([text]).words.tolist())
    check([text])


@given(st.integers(MAX_BYTES // 3 - 2, MAX_BYTES + 2), st.sampled_from("aé日"))
@settings(max_examples=20, deadline=None)
def test_what_is_cut_is_counted_in_bytes(count, character):
    whole = (character * count).encode()
    half = MAX_BYTES // 2
    expected = whole if len(whole) <= MAX_BYTES else whole[:half] + whole[-half:]
    assert bounded(character * count) == expected


def test_words_are_hashed_whatever_their_case_and_place():
    s = scan(["Alpha beta", "beta, ALPHA!"])
    assert {bucket_of("alpha"), bucket_of("beta")} <= set(s.words[:3]) & set(s.words[3:])
    assert hash_of("Alpha") == hash_of("alpha") != hash_of("beta")


def test_hashes_are_the_same_in_every_process_and_on_every_platform():
    assert hash_of("theorem") == 10065485934326530708
    code = "from serve_apps.router.features.scan import scan; print(scan(['a theorem']).words)"
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout == f"{scan(['a theorem']).words}\n"
