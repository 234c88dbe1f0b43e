"""Hypothesis without deadlines, and Ray Serve for tests that need its classes but no cluster."""

import warnings
from typing import Any

import pytest
from hypothesis import settings

# The machine's speed is not what tests are about.
settings.register_profile("steady", deadline=None, derandomize=True, database=None)
settings.load_profile("steady")


@pytest.fixture(scope="session")
def serve() -> Any:
    """The module ``ray.serve``; its import warns of what Ray does itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("ray.serve", reason="Ray Serve is not installed")
