"""A demo owns what it deploys, and nothing else."""

import os
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.cli.output import steps
from orchestrator.demo import Demo, given_profile
from profiler import documents
from profiler.core import ReplicaConfig
from profiler.errors import InputError
from tests import builders


def test_two_demos_at_once_have_services_of_their_own(monkeypatch: pytest.MonkeyPatch):
    names = set()
    for pid in (7, 8):
        monkeypatch.setattr(os, "getpid", lambda pid=pid: pid)
        names.add(Demo(Path(), Console(), steps).name)
    assert names == {"demo-7", "demo-8"}


def test_a_profile_that_is_given_must_be_of_the_engine_that_is_deployed(tmp_path: Path):
    made, path = builders.profile(), tmp_path / "p.yaml"
    documents.write(path, documents.dump(made))
    assert given_profile(path, made.config) == made
    with pytest.raises(InputError, match=r"p\.yaml: is of llama-8b@1xA100 .* expected m@1xcpu"):
        given_profile(path, ReplicaConfig(model="m", gpu="cpu"))
