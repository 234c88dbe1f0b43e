"""The replicas of a plan's applications, found through Ray Serve and kept up to date."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any

from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from serve_apps.board import BOARD, Board
from serve_apps.flow.nouns import Replica

ENGINE = "engine"
"""Name of the deployment in each group's application."""
RETRY_S = 1.0
POLL_S = 0.1
TAKEOVER_S = 60.0
"""So long are those not wanted any more kept, and a plan in force, while others have no replica.
Longer than any news of theirs take on a crowded node: to drop those that answer helps nobody."""

log = logging.getLogger("orchestrator.discovery")


class Discovery:
    """Holds a handle per group, so that Serve tells of its replicas; see `replica_router`."""

    def __init__(self, board: Board = BOARD) -> None:
        self._board = board
        self._handles: dict[str, Any] = {}
        self._wanted: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    def start(self, found: Callable[[tuple[Replica, ...]], None]) -> None:
        """Call ``found`` on this event loop with all replicas, now and at each change."""
        loop = asyncio.get_running_loop()
        self._board.subscribe(lambda replicas: _post(loop, found, replicas))

    def watch(self, apps: Iterable[str]) -> None:
        """Look for the replicas of these applications, one to a group, and forget all others.

        Others are forgotten once these have replicas: one that takes another's place does so
        without a gap.
        """
        self._want(set(apps))

    async def expect(self, apps: Iterable[str]) -> None:
        """Look for these too; return when each has replicas, or was waited for long enough.

        For a plan that is to come in force: its first request finds engines.
        """
        expected = set(apps)
        self._want(self._wanted | expected)
        await self._known(expected)

    def _want(self, apps: set[str]) -> None:
        self._wanted = apps
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._follow())

    async def _known(self, apps: set[str]) -> None:
        loop = asyncio.get_running_loop()
        until_s = loop.time() + TAKEOVER_S
        while loop.time() < until_s and not all(map(self._board.has, apps)):
            await asyncio.sleep(POLL_S)

    async def close(self) -> None:
        """Look no further."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _follow(self) -> None:
        """Handles for all that are wanted, and then for no others."""
        while self._wanted != self._handles.keys():
            await self._open()
            await self._forget()

    async def _open(self) -> None:
        """An application that Serve does not know yet is asked for again."""
        while missing := self._wanted - self._handles.keys():
            for app in missing:
                try:
                    self._handles[app] = await asyncio.to_thread(_handle, app)
                    self._board.restore(app)
                except (RayError, RayServeException, KeyError):  # the last: no such deployment
                    log.warning("Ray Serve does not tell of application %r yet", app)
            if self._wanted - self._handles.keys():
                await asyncio.sleep(RETRY_S)

    async def _forget(self) -> None:
        """Drop others than those wanted, when these are there or were waited for long enough."""
        await self._known(self._wanted)
        for app in self._handles.keys() - self._wanted:
            del self._handles[app]
            self._board.remove(app)


def _handle(app: str) -> Any:
    handle = serve.get_deployment_handle(ENGINE, app_name=app)
    if not handle.is_initialized:
        handle._init()  # else it asks for news with its first request only, and there is none
    return handle


def _post(
    loop: asyncio.AbstractEventLoop,
    found: Callable[[tuple[Replica, ...]], None],
    replicas: tuple[Replica, ...],
) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(found, replicas)
