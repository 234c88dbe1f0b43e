"""Changes put in force one by one, and taken back when one of them fails."""

from __future__ import annotations

import copy
import dataclasses
import logging
from collections.abc import Sequence

from manifests.objects import Object, key_of
from manifests.ray_service import in_order
from orchestrator.deploy.kube.api import KubeApi
from orchestrator.deploy.kube.changes import Change, same_pods
from orchestrator.deploy.kube.errors import ApiError
from orchestrator.deploy.kube.owned import owned
from profiler.errors import ClusterError

log = logging.getLogger("orchestrator.kubernetes")

RACES = 5
"""Status updates of the operator between reading and applying: try again so often."""


@dataclasses.dataclass
class Applied:
    """What was done so far, so that it can be undone."""

    api: KubeApi
    force: bool = False
    done: list[Change] = dataclasses.field(default_factory=list)
    staged: dict[tuple[str, str], Object] = dataclasses.field(default_factory=dict)
    """Objects as they are on the way to what is wanted."""

    def apply(self, changes: Sequence[Change]) -> None:
        """Make and change objects, in order; those to be deleted stay until `prune`.

        Raises:
            ApiError: one was refused; `undo` takes back those before it.
            ClusterError: the cluster cannot be reached, or an object was changed by another
                since the changes were shown.
        """
        for change in changes:
            if change.verb in ("create", "change"):
                self._apply(change, change.obj)

    def stage(self, change: Change, obj: Object) -> None:
        """Apply something else on the way to a change; it is taken back with it. Raises as `apply`
        does."""
        self.staged[key_of(obj)] = self._apply(change, obj)

    def _apply(self, change: Change, obj: Object) -> Object:
        kind, name = key = key_of(change.obj)
        known = dataclasses.replace(change, live=self.staged.get(key, change.live))
        for _ in range(RACES):
            now = self.api.get(kind, name)
            check_unmoved(known, now)
            if now is not None:
                version = now["metadata"]["resourceVersion"]
                obj = obj | {"metadata": obj["metadata"] | {"resourceVersion": version}}
            self.done.append(change)  # before: an answer may be lost and the change made
            try:
                return self.api.apply(obj, force=self.force)
            except ApiError as error:
                self.done.pop()
                if error.status != 409 or error.fields:
                    raise
        raise ClusterError(f"{kind} {name!r} keeps changing under us; try again")

    def prune(self, changes: Sequence[Change]) -> None:
        """Delete what the plan no longer has."""
        for change in changes:
            if change.verb == "delete":
                self.api.delete(*key_of(change.obj))

    def undo(self) -> list[str]:
        """Take back all that was applied, newest first; what could not be is returned, a line each.

        An object that was not there goes, but for a namespace: what others put into it since would
        go with it. Of one that was there, what we had applied before is applied again, so what
        others set stays theirs.
        """
        left = []
        while self.done:
            change = self.done.pop()
            kind, name = key_of(change.obj)
            try:
                self._undo(change)
            except ClusterError as error:
                log.warning("%s %s is not as it was: %s", kind, name, error)
                left.append(f"{kind} {name}: {error}")
        return left

    def _undo(self, change: Change) -> None:
        before = None if change.live is None else owned(change.live)
        if change.live is None:
            if change.obj["kind"] != "Namespace":
                self.api.delete(*key_of(change.obj))
        elif before is not None:
            self.api.apply(_with_groups_since(change, before), force=True)
        else:  # it was another's, and only just became ours too
            self.api.apply(_nothing(change.live), force=True)


def check_unmoved(change: Change, now: Object | None) -> None:
    """
    Raises:
        ClusterError: the object is not the one that the changes were found for.
    """
    kind, name = key_of(change.obj)
    before = change.live
    if (before is None) != (now is None):
        how = "was made" if before is None else "was deleted"
        raise ClusterError(f"{kind} {name!r} {how} by another meanwhile; look again, then deploy")
    if before is None or now is None:
        return
    old, new = (_generation(o) for o in (before, now))
    if old != new:
        raise ClusterError(
            f"{kind} {name!r} was changed by {_last_manager(now)} since the changes were shown "
            f"(generation {old} -> {new}); look again, then deploy"
        )


def _generation(obj: Object) -> object:
    """What changes with the wanted state; kinds without status have no generation."""
    return obj["metadata"].get("generation", obj["metadata"].get("resourceVersion"))


def _last_manager(obj: Object) -> str:
    entries = [e for e in obj["metadata"].get("managedFields", ()) if not e.get("subresource")]
    newest = max(entries, key=lambda e: e.get("time", ""), default=None)
    return f"{newest['manager']!r} at {newest.get('time', '?')}" if newest else "another"


def _with_groups_since(change: Change, before: Object) -> Object:
    """Worker groups that a running cluster was given since then stay in it, without pods.

    KubeRay never takes a group from a running cluster: it would make a second one.
    """
    live, then = change.live, change.then
    if before["kind"] != "RayService" or live is None or then is None or not same_pods(live, then):
        return before
    made = copy.deepcopy(before)
    cluster = made["spec"]["rayClusterConfig"]
    since = then["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    cluster["workerGroupSpecs"] = in_order(cluster["workerGroupSpecs"], since)
    return made


def _nothing(live: Object) -> Object:
    metadata = {k: live["metadata"][k] for k in ("name", "namespace") if k in live["metadata"]}
    return {"apiVersion": live["apiVersion"], "kind": live["kind"], "metadata": metadata}
