"""The autoscaler of a pool on this machine as a process: ``python -m ... STATE_DIR``.

The pool's supervisor starts it for plans that were deployed with ``--autoscale``, starts it again
when it ends, and ends it with the pool. It acts through the files of the pool, as
`orchestrator autoscale` does.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

import profiler.guard
from orchestrator.deploy.base import AutoscaleSettings, PlanRequest
from orchestrator.deploy.state import StateDir
from placement.plan import Plan
from profiler import documents
from profiler.errors import OrchestratorError

MODULE = "orchestrator.deploy.local_autoscaler"
RESTART_S = 2.0
GRACE_S = 5.0


class AutoscalerProcess:
    """Keeps the process, for the supervisor; call from its main thread."""

    def __init__(self, state: StateDir) -> None:
        self._state = state
        self._process: subprocess.Popen[bytes] | None = None
        self._started_s = float("-inf")

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def keep(self, plan: Plan, settings: AutoscaleSettings | None) -> None:
        """Have it run for the plan in force, where it is asked for.

        Raises:
            InputError: what it is to do cannot be written down.
        """
        if settings is None or self.alive or time.monotonic() - self._started_s < RESTART_S:
            return
        self._started_s = time.monotonic()
        task = PlanRequest(id="", plan=plan, autoscale=settings)
        documents.write(self._state.autoscaler_task, documents.dump(task))
        command = [sys.executable, profiler.guard.__file__, str(os.getpid()), str(GRACE_S)]
        command += [sys.executable, "-m", MODULE, str(self._state.path)]
        with self._state.autoscaler_log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def stop(self) -> None:
        """End it, and wait for that."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None


def run(state: StateDir) -> None:
    """Turn after turn until a signal ends the process.

    Raises:
        OrchestratorError: the pool is gone, or another autoscaler works on it.
    """
    from orchestrator.autoscale.controller import COLD_START_S, Controller, ScalePolicy
    from orchestrator.autoscale.decisions import Journal, ScaleDecision
    from orchestrator.autoscale.loop import Loop
    from orchestrator.deploy.local_scaling import target_at

    task = documents.read(state.autoscaler_task, PlanRequest)
    settings = task.autoscale or AutoscaleSettings()
    place = target_at(state, task.plan)
    policy = ScalePolicy(
        miss_worth=settings.miss_worth,
        budget_usd_per_hour=settings.budget_usd_per_hour,
        minimum=settings.minimum,
        maximum=settings.maximum,
        cold_start_s=settings.cold_start_s or place.cold_start_s or COLD_START_S,
        warm_up_s=settings.warm_up_s,
    )
    journal = Journal(state.scaling_journal)

    def told(decision: ScaleDecision) -> None:
        journal.add([decision])
        say(decision.line())

    loop = Loop(
        Controller(task.plan, policy, told=told),
        place.actuator,
        place.meter,
        clock=time.time,
        say=say,
        state_file=state.scaling_state,
    )
    with place.hold():
        loop.start()
        try:
            while True:
                place.wait(settings.interval_s)
                loop.turn()
        finally:
            loop.save()


def say(text: str) -> None:
    """A line of the log."""
    sys.stderr.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
    sys.stderr.flush()


def _ended(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def main(argv: list[str]) -> int:
    """Entry point: the pool's state directory."""
    signal.signal(signal.SIGTERM, _ended)
    try:
        run(StateDir.at(Path(argv[0])))
    except OrchestratorError as error:
        say(str(error))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
