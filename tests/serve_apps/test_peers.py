"""Ingress processes that share a port are found one by one; those that ended are forgotten."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from serve_apps.peers import Peers
from serve_apps.seeing.targets import ingress_targets
from tests.seeing_builders import snapshot


def test_who_joined_is_found_until_it_leaves(tmp_path: Path) -> None:
    here, there = Peers(tmp_path / "p"), Peers(tmp_path / "p")
    assert here.addresses() == ()
    here.join(4001)
    there.join(4002)
    assert here.addresses() == there.addresses() == (":4001", ":4002")
    there.leave()
    assert here.addresses() == (":4001",)


def test_a_process_that_ended_without_a_word_is_forgotten(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-S", "-c", ""])
    ended.wait()
    (tmp_path / f"{ended.pid}-4001").touch()
    (tmp_path / "notes.txt").touch()
    Peers(tmp_path).join(4002)
    assert Peers(tmp_path).addresses() == (":4002",)
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"{os.getpid()}-4002", "notes.txt"]


def test_prometheus_is_told_each_of_them_at_the_host_that_it_asked() -> None:
    (found,) = ingress_targets(snapshot(ingresses=(":4001", ":4002")), "/metrics", "pool:8000")
    assert found["targets"] == ["pool:4001", "pool:4002"]
