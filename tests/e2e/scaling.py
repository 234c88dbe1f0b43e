"""What tests of scaling send to a pool, ask of it, and run beside it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from orchestrator.deploy.base import Status
from orchestrator.deploy.local import local_status
from placement.plan import Plan
from profiler import documents

TELL = [{"role": "user", "content": "Tell me of the sea."}]


class Load:
    """Requests at a rate that can be changed, whatever becomes of them (open loop)."""

    def __init__(self, url: str, tokens: int) -> None:
        self.rate_rps = 0.0
        self.outcomes: list[str] = []
        self.refusals: list[str] = []
        self._url = f"{url}/chat/completions"
        self._tokens = tokens
        self._session: Any = None
        self._asked: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Load]:
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=900)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            self._session = session

            async def arrivals() -> None:
                while True:
                    if self.rate_rps:
                        self.ask(self._tokens)
                    await asyncio.sleep(1 / self.rate_rps if self.rate_rps else 0.1)

            sending = asyncio.create_task(arrivals())
            try:
                yield self
            finally:
                sending.cancel()
                await asyncio.gather(sending, *self._asked, return_exceptions=True)

    def ask(self, tokens: int) -> None:
        """Send one more request now, for a stream of so many tokens."""
        task = asyncio.create_task(self._one(tokens))
        self._asked.add(task)
        task.add_done_callback(self._asked.discard)

    async def _one(self, tokens: int) -> None:
        import aiohttp

        body = {"model": "auto", "messages": TELL, "max_tokens": tokens, "stream": True}
        try:
            async with self._session.post(self._url, json=body | {"ignore_eos": True}) as answer:
                text = await answer.text()
                whole = answer.status != 200 or text.rstrip().endswith("data: [DONE]")
                self.outcomes.append(str(answer.status) if whole else "cut")
                if answer.status != 200:
                    self.refusals.append(text)
        except (OSError, aiohttp.ClientError) as error:
            self.outcomes.append(repr(error))


class Pool:
    """What a test asks of a running pool."""

    def __init__(self, name: str, root: Path) -> None:
        self.name, self.root = name, root

    @property
    def status(self) -> Status:
        status = local_status(self.name, self.root)
        assert status is not None
        return status

    async def until(self, what: Callable[[Status], bool], within_s: float) -> Status:
        deadline = time.monotonic() + within_s
        while not what(status := self.status):
            if time.monotonic() > deadline:
                pytest.fail(f"not in {within_s:.0f} s: {status}")
            await asyncio.sleep(0.2)
        return status


class Autoscaler:
    """`orchestrator autoscale` as a process, which can be killed and started again."""

    def __init__(self, made: Plan, root: Path, where: Path, *options: str) -> None:
        self.journal = where / "plan.scaling.jsonl"
        self._plan = where / "plan.yaml"
        documents.write(self._plan, documents.dump(made))
        self._options = options
        self._env = {**os.environ, "XDG_STATE_HOME": str(root.parent)}
        self._log = where / "autoscale.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Autoscaler:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait()

    def start(self) -> None:
        command = [sys.executable, "-m", "orchestrator", "autoscale", str(self._plan)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([*command, *self._options], env=self._env, stderr=log)

    def kill(self) -> None:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
