"""A trained router in a real Ray Serve: an OpenAI client's easy and hard prompts part ways.

The engines are stand-ins, so this needs neither vLLM nor weights.
"""

from __future__ import annotations

import importlib.util
import json
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from placement.explanation import Prices
from placement.plan import Plan
from profiler.engine import free_port
from serve_apps.pool import RouterFiles
from tests.plan_builders import group, plan, route
from tests.router_builders import easy, hard, trained

NEEDS = ("ray", "openai", "sklearn")
MISSING = [name for name in NEEDS if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.filterwarnings("ignore"),  # Ray runs in this very process and warns of itself
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]
WAIT_S = 120.0


class _Answers(BaseHTTPRequestHandler):
    """Says which model it was asked for."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        message = {"role": "assistant", "content": f"I am {asked['model']}."}
        body = json.dumps(
            {
                "id": "x",
                "object": "chat.completion",
                "created": 0,
                "model": asked["model"],
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            }
        ).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


class StandIn:
    """An engine replica as Serve sees it, without an engine."""

    def __init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def record_replica_metadata(self) -> dict[str, str]:
        return {"url": f"http://127.0.0.1:{self._server.server_port}"}


def two_models(directory: Path) -> Plan:
    """Easy prompts to the cheap model m1, hard ones to m2, as the artefact tells them apart."""
    _, router = trained(directory / "router.npz")
    groups = (group("a", "m1"), group("b", "m2").model_copy(update={"usd_per_hour": 0.5}))
    routes = tuple(
        route({name: 1.0}).model_copy(update={"difficulty": k}) for k, name in enumerate("ab")
    )
    prices = Prices(quality={"auto": 5.0}, load={"a": 0.12, "b": 0.6})
    return plan(groups, routes).model_copy(update={"router": router, "prices": prices})


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("router")


@pytest.fixture(scope="module")
def url(directory: Path, serve: Any) -> Iterator[str]:
    from ray.serve import api
    from ray.serve.config import RequestRouterConfig

    from orchestrator.deploy.local import SUPERVISOR_ENV
    from orchestrator.deploy.local_supervisor import start_ray, stop_ray
    from serve_apps.app import INGRESS_APP, ingress_application
    from serve_apps.discovery import ENGINE
    from serve_apps.pool import IngressSettings
    from serve_apps.replica_router import GROUP, ROUTER

    p = two_models(directory)
    port = free_port()

    def engine(name: str) -> Any:
        posts = RequestRouterConfig(
            request_router_class=ROUTER, request_router_kwargs={GROUP: name}
        )
        made = serve.deployment(
            StandIn, name=ENGINE, ray_actor_options={"num_cpus": 0}, request_router_config=posts
        )
        return made.bind()

    files = RouterFiles(
        artefact=str(directory / "router.npz"), feedback=str(directory / "feedback.jsonl")
    )
    patch = pytest.MonkeyPatch()
    for name, value in SUPERVISOR_ENV.items():
        patch.setenv(name, value)
    patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]), prepend=os.pathsep)
    try:
        start_ray()
        apps = [api.RunTarget(engine(name), name=name, route_prefix=None) for name in "ab"]
        front = ingress_application(p, IngressSettings(port=port, drain_timeout_s=1.0), files)
        api.run_many([*apps, api.RunTarget(front, name=INGRESS_APP, route_prefix="/")])
        base = f"http://127.0.0.1:{port}"
        until_healthy(f"{base}/health")
        yield f"{base}/v1"
    finally:
        stop_ray(drain=False)
        patch.undo()


def until_healthy(url: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10):
                return
        except (urllib.error.URLError, OSError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


@pytest.fixture
def client(url: str) -> Iterator[Any]:
    import openai

    with openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=60) as made:
        yield made


def ask(client: Any, content: str, model: str = "auto", **kwargs: Any) -> Any:
    return client.chat.completions.with_raw_response.create(
        model=model, messages=[{"role": "user", "content": content}], **kwargs
    )


def test_easy_and_hard_prompts_part_ways(client: Any) -> None:
    answers = {
        "m1": [ask(client, easy(i)) for i in range(901, 904)],
        "m2": [ask(client, hard(i)) for i in range(901, 904)],
    }
    for model, given in answers.items():
        assert {a.headers["x-orchestrator-model"] for a in given} == {model}
        assert {a.parse().model for a in given} == {model}
        for a in given:
            assert 0 <= float(a.headers["x-orchestrator-predicted-quality"]) <= 1
            assert float(a.headers["x-orchestrator-predicted-cost-usd"]) > 0
            assert "difficulty" in a.headers["x-orchestrator-reason"]


def test_wishes_are_heeded(client: Any) -> None:
    import openai

    assert ask(client, hard(1), "auto:cost").headers["x-orchestrator-model"] == "m1"
    best = ask(client, hard(1), extra_headers={"x-orchestrator-quality": "1"})
    assert best.headers["x-orchestrator-model"] == "m2"
    with pytest.raises(openai.BadRequestError, match="auto:quality"):
        ask(client, hard(1), "auto:quality=fine")


def test_answers_can_be_judged(client: Any, url: str, directory: Path) -> None:
    request_id = ask(client, easy(5)).headers["x-request-id"]
    body = json.dumps({"request_id": request_id, "score": 1}).encode()
    asked = urllib.request.Request(
        f"{url}/feedback", body, headers={"content-type": "application/json"}
    )
    with urllib.request.urlopen(asked, timeout=30) as answer:
        assert json.loads(answer.read())["model"] == "m1"
    assert request_id in (directory / "feedback.jsonl").read_text()
