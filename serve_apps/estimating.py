"""Prompts are estimated together, those that come in one turn of the event loop.

What judges prompts may be anybody's code, and code that blocks cannot be broken off. In a thread
of its own (`Estimating`) it holds up nobody: requests that it does not serve in time go by the
plan's shares. The hand-over to a thread and back costs more than most estimates, so parts that
compute for a bounded time and wait for nothing do so at once (`AtOnce`).
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable, Sequence

from serve_apps.router.prompts import Prompt

PATIENCE_S = 0.02
"""A request waits so long for its estimate."""
MOST_THREADS = 3
"""So many threads may be stuck before nothing is estimated any more."""
STUCK_S = 30.0
"""After so long without an answer a thread is given up."""
SLOW_S = 0.01
"""Estimates at once that take longer, ``SLOW_IN_A_ROW`` times, are made in the thread for a while.
It is this thread's processor time: where others have the processor, a thread gets no more of it."""
SLOW_IN_A_ROW = 2
REST_S = 10.0

Prepare = Callable[[Sequence[Prompt]], None]
Batch = tuple[asyncio.AbstractEventLoop, Sequence[Prompt], Callable[[], None]]


class Estimating:
    """Collects what comes within one turn of the event loop, and has it prepared in a thread."""

    def __init__(self, prepare: Prepare, patience_s: float = PATIENCE_S) -> None:
        """``prepare`` is called in another thread, and never twice at a time."""
        self._prepare = prepare
        self._patience_s = patience_s
        self._prompts: list[Prompt] = []
        self._waiting: list[asyncio.Future[None]] = []
        self._work: queue.SimpleQueue[Batch | None] | None = None
        self._threads = 0
        self._busy_since_s: float | None = None
        self._flushes = False
        self._closed = False

    async def prepared(self, prompt: Prompt, *, alone: bool = False) -> None:  # noqa: ARG002
        """Return when the prompt was prepared, with all others of this turn; or too late for it.

        ``alone``: nobody else asks just now; see `AtOnce`.
        """
        loop = asyncio.get_running_loop()
        if self._stuck(loop.time()):
            return
        if self._busy_since_s is None and not self._flushes:
            self._flushes = True
            loop.call_soon(self._flush)
        future: asyncio.Future[None] = loop.create_future()
        self._prompts.append(prompt)
        self._waiting.append(future)
        late = loop.call_later(self._patience_s, _settle, future)
        try:
            await future
        finally:
            late.cancel()

    def close(self) -> None:
        """Estimate nothing more."""
        self._closed = True
        if self._work is not None:
            self._work.put(None)

    def _stuck(self, now_s: float) -> bool:
        """Whether nothing can be hoped for now; a thread that is stuck for good is given up."""
        busy_s = 0.0 if self._busy_since_s is None else now_s - self._busy_since_s
        if busy_s > STUCK_S:
            self._work, self._busy_since_s, busy_s = None, None, 0.0
        given_up = self._work is None and self._threads >= MOST_THREADS
        return self._closed or given_up or busy_s > self._patience_s

    def _flush(self) -> None:
        """Hand over what has come; what comes meanwhile is handed over after it."""
        self._flushes = False
        prompts, waiting = self._prompts, self._waiting
        self._prompts, self._waiting = [], []
        wanted = [p for p, f in zip(prompts, waiting, strict=True) if not f.done()]
        if not wanted or self._closed:
            for future in waiting:
                _settle(future)
            return
        loop = asyncio.get_running_loop()
        self._busy_since_s = loop.time()
        work = self._worker()

        def done() -> None:
            for future in waiting:
                _settle(future)
            if self._work is work:  # else it was given up
                self._busy_since_s = None
                if self._waiting:
                    self._flush()

        work.put((loop, wanted, done))

    def _worker(self) -> queue.SimpleQueue[Batch | None]:
        if self._work is None:
            self._work = queue.SimpleQueue()
            self._threads += 1
            # A daemon: a thread that is stuck must not keep the process from ending.
            threading.Thread(
                target=_run, args=(self._prepare, self._work), name="estimating", daemon=True
            ).start()
        return self._work


class AtOnce:
    """As `Estimating`, on the event loop itself: for what is sure to return soon.

    Found slow all the same, it hands over to the thread for a while.
    """

    def __init__(
        self, prepare: Prepare, *, slow_s: float = SLOW_S, patience_s: float = PATIENCE_S
    ) -> None:
        self._prepare = prepare
        self._slow_s = slow_s
        self._elsewhere = Estimating(prepare, patience_s)
        self._prompts: list[Prompt] = []
        self._waiting: list[asyncio.Future[None]] = []
        self._slow = 0
        self._rests_until_s = float("-inf")
        self._closed = False

    async def prepared(self, prompt: Prompt, *, alone: bool = False) -> None:
        """Return when the prompt was prepared, with all others of this turn; ``alone``: there is
        nobody to wait for.
        """
        loop = asyncio.get_running_loop()
        if self._closed:
            return
        if loop.time() < self._rests_until_s:
            await self._elsewhere.prepared(prompt)
        elif alone and not self._prompts:
            self._do(loop, [prompt])
        else:
            if not self._prompts:
                loop.call_soon(self._flush, loop)
            future: asyncio.Future[None] = loop.create_future()
            self._prompts.append(prompt)
            self._waiting.append(future)
            await future

    def close(self) -> None:
        """Estimate nothing more."""
        self._closed = True
        self._elsewhere.close()

    def _flush(self, loop: asyncio.AbstractEventLoop) -> None:
        prompts, waiting = self._prompts, self._waiting
        self._prompts, self._waiting = [], []
        self._do(loop, [p for p, f in zip(prompts, waiting, strict=True) if not f.done()])
        for future in waiting:
            _settle(future)

    def _do(self, loop: asyncio.AbstractEventLoop, prompts: Sequence[Prompt]) -> None:
        began_s = time.thread_time()
        with contextlib.suppress(Exception):  # who was not prepared goes by the plan's shares
            self._prepare(prompts)
        slow = time.thread_time() - began_s > self._slow_s
        self._slow = self._slow + 1 if slow else 0
        if self._slow >= SLOW_IN_A_ROW:
            self._slow, self._rests_until_s = 0, loop.time() + REST_S


def _run(prepare: Prepare, work: queue.SimpleQueue[Batch | None]) -> None:
    while (batch := work.get()) is not None:
        loop, prompts, done = batch
        with contextlib.suppress(Exception):  # who was not prepared goes by the plan's shares
            prepare(prompts)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(done)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
