"""The gateway as a Ray Serve deployment, and Ray Serve as its source of replicas."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Collection, Mapping
from pathlib import Path
from typing import Any

from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from starlette.types import ASGIApp

from placement.plan import Plan
from profiler.errors import OrchestratorError
from serve_apps.engine_app import URL
from serve_apps.gateway import Gateway, build_app
from serve_apps.pool import RouterFiles
from serve_apps.replica_router import AVOID
from serve_apps.replicas import GroupBusyError, NoReplicaError, Replica
from serve_apps.router.artefact import load_artefact
from serve_apps.router.learned import LearnedRouter

log = logging.getLogger("orchestrator.ingress")

ENGINE = "engine"
"""Name of the deployment in each group's application."""
READY_TTL_S = 1.0
STALE_S = 5.0
"""A status this old is not believed when it says that a group has no replica."""
FIRST_STATUS_TIMEOUT_S = 10.0


class ServePicker:
    """Replicas as Ray Serve knows them: one application per replica group."""

    def __init__(self) -> None:
        self._handles: dict[str, Any] = {}
        self._ready: dict[str, int] = {}
        self._ready_at = float("-inf")
        self._asked = False
        self._refresh: asyncio.Task[None] | None = None

    @contextlib.asynccontextmanager
    async def pick(
        self, group: str, avoid: Collection[str], wait_s: float
    ) -> AsyncIterator[Replica]:
        """See `ReplicaPicker.pick`."""
        none_ready = not (await self.ready()).get(group)
        if none_ready and self._age_s() < STALE_S:
            raise NoReplicaError(group)
        choosing = self._handle(group).choose_replica(**{AVOID: tuple(avoid)})
        try:
            # Entered in this very task: when the time is up, either we hold the slot or it is free.
            async with asyncio.timeout(wait_s):
                chosen = await choosing.__aenter__()
        except TimeoutError:
            raise (NoReplicaError if none_ready else GroupBusyError)(group) from None
        except (RayServeException, RayError):
            self._handles.pop(group, None)
            raise NoReplicaError(group) from None
        try:
            yield Replica(chosen.replica_id, chosen.replica_metadata[URL])
        finally:
            with contextlib.suppress(RayServeException, RayError):
                await asyncio.shield(choosing.__aexit__(None, None, None))

    async def ready(self) -> Mapping[str, int]:
        """See `ReplicaPicker.ready`; about a second old while requests come and Serve answers.

        Only the first call waits for Serve's controller. Later ones get what it said last, so
        that requests pass while it is being replaced.
        """
        if self._refresh is None or (self._refresh.done() and self._age_s() > READY_TTL_S):
            self._refresh = asyncio.create_task(self._read_status())
        if not self._asked:
            await asyncio.wait({self._refresh}, timeout=FIRST_STATUS_TIMEOUT_S)
            self._asked = True
        return self._ready

    def _age_s(self) -> float:
        return time.monotonic() - self._ready_at

    async def _read_status(self) -> None:
        with contextlib.suppress(RayServeException, RayError):
            status = await asyncio.to_thread(serve.status)
            self._ready = {
                name: app.deployments[ENGINE].replica_states.get("RUNNING", 0)
                for name, app in status.applications.items()
                if ENGINE in app.deployments
            }
            self._ready_at = time.monotonic()

    def _handle(self, group: str) -> Any:
        if group not in self._handles:
            self._handles[group] = serve.get_deployment_handle(ENGINE, app_name=group)
        return self._handles[group]


@serve.ingress()
class Ingress:
    """The pool's front door. Its plan comes as ``user_config``, so a new one needs no restart."""

    def __init__(self, queue_timeout_s: float) -> None:
        self._gateway = Gateway(ServePicker(), queue_timeout_s=queue_timeout_s)

    def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Route by the plan in ``user_config["plan"]`` from now on, and by its learned router."""
        plan = Plan.model_validate(user_config["plan"])
        files = user_config.get("router")
        if files is None:
            self._gateway.configure(plan)
            return
        found = RouterFiles.model_validate(files)
        feedback = Path(found.feedback) if found.feedback else None
        self._gateway.configure(plan, learned_router(plan, Path(found.artefact)), feedback)

    def __serve_build_asgi_app__(self) -> ASGIApp:
        return build_app(self._gateway)


def learned_router(plan: Plan, artefact: Path) -> LearnedRouter | None:
    """The plan's learned router; None where its artefact is gone: the plan's shares stand alone."""
    try:
        return LearnedRouter(plan, load_artefact(artefact))
    except OrchestratorError:
        log.exception("no learned router; requests go by the plan's shares")
        return None
