"""A test double of a Kubernetes API server: server-side apply over HTTP, as a true one was seen to.

Field managers and conflicts (409 with causes), unknown fields and wrong types (500 "failed to
create typed patch object"), 201 for what is new and 200 for what is not, dry runs, JSON Patch,
lists by label, generations and resource versions, refusals that a test sets. Lists are atomic, as
they are in KubeRay's resource definitions. An ``Operator`` plays KubeRay: it makes a RayCluster
and pods of a RayService and reports on them, as the test tells it to.
"""

from __future__ import annotations

import asyncio
import copy
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from aiohttp import web

from orchestrator.deploy.kube.api import KINDS
from tests.kube_schemas import CUSTOM, faults

Object = dict[str, Any]
Path = tuple[str, ...]
PLURALS = {(k.prefix, k.plural): name for name, k in KINDS.items()}
IDENTITY = ("apiVersion", "kind")
UNTRACKED = {("metadata", "name"), ("metadata", "namespace"), ("metadata", "resourceVersion")}
WITH_GENERATION = (
    "RayService",
    "RayCluster",
    "NetworkPolicy",
    "PodDisruptionBudget",
    "PodMonitor",
    "Deployment",
)


class RefusedError(Exception):
    """An answer other than 2xx."""

    def __init__(self, status: int, message: str, reason: str = "", causes: Any = ()) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"kind": "Status", "status": "Failure", "message": message, "reason": reason}
        self.body |= {"code": status, "details": {"causes": list(causes)}}


class FakeKubernetes:
    """The state of a cluster with one namespace per name; see the module."""

    def __init__(self, *, namespaces: tuple[str, ...] = ("default",)) -> None:
        self.objects: dict[tuple[str, str, str], Object] = {}
        self.unknown_kinds: set[str] = set()
        self.refuse: Callable[[str, str, str], RefusedError | None] = lambda *_: None
        self.after_write: Callable[[], None] = lambda: None
        self.after_look: Callable[[], None] = lambda: None
        """After a RayService was read: time has passed, the operator has looked again."""
        self.writes: list[tuple[str, str, str]] = []
        self.logs: dict[str, str] = {}
        self._version = 100
        self._owned: dict[tuple[str, str, str], dict[str, dict[Path, Any]]] = {}
        for name in namespaces:
            self.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})

    def put(self, obj: Object) -> Object:
        """Set an object without anyone owning its fields, as a controller's update would."""
        kind, meta = obj["kind"], obj["metadata"]
        space = meta.get("namespace", "") if KINDS[kind].namespaced else ""
        made = copy.deepcopy({"apiVersion": "v1", **obj})
        made["metadata"].setdefault("uid", f"uid-{self._version}")
        made["metadata"].setdefault("generation", 1)
        made["metadata"]["resourceVersion"] = self._next()
        self.objects[kind, space, meta["name"]] = made
        return made

    def get(self, kind: str, name: str, namespace: str = "default") -> Object | None:
        space = namespace if KINDS[kind].namespaced else ""
        return self.objects.get((kind, space, name))

    def names(self, kind: str) -> list[str]:
        return [n for k, _, n in self.objects if k == kind]

    def edit(self, kind: str, name: str, manager: str, **spec: Any) -> None:
        """Another field manager applies fields of the spec."""
        obj = self.get(kind, name)
        assert obj is not None
        body = {**{k: obj[k] for k in IDENTITY}, "metadata": {"name": name}, "spec": spec}
        self.apply((kind, "default", name), body, manager, force=True, dry=False)

    def _next(self) -> str:
        self._version += 1
        return str(self._version)

    # what the API does

    def apply(
        self, key: tuple[str, str, str], body: Object, manager: str, *, force: bool, dry: bool
    ) -> tuple[Object, bool]:
        self._check_types(key, body)
        live = self.objects.get(key)
        self._check_version(live, body)
        others = {m: f for m, f in self._owned.get(key, {}).items() if m != manager}
        mine = dict(_leaves({k: v for k, v in body.items() if k not in IDENTITY}))
        mine = {p: v for p, v in mine.items() if p not in UNTRACKED}
        self._check_conflicts(key, live, mine, others, force=force)
        made = copy.deepcopy(live) if live else {**{k: body[k] for k in IDENTITY}, "metadata": {}}
        made["metadata"]["name"] = key[2]
        if key[1]:
            made["metadata"]["namespace"] = key[1]
        held = {p for f in others.values() for p in f}
        for path in self._owned.get(key, {}).get(manager, {}).keys() - mine.keys() - held:
            _drop(made, path)
        for path, value in mine.items():
            _set(made, path, value)
        owners = {m: {p: v for p, v in f.items() if p not in mine or not force or v == mine[p]}
                  for m, f in others.items()} | {manager: mine}  # fmt: skip
        self._stamp(key, made, live, owners)
        if not dry:
            self.objects[key] = made
            self._owned[key] = owners
        return made, live is None

    def _stamp(
        self, key: tuple[str, str, str], made: Object, live: Object | None, owners: Any
    ) -> None:
        meta = made["metadata"]
        meta["managedFields"] = [
            {
                "manager": m,
                "operation": "Apply",
                "fieldsV1": _tree(f),
                "time": "2026-01-01T00:00:00Z",
            }
            for m, f in owners.items()
        ]
        old = live or {"metadata": {}}
        if live is None:
            meta |= {"uid": f"uid-{self._version}", "creationTimestamp": "2026-01-01T00:00:00Z"}
        if {k: v for k, v in old.items() if k not in ("metadata", "status")} != {
            k: v for k, v in made.items() if k not in ("metadata", "status")
        } and key[0] in WITH_GENERATION:
            meta["generation"] = old["metadata"].get("generation", 0) + 1
        changed = live is None or {**live, "metadata": _plain(live)} != {
            **made,
            "metadata": _plain(made),
        }
        if changed:
            meta["resourceVersion"] = self._next()

    def _check_types(self, key: tuple[str, str, str], body: Object) -> None:
        if body.get("kind") != key[0] or body["metadata"].get("name") != key[2]:
            raise RefusedError(400, "the object does not fit the request's path", "BadRequest")
        plain = copy.deepcopy(body)
        plain["metadata"].pop("resourceVersion", None)
        wrong = [f for f in faults(plain) if "is a required property" not in f[1]]
        if wrong:
            where, why = wrong[0]
            raise RefusedError(
                500,
                f"failed to create typed patch object ({key[1]}/{key[2]}; {body['apiVersion']}, "
                f"Kind={key[0]}): {where}: {why}: field not declared in schema",
                "InternalError",
            )

    def _check_version(self, live: Object | None, body: Object) -> None:
        asked = body["metadata"].get("resourceVersion")
        if live is not None and asked and asked != live["metadata"]["resourceVersion"]:
            raise RefusedError(409, "the object has been modified; please try again", "Conflict")

    def _check_conflicts(
        self, key: Any, live: Object | None, mine: Mapping[Path, Any], others: Any, *, force: bool
    ) -> None:
        if force or live is None:
            return
        held = [
            {"reason": "FieldManagerConflict", "field": "." + ".".join(p),
             "message": f'conflict with "{m}" using {live["apiVersion"]}'}
            for m, f in others.items() for p in f if p in mine and f[p] != mine[p]
        ]  # fmt: skip
        if held:
            text = f"Apply failed with {len(held)} conflict(s): {held[0]['message']}"
            raise RefusedError(409, f"{text}: {held[0]['field']}", "Conflict", held)

    def patch(self, key: tuple[str, str, str], operations: list[Object]) -> Object:
        made = copy.deepcopy(self.objects[key])
        for op in operations:
            *parents, last = op["path"].strip("/").split("/")
            at: Any = made
            for part in parents:
                at = at[int(part)] if isinstance(at, list) else at[part]
            if op["op"] == "test" and at.get(last) != op["value"]:
                raise RefusedError(422, f"the request is rejected: test of {op['path']}")
            if op["op"] in ("add", "replace"):
                at[last] = op["value"]
        made["metadata"]["generation"] += 1
        made["metadata"]["resourceVersion"] = self._next()
        self.objects[key] = made
        return made

    def delete(self, key: tuple[str, str, str]) -> None:
        del self.objects[key]
        self._owned.pop(key, None)


def _plain(obj: Object) -> Object:
    drop = ("managedFields", "resourceVersion")
    return {k: v for k, v in obj["metadata"].items() if k not in drop}


def _leaves(value: Any, at: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every field that is no mapping; an empty mapping counts as one."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(inner, (*at, key))
    else:
        yield at, value


def _tree(fields: Mapping[Path, Any]) -> Object:
    tree: Object = {}
    for path in fields:
        at = tree
        for part in path:
            at = at.setdefault(f"f:{part}", {})
    return tree


def _set(obj: Object, path: Path, value: Any) -> None:
    for part in path[:-1]:
        obj = obj.setdefault(part, {})
    obj[path[-1]] = copy.deepcopy(value)


def _drop(obj: Object, path: Path) -> None:
    parents = [obj]
    for part in path[:-1]:
        parents.append(parents[-1].get(part, {}))
    parents[-1].pop(path[-1], None)
    for parent, part in zip(reversed(parents[:-1]), reversed(path[:-1]), strict=True):
        if not parent.get(part):
            parent.pop(part, None)


class Served:
    """The double behind HTTP, in a thread of its own. Use as a context manager."""

    def __init__(self, cluster: FakeKubernetes) -> None:
        self.cluster = cluster
        self.url = ""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> Served:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _start(self) -> None:
        app = web.Application(client_max_size=4 * 2**20)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{port}"

    async def _answer(self, request: web.Request) -> web.Response:
        try:
            return self._route(request, await request.text())
        except RefusedError as refusal:
            wait = {"Retry-After": "0"} if refusal.status == 429 else {}
            return web.json_response(refusal.body, status=refusal.status, headers=wait)

    def _route(self, request: web.Request, text: str) -> web.Response:
        kind, space, name, rest = self._target(request.path)
        verb = {"GET": "get" if name else "list", "PATCH": "patch", "DELETE": "delete"}
        if refusal := self.cluster.refuse(verb[request.method], kind, name):
            raise refusal
        if kind in self.cluster.unknown_kinds:  # its whole group: no Status object, as in Go
            return web.Response(text="404 page not found\n", status=404)
        if rest == "log":
            if not request.query.get("container"):
                raise RefusedError(400, "a container name must be specified", "BadRequest")
            return web.Response(text=self.cluster.logs.get(name, ""))
        key = (kind, space, name)
        if request.method == "GET":
            answer = web.json_response(self._read(key, request.query.get("labelSelector", "")))
            if kind == "RayService" and name:
                self.cluster.after_look()
            return answer
        if request.method == "DELETE":
            self._find(key)
            self._wrote("delete", key)
            self.cluster.delete(key)
        else:
            return self._patch(request, key, text)
        self.cluster.after_write()
        return web.json_response({"kind": "Status", "status": "Success"})

    def _patch(self, request: web.Request, key: tuple[str, str, str], text: str) -> web.Response:
        body = json.loads(text)
        if request.content_type == "application/json-patch+json":
            self._find(key)
            self._wrote("patch", key)
            made, new = self.cluster.patch(key, body), False
        else:
            assert request.content_type == "application/apply-patch+yaml"
            query = request.query
            if key[1] and ("Namespace", "", key[1]) not in self.cluster.objects:
                raise RefusedError(404, f'namespaces "{key[1]}" not found', "NotFound")
            dry = query.get("dryRun") == "All"
            force = query.get("force", "").lower() == "true"
            made, new = self.cluster.apply(key, body, query["fieldManager"], force=force, dry=dry)
            if dry:
                return web.json_response(made, status=201 if new else 200)
            self._wrote("apply", key)
        answer = web.json_response(made, status=201 if new else 200)
        self.cluster.after_write()
        return answer

    def _wrote(self, verb: str, key: tuple[str, str, str]) -> None:
        self.cluster.writes.append((verb, key[0], key[2]))

    def _find(self, key: tuple[str, str, str]) -> Object:
        found = self.cluster.objects.get(key)
        if found is None:
            raise RefusedError(404, f'{KINDS[key[0]].plural} "{key[2]}" not found', "NotFound")
        return found

    def _read(self, key: tuple[str, str, str], selector: str) -> Object:
        if key[2]:
            return self._find(key)
        wanted = dict(part.split("=", 1) for part in selector.split(",") if part)
        items = [
            {k: v for k, v in o.items() if k not in IDENTITY}  # items of a list do not say
            for (kind, space, _), o in self.cluster.objects.items()
            if kind == key[0] and space == key[1]
            and wanted.items() <= o["metadata"].get("labels", {}).items()
        ]  # fmt: skip
        return {"kind": f"{key[0]}List", "items": items}

    def _target(self, path: str) -> tuple[str, str, str, str]:
        for (prefix, plural), kind in PLURALS.items():
            if path.startswith(f"{prefix}/"):
                parts = path.removeprefix(f"{prefix}/").split("/")
                space = ""
                if KINDS[kind].namespaced and parts[0] == "namespaces" and len(parts) > 2:
                    space, parts = parts[1], parts[2:]
                elif KINDS[kind].namespaced or len(parts) > 2:
                    continue
                if parts[0] == plural:
                    name, rest, *_ = (*parts[1:], "", "")
                    return kind, space, name, rest
        raise RefusedError(404, "the server could not find the requested resource", "NotFound")


__all__ = ["CUSTOM", "FakeKubernetes", "RefusedError", "Served"]
