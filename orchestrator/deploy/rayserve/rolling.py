"""Putting a plan in force over another: new engines first, then the routes, then old ones go.

Each step is one write of the whole config, and is waited for. Old and new stand side by side where
there is room; where there is not, old replicas make room first, and as few as will do.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from manifests.serve_config import ENGINE_DEPLOYMENT
from orchestrator.deploy.base import Progress, Status
from orchestrator.deploy.rayserve import health
from orchestrator.deploy.rayserve.config import Object, Wanted, ingress_name
from orchestrator.deploy.rayserve.dashboard import RefusedError
from orchestrator.deploy.rayserve.nodes import Need, Node, room_for
from orchestrator.deploy.rayserve.seen import Seen, engine_replicas, is_engine, with_replicas
from orchestrator.deploy.rayserve.writing import Writer
from profiler.errors import ClusterError

POLL_S = 1.0


@dataclasses.dataclass(frozen=True)
class Waiting:
    """How a command waits; a test passes its own clock."""

    wait_s: float
    on_progress: Progress = lambda _status: None
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep


@dataclasses.dataclass(frozen=True)
class Stage:
    """Applications to be in force, and those of them to wait for."""

    name: str
    apps: tuple[Object, ...]
    await_: tuple[str, ...]


def stages(
    wanted: Wanted, before: Mapping[str, Object], old: Mapping[str, Need], kept: Mapping[str, int]
) -> list[Stage]:
    """The steps from what there is to what is wanted.

    ``before`` are the configs of the service's applications, ``old`` is what its engines take,
    ``kept`` how many of each of them there is room for beside the new ones.
    """
    after = wanted.applications
    front = ingress_name(wanted.plan.service)
    if front not in before:
        return [Stage("start", tuple(after.values()), tuple(after))]
    new = {n: a for n, a in after.items() if n != front}
    beside = {n: with_replicas(before[n], kept[n]) for n in old if kept[n] > 0}
    grown = beside | {
        n: with_replicas(a, max(engine_replicas(a), kept.get(n, 0))) for n, a in new.items()
    }
    steps = []
    if any(kept[n] < need.replicas for n, need in old.items()):
        steps.append(Stage("make room", (*beside.values(), before[front]), tuple(beside)))
    if _counts(grown) != _counts(beside):
        steps.append(Stage("start engines", (*grown.values(), before[front]), tuple(new)))
    steps.append(Stage("route", (*grown.values(), after[front]), (front,)))
    if _counts(grown) != _counts(new):
        steps.append(Stage("stop others", tuple(after.values()), tuple(after)))
    return steps


def _counts(apps: Mapping[str, Object]) -> dict[str, int]:
    return {n: engine_replicas(a) for n, a in apps.items()}


def kept_beside(
    wanted: Wanted, old: Mapping[str, Need], free: Mapping[str, float], nodes: Sequence[Node]
) -> dict[str, int]:
    """How many replicas of each old application find room beside the wanted ones.

    One of each comes before more of any: no model is to stand without while it is replaced.
    """
    after = {n.name: n.replicas for n in wanted.needs}
    kept = {n: min(need.replicas, after.get(n, 0)) for n, need in old.items()}
    needs = list(wanted.needs)
    for most in (1, None):
        for name, need in sorted(old.items()):
            limit = need.replicas if most is None else min(most, need.replicas)
            while kept[name] < limit:
                one = dataclasses.replace(need, name=f"{name} {kept[name]}", replicas=1)
                if not _fits([*needs, one], free, nodes):
                    break
                needs.append(one)
                kept[name] += 1
    return kept


def _fits(needs: Sequence[Need], free: Mapping[str, float], nodes: Sequence[Node]) -> bool:
    return room_for(needs, free, nodes).total() == sum(n.replicas for n in needs)


def run(
    writer: Writer,
    steps: Iterable[Stage],
    status: Callable[[Seen], Status],
    waiting: Waiting,
) -> Seen:
    """Take the steps, waiting for each; what runs at the end.

    Raises:
        EngineError: an application cannot be started; with the end of what it said.
        ConflictError: another changed the service meanwhile.
        ClusterError: Serve refuses, or it took longer than there was time.
    """
    deadline_s = waiting.clock() + waiting.wait_s
    report = _Report(waiting.on_progress)
    seen = writer.patient_read()
    for step in steps:
        writer.put(step.apps)
        _rescale(writer, step)
        awaited = [a for a in step.apps if a["name"] in step.await_]
        seen = until_running(writer, awaited, deadline_s, report, status, waiting, exact=True)
    return seen


def until_running(
    writer: Writer,
    apps: Sequence[Object],
    deadline_s: float,
    report: _Report,
    status: Callable[[Seen], Status],
    waiting: Waiting,
    *,
    exact: bool = False,
) -> Seen:
    """Wait until applications run; with as many replicas as their configs say if ``exact``, else
    with as many as they are to have now. Raises as `run` does."""
    while True:
        seen = writer.patient_read()
        report(status(seen))
        if health.all_run(seen, apps, exact=exact):
            return seen
        health.check_failed(seen, apps)
        if waiting.clock() > deadline_s:
            raise ClusterError(
                f"not healthy after {waiting.wait_s:.0f} s: "
                f"{'; '.join(health.waiting_for(seen, apps))}; wait longer with --wait"
            )
        waiting.sleep(POLL_S)


class _Report:
    """Hands on each status that differs from the one before."""

    def __init__(self, on_progress: Progress) -> None:
        self._on_progress = on_progress
        self._shown: Status | None = None

    def __call__(self, status: Status) -> None:
        bare = [g.model_copy(update={"usd_so_far": None}) for g in status.groups]
        shown = status.model_copy(update={"updated_s": 0.0, "groups": tuple(bare)})
        if shown != self._shown:
            self._shown = shown
            self._on_progress(status)


def reporter(waiting: Waiting) -> _Report:
    """Tells of statuses that differ."""
    return _Report(waiting.on_progress)


def _rescale(writer: Writer, step: Stage) -> None:
    """A config whose number is what it was leaves what was scaled from outside: say it anew."""
    seen = writer.patient_read()
    for config in step.apps:
        if not is_engine(config) or config["name"] not in step.await_:
            continue
        found = seen.deployment(config["name"]).get("target_num_replicas")
        wanted = engine_replicas(config)
        if found is not None and found != wanted:
            try:
                writer.dashboard.scale(config["name"], ENGINE_DEPLOYMENT, wanted)
            except RefusedError as error:
                if error.status not in (404, 412):  # not built yet, or on its way: it will be new
                    raise
