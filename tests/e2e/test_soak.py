"""A while under steady load leaves no task, socket or engine slot taken, and memory flat."""

from __future__ import annotations

import asyncio
import importlib.util

import pytest

NEEDS = ("aiohttp", "httptools", "uvloop", "starlette")
MISSING = [name for name in NEEDS if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.alone,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]
if not MISSING:
    from benchmarks.soak import POOL, soak
    from benchmarks.stand import Stand


def test_what_a_while_of_load_leaves_behind() -> None:
    """Figures over a long time: `python -m benchmarks.soak`."""
    with Stand(pools=(POOL,)) as stand:
        found = asyncio.run(soak(stand, 8.0))
    assert found["ok"] > found["requests"] / 2
    assert found["left"] > 0
    assert found["answered_5xx"] == found["broken_off"] == 0
    assert found["in_flight"] == 0
    assert found["tasks_more"] <= 1
    assert found["files_more"] <= 2 * POOL.engines * POOL.max_num_seqs
    assert found["rss_mib_at_last"] - found["rss_mib_at_half"] < 8
