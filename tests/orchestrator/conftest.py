"""The command line, run inside the tests' own process: starting Python costs more than the work."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from orchestrator.cli import main

Orchestrate = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def orchestrate(tmp_path, monkeypatch, capsys) -> Iterator[Orchestrate]:
    """Call the entry point with arguments, in a directory, state and cache of its own.

    An error that is none of ours comes out as it is, where a user would see a traceback.
    """
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr(sys, "argv", ["orchestrator", *args])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return subprocess.CompletedProcess(args, ended.value.code or 0, out, err)

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)
