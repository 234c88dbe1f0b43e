"""An emulated engine in this process: any number of them, each on a port of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Self

from profiler.core import Profile
from profiler.emulated.api import Api, State
from profiler.emulated.faults import Fault
from profiler.emulated.http import Connection
from profiler.emulated.settings import Settings
from profiler.errors import InputError


class EmulatedEngine:
    """``async with EmulatedEngine(profile) as engine: ... engine.url``"""

    def __init__(
        self,
        emulated: Profile | Settings,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        on_death: Callable[[], None] | None = None,
        key: str = "",
    ) -> None:
        """Nothing listens yet. Port 0 is any free one; ``on_death`` hears of the fault ``die``;
        ``key`` is asked for under ``/v1``, as vLLM does with its ``--api-key``."""
        self.settings = emulated if isinstance(emulated, Settings) else Settings(profile=emulated)
        self._host = host
        self._port = port
        self._on_death = on_death
        self._key = key
        self._peers: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._api: Api | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Base URL, without a trailing slash."""
        return f"http://{self._host}:{self._port}"

    @property
    def alive(self) -> bool:
        """Whether it was started, and has neither died nor been stopped."""
        return self._api is not None

    async def start(self) -> None:
        """Listen.

        Raises:
            InputError: the port is taken, or not ours to take.
        """
        loop = asyncio.get_running_loop()
        self._api = Api(self.settings, loop, die=self._died, listen=self._listen, key=self._key)
        await self._open()

    async def stop(self) -> None:
        """Close the port and every connection. Safe to call twice."""
        for task in self._tasks:
            task.cancel()
        self._end()
        await asyncio.sleep(0)  # closed connections say so in the loop's next turn

    def state(self) -> State:
        """What it is doing, and has done."""
        return self._alive().state()

    async def until(self, holds: Callable[[State], bool], timeout_s: float = 30.0) -> State:
        """The state as soon as it is so.

        Raises:
            TimeoutError: it is not so within ``timeout_s``.
        """
        return await self._alive().until(holds, timeout_s)

    async def listening(self) -> None:
        """Wait until its port is open, where a fault that closed it has ended."""
        await asyncio.gather(*self._tasks)

    def set_fault(self, fault: Fault) -> None:
        """Show a fault, in the place of the one before."""
        self._alive().set_fault(fault)

    def clear_fault(self) -> None:
        """Be well again."""
        self._alive().clear_fault()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    def _alive(self) -> Api:
        if self._api is None:
            raise RuntimeError("the emulated engine does not run")
        return self._api

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        protocol = partial(Connection, self._alive().handle, self._peers)
        try:
            self._server = await loop.create_server(protocol, self._host, self._port, backlog=1024)
        except OSError as error:
            self._api = None
            raise InputError(
                f"port {self._port} on {self._host}: {error.strerror}; choose another"
            ) from None
        self._port = self._server.sockets[0].getsockname()[1]

    def _listen(self, wanted: bool) -> None:
        if not wanted:
            self._close_port()
            return
        task = asyncio.ensure_future(self._open())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _died(self) -> None:
        if self._on_death is not None:
            self._on_death()
        self._end()

    def _end(self) -> None:
        self._close_port()
        for peer in list(self._peers):
            peer.abort()
        if self._api is not None:
            self._api.close()
            self._api = None

    def _close_port(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
