"""Runs one command, and sees to it that nothing of it outlives whoever started it.

Started as a script by `profiler.engine`: ``python guard.py PARENT_PID GRACE_S COMMAND...``. The
command runs as a child. When the parent dies, however it dies, or asks with SIGTERM, the command
and all its descendants are ended: first SIGTERM, then SIGKILL after ``GRACE_S``. When the command
ends by itself its left-over descendants are killed. The exit code is the command's own, 128 + n
if signal n ended it. Linux only; standard library only, so that it starts at once.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
POLL_S = 0.05


def main(argv: list[str]) -> int:
    """Run ``argv[2:]`` under guard; the exit code to end with."""
    parent_pid, grace_s, command = int(argv[0]), float(argv[1]), argv[2:]
    libc = ctypes.CDLL(None, use_errno=True)
    signal.signal(signal.SIGTERM, _stop)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1)  # orphans of the command become our children
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent_pid:  # it died before the line above took effect
        return 128 + signal.SIGTERM
    child: subprocess.Popen[bytes] | None = None
    try:
        # Killed outright, a guard can end nothing any more: the command then ends with it.
        with_us = functools.partial(libc.prctl, PR_SET_PDEATHSIG, signal.SIGKILL)
        child = subprocess.Popen(command, preexec_fn=with_us)  # noqa: PLW1509  # one thread
        code = child.wait()
    except _StopRequestedError:
        code = -signal.SIGTERM
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if child is not None:
            _terminate(child, grace_s)
    except OSError as error:
        sys.stderr.write(f"cannot run {command[0]}: {error.strerror}\n")
        code = 127
    _kill_descendants()
    return 128 - code if code < 0 else code


class _StopRequestedError(Exception):
    """SIGTERM came, from the parent or because the parent died."""


def _stop(_signum: int, _frame: FrameType | None) -> None:
    raise _StopRequestedError


def _terminate(child: subprocess.Popen[bytes], grace_s: float) -> None:
    child.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(grace_s)


def _kill_descendants() -> None:
    """Kill children until none is left; grandchildren become children as their parents die."""
    while True:
        for pid in _children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            time.sleep(POLL_S)


def _children() -> list[int]:
    """Processes whose parent is this one, from the fourth field of /proc/PID/stat."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[1]) == os.getpid():
                found.append(int(stat.parent.name))
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
