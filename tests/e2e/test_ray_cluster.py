"""A plan on a Ray cluster of many nodes: placed by accelerator, re-planned and hurt under load."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from threading import Event, Thread

import pytest

from orchestrator.deploy.base import Status
from orchestrator.deploy.ray_cluster import delete_ray, deploy_ray, prepare, ray_status
from orchestrator.deploy.rayserve.config import RayOptions
from orchestrator.deploy.rayserve.dashboard import Dashboard
from orchestrator.deploy.rayserve.rolling import Waiting
from orchestrator.deploy.rayserve.writing import look
from placement.plan import Plan
from profiler.engine import free_port
from profiler.errors import ClusterError
from tests import builders, kube_builders
from tests.many_nodes import HOST, TOKEN, ManyNodes, many_nodes
from tests.plan_builders import route

NEEDS = ("ray", "httptools", "aiohttp")
MISSING = [name for name in NEEDS if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.alone,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]
NODES = [
    {"accelerator": "L4", "gpus": 4, "labels": {"ray.io/market-type": "on-demand"}},
    {"accelerator": "L4", "gpus": 4, "labels": {"ray.io/market-type": "on-demand"}},
    {"accelerator": "L4", "gpus": 4, "labels": {"ray.io/market-type": "spot"}},
    {"accelerator": "A10G", "gpus": 4},
    {"accelerator": "A100-80G", "gpus": 4},
    {"accelerator": "H100", "gpus": 4},
]
THEIRS = {
    "name": "theirs",
    "route_prefix": "/theirs",
    "import_path": "tests.foreign_app:app",
    "runtime_env": {"env_vars": {"SECRET": "kept"}},
}
WAIT_S = 600.0
"""On a crowded machine: a quiet one takes a tenth."""
LENIENT = builders.slo(ttft_s=60.0, tpot_s=1.0)
"""Nobody is to be refused for the speed of this machine."""
RATE_RPS = 4.0
OUTPUT_TOKENS = 12


def fleet(small: int = 4, *, second: bool = False) -> Plan:
    """Twelve replicas on four types of GPU; the second plan moves some, and tunes a group."""
    groups = [
        kube_builders.group("small-l4", "L4", small),
        kube_builders.group("small-a10g", "A10G", 4 if second else 3),
        kube_builders.group("small-a100", "A100-80GB", 3),
        kube_builders.group("small-h100", "H100", 2, tensor_parallel=2),
    ]
    if second:  # other engine options: all of a group's replicas are replaced
        profile = groups[2].profile
        engine = profile.config.engine.model_copy(update={"max_num_seqs": 16})
        config = profile.config.model_copy(update={"engine": engine})
        tuned = profile.model_copy(update={"config": config})
        groups[2] = groups[2].model_copy(update={"profile": tuned})
    shares = {g.name: 0.25 for g in groups}
    routes = (route(shares, outputs=(0, 2 * OUTPUT_TOKENS)),)
    return kube_builders.plan(*groups, routes=routes, slo=LENIENT)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ManyNodes]:
    with many_nodes(NODES, tmp_path_factory.mktemp("ray") / "cluster.log") as started:
        yield started


@pytest.fixture(scope="module")
def dashboard(cluster: ManyNodes) -> Dashboard:
    found = Dashboard(cluster.url, TOKEN)
    found.check_version()
    return found


@pytest.fixture(scope="module")
def options() -> RayOptions:
    return RayOptions(port=free_port(), host=HOST, emulate=True, drain_timeout_s=30)


@pytest.fixture(scope="module")
def service(dashboard: Dashboard, options: RayOptions) -> Iterator[Status]:
    dashboard.put({"applications": [THEIRS], "proxy_location": "Disabled"})
    yield deploy(dashboard, fleet(), options)
    delete_ray(dashboard, "demo", Waiting(WAIT_S))


def deploy(dashboard: Dashboard, plan: Plan, options: RayOptions) -> Status:
    prepared = prepare(dashboard, plan, options)
    return deploy_ray(dashboard, prepared, waiting=Waiting(WAIT_S))


def nodes_of(dashboard: Dashboard) -> dict[str, list[dict[str, str]]]:
    """The labels of the node of each replica, by group; and its id."""
    labels = {n["node_id"]: n["labels"] for n in dashboard.nodes()}
    seen = look(dashboard, "demo")
    return {
        group: [labels[r["node_id"]] for r in seen.replicas(app)]
        for group, app in seen.app_of.items()
    }


@dataclass
class Load:
    """An open-loop client: requests leave at a fixed rate, whatever becomes of those before."""

    url: str
    answers: list[tuple[str, str]] = field(default_factory=list)
    _stop: Event = field(default_factory=Event)

    @contextlib.contextmanager
    def running(self) -> Iterator[Load]:
        thread = Thread(target=lambda: asyncio.run(self._send_all()))
        thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            thread.join()

    @property
    def counted(self) -> Counter[str]:
        return Counter(kind for kind, _ in self.answers)

    @property
    def failures(self) -> list[tuple[str, str]]:
        return [a for a in self.answers if a[0] != "ok"]

    async def _send_all(self) -> None:
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=WAIT_S)
        async with aiohttp.ClientSession(timeout=timeout) as session, asyncio.TaskGroup() as group:
            while not self._stop.is_set():
                group.create_task(self._send(session))
                await asyncio.sleep(1 / RATE_RPS)

    async def _send(self, session: object) -> None:
        import aiohttp

        assert isinstance(session, aiohttp.ClientSession)
        body = {
            "model": "m1",
            "messages": [{"role": "user", "content": "Tell me of the sea."}],
            "max_tokens": OUTPUT_TOKENS,
            "stream": True,
        }
        text, began = "", False
        try:
            async with session.post(f"{self.url}/chat/completions", json=body) as answer:
                if answer.status != 200:
                    self.answers.append(("refused", f"{answer.status} {await answer.text()}"))
                    return
                async for chunk in answer.content.iter_any():
                    began = True
                    text += chunk.decode()
        except aiohttp.ClientError as error:
            self.answers.append(("cut" if began else "lost", repr(error)))
            return
        whole = text.rstrip().endswith("data: [DONE]")
        self.answers.append(("ok", "") if whole else ("cut", text[-300:]))


def until(true: Callable[[], bool], what: str, wait_s: float = WAIT_S) -> None:
    deadline_s = time.monotonic() + wait_s
    while not true():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.5)


def test_replicas_land_on_nodes_of_their_accelerator(service: Status, dashboard: Dashboard) -> None:
    assert service.state == "running" and service.emulated
    found = nodes_of(dashboard)
    kinds = {g: Counter(n["ray.io/accelerator-type"] for n in at) for g, at in found.items()}
    assert kinds == {
        "small-l4": {"L4": 4},
        "small-a10g": {"A10G": 3},
        "small-a100": {"A100-80G": 3},
        "small-h100": {"H100": 2},
    }
    markets = {n["ray.io/market-type"] for n in found["small-l4"]}
    assert markets == {"on-demand"}, "rented on demand, so not on a spot node"


def test_the_same_plan_again_changes_nothing(
    service: Status, dashboard: Dashboard, options: RayOptions
) -> None:
    before = look(dashboard, "demo").configs
    assert "nothing changed" in deploy(dashboard, fleet(), options).message
    assert look(dashboard, "demo").configs == before


def test_more_than_the_cluster_has_is_refused_by_type(
    service: Status, dashboard: Dashboard, options: RayOptions
) -> None:
    with pytest.raises(ClusterError, match=r"L4.*: requested 9, has 12 on 3 nodes.*to fix: add 1"):
        prepare(dashboard, fleet(small=9), options)


def test_a_new_plan_under_load_loses_no_request(
    service: Status, dashboard: Dashboard, options: RayOptions
) -> None:
    with Load(service.url).running() as load:
        until(lambda: load.counted["ok"] >= 5, "the client is answered")
        status = deploy(dashboard, fleet(3, second=True), options)
        enough = load.counted["ok"] + 8
        until(lambda: load.counted["ok"] >= enough, "the client is answered afterwards")
    assert load.failures == []
    assert {g.name: g.ready for g in status.groups} == {
        "small-l4": 3,
        "small-a10g": 4,
        "small-a100": 3,
        "small-h100": 2,
    }


def test_a_lost_node_costs_no_request_that_had_not_begun_to_stream(
    service: Status, cluster: ManyNodes, dashboard: Dashboard
) -> None:
    def stand_on() -> Counter[str]:
        return Counter(n["ray.io/node-id"] for n in nodes_of(dashboard)["small-l4"])

    victim, lost = stand_on().most_common(1)[0]
    assert lost >= 1
    with Load(service.url).running() as load:
        until(lambda: load.counted["ok"] >= 5, "the client is answered")
        cluster.kill(victim)
        until(
            lambda: stand_on().total() == 3 and victim not in stand_on(),
            "the replicas stand on the other node",
        )
        enough = load.counted["ok"] + 8
        until(lambda: load.counted["ok"] >= enough, "the client is answered afterwards")
    assert [a for a in load.failures if a[0] != "cut"] == []


def test_delete_leaves_nothing_of_ours_and_all_of_others(
    service: Status, dashboard: Dashboard
) -> None:
    def theirs() -> tuple[object, list[str]]:
        seen = look(dashboard, "demo")
        return seen.apps["theirs"]["deployed_app_config"], [
            r["replica_id"] for r in seen.replicas("theirs")
        ]

    before = theirs()
    assert before[0] == THEIRS and len(before[1]) == 1
    assert delete_ray(dashboard, "demo", Waiting(WAIT_S))
    assert ray_status(dashboard, "demo") is None
    assert set(look(dashboard, "demo").apps) == {"theirs"}
    assert theirs() == before
    assert not delete_ray(dashboard, "demo", Waiting(5))
