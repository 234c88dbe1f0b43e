"""The one place that knows the compiler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """The function as machine code, compiled at its first call and kept on disk.

    The disk copy lies in ``__pycache__`` beside the source, or in the user's cache directory where
    that cannot be written; where neither can, each process compiles anew. The copy is renewed
    when its own source file changes, so functions that call each other live in one file.
    Arithmetic is IEEE 754's, in the order written.
    """
    try:
        return _njit(function, cache=True)
    except RuntimeError:  # "cannot cache function: no locator available"
        return _njit(function, cache=False)


def inner(function: Function) -> Function:
    """`compiled`, for functions that only compiled ones call: kept as part of their callers."""
    return _njit(function, no_cpython_wrapper=True, no_cfunc_wrapper=True)


def _njit(function: Function, **options: bool) -> Function:
    made: Function = numba.njit(error_model="numpy", nogil=True, **options)(function)
    return made
