"""Compiled functions work whether or not the compiler's cache can be written."""

from types import SimpleNamespace

import numba

from profiler import compiled


def test_where_nothing_can_be_kept_on_disk_functions_are_compiled_anew(monkeypatch):
    asked = []

    def njit(**options):
        asked.append(options["cache"])
        if options["cache"]:
            raise RuntimeError("cannot cache function: no locator available")
        return numba.njit(**options)

    monkeypatch.setattr(compiled, "numba", SimpleNamespace(njit=njit))

    def double(x):
        return 2 * x

    assert compiled.compiled(double)(21) == 42
    assert asked == [True, False]
