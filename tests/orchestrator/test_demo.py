"""A demo owns what it deploys, and nothing else."""

import os
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.cli.output import steps
from orchestrator.demo import Demo


def test_two_demos_at_once_have_services_of_their_own(monkeypatch: pytest.MonkeyPatch):
    names = set()
    for pid in (7, 8):
        monkeypatch.setattr(os, "getpid", lambda pid=pid: pid)
        names.add(Demo(Path(), Console(), steps).name)
    assert names == {"demo-7", "demo-8"}
