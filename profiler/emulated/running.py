"""Emulated engines in the foreground: many in one process, on one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Sequence

from profiler.emulated.engine import EmulatedEngine


def run_until_told(
    engines: Sequence[EmulatedEngine], on_ready: Callable[[], None] = lambda: None
) -> None:
    """Run until SIGTERM or SIGINT; ``on_ready`` is called when all listen.

    On uvloop where it is installed: half the time of a token.

    Raises:
        InputError: a port is taken.
    """
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_run(engines, on_ready))


async def _run(engines: Sequence[EmulatedEngine], on_ready: Callable[[], None]) -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    async with contextlib.AsyncExitStack() as stack:
        for engine in engines:
            await stack.enter_async_context(engine)
        on_ready()
        await told.wait()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
