"""A double of a Ray cluster's dashboard: the paths, status codes and merging of a true one's Serve.

What was seen of Ray 2.60: applications left out of a PUT are deleted if they were deployed by one,
others stay; a config of unknown fields is taken without a word; a wrong or missing token is 403 or
401, in plain text; a package that is not there is 404.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web

Object = dict[str, Any]

TOKEN = "t" * 32
NAMES = {"serve_apps.declared:engine": "engine", "serve_apps.declared:ingress": "ingress"}


def node(
    name: str, accelerator: str | None = None, gpus: int = 0, *, state: str = "ALIVE", **labels: str
) -> Object:
    """A node as the state API tells of it; ``labels`` in the ray.io name space."""
    total: Object = {"CPU": 4.0}
    told = {f"ray.io/{k.replace('_', '-')}": v for k, v in labels.items()}
    if accelerator:
        total |= {"GPU": float(gpus), f"accelerator_type:{accelerator}": 1.0}
        told["ray.io/accelerator-type"] = accelerator
    return {
        "node_id": name,
        "node_ip": f"127.0.0.{len(name)}",
        "state": state,
        "resources_total": total,
        "labels": told,
    }


class FakeDashboard:
    """The cluster. Applications run as soon as they are told to, unless named in ``failing`` or
    ``stuck`` (by a part of their name)."""

    def __init__(self, nodes: list[Object], token: str | None = TOKEN) -> None:
        self.nodes = nodes
        self.token = token
        self.version = "2.60.0"
        self.apps: dict[str, Object] = {}
        self.used: dict[str, Object] = {}
        self.packages: dict[str, bytes] = {}
        self.puts: list[Object] = []
        self.scaled: list[tuple[str, int]] = []
        self.failing: dict[str, str] = {}
        self.stuck: set[str] = set()
        self.answers: dict[str, tuple[int, str]] = {}
        self.before_put: Callable[[], None] = lambda: None
        self.after_put: Callable[[], None] = lambda: None
        self.url = ""

    def add_foreign(self, name: str, *, declared: bool = True, **config: Any) -> Object:
        """An application of others."""
        told = {"name": name, "route_prefix": f"/{name}", "import_path": "theirs:app"} | config
        self.apps[name] = {
            "name": name,
            "status": "RUNNING",
            "message": "",
            "source": "declarative" if declared else "imperative",
            "deployed_app_config": told if declared else None,
            "deployments": {},
        }
        return told

    def change(self, name: str, **deployment: Any) -> None:
        """Another operator changes an application's deployment."""
        self.apps[name]["deployed_app_config"]["deployments"][0].update(deployment)

    def ours(self, service: str = "demo") -> dict[str, Object]:
        """The configs of a service's applications."""
        return {
            n: a["deployed_app_config"] for n, a in self.apps.items() if n.startswith(f"{service}.")
        }

    @contextmanager
    def running(self) -> Iterator[FakeDashboard]:
        """Listen on this machine, in a thread of its own."""
        import asyncio

        ready, done = threading.Event(), threading.Event()

        async def serve() -> None:
            runner = web.AppRunner(self._app())
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            ready.set()
            await asyncio.to_thread(done.wait)
            await runner.cleanup()

        thread = threading.Thread(target=lambda: asyncio.run(serve()))
        thread.start()
        ready.wait()
        try:
            yield self
        finally:
            done.set()
            thread.join()

    def _app(self) -> web.Application:
        app = web.Application(middlewares=[self._checked], client_max_size=100 * 2**20)
        app.router.add_get("/api/version", self._version)
        app.router.add_get("/api/serve/applications/", self._serving)
        app.router.add_put("/api/serve/applications/", self._put)
        app.router.add_get("/api/v0/nodes", self._nodes)
        app.router.add_get("/api/cluster_status", self._status)
        app.router.add_get("/api/packages/gcs/{name}", self._package)
        app.router.add_put("/api/packages/gcs/{name}", self._upload)
        path = "/api/v1/applications/{app}/deployments/{deployment}/scale"
        app.router.add_post(path, self._scale)
        return app

    @web.middleware
    async def _checked(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if self.token is not None:
            given = request.headers.get("Authorization")
            if given is None:
                return web.Response(status=401, text="Unauthorized: Missing authentication token")
            if given != f"Bearer {self.token}":
                return web.Response(status=403, text="Forbidden: Invalid authentication token")
        if found := self.answers.get(f"{request.method} {request.path}"):
            return web.Response(status=found[0], text=found[1])
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _version(self, _request: web.Request) -> web.Response:
        return web.json_response({"version": "4", "ray_version": self.version})

    async def _serving(self, _request: web.Request) -> web.Response:
        if not self.apps:
            return web.json_response({"applications": {}, "target_capacity": None})
        told = {
            "proxy_location": "EveryNode",
            "http_options": {"host": "0.0.0.0", "port": 8123},
            "applications": self.apps,
        }
        return web.json_response(told)

    async def _nodes(self, _request: web.Request) -> web.Response:
        found = {"total": len(self.nodes), "result": self.nodes}
        return web.json_response({"result": True, "data": {"result": found}})

    async def _status(self, _request: web.Request) -> web.Response:
        report = {"loadMetricsReport": {"usageByNode": self.used}}
        return web.json_response({"result": True, "data": {"clusterStatus": report}})

    async def _package(self, request: web.Request) -> web.Response:
        there = request.match_info["name"] in self.packages
        return web.Response(status=200 if there else 404)

    async def _upload(self, request: web.Request) -> web.Response:
        self.packages[request.match_info["name"]] = await request.read()
        return web.Response()

    async def _scale(self, request: web.Request) -> web.Response:
        count = (await request.json())["target_num_replicas"]
        app = self.apps.get(request.match_info["app"])
        if app is None or "engine" not in app["deployments"]:
            return web.json_response({"error": "Application or Deployment not found"}, status=404)
        self.scaled.append((app["name"], count))
        self._resize(app, count)
        return web.json_response({"message": "Scaling request received."})

    async def _put(self, request: web.Request) -> web.Response:
        config = await request.json()
        self.before_put()
        self.puts.append(copy.deepcopy(config))
        wanted = {a["name"]: a for a in config["applications"]}
        for name in [n for n, a in self.apps.items() if a["source"] == "declarative"]:
            if name not in wanted:
                del self.apps[name]
        for name, told in wanted.items():
            self._start(name, told)
        self.after_put()
        return web.Response()

    def _start(self, name: str, told: Object) -> None:
        app = {
            "name": name,
            "status": "RUNNING",
            "message": "",
            "source": "declarative",
            "deployed_app_config": told,
            "deployments": {},
        }
        self.apps[name] = app
        if told["import_path"] in NAMES:
            self._resize(app, told["deployments"][0]["num_replicas"])
        failure = next((m for part, m in self.failing.items() if part in name), None)
        if failure is not None:
            app["status"] = "DEPLOY_FAILED"
            self._deployment(app)["message"] = failure
            self._deployment(app)["replicas"] = []
        elif any(part in name for part in self.stuck):
            app["status"] = "DEPLOYING"
            self._deployment(app)["replicas"] = []
            self._deployment(app)["message"] = "no node has room"

    def _resize(self, app: Object, count: int) -> None:
        config = app["deployed_app_config"]
        name = NAMES[config["import_path"]]
        options = config["deployments"][0].get("ray_actor_options", {})
        gpus = options.get("num_gpus", 0)
        app["deployments"][name] = {
            "name": name,
            "message": "",
            "target_num_replicas": count,
            "required_resources": {"GPU": gpus} if gpus else {},
            "replicas": [
                {
                    "replica_id": f"{app['name']}-{i}",
                    "state": "RUNNING",
                    "node_id": self._node_for(options),
                    "node_ip": "127.0.0.9",
                    "start_time_s": 1000.0,
                }
                for i in range(count)
            ],
        }

    def _node_for(self, options: Object) -> str:
        kind = options.get("label_selector", {}).get("ray.io/accelerator-type")
        same = (n for n in self.nodes if n["labels"].get("ray.io/accelerator-type") == kind)
        return str(next(same, self.nodes[0])["node_id"])

    def _deployment(self, app: Object) -> Object:
        found: Object = app["deployments"][NAMES[app["deployed_app_config"]["import_path"]]]
        return found
