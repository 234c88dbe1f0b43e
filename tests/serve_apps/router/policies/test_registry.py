"""Every policy has a name, and others may add theirs."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from profiler.errors import InputError, UnknownNameError
from serve_apps.router.policies import registry
from serve_apps.router.policies.utility import Utility


def test_every_built_in_name_leads_to_a_class_of_that_name() -> None:
    for name in registry.BUILT_IN:
        assert registry.policy_class(name).name == name


def test_an_unknown_name_is_met_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'utility'"):
        registry.policy_class("utilty")


def test_an_installed_policy_is_found_and_a_broken_one_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    points = [
        EntryPoint("mine", "serve_apps.router.policies.utility:Utility", registry.GROUP),
        EntryPoint("broken", "no_such_module:Thing", registry.GROUP),
    ]
    monkeypatch.setattr(
        registry,
        "entry_points",
        lambda group, name=None: [p for p in points if name in (None, p.name)],
    )
    assert registry.policy_class("mine") is Utility
    assert {"mine", "utility"} <= set(registry.policy_names())
    with pytest.raises(InputError, match="broken"):
        registry.policy_class("broken")
