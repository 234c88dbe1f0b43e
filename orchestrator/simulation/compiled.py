"""The one place that knows the compiler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """The function as machine code, compiled at its first call and kept on disk.

    The disk copy lies in ``__pycache__`` beside the source, or in the user's cache directory where
    that cannot be written. Arithmetic is IEEE 754's, in the order written.
    """
    made: Function = numba.njit(cache=True, error_model="numpy", nogil=True)(function)
    return made
