"""Compiled functions work wherever their cache can be written, and cost nothing until called."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numba
import pytest

from profiler.compiled import compiled, inner


def test_where_nothing_can_be_kept_on_disk_functions_are_compiled_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[bool] = []
    true = numba.njit

    def njit(*function: Any, **options: bool) -> Any:
        if "cache" in options:  # else it is numba's own use
            asked.append(options["cache"])
            if options["cache"]:
                raise RuntimeError("cannot cache function: no locator available")
        return true(*function, **options)

    monkeypatch.setattr(numba, "njit", njit)

    @compiled
    def double(x: int) -> int:
        return 2 * x

    assert double(21) == 42
    assert asked == [True, False]


@inner
def _successor(x: int) -> int:
    return x + 1


@inner
def _twice_successor(x: int) -> int:
    return _successor(_successor(x))


@compiled
def _thrice(x: int) -> int:
    return _twice_successor(_successor(x))


def test_functions_that_call_each_other_are_compiled_together() -> None:
    assert _thrice(1) == _thrice(1) == 4


def test_the_gateway_starts_without_the_compiler() -> None:
    code = "import sys, serve_apps.gateway; sys.exit('numba' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
