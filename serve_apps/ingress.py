"""The gateway as a Ray Serve deployment with a listening socket of its own.

Clients come through that socket, not through Serve's proxy. Serve starts, watches, replaces and
configures the process; the same app also answers behind Serve's proxy where one is kept.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray import serve
from ray.util import get_node_ip_address
from starlette.types import ASGIApp

from placement.plan import Plan
from profiler.errors import OrchestratorError
from serve_apps.api import build_app
from serve_apps.collecting import settle
from serve_apps.discovery import Discovery
from serve_apps.door import Door
from serve_apps.flow.settings import FlowSettings
from serve_apps.gateway import Gateway
from serve_apps.guard.guard import Guard
from serve_apps.loopback import keep_to_loopback
from serve_apps.peers import Peers
from serve_apps.pool import ENGINE_KEY, IngressSettings, RouterFiles
from serve_apps.router.artefact import Artefact, load_artefact
from serve_apps.router.learned import LearnedRouter
from serve_apps.router.prompts import Prompt
from serve_apps.turns import Turn

WARM_UP_S = 30.0
TOLD = ("scaled", "cold_start_s")
"""Parts of the configuration that change nothing of how requests are routed."""

log = logging.getLogger("orchestrator.ingress")


@serve.ingress()
class Ingress:
    """The pool's front door. Its plan comes as ``user_config``, so a new one needs no restart."""

    def __init__(self, settings: dict[str, Any]) -> None:
        keep_to_loopback()
        s = IngressSettings.model_validate(settings)
        self._settings = s
        self._peers = Peers(s.peers) if s.peers and s.port is not None else None
        self._gateway = Gateway(
            guard=Guard(s.shared_guard),
            seeing=s.seeing,
            flow=FlowSettings(gateways=s.sharing),
            engine_key=os.environ.get(ENGINE_KEY, ""),
            name=_name(),
            peers=self._peers.addresses if self._peers else tuple,
            arrivals_dir=Path(s.arrivals_dir) if s.arrivals_dir else None,
        )
        self._app = build_app(self._gateway)
        self._discovery = Discovery()
        host = s.host or get_node_ip_address()
        self._door = Door(self._app, host, s.port) if s.port is not None else None
        self._own_door = Door(self._app, host, 0) if self._peers else None
        self._turn = Turn(s.port, s.active) if s.port else None
        self._opening: asyncio.Task[None] | None = None
        self._config: dict[str, Any] = {}

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Route by the plan in ``user_config["plan"]`` from now on, and by its learned router.

        ``user_config["apps"]`` names each group's application, where it is not named as the group.
        ``user_config["scaled"]`` are the replicas wanted of groups that were scaled, and
        ``user_config["cold_start_s"]`` how long one takes to start, where the pool knows; where
        nothing else is new, nothing else is touched.
        """
        config = {key: value for key, value in user_config.items() if key not in TOLD}
        if config != self._config:
            await self._configure(config, user_config.get("scaled", {}))
            self._config = config
        self._gateway.scaled(user_config.get("scaled", {}), user_config.get("cold_start_s"))

    async def _configure(self, user_config: dict[str, Any], scaled: Mapping[str, int]) -> None:
        plan = Plan.model_validate(user_config["plan"])
        named = user_config.get("apps") or {}
        apps = {g.name: named.get(g.name, g.name) for g in plan.groups}
        if self._opening is not None:  # the plan in force serves until this one's engines are known
            await self._discovery.expect(
                app for group, app in apps.items() if scaled.get(group, 1) > 0
            )
        files = user_config.get("router")
        if files is None:
            self._gateway.configure(plan)
        else:
            found = RouterFiles.model_validate(files)
            feedback = Path(found.feedback) if found.feedback else None
            learned = await asyncio.to_thread(_router_of, plan, found)
            self._gateway.configure(plan, learned, feedback)
        if self._opening is None:
            settle()  # now that all is loaded, and nobody waits
            self._gateway.start()
            self._discovery.start(self._gateway.found)
            self._opening = asyncio.create_task(self._open())
        self._discovery.watch(apps.values())

    async def check_health(self) -> None:
        """
        Raises:
            RuntimeError: the socket could not be opened; Serve then replaces this process.
        """
        if self._opening is not None and self._opening.done():
            error = self._opening.exception()
            if error is not None:
                raise RuntimeError(f"the ingress does not listen: {error}") from error

    async def _open(self) -> None:
        if self._turn is not None:
            await self._turn.take()
        if self._door is not None:
            await self._door.open()
        if self._own_door is not None and self._peers is not None:
            await self._own_door.open()
            self._peers.join(self._own_door.port)

    def __serve_build_asgi_app__(self) -> ASGIApp:
        return self._app

    async def __del__(self) -> None:
        """Let another process listen, finish what is under way, and close."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        if self._door is not None:
            self._door.refuse_more()
        if self._turn is not None:
            self._turn.give_up()
        if self._door is not None:
            await self._door.close(self._settings.drain_timeout_s)
        if self._own_door is not None and self._peers is not None:
            self._peers.leave()
            await self._own_door.close(0.0)
        await self._discovery.close()
        await self._gateway.close()


def _router_of(plan: Plan, files: RouterFiles) -> LearnedRouter | None:
    with files.artefact_file() as artefact:
        return learned_router(plan, artefact)


def _name() -> str:
    """This process among those of its deployment; another in its place is called the same."""
    return f"{socket.gethostname()}-{serve.get_replica_context().rank.rank}"


def learned_router(plan: Plan, artefact: Path) -> LearnedRouter | None:
    """The plan's learned router; None where its artefact is gone: the plan's shares stand alone."""
    try:
        loaded = load_artefact(artefact)
        _warm(loaded)
        return LearnedRouter(plan, loaded)
    except OrchestratorError:
        log.exception("no learned router; requests go by the plan's shares")
        return None


def _warm(artefact: Artefact) -> None:
    """Estimate once, so that no request waits for the compiler to be loaded and to run.

    In a thread that may be left behind: what estimates can be anybody's code.
    """

    def estimate() -> None:
        try:
            artefact.expected([Prompt("Say hello.")])
        except Exception:  # said again, and survived, at the first request
            log.exception("the learned router cannot estimate")

    thread = threading.Thread(target=estimate, name="warm", daemon=True)
    thread.start()
    thread.join(WARM_UP_S)
