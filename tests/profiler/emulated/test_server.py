"""An emulated engine as a child process is started, watched and ended as vLLM is."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from profiler.emulated.faults import Fault
from profiler.emulated.server import EmulatedServer
from profiler.emulated.settings import Settings
from profiler.errors import EngineError
from tests import builders


def server(tmp_path: Path, fault: Fault | None = None) -> EmulatedServer:
    settings = Settings(profile=builders.profile(), fault=fault)
    return EmulatedServer(settings, log_path=tmp_path / "logs" / "engine.log")


def test_it_is_ready_healthy_and_gone(tmp_path: Path) -> None:
    with server(tmp_path) as engine:
        engine.wait_ready(30)
        assert engine.alive
        assert engine.healthy()
    assert not engine.alive
    assert not engine.healthy()
    assert engine.log_path.read_text() == ""


def test_a_fault_that_ends_it_is_seen_as_a_death(tmp_path: Path) -> None:
    with server(tmp_path, Fault(kind="die")) as engine:
        with pytest.raises(EngineError, match=r"\(emulated\) was ended by SIGKILL"):
            engine.wait_ready(30)
        assert not engine.alive


def test_it_loads_nothing_that_takes_long() -> None:
    code = (
        "import sys, profiler.emulated.__main__\n"
        "heavy = {'torch', 'ray', 'numpy', 'scipy', 'aiohttp', 'vllm', 'yaml'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_it_ends_with_whoever_started_it(tmp_path: Path) -> None:
    starts = f"""
import signal
from pathlib import Path
from tests.profiler.emulated.test_server import server
engine = server(Path({str(tmp_path)!r}))
engine.start()
engine.wait_ready(30)
print(engine.pid, flush=True)
signal.pause()
"""
    with subprocess.Popen(
        [sys.executable, "-c", starts], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        fd = os.pidfd_open(int(parent.stdout.readline()))
        parent.send_signal(signal.SIGKILL)
    assert select.select([fd], [], [], 30)[0], "the engine was left behind"
    os.close(fd)
