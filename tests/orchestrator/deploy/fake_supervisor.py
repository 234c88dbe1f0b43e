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
    plan = state.read_plan()
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
            groups=groups,
            failure=failure,
            pid=os.getpid(),
            updated_s=time.time(),
        )
    )


def stop(number: int, frame: object) -> None:
    write("stopped")
    sys.exit(0)


signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGHUP, lambda number, frame: write("running"))
write("starting")
match state.name:
    case "fails":
        digest = state.read_plan().digest
        write("failed", Failure(message="group 'a': boom", log_tail="tail", plan_digest=digest))
        sys.exit(1)
    case "crashes":
        raise RuntimeError("no good")
    case "slow":
        pass
    case _:
        write("running")
while True:
    signal.pause()
