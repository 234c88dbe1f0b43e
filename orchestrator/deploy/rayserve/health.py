"""How a service on a Ray cluster does, from what Serve says of its applications."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from orchestrator.deploy.base import GroupState, GroupStatus, PoolState, Status
from orchestrator.deploy.rayserve.config import Object, ingress_name
from orchestrator.deploy.rayserve.seen import RUNNING, Seen, engine_replicas, is_engine
from orchestrator.deploy.rayserve.shipping import PACKAGES
from placement.plan import Plan, ReplicaGroup
from profiler.errors import EngineError

FAILED = "DEPLOY_FAILED"
TAIL_LINES = 20
_CAUSE = re.compile(r"^(?:[\w.]+\.)?\w*(?:Error|Exception): .*", re.MULTILINE)
_STATES: dict[str, GroupState] = {
    RUNNING: "ready",
    FAILED: "failed",
    "UNHEALTHY": "unhealthy",
    "DELETING": "stopping",
}


def all_run(seen: Seen, apps: Iterable[Object], *, exact: bool = True) -> bool:
    """Whether these applications run with as many replicas as their configs say; or, not
    ``exact``, with as many as they were scaled to since."""
    return all(_runs(seen, a, exact=exact) for a in apps)


def _runs(seen: Seen, config: Object, *, exact: bool = True) -> bool:
    found = seen.apps.get(config["name"])
    if found is None or found["status"] != RUNNING:
        return False
    if not is_engine(config):
        return True
    told = seen.deployment(config["name"]).get("target_num_replicas")
    wanted = engine_replicas(config) if exact or told is None else int(told)
    return len(seen.replicas(config["name"])) >= wanted


def check_failed(seen: Seen, apps: Iterable[Object]) -> None:
    """
    Raises:
        EngineError: Serve gave one of these applications up, and why.
    """
    for config in apps:
        found = seen.apps.get(config["name"])
        if found is not None and found["status"] == FAILED:
            name = group_of(config["name"])
            cause, tail = cause_of(message_of(seen, config["name"]))
            if any(f"No module named '{package}" in cause for package in PACKAGES):
                cause += "; it is not in the cluster's image: install it there, or --ship-code"
            raise EngineError(f"{name}: {cause}", tail)


def group_of(app: str) -> str:
    """The group of an application of ours; the ingress's own name for the ingress."""
    return app.split(".")[1]


def message_of(seen: Seen, app: str) -> str:
    """What Serve says of an application: its deployment's word first."""
    deployment = seen.deployment(app).get("message") or ""
    return str(deployment or (seen.apps.get(app) or {}).get("message") or "").strip()


def cause_of(message: str) -> tuple[str, str]:
    """The error itself out of Serve's message with its traceback, and the lines after it."""
    found = list(_CAUSE.finditer(message))
    if not found:
        return message, ""
    last = found[-1]
    after = message[last.end() :].strip().splitlines()
    text = last[0].partition(": ")[2]
    return text, "\n".join(after[-TAIL_LINES:])


def waiting_for(seen: Seen, apps: Iterable[Object]) -> list[str]:
    """What is not there yet, a line each."""
    lines = []
    for config in apps:
        name = config["name"]
        if _runs(seen, config):
            continue
        wanted = engine_replicas(config) if is_engine(config) else None
        ready = len(seen.replicas(name))
        count = f"{ready} of {wanted} replicas ready" if wanted is not None else "not ready"
        message = first_line(message_of(seen, name))
        lines.append(f"{group_of(name)}: {count}{f' ({message})' if message else ''}")
    return lines


def status_of(
    seen: Seen,
    plan: Plan,
    url: str,
    now_s: float,
    loads: Mapping[str, float] | None = None,
    app_of: Mapping[str, str] | None = None,
) -> Status:
    """A service as `status` shows it; cost is that of the replicas that run, since each started.

    ``app_of`` names the plan's applications where the ingress does not route to them yet.
    """
    app_of = app_of if app_of is not None else seen.app_of
    groups = tuple(
        _group_status(seen, g, app_of.get(g.name, ""), now_s, (loads or {}).get(g.name))
        for g in plan.groups
    )
    ingress = (seen.apps.get(ingress_name(plan.service)) or {}).get("status", "")
    state = _pool_state(groups, ingress)
    note = seen.note
    return Status(
        name=plan.service,
        state=state,
        message=""
        if ingress == RUNNING
        else first_line(message_of(seen, ingress_name(plan.service))),
        url=url,
        plan_digest=note.digest if note else "",
        emulated=note.emulated if note else False,
        router=f"router {plan.router.version}" if plan.router else "",
        groups=groups,
        updated_s=now_s,
    )


def _pool_state(groups: Sequence[GroupStatus], ingress: str) -> PoolState:
    states = {g.state for g in groups}
    if FAILED in (ingress,) or "failed" in states:
        return "failed"
    if ingress == "UNHEALTHY" or "unhealthy" in states:
        return "degraded"
    if ingress != RUNNING or states != {"ready"}:
        return "starting"
    return "running" if all(g.ready >= g.wanted for g in groups) else "degraded"


def _group_status(
    seen: Seen, group: ReplicaGroup, app: str, now_s: float, load: float | None
) -> GroupStatus:
    running = seen.replicas(app)
    hours = sum(max(0.0, now_s - float(r["start_time_s"])) for r in running) / 3600
    status = (seen.apps.get(app) or {}).get("status", "")
    return GroupStatus(
        name=group.name,
        model=group.config.model,
        gpu=group.config.gpu,
        wanted=int(seen.deployment(app).get("target_num_replicas", group.replicas)),
        ready=len(running),
        state=_STATES.get(status, "starting"),
        message="" if status == RUNNING else cause_of(message_of(seen, app))[0],
        usd_per_hour=round(len(running) * group.usd_per_hour, 4),
        usd_so_far=round(hours * group.usd_per_hour, 4),
        load=load,
    )


def first_line(text: str) -> str:
    """The first line of a message."""
    return text.partition("\n")[0]
