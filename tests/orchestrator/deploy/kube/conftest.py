"""A cluster behind HTTP and a KubeRay that acts on it; the true client talks to it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest
from kubernetes.client import ApiClient, Configuration

from orchestrator.deploy.kube.api import KubeApi
from orchestrator.deploy.kubernetes import Waiting
from tests.fake_kuberay import FakeKubeRay
from tests.fake_kubernetes import FakeKubernetes, Served


@dataclasses.dataclass
class Place:
    """All that a test needs of a cluster."""

    cluster: FakeKubernetes
    operator: FakeKubeRay
    api: KubeApi
    url: str
    shown: list[str] = dataclasses.field(default_factory=list)
    now_s: float = 0.0

    def waiting(self, wait_s: float = 60.0) -> Waiting:
        """Time passes only by waiting."""

        def sleep(duration_s: float) -> None:
            self.now_s += duration_s

        return Waiting(wait_s, lambda s: self.shown.append(s.message), lambda: self.now_s, sleep)


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with Served(FakeKubernetes()) as served:
        yield served


@pytest.fixture
def place(server: Served) -> Place:
    server.cluster = FakeKubernetes()
    settings = Configuration()
    settings.host = server.url
    settings.retries = False
    api = KubeApi(ApiClient(settings), "default")
    operator = FakeKubeRay(server.cluster, "demo")
    return Place(server.cluster, operator, api, server.url)
