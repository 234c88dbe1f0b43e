"""Which ingress processes of a machine listen, and which stand by."""

from __future__ import annotations

import asyncio
import os
import socket

POLL_S = 0.02


class Turn:
    """One of ``active`` places at a port of this machine.

    A place is a Unix socket's name without a file (Linux), which goes with the process however it
    ends, and belongs to a network namespace just as the port does. A process that stands by takes
    over within a few hundredths of a second.
    """

    def __init__(self, port: int, active: int) -> None:
        self._names = [f"\0orchestrator-{os.getuid()}-{port}-{i}" for i in range(active)]
        self._held: socket.socket | None = None

    async def take(self) -> None:
        """Wait for a place."""
        while not self.try_take():
            await asyncio.sleep(POLL_S)

    def try_take(self) -> bool:
        """Take a place if there is one."""
        for name in self._names:
            place = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                place.bind(name)
            except OSError:
                place.close()
                continue
            self._held = place
            return True
        return False

    def give_up(self) -> None:
        """Let another have it."""
        if self._held is not None:
            self._held.close()
            self._held = None
