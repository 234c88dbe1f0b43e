"""A plan for GPUs that are not here is deployed with emulated engines, which say what they are."""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.deploy.base import Status
from orchestrator.deploy.local import delete_local, deploy_local, local_status
from placement.plan import Plan
from profiler.engine import free_port
from tests.plan_builders import group, plan, route
from tests.processes import descendants, listening, none_left

NEEDS = ("ray", "openai", "httptools")
MISSING = [name for name in NEEDS if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]
TELL: Any = [{"role": "user", "content": "Tell me of the sea."}]


def fleet() -> Plan:
    groups = (
        group("small", gpu="L4", replicas=2),
        group("large", model="m2", gpu="H100", replicas=2),
        group("old", gpu="T4", replicas=1),
    )
    routes = (
        route({"small": 0.5, "old": 0.5}, stream="m1"),
        route({"large": 1.0}, stream="m2"),
    )
    return plan(groups, routes, service="emulated")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state") / "orchestrator"


@pytest.fixture(scope="module")
def pool(root: Path) -> Iterator[Status]:
    status = deploy_local(fleet(), port=free_port(), wait_s=300, root=root, emulate=True)
    yield status
    delete_local("emulated", root=root)


@pytest.fixture
def client(pool: Status) -> Iterator[Any]:
    import openai

    with openai.OpenAI(base_url=pool.url, api_key="none", max_retries=0) as client:
        yield client


def test_every_group_is_ready_and_the_status_says_what_it_is(pool: Status) -> None:
    assert pool.emulated
    assert [(g.name, g.ready) for g in pool.groups] == [("small", 2), ("large", 2), ("old", 1)]


@pytest.mark.parametrize("model", ["m1", "m2"])
def test_an_openai_client_is_answered_and_told(client: Any, model: str) -> None:
    raw = client.chat.completions.with_raw_response.create(model=model, messages=TELL, max_tokens=5)
    answer = raw.parse()
    assert raw.headers["x-emulated"] == "1"
    assert answer.system_fingerprint.startswith(f"emulated-{model}@1x")
    assert answer.usage.completion_tokens <= 5
    stream = client.chat.completions.create(
        model=model, messages=TELL, max_tokens=7, stream=True, extra_body={"ignore_eos": True}
    )
    said = [c.choices[0].delta.content for c in stream if c.choices]
    assert "".join(said).split() == ["filler", "words", "of", "an", "emulated", "engine", "filler"]


def test_what_engines_offer_beside_answers_is_not_passed_on(pool: Status) -> None:
    base = pool.url.removesuffix("/v1")
    for path in ("/invocations", "/emulated/fault", "/v1/load_lora_adapter"):
        request = urllib.request.Request(base + path, b"{}", {"content-type": "application/json"})
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request)
        assert caught.value.code in (404, 405)
        caught.value.close()


def test_nothing_listens_beyond_this_machine(pool: Status) -> None:
    """Ingress, engines, Ray and all: its processes, and theirs."""
    port = int(pool.url.split(":")[2].removesuffix("/v1"))
    found = listening(descendants(pool.pid))
    assert ("127.0.0.1", port) in found
    assert len(found) > 6  # the engines, and Ray's own
    beyond = {(a, n) for a, n in found if not ipaddress.ip_address(a).is_loopback}
    assert not beyond


def test_the_same_plan_again_changes_nothing(pool: Status, root: Path) -> None:
    port = int(pool.url.split(":")[2].removesuffix("/v1"))
    again = deploy_local(fleet(), port=port, wait_s=60, root=root, emulate=True)
    assert again.pid == pool.pid
    assert "nothing changed" in again.message


def test_the_command_line_says_it_too(pool: Status, root: Path) -> None:
    command = [sys.executable, "-m", "orchestrator", "status", "emulated"]
    env = {**os.environ, "XDG_STATE_HOME": str(root.parent)}
    shown = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    assert "running (emulated)" in shown


def test_delete_leaves_nothing(pool: Status, root: Path) -> None:
    pids = descendants(pool.pid)
    assert sum(b"profiler.emulated" in Path(f"/proc/{p}/cmdline").read_bytes() for p in pids) >= 5
    assert delete_local("emulated", root=root)
    none_left(pids)
    assert local_status("emulated", root) is None
