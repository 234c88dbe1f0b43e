"""One engine replica as a Ray Serve deployment: starts its API server and watches it.

Requests do not pass through this class. It tells Serve the engine's URL, and the ingress talks
to the engine itself.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
import urllib.request
from pathlib import Path
from typing import Any

from ray import serve
from ray.util import get_node_ip_address

from profiler.emulated.server import EmulatedServer
from profiler.engine import EngineServer, VllmServer
from profiler.errors import EngineError
from serve_apps.pool import EngineSettings

HEALTH_TIMEOUT_S = 10.0
URL = "url"
LEAST_DRAIN_S = 1.0
"""So long the ingresses may take to hear that this replica is to get nothing new."""
DRAIN_POLL_S = 0.25
_AT_WORK = re.compile(r"^vllm:num_requests_(?:running|waiting)\{[^}]*\} ([\d.e+]+)", re.MULTILINE)
ERROR_SUFFIX = ".error"


def engine_server(settings: EngineSettings, log: Path, rank: int) -> EngineServer:
    """The engine of one replica, not yet started."""
    host = settings.host or get_node_ip_address()
    if settings.emulated is not None:
        return EmulatedServer(settings.emulated, log_path=log, host=host)
    cores = settings.cpu_cores[rank % len(settings.cpu_cores)] if settings.cpu_cores else None
    return VllmServer(
        settings.config,
        settings.model,
        settings.gpu,
        settings.weights,
        log_path=log,
        host=host,
        cpu_cores=cores,
        kv_cache_gib=settings.kv_cache_gib,
    )


class EngineReplica:
    """Owns one engine process, from start to stop."""

    async def __init__(self, settings: dict[str, Any]) -> None:  # type: ignore[misc]  # Serve awaits it
        """Start the engine and wait until it is ready.

        Raises:
            EngineError: it did not start; the message is also left beside its log.
        """
        s = EngineSettings.model_validate(settings)
        self._drain_timeout_s = s.drain_timeout_s
        context = serve.get_replica_context()
        log = Path(s.log_dir) / f"{context.replica_id.unique_id}.log"
        self._server = engine_server(s, log, context.rank.rank)
        try:
            # Started here, not in a pool thread: the kernel ends the engine with its thread.
            self._server.start()
            await asyncio.to_thread(self._server.wait_ready, s.start_timeout_s)
        except EngineError as error:
            self._server.stop()
            log.with_suffix(ERROR_SUFFIX).write_text(str(error), encoding="utf-8")
            raise

    def record_replica_metadata(self) -> dict[str, str]:
        """What Serve hands to whoever picks this replica."""
        return {URL: self._server.url, "pid": str(os.getpid())}

    async def check_health(self) -> None:
        """
        Raises:
            EngineError: the engine ended, or does not answer; Serve then replaces the replica.
        """
        if not self._server.alive:
            raise EngineError(f"the engine process ended; its log: {self._server.log_path}")
        if not await asyncio.to_thread(self._server.healthy, HEALTH_TIMEOUT_S):
            raise EngineError(f"the engine does not answer; its log: {self._server.log_path}")

    async def __del__(self) -> None:
        """Finish what the engine has, which Serve does not see, and end it."""
        if hasattr(self, "_server"):
            await self._drain()
            await asyncio.to_thread(self._server.stop)

    async def _drain(self) -> None:
        began_s = time.monotonic()
        await asyncio.sleep(LEAST_DRAIN_S)
        while time.monotonic() - began_s < self._drain_timeout_s:
            if not await asyncio.to_thread(at_work, self._server.url):
                return
            await asyncio.sleep(DRAIN_POLL_S)


def at_work(url: str) -> float:
    """How many requests an engine runs or lets wait, by its own metrics; 0 if it does not say."""
    try:
        with urllib.request.urlopen(f"{url}/metrics", timeout=HEALTH_TIMEOUT_S) as answer:
            text = answer.read().decode("utf-8", "replace")
    except OSError:
        return 0.0
    return sum(float(value) for value in _AT_WORK.findall(text))
