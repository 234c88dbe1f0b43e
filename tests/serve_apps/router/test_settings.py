"""Prompts are divided by hash: evenly, once and for all, and equal ones together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from serve_apps.router.settings import HeldOut
from tests.serve_apps.router.evaluation.pools import outcomes


def test_parts_cover_every_prompt_once_in_the_shares_asked_for():
    table = outcomes(3000)
    parts = HeldOut(share=0.2).parts(table)
    together = np.concatenate([parts.train, parts.calibration, parts.test])
    assert sorted(together.tolist()) == list(range(3000))
    assert abs(parts.test.size / 3000 - 0.2) < 0.03
    assert abs(parts.calibration.size / 3000 - 0.1) < 0.03


def test_a_prompt_stays_where_it_was_in_any_table():
    table, split = outcomes(400), HeldOut(seed=4)
    half = table.rows(np.arange(200, 400))
    test = set(split.parts(table).test.tolist())
    assert {i + 200 for i in split.parts(half).test.tolist()} == {i for i in test if i >= 200}
    for i, prompt in enumerate(table.prompts):
        assert split.tests(prompt.text, table.subject[i]) == (i in test)


def test_subjects_are_not_parted():
    table = outcomes(400, subject=tuple(f"s{i % 40}" for i in range(400)))
    parts = HeldOut("subject", 0.3).parts(table)
    of = [{table.subject[i] for i in rows} for rows in (parts.train, parts.calibration, parts.test)]
    assert sum(map(len, of)) == 40 and len(set.union(*of)) == 40


def test_a_prompt_under_two_subjects_is_not_judged_on_what_was_learned():
    table = outcomes(400, subject=tuple(f"s{i % 40}" for i in range(400)))
    table = replace(table, prompts=table.prompts[:200] * 2, subject=table.subject[::-1])
    parts = HeldOut("subject", 0.3).parts(table)
    texts = [
        {table.prompts[i].text for i in rows}
        for rows in (parts.train, parts.calibration, parts.test)
    ]
    assert all(texts)
    assert len(set.union(*texts)) == sum(map(len, texts))
