"""Ray deploys a plan's declarative config: two ingresses share a port, engines outlive changes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from profiler.engine import free_port

pytestmark = pytest.mark.e2e


def test_a_plan_is_deployed_declaratively_and_grows_without_restarting_an_engine() -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "tests.e2e.declared_pool", str(free_port())],
        env=os.environ
        | {"PYTHONPATH": str(Path.cwd()), "RAY_USAGE_STATS_ENABLED": "0", "VLLM_API_KEY": "k-1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    assert told["answer"] == told["again"] == 200, told
    assert len(told["ingresses"]) == 2, told
    assert len(told["then"]["ids"]) == 2, told
    assert set(told["first"]["ids"]) < set(told["then"]["ids"])
