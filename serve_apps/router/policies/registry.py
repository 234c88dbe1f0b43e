"""Policies by name: those of this package, and those that others install.

A third party names its class in the entry point group ``orchestrator.router.policies``; a name
of ours cannot be taken.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from profiler.errors import InputError, UnknownNameError

GROUP = "orchestrator.router.policies"
_HERE = "serve_apps.router.policies"
BUILT_IN = {
    "adaptive_solver": "adaptive_solver:AdaptiveSolver",
    "cascade": "cascade:Cascade",
    "ensemble": "ensemble:Ensemble",
    "lin_ucb": "bandit:LinUcb",
    "preference": "preference:ByPreference",
    "stepwise": "stepwise:Stepwise",
    "thompson": "bandit:Thompson",
    "threshold": "threshold:Threshold",
    "utility": "utility:Utility",
}


def policy_names() -> list[str]:
    """Every policy that can be named, sorted."""
    return sorted(BUILT_IN.keys() | {point.name for point in entry_points(group=GROUP)})


def policy_class(name: str) -> Any:
    """The class behind a name; its constructor takes the policy's settings.

    Raises:
        UnknownNameError: no such policy.
        InputError: an installed one does not load.
    """
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        return getattr(import_module(f"{_HERE}.{module}"), attribute)
    for point in entry_points(group=GROUP, name=name):
        try:
            return point.load()
        except (ImportError, AttributeError) as error:
            raise InputError(f"policy {name!r} ({point.value}) does not load: {error}") from error
    raise UnknownNameError("policy", name, policy_names())
