"""A pool whose engines cannot start is taken down, and the engine's own words tell why."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.deploy.base import Status
from orchestrator.deploy.local import deploy_local, local_status
from profiler.engine import free_port
from profiler.errors import EngineError
from tests.e2e.real_engine import installed, real_plan
from tests.processes import descendants, none_left

pytestmark = [pytest.mark.e2e, installed()]


def test_an_engine_that_dies_at_start_is_shown_and_leaves_nothing(tmp_path: Path) -> None:
    pids: set[int] = set()

    def watch(status: Status) -> None:
        pids.update(descendants(status.pid))

    broken = real_plan(extra_args=("--no-such-option",), service="broken")
    with pytest.raises(EngineError) as caught:
        deploy_local(broken, port=free_port(), wait_s=300, on_progress=watch, root=tmp_path)
    message = str(caught.value)
    assert "group 'smol'" in message
    assert "unrecognized arguments: --no-such-option" in message.splitlines()[0]
    assert caught.value.log_tail
    assert local_status("broken", tmp_path) is None
    assert len(pids) > 3
    none_left(pids)
