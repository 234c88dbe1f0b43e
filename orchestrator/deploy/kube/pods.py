"""Why a pod is not ready, in a line."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterator, Mapping
from typing import Any

from manifests.objects import GROUP_LABEL, Object

IMAGE_FAULTS = ("ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")
"""``ErrImagePull`` alone is tried again within seconds, and often succeeds."""
CONFIG_FAULTS = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
CRASH = "CrashLoopBackOff"


@dataclasses.dataclass(frozen=True)
class Trouble:
    """What keeps a pod from running; ``final`` where waiting does not help."""

    pod: str
    group: str
    message: str
    final: bool
    crashed: str = ""
    """The container that ended, where one did."""
    unschedulable: bool = False


def group_of(pod: Mapping[str, Any]) -> str:
    """The worker group of a pod, ``head`` among them."""
    return str(pod["metadata"].get("labels", {}).get(GROUP_LABEL, ""))


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Whether a pod is ready and is to stay."""
    if pod["metadata"].get("deletionTimestamp"):
        return False
    return _condition(pod, "Ready").get("status") == "True"


def started_s(pod: Mapping[str, Any]) -> float | None:
    """Unix time at which a node took the pod: from then on it is paid for."""
    text = pod.get("status", {}).get("startTime")
    return dt.datetime.fromisoformat(text).timestamp() if text else None


def trouble(pod: Mapping[str, Any]) -> Trouble | None:
    """What keeps a pod from running; None while nothing is known to."""
    return next(_troubles(pod), None)


def _troubles(pod: Mapping[str, Any]) -> Iterator[Trouble]:
    name, group = pod["metadata"]["name"], group_of(pod)
    scheduled = _condition(pod, "PodScheduled")
    if scheduled.get("reason") == "Unschedulable":
        text = scheduled.get("message", "no node fits")
        yield Trouble(name, group, text, final=False, unschedulable=True)
    for status in _containers(pod):
        waiting = status.get("state", {}).get("waiting", {})
        reason, message = waiting.get("reason", ""), waiting.get("message", "")
        if reason in IMAGE_FAULTS:
            image = status.get("image", "?")
            yield Trouble(name, group, f"image {image} cannot be pulled: {message}", final=True)
        elif reason in CONFIG_FAULTS:
            yield Trouble(name, group, f"cannot start: {message or reason}", final=True)
        elif reason == CRASH:
            ended = status.get("lastState", {}).get("terminated", {})
            why = ended.get("reason", "Error")
            code = ended.get("exitCode", "?")
            times = status.get("restartCount", 0)
            text = f"ended {times} times, last with {why} (exit code {code})"
            yield Trouble(name, group, text, final=True, crashed=status.get("name", ""))
        elif not _taken(pod) and (ended := _failed(status)):
            text = f"ended with {ended.get('reason', 'Error')} (exit code {ended['exitCode']})"
            yield Trouble(name, group, text, final=False, crashed=status.get("name", ""))


def _taken(pod: Mapping[str, Any]) -> bool:
    """Whether a pod was evicted, went with its node, or is being deleted."""
    return bool(pod["metadata"].get("deletionTimestamp") or pod.get("status", {}).get("reason"))


def _failed(status: Mapping[str, Any]) -> Object:
    """How a container failed that is not started again: pods under Ray's autoscaler never are
    (``restartPolicy: Never``), the operator makes others in their place."""
    ended: Object = status.get("state", {}).get("terminated") or {}
    return ended if ended.get("exitCode") else {}


def _containers(pod: Mapping[str, Any]) -> list[Object]:
    status = pod.get("status", {})
    return [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]


def _condition(pod: Mapping[str, Any], kind: str) -> Object:
    found = pod.get("status", {}).get("conditions", ())
    return next((c for c in found if c["type"] == kind), {})
