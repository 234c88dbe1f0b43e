"""The background process that keeps a local pool: ``python -m ... STATE_DIR PORT [--keep]``.

Starts Ray on the loopback interface alone, runs the plan's applications on Ray Serve, writes
``status.json`` about once a second, puts a changed ``plan.yaml`` in force on SIGHUP, and on
SIGTERM takes everything down. When this process dies, Ray and the engines end with it.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from orchestrator.deploy.base import SETTLED, Failure, PoolState, Status
from orchestrator.deploy.local_pool import LocalPool, group_statuses
from orchestrator.deploy.preflight import HOST
from orchestrator.deploy.state import StateDir
from placement.plan import Plan
from profiler.errors import EngineError, OrchestratorError

TICK_S = 1.0
FIRST_TICK_S = 0.3
OBJECT_STORE_BYTES = 100 * 1024 * 1024
"""Nothing of ours passes through Ray's object store; this is near the least it accepts."""

REMOVE_ATTEMPTS = 20
REMOVE_PAUSE_S = 0.2

log = logging.getLogger("orchestrator.supervisor")


class Supervisor:
    """Keeps one pool, until told to stop or unable to start it."""

    def __init__(self, state: StateDir, port: int, *, keep_on_failure: bool) -> None:
        self._state = state
        self._port = port
        self._keep = keep_on_failure
        self._wake = threading.Event()
        self._stop = False
        self._reload = False
        self._pool = LocalPool(state)
        self._phase: PoolState = "starting"
        self._message = "reading the plan"
        self._failure: Failure | None = None
        self._wanted: Plan | None = None
        self._in_force: Plan | None = None

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
        finally:
            failed = self._phase == "failed"
            self._shut_down()
        return 1 if failed else 0

    def _listen(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)

    def _start(self) -> None:
        self._wanted = self._state.read_plan()
        self._say("preparing weights")
        settings = self._pool.settings(self._wanted)
        self._say("starting Ray")
        start_ray(self._port)
        self._listen()  # Ray has put a handler of its own in place
        if self._stop:
            return
        self._say("starting engines")
        self._pool.apply(self._wanted, settings)

    def _tick(self) -> None:
        if self._reload and self._phase in SETTLED:
            self._reload = False
            self._begin_update()
        try:
            self._advance()
        except OrchestratorError as error:
            self._give_up(error)
        self._write()

    def _begin_update(self) -> None:
        plan = self._state.read_plan()
        if plan == self._wanted:
            return
        self._wanted, self._failure = plan, None
        self._phase, self._message = "updating", "preparing weights"
        self._write()
        try:
            self._pool.apply(plan, self._pool.settings(plan))
        except OrchestratorError as error:
            self._give_up(error)

    def _advance(self) -> None:
        """Look at what Serve did, and take the next step."""
        assert self._wanted is not None
        if self._phase in ("starting", "updating"):
            self._message = "starting engines"
            if self._pool.settle(self._wanted):
                self._phase, self._message, self._in_force = "running", "", self._wanted
        elif self._phase in ("running", "degraded"):
            self._phase = "running" if self._pool.healthy(self._wanted) else "degraded"
            self._message = "" if self._phase == "running" else "replicas are being replaced"

    def _give_up(self, error: OrchestratorError) -> None:
        """A first deploy fails for good; a failed change goes back to the plan before it."""
        previous = self._in_force
        self._fail(error)
        if previous is None:
            return
        self._in_force = None  # should going back fail too, that is the end
        self._wanted, self._phase = previous, "updating"
        self._message = "the change failed; going back"
        self._state.write_plan(previous)
        self._pool.apply(previous, self._pool.settings(previous))

    def _fail(self, error: OrchestratorError) -> None:
        log.error("%s", error)
        tail = error.log_tail if isinstance(error, EngineError) else ""
        message = str(error).removesuffix(tail).rstrip() if tail else str(error)
        self._failure = Failure(
            message=message,
            log_tail=tail,
            plan_digest=self._wanted.digest if self._wanted else "",
            exit_code=error.exit_code,
        )
        self._phase, self._message = "failed", message

    def _say(self, message: str) -> None:
        self._message = message
        self._write()

    def _write(self) -> None:
        plan = self._wanted
        groups = group_statuses(plan, self._pool.serve_status, self._state) if plan else ()
        self._state.write_status(
            Status(
                name=self._state.name,
                state=self._phase,
                message=self._message,
                url=f"http://{HOST}:{self._port}/v1",
                plan_digest=plan.digest if plan else "",
                groups=groups,
                failure=self._failure,
                pid=os.getpid(),
                updated_s=time.time(),
            )
        )

    def _shut_down(self) -> None:
        failed = self._phase == "failed"
        if not failed:
            self._phase, self._message = "stopping", "stopping engines"
            self._write()
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


def start_ray(port: int) -> None:
    """Ray and Ray Serve for this process alone, reachable from this machine only."""
    import ray
    from ray import serve

    ray_dir = tempfile.mkdtemp(prefix="orch-ray-")  # short: it holds Unix sockets
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
        proxy_location="HeadOnly",
        http_options={"host": HOST, "port": port},
        logging_config={"enable_access_log": False},
    )


def stop_ray(*, drain: bool) -> None:
    """End Serve, Ray and, through them, the engines."""
    import ray
    from ray import serve

    if not ray.is_initialized():
        return
    if drain:
        try:
            serve.shutdown()
        except Exception:  # whatever Serve says, Ray must go down
            log.exception("Serve did not shut down cleanly")
    ray.shutdown()
    _remove(Path(os.environ["RAY_TMPDIR"]))


def _remove(directory: Path) -> None:
    """Remove Ray's files; its last processes may still write some while they end."""
    for _ in range(REMOVE_ATTEMPTS):
        shutil.rmtree(directory, ignore_errors=True)
        if not directory.exists():
            return
        time.sleep(REMOVE_PAUSE_S)


def main(argv: list[str]) -> int:
    """Entry point: state directory, port, and optionally ``--keep``."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    state = StateDir.at(Path(argv[0]))
    return Supervisor(state, int(argv[1]), keep_on_failure="--keep" in argv).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
