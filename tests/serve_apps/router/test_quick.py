"""One prompt's estimates never fail: they are numbers, or the reason why there are none."""

from __future__ import annotations

import pytest

from serve_apps.router.estimates import Estimates
from serve_apps.router.prompts import Prompt
from serve_apps.router.quick import QuickEstimates


def test_failures_are_told_with_tracebacks_once_a_second(caplog: pytest.LogCaptureFixture) -> None:
    class Failing:
        def expected(self, prompts: list[Prompt]) -> Estimates:
            raise ValueError("no")

    now = [0.0]
    quick = QuickEstimates(Failing(), clock=lambda: now[0])
    for _ in range(50):
        assert "ValueError" in str(quick(Prompt("x")))
    assert len(caplog.records) == 1
    now[0] = 1.0
    quick(Prompt("x"))
    assert len(caplog.records) == 2
    assert "49 before" in caplog.text
    assert quick.failures == 51
