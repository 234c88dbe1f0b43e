"""The one place that knows the compiler, which is loaded at the first call: it takes two seconds
and a hundred megabytes, and who only imports compiled functions needs neither."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """The function as machine code, compiled at its first call and kept on disk.

    The disk copy lies in ``__pycache__`` beside the source, or in the user's cache directory where
    that cannot be written; where neither can, each process compiles anew. The copy is renewed
    when its own source file changes, so functions that call each other live in one file.
    Arithmetic is IEEE 754's, in the order written.
    """
    return cast("Function", _Compiled(function, _kept))


def inner(function: Function) -> Function:
    """`compiled`, for functions that only compiled ones call: kept as part of their callers."""
    return cast("Function", _Compiled(function, _inlined))


class _Compiled:
    """Stands for a function until it is called; its callees are compiled with it."""

    def __init__(self, function: Callable[..., Any], make: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._make = make
        self._made: Any = None

    def __call__(self, *args: Any) -> Any:
        made = self._made
        return (made if made is not None else self.made())(*args)

    def made(self) -> Any:
        """The compiler's own object, which takes this one's place in its module.

        The compiler looks up what a function calls by name, and must find objects of its own.
        """
        if self._made is None:
            names = self._function.__globals__
            for callee in self._function.__code__.co_names:
                if isinstance(found := names.get(callee), _Compiled) and found is not self:
                    names[callee] = found.made()
            self._made = self._make(self._function)
        return self._made


def _kept(function: Callable[..., Any]) -> Any:
    try:
        return _njit(function, cache=True)
    except RuntimeError:  # "cannot cache function: no locator available"
        return _njit(function, cache=False)


def _inlined(function: Callable[..., Any]) -> Any:
    return _njit(function, no_cpython_wrapper=True, no_cfunc_wrapper=True)


def _njit(function: Callable[..., Any], **options: bool) -> Any:
    import numba

    return numba.njit(error_model="numpy", nogil=True, **options)(function)
