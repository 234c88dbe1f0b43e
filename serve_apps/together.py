"""Prompts that arrive at about the same time are estimated together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from serve_apps.router.prompts import Prompt


class Together:
    """Collects what comes within one turn of the event loop, and has it prepared at once."""

    def __init__(self, prepare: Callable[[Sequence[Prompt]], None]) -> None:
        self._prepare = prepare
        self._prompts: list[Prompt] = []
        self._waiting: list[asyncio.Future[None]] = []

    async def prepared(self, prompt: Prompt) -> None:
        """Return when the prompt was prepared, with all others of this turn."""
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._flush)
        future: asyncio.Future[None] = loop.create_future()
        self._prompts.append(prompt)
        self._waiting.append(future)
        await future

    def _flush(self) -> None:
        prompts, waiting = self._prompts, self._waiting
        self._prompts, self._waiting = [], []
        try:
            if len(prompts) > 1:
                self._prepare(prompts)
        finally:
            for future in waiting:
                if not future.done():
                    future.set_result(None)
