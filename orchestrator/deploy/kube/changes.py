"""What applying a plan would change, object by object, in words."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from manifests.objects import SERVICE_LABEL, Object, key_of
from manifests.serve_config import INGRESS_APP
from orchestrator.deploy.kube.api import KINDS, OURS, KubeApi
from orchestrator.deploy.kube.errors import ApiError
from orchestrator.deploy.kube.replicas import config_of, names_of, replicas_of

Verb = Literal["create", "change", "same", "delete", "skip"]
SIGNS: dict[Verb, str] = {"create": "+", "change": "~", "delete": "-", "skip": "!"}
SERVER_FIELDS = ("managedFields", "resourceVersion", "generation", "uid", "creationTimestamp")
MAX_FIELDS = 4


@dataclasses.dataclass(frozen=True)
class Change:
    """What becomes of one object.

    ``live`` is it as it is, None where it is not there; ``then`` as it would be, with what the
    server fills in, where that was tried.
    """

    verb: Verb
    obj: Object
    live: Object | None = None
    details: tuple[str, ...] = ()
    then: Object | None = None

    @property
    def line(self) -> str:
        """The change in a line."""
        kind, name = key_of(self.obj)
        more = f": {'; '.join(self.details)}" if self.details else ""
        return f"{SIGNS[self.verb]} {kind} {name}{more}"


def find_changes(
    api: KubeApi, service: str, objects: Sequence[Object], *, force: bool
) -> list[Change]:
    """Try every object on the server without writing, and find those no longer wanted.

    In a namespace that is yet to be made nothing can be tried.

    Raises:
        ApiError: what applying them would be refused for: a conflict, no right, an unknown field.
        ClusterError: the cluster cannot be reached.
    """
    first = objects[0]
    if first["kind"] == "Namespace" and api.get(*key_of(first)) is None:
        return [Change("create", o, None, tuple(_summary(o))) for o in objects]
    changes = [_change(api, o, force=force) for o in objects]
    wanted = {key_of(o) for o in objects}
    for kind in OURS:
        changes += [
            Change("delete", found, found)
            for found in api.list(kind, {SERVICE_LABEL: service})
            if key_of(found) not in wanted and not found["metadata"].get("ownerReferences")
        ]
    return changes


def _change(api: KubeApi, obj: Object, *, force: bool) -> Change:
    kind, name = key_of(obj)
    live = api.get(kind, name)
    if kind == "Namespace" and live is not None and not is_of(live, obj):
        return Change("same", obj, live, (), live)  # with our label it would go with our service
    try:
        then = api.apply(obj, force=force, dry_run=True)
    except ApiError as error:
        if error.status == 404 and KINDS[kind].optional:
            return Change("skip", obj, None, ("this cluster does not know the kind",))
        raise
    if live is None:
        return Change("create", obj, None, tuple(_summary(obj)), then)
    if comparable(live) == comparable(then):
        return Change("same", obj, live, (), then)
    return Change("change", obj, live, tuple(_differences(live, then)), then)


def is_of(live: Mapping[str, Any], obj: Mapping[str, Any]) -> bool:
    """Whether an object carries the label of the same service as another."""
    mine, theirs = (o["metadata"].get("labels", {}).get(SERVICE_LABEL) for o in (obj, live))
    return bool(mine == theirs)


def comparable(obj: Mapping[str, Any]) -> Object:
    """An object without what the server keeps about it."""
    metadata = {k: v for k, v in obj["metadata"].items() if k not in SERVER_FIELDS}
    body = {k: v for k, v in obj.items() if k not in ("status", "kind", "apiVersion")}
    return body | {"metadata": metadata}


def _summary(obj: Object) -> Iterator[str]:
    if obj["kind"] == "RayService":
        for name, group in groups_of(obj).items():
            yield f"{name} {group.get('replicas', 0)} pods"


def _differences(live: Object, then: Object) -> Iterator[str]:
    if live["kind"] == "RayService":
        yield from _service_differences(live, then)
        return
    fields = list(_paths(comparable(live), comparable(then)))
    yield ", ".join(fields[:MAX_FIELDS]) + (", ..." if len(fields) > MAX_FIELDS else "")


def _service_differences(live: Object, then: Object) -> Iterator[str]:
    """Worker groups, pods, replicas and images by name; everything else by its path."""
    before, after = groups_of(live), groups_of(then)
    for name in sorted(after.keys() - before.keys()):
        yield f"worker group {name} is added, {after[name].get('replicas', 0)} pods"
    for name in sorted(before.keys() & after.keys()):
        old, new = before[name].get("replicas", 0), after[name].get("replicas", 0)
        if old != new:
            yield f"worker group {name}: {old} -> {new} pods"
    if (old := _images(live)) != (new := _images(then)):
        yield f"image {', '.join(old)} -> {', '.join(new)}, all pods are replaced"
    elif any(_template(before[n]) != _template(after[n]) for n in before.keys() & after.keys()):
        yield "pods change, all are replaced"
    yield from _serve_differences(live, then)
    paths = _paths(comparable(live), comparable(then))
    known = ("spec.serveConfigV2", "spec.rayClusterConfig.workerGroupSpecs", "metadata.annotations")
    others = [p for p in paths if not p.startswith(known) and "template" not in p]
    if others:
        yield ", ".join(others[:MAX_FIELDS])


def _serve_differences(live: Object, then: Object) -> Iterator[str]:
    before, after = replicas_of(live), replicas_of(then)
    names, new_names = names_of(live), names_of(then)
    for name in sorted(after.keys() - before.keys()):
        yield f"{name} is added, {after[name]} replicas"
    for name in sorted(before.keys() - after.keys()):
        yield f"{name} is removed"
    for name in sorted(before.keys() & after.keys()):
        if before[name] != after[name]:
            yield f"{name}: {before[name]} -> {after[name]} replicas"
        if names[name] != new_names[name]:
            yield f"{name}: engine options change, its replicas are replaced"
    old, new = (_front(config_of(s)) for s in (live, then))
    if old.get("args") != new.get("args"):
        yield "ingress: its settings change, its processes are replaced"
    if _user_config(old) != _user_config(new):
        yield "routing changes in place"


def groups_of(service: Mapping[str, Any]) -> dict[str, Object]:
    """The worker groups of a RayService by name."""
    cluster = service["spec"].get("rayClusterConfig", {})
    return {g["groupName"]: g for g in cluster.get("workerGroupSpecs", ())}


def _images(service: Mapping[str, Any]) -> list[str]:
    cluster = service["spec"]["rayClusterConfig"]
    templates = [cluster["headGroupSpec"], *groups_of(service).values()]
    return sorted({c["image"] for t in templates for c in t["template"]["spec"]["containers"]})


def _template(group: Mapping[str, Any]) -> Any:
    counts = ("replicas", "minReplicas", "maxReplicas", "scaleStrategy")
    return {k: v for k, v in group.items() if k not in counts}


def _front(config: Mapping[str, Any]) -> Mapping[str, Any]:
    return next((a for a in config["applications"] if a["name"] == INGRESS_APP), {})


def _user_config(app: Mapping[str, Any]) -> Any:
    return app["deployments"][0].get("user_config") if app else None


def _paths(old: Any, new: Any, at: str = "") -> Iterator[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted(old.keys() | new.keys()):
            where = f"{at}.{key}" if at else str(key)
            yield from _paths(old.get(key), new.get(key), where)
    elif old != new:
        yield at


def same_pods(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether KubeRay changes the running cluster in place: sizes and appended groups apart, the
    two want the same pods."""
    old, new = groups_of(before), groups_of(after)
    kept = list(new)[: len(old)] == list(old)
    return (
        kept
        and all(_template(old[n]) == _template(new[n]) for n in old)
        and _but_groups(before) == _but_groups(after)
    )


def _but_groups(service: Mapping[str, Any]) -> Any:
    cluster = service["spec"]["rayClusterConfig"]
    return {k: v for k, v in cluster.items() if k != "workerGroupSpecs"}
