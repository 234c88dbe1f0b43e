"""Refitting the roofline on the command line gives what the package ships."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from profiler import documents
from profiler.efficiency import Calibration, calibration

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        not any(d.name == "aiconfigurator-core" for d in metadata.distributions()),
        reason="needs the extra silicon",
    ),
]


def test_calibrating_prints_and_saves_what_the_package_ships(tmp_path: Path) -> None:
    kept = tmp_path / "fit.yaml"
    kept.write_text("an older one")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "orchestrator", "profile", "calibrate"),
            *("--save", "fit.yaml", "-y", "-o", "json"),
        ],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found, shipped = Calibration.model_validate_json(done.stdout), calibration()
    assert documents.parse(kept.read_text(), Calibration, kept.name) == found
    assert found.rows == shipped.rows
    assert found.generations.keys() == shipped.generations.keys()
    for name, generation in found.generations.items():
        then, now = shipped.generations[name].held_out, generation.held_out
        assert (then is None) == (now is None)
        if then is not None and now is not None:
            assert now.tpot == pytest.approx(then.tpot, abs=0.01), name
            assert now.ttft == pytest.approx(then.ttft, abs=0.01), name
