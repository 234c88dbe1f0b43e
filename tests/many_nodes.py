"""A Ray cluster of several nodes on this machine, with accelerators that are not there.

Run as a child process: it says where the dashboard is, obeys a line of JSON at a time (``kill`` a
node, ``add`` one), and takes the cluster down when its input ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from profiler.engine import free_port

ROOT = Path(__file__).parents[1]
TOKEN = "many-nodes-" + "0" * 32
STORE_BYTES = 80 * 2**20
HEAD_BYTES = 100 * 2**20
HOST = "127.0.0.1"


class ManyNodes:
    """The cluster's child process."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self._process = process
        self.url = url

    def kill(self, node_id: str) -> None:
        """End a node's raylet without warning, and its workers with it."""
        self._ask({"kill": node_id})

    def _ask(self, command: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return _answer(self._process)


def _answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"the cluster ended with {process.wait()}")
    found: dict[str, Any] = json.loads(line)
    return found


@contextlib.contextmanager
def many_nodes(nodes: list[dict[str, Any]], log: Path) -> Iterator[ManyNodes]:
    """A head and ``nodes``, each with ``accelerator``, ``gpus`` and labels.

    The head alone has CPUs, so ingresses are there, and no node that is killed takes one along.
    """
    env = {
        **os.environ,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": TOKEN,
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        "OMP_NUM_THREADS": "1",
    }
    with tempfile.TemporaryDirectory(prefix="ray-") as ray_dir, log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.many_nodes", json.dumps(nodes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=ROOT,
            env=env | {"RAY_TMPDIR": ray_dir},
        )
        with process:
            try:
                yield ManyNodes(process, _answer(process)["url"])
            finally:
                assert process.stdin is not None
                process.stdin.close()
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    process.kill()


def main(nodes: list[dict[str, Any]]) -> None:
    """Start, obey, and end."""
    out = os.fdopen(os.dup(1), "w")  # whatever Ray prints goes elsewhere
    os.dup2(2, 1)
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 2,
            "include_dashboard": True,
            "dashboard_port": free_port(),
            "object_store_memory": HEAD_BYTES,
        },
    )
    for node in nodes:
        kind = node["accelerator"]
        cluster.add_node(
            wait=False,
            num_cpus=0,
            num_gpus=node["gpus"],
            resources={f"accelerator_type:{kind}": 1},
            labels={"ray.io/accelerator-type": kind, **node.get("labels", {})},
            object_store_memory=STORE_BYTES,
        )
    cluster.wait_for_nodes()

    def tell(answer: dict[str, Any]) -> None:
        out.write(json.dumps(answer) + "\n")
        out.flush()

    tell({"url": f"http://{cluster.webui_url}"})
    for line in sys.stdin:
        command = json.loads(line)
        node = next(n for n in cluster.list_all_nodes() if n.node_id == command["kill"])
        cluster.remove_node(node, allow_graceful=False)
        tell({})
    cluster.shutdown()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
