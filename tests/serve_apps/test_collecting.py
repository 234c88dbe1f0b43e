"""What is there when a process begins to serve is left out of all collections to come."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from serve_apps.collecting import NEW_OBJECTS, settle


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


class Thing:
    """Can be watched, and can hold itself."""

    def __init__(self) -> None:
        self.own: object = self


def test_what_is_there_stays_out_of_collections_and_what_comes_later_does_not() -> None:
    kept = Thing()
    settle()
    assert gc.get_threshold()[0] == NEW_OBJECTS
    assert gc.get_freeze_count() > 0
    assert not any(found is kept for found in gc.get_objects())
    later = weakref.ref(Thing())
    gc.collect()
    assert later() is None


def test_garbage_of_the_start_is_gone_before_it_is_kept_for_good() -> None:
    garbage = weakref.ref(Thing())
    settle()
    assert garbage() is None
