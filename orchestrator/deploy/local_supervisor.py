"""The background process that keeps a local pool: ``python -m ... STATE_DIR PORT [--keep]``.

Starts Ray on the loopback interface alone, runs the plan's applications on Ray Serve, writes
``status.json`` about once a second, puts a new request in force on SIGHUP, and on
SIGTERM takes everything down. When this process dies, Ray and the engines end with it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from orchestrator.deploy.base import (
    SETTLED,
    AutoscaleSettings,
    Failure,
    GroupStatus,
    PlanRequest,
    PoolState,
    Status,
)
from orchestrator.deploy.local_autoscaler import AutoscalerProcess
from orchestrator.deploy.local_pool import LocalPool, group_statuses, scaled_plan
from orchestrator.deploy.preflight import HOST, RAY_ON_LOOPBACK
from orchestrator.deploy.state import StateDir
from orchestrator.report import router_line
from placement.plan import Plan
from profiler.errors import EngineError, InputError, OrchestratorError
from serve_apps.guard.keys import engine_key
from serve_apps.pool import ENGINE_KEY, EngineSettings

TICK_S = 1.0
FIRST_TICK_S = 0.3
OBJECT_STORE_BYTES = 100 * 1024 * 1024
"""Nothing of ours passes through Ray's object store; this is near the least it accepts."""

RAY_DIR_PREFIX = "orch-ray-"
REMOVE_ATTEMPTS = 20
REMOVE_PAUSE_S = 0.2
REMOVE_SURE = 4
"""Looks in a row at which the directory must be gone."""

log = logging.getLogger("orchestrator.supervisor")


@dataclasses.dataclass(frozen=True)
class Wanted:
    """A plan, and what its engines are started with once its weights are in place."""

    plan: Plan
    settings: dict[str, EngineSettings] = dataclasses.field(default_factory=dict)
    emulate: bool = False
    autoscale: AutoscaleSettings | None = None
    scaled: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Replicas of groups that are not to be the plan's."""


class _StopRequestedError(Exception):
    """SIGTERM came while something long could be broken off."""


class Supervisor:
    """Keeps one pool, until told to stop or unable to start it."""

    def __init__(
        self, state: StateDir, port: int, *, keep_on_failure: bool, pool: LocalPool | None = None
    ) -> None:
        """``pool`` can stand in for the applications on this process's Ray Serve."""
        self._state = state
        self._port = port
        self._keep = keep_on_failure
        self._wake = threading.Event()
        self._stop = False
        self._reload = False
        self._pool = pool or LocalPool(state, port)
        self._phase: PoolState = "starting"
        self._message = "reading the plan"
        self._failure: Failure | None = None
        self._request = ""
        self._preparing = False
        self._wanted: Wanted | None = None
        self._in_force: Wanted | None = None
        self._scale = ""
        self._to_apply = False
        self._failed_starts: Counter[str] = Counter()
        self._began_s: float | None = None
        self._started_in_s: float | None = None
        self._autoscaler = AutoscalerProcess(state)

    def run(self) -> int:
        """Run until SIGTERM, or a first deploy that fails; the exit code."""
        self._listen()
        try:
            self._start()
            while not self._stop and not (self._phase == "failed" and not self._keep):
                self._tick()
                self._wake.wait(FIRST_TICK_S if self._phase in ("starting", "updating") else TICK_S)
                self._wake.clear()
        except OrchestratorError as error:
            self._fail(error)
        except _StopRequestedError:
            log.info("told to stop while weights were being prepared")
        finally:
            failed = self._phase == "failed"
            self._shut_down()
        return 1 if failed else 0

    def _listen(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)

    def _start(self) -> None:
        self._take_up(self._state.read_request())
        self._say("starting Ray")
        start_ray()
        self._listen()  # Ray has put a handler of its own in place

    def _tick(self) -> None:
        import ray
        from ray.serve.exceptions import RayServeException

        try:
            if self._reload and self._phase in SETTLED:
                self._reload = False
                self._begin_update()
            self._advance()
        except OrchestratorError as error:
            self._give_up(error)
        except (ray.exceptions.RayError, RayServeException):
            # Serve's controller is restarted by Ray; every step can be taken again.
            log.exception("Ray Serve does not answer; trying again")
            self._message = "Ray Serve does not answer; trying again"
        self._write()

    def _begin_update(self) -> None:
        request = self._state.read_request()
        if request.id != self._request:
            self._phase, self._failure = "updating", None
            self._take_up(request)

    def _take_up(self, request: PlanRequest) -> None:
        """Want the plan that was asked for, with its weights in place."""
        plan, emulate, autoscale = request.plan, request.emulate, request.autoscale
        self._autoscaler.stop()
        self._request, self._wanted = request.id, Wanted(plan, emulate=emulate)
        self._began_s = self._started_in_s = None
        self._say("emulating engines" if emulate else "preparing weights")
        with self._stoppable():
            settings = self._pool.settings(plan, emulate=emulate)
            self._wanted = Wanted(plan, settings, emulate, autoscale)

    @contextlib.contextmanager
    def _stoppable(self) -> Iterator[None]:
        """SIGTERM breaks this off at once: converting weights takes minutes, and is a child's."""
        self._preparing = True
        try:
            if self._stop:
                raise _StopRequestedError
            yield
        finally:
            self._preparing = False

    def _advance(self) -> None:
        """Look at what Serve did, and take the next step."""
        assert self._wanted is not None
        plan = self._wanted.plan
        if self._phase in ("starting", "updating"):
            self._message = "going back" if self._failure else "starting engines"
            if self._began_s is None:
                self._began_s = time.monotonic()
            self._pool.apply(plan, self._wanted.settings)
            if self._pool.settle(plan):
                self._phase, self._message, self._in_force = "running", "", self._wanted
                self._started_in_s = time.monotonic() - self._began_s
                given = self._wanted.autoscale.cold_start_s if self._wanted.autoscale else None
                self._pool.cold_start_s = given or self._started_in_s
                self._attempt(lambda: self._state.write_in_force(plan))
        elif self._phase in ("running", "degraded"):
            self._rescale(self._wanted)
            autoscale = self._wanted.autoscale
            self._attempt(lambda: self._autoscaler.keep(plan, autoscale))
            if self._pool.healthy(plan):
                self._phase, self._message = "running", ""
            elif self._wanted.scaled and self._pool.changing(plan):
                self._phase, self._message = "running", "starting replicas"
            else:
                self._phase, self._message = "degraded", "replicas are being replaced"

    def _rescale(self, wanted: Wanted) -> None:
        """Have as many replicas as an autoscaler asks for, less those that could not be had."""
        asked = self._state.read_scale()
        if asked is not None and asked.request != self._request:
            asked = None  # of the plan before
        known = {g.name: g.replicas for g in wanted.plan.groups}
        scaled = dict(wanted.scaled)
        if (asked.id if asked else "") != self._scale:
            self._scale = asked.id if asked else ""
            replicas = asked.replicas if asked else {}
            scaled = {n: max(0, replicas[n]) for n in known.keys() & replicas.keys()}
        for name, running in self._pool.failed().items():
            if running < scaled.get(name, 0) and wanted.scaled.get(name) == scaled[name]:
                log.warning(
                    "%s: only %d of %d replicas could be started", name, running, scaled[name]
                )
                scaled[name] = running
                self._failed_starts[name] += 1
        if scaled != wanted.scaled:
            settings = self._pool.settings(scaled_plan(wanted.plan, scaled), emulate=wanted.emulate)
            log.info("replicas: %s", {**known, **scaled})
            self._wanted = wanted = dataclasses.replace(wanted, settings=settings, scaled=scaled)
            self._to_apply = True
        if self._to_apply:
            self._pool.apply(wanted.plan, wanted.settings)
            self._pool.retire()
            self._to_apply = False  # not where Ray refused: the next tick tries again

    def _give_up(self, error: OrchestratorError) -> None:
        """A first deploy fails for good; a failed change goes back to the plan before it."""
        previous = self._in_force
        self._fail(error)
        if previous is None:
            return
        self._in_force = None  # should going back fail too, that is the end
        self._wanted, self._phase = previous, "updating"
        self._message = "the change failed; going back"

    def _fail(self, error: OrchestratorError) -> None:
        log.error("%s", error)
        tail = error.log_tail if isinstance(error, EngineError) else ""
        message = str(error).removesuffix(tail).rstrip() if tail else str(error)
        self._failure = Failure(
            message=message,
            log_tail=tail,
            plan_digest=self._wanted.plan.digest if self._wanted else "",
            request=self._request,
            exit_code=error.exit_code,
        )
        self._phase, self._message = "failed", message

    def _say(self, message: str) -> None:
        self._message = message
        self._write()

    def _write(self) -> None:
        wanted = self._wanted
        groups: tuple[GroupStatus, ...] = ()
        plan = wanted.plan if wanted else None
        if wanted is not None:
            seen = self._pool.serve_status
            groups = group_statuses(
                wanted.plan, seen, self._state, wanted.scaled, self._failed_starts
            )
        status = Status(
            name=self._state.name,
            state=self._phase,
            message=self._message,
            url=f"http://{reached_at(plan)}:{self._port}/v1",
            plan_digest=plan.digest if plan else "",
            request=self._request,
            scale=self._scale,
            emulated=wanted is not None and wanted.emulate,
            autoscaled=self._autoscaler.alive,
            started_in_s=self._started_in_s,
            router=router_line(plan.router) if plan and plan.router else "",
            groups=groups,
            failure=self._failure,
            pid=os.getpid(),
            updated_s=time.time(),
        )
        self._attempt(lambda: self._state.write_status(status))

    def _attempt(self, write: Callable[[], None]) -> None:
        """Write a file; a full disk must not end the pool."""
        try:
            write()
        except InputError as error:
            log.warning("%s", error)

    def _shut_down(self) -> None:
        failed = self._phase == "failed"
        if not failed:
            self._phase, self._message = "stopping", "stopping engines"
            self._write()
        self._autoscaler.stop()
        stop_ray(drain=not failed)
        if not failed:
            self._phase, self._message = "stopped", ""
        self._write()

    def _on_signal(self, number: int, _frame: Any) -> None:
        if number == signal.SIGHUP:
            self._reload = True
        else:
            self._stop = True
        self._wake.set()
        if self._stop and self._preparing:
            raise _StopRequestedError


def reached_at(plan: Plan | None) -> str:
    """The address by which this machine reaches its pool."""
    host = plan.targets.local.host if plan is not None else HOST
    return HOST if host in ("0.0.0.0", "localhost") else host


def start_ray() -> None:
    """Ray and Ray Serve for this process alone, reachable from this machine only.

    Without Serve's own proxy: clients come to the socket of the ingress.
    """
    os.environ.update(RAY_ON_LOOPBACK)  # read when Ray is imported
    import ray
    from ray import serve

    # Engines and ingress inherit it, and nobody else is told; it is new with every pool.
    os.environ[ENGINE_KEY] = os.environ.get(ENGINE_KEY) or engine_key()
    ray_dir = tempfile.mkdtemp(prefix=RAY_DIR_PREFIX)  # short: it holds Unix sockets
    os.environ["RAY_TMPDIR"] = ray_dir
    ray.init(
        address="local",
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.WARNING,
        object_store_memory=OBJECT_STORE_BYTES,
        _node_ip_address=HOST,
        _temp_dir=ray_dir,
    )
    serve.start(
        proxy_location="Disabled",
        logging_config={"enable_access_log": False},
    )


def stop_ray(*, drain: bool) -> None:
    """End Serve, Ray and, through them, the engines."""
    import ray
    from ray import serve

    if drain and ray.is_initialized():
        try:
            serve.shutdown()
        except Exception:  # whatever Serve says, Ray must go down
            log.exception("Serve did not shut down cleanly")
    ray.shutdown()
    ray_dir = Path(os.environ.get("RAY_TMPDIR", ""))
    if ray_dir.name.startswith(RAY_DIR_PREFIX):  # ours, even when Ray did not start in it
        _remove(ray_dir)


def _remove(directory: Path) -> None:
    """Remove Ray's files; its last processes may write some anew while they end."""
    absent = 0
    for _ in range(REMOVE_ATTEMPTS):
        absent = 0 if directory.exists() else absent + 1
        if absent == REMOVE_SURE:
            return
        shutil.rmtree(directory, ignore_errors=True)
        time.sleep(REMOVE_PAUSE_S)


def main(argv: list[str]) -> int:
    """Entry point: state directory, port, and optionally ``--keep``."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    state = StateDir.at(Path(argv[0]))
    return Supervisor(state, int(argv[1]), keep_on_failure="--keep" in argv).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
