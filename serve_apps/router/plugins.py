"""Names of parts that can be exchanged: ours, and those of installed entry points."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from profiler.errors import InputError, UnknownNameError


def names(group: str, built_in: Mapping[str, str]) -> list[str]:
    """Every name, sorted."""
    return sorted(built_in.keys() | {point.name for point in entry_points(group=group)})


def load(kind: str, name: str, group: str, built_in: Mapping[str, str]) -> Any:
    """The object behind a name; ours first, so that none of them can be taken.

    Raises:
        UnknownNameError: no such name.
        InputError: it does not load.
    """
    if name in built_in:
        module, _, attribute = built_in[name].partition(":")
        try:
            return getattr(import_module(module), attribute)
        except ImportError as error:
            raise InputError(
                f"{kind} {name!r} needs a package that is not installed: {error.name}; "
                "pip install 'llm-orchestrator[router,router-embeddings]'"
            ) from error
    for point in entry_points(group=group, name=name):
        try:
            return point.load()
        except (ImportError, AttributeError) as error:
            raise InputError(f"{kind} {name!r} ({point.value}) does not load: {error}") from error
    raise UnknownNameError(kind, name, names(group, built_in))
