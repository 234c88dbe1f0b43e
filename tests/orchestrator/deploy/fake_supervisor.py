"""Does what the plan's service name says, in the place of the supervisor that runs Ray."""

import os
import signal
import sys
import time
from pathlib import Path

from orchestrator.deploy.base import Failure, GroupStatus, PoolState, Status
from orchestrator.deploy.state import StateDir

state = StateDir.at(Path(sys.argv[1]))


def write(pool_state: PoolState, failure: Failure | None = None) -> None:
    request = state.read_request()
    plan = request.plan
    ready = pool_state == "running"
    groups = tuple(
        GroupStatus(
            name=g.name,
            model=g.config.model,
            gpu=g.config.gpu,
            wanted=g.replicas,
            ready=g.replicas if ready else 0,
            state="ready" if ready else "starting",
        )
        for g in plan.groups
    )
    state.write_status(
        Status(
            name=state.name,
            state=pool_state,
            url=f"http://127.0.0.1:{sys.argv[2]}/v1",
            plan_digest=plan.digest,
            request=request.id,
            emulated=request.emulate,
            groups=groups,
            failure=failure,
            pid=os.getpid(),
            updated_s=time.time(),
        )
    )


def boom() -> Failure:
    request = state.read_request()
    return Failure(
        message="group 'a': boom",
        log_tail="tail",
        plan_digest=request.plan.digest,
        request=request.id,
    )


def change(number: int, frame: object) -> None:
    """A group named ``bad`` fails the first time; the status tells so until the next request."""
    bad = any(g.name == "bad" for g in state.read_request().plan.groups)
    marker = state.path / "failed-once"
    if bad and not marker.exists():
        marker.touch()
        write("running", boom())
    else:
        write("running")


def stop(number: int, frame: object) -> None:
    write("stopped")
    sys.exit(0)


signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGHUP, change)
write("starting")
match state.name:
    case "fails":
        write("failed", boom())
        sys.exit(1)
    case "crashes":
        raise RuntimeError("no good")
    case "slow":
        pass
    case _:
        write("running")
while True:
    signal.pause()
