"""A house of one's own for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.serve_apps.guard.guards import House


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)
