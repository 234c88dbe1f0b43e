"""An engine is started with the right command, watched, and never left behind."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest

import profiler.engine
from profiler.core import EngineOptions, GpuType, ReplicaConfig
from profiler.engine import Launch, VllmServer, environment, vllm_command
from profiler.errors import EngineError
from tests import builders
from tests.plan_builders import cpu

SERVES = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()
    def log_message(self, *args): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
HANGS = "import signal; print('loading', flush=True); signal.pause()"
DIES = "raise SystemExit(print('ValueError: no room for the KV cache') or 3)"
KILLED = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
LONE = "import os, signal; print('family', os.getpid(), flush=True); signal.pause()"
STUBBORN_FAMILY = """
import os, signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(
    [sys.executable, "-c", "import signal; signal.signal(15, signal.SIG_IGN); signal.pause()"],
    start_new_session=True,
)
print("family", os.getpid(), child.pid, flush=True)
signal.pause()
"""


def server(tmp_path: Path, script: str, **kwargs: Any) -> VllmServer:
    """A server that runs a script in the place of vLLM."""
    return VllmServer(
        ReplicaConfig(model="m1", gpu="cpu"),
        builders.model("m1"),
        cpu(),
        "example/m1",
        log_path=tmp_path / "logs" / "engine.log",
        command=lambda launch: [sys.executable, "-c", script, str(launch.port)],
        **({"stop_grace_s": 0.2} | kwargs),
    )


def launch(gpu: GpuType, tensor_parallel: int = 1, **kwargs: Any) -> Launch:
    options = EngineOptions(max_num_seqs=32, max_model_len=2048, extra_args=("--seed", "7"))
    config = ReplicaConfig(
        model="m1", gpu=gpu.name, tensor_parallel=tensor_parallel, engine=options
    )
    spec = builders.model("m1", kv_dtype="fp8")
    return Launch(config, spec, gpu, kwargs.pop("weights", "example/m1"), 8123, **kwargs)


def options_of(command: list[str]) -> dict[str, str]:
    pairs = zip(command, [*command[1:], "--"], strict=True)
    return {a: "" if b.startswith("--") else b for a, b in pairs if a.startswith("--")}


def vllm_at(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    """Let vLLM be found as a package in a directory."""
    spec = ModuleSpec("vllm", None, is_package=True)
    spec.submodule_search_locations = [str(root)]
    monkeypatch.setattr(profiler.engine.importlib.util, "find_spec", lambda name: spec)


@pytest.fixture
def vllm_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    vllm_at(monkeypatch, tmp_path)


@pytest.mark.usefixtures("vllm_installed")
def test_the_command_on_a_gpu_carries_the_config() -> None:
    command = vllm_command(launch(builders.gpu("L4"), tensor_parallel=2))
    options = options_of(command)
    assert options["--model"] == "example/m1"
    assert options["--served-model-name"] == "m1"
    assert options["--port"] == "8123"
    assert options["--max-num-seqs"] == "32"
    assert options["--max-model-len"] == "2048"
    assert options["--tensor-parallel-size"] == "2"
    assert options["--kv-cache-dtype"] == "fp8"
    assert options["--gpu-memory-utilization"] == "0.9"
    assert "--dtype" not in options
    assert command[-2:] == ["--seed", "7"]


@pytest.mark.usefixtures("vllm_installed")
def test_the_command_on_a_cpu_computes_in_float32_without_compiling() -> None:
    options = options_of(vllm_command(launch(cpu())))
    assert options["--dtype"] == "float32"
    assert "--enforce-eager" in options
    assert "--gpu-memory-utilization" not in options
    assert "--tensor-parallel-size" not in options


def test_the_api_server_is_run_from_where_the_installed_version_has_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    vllm_at(monkeypatch, tmp_path)
    old = ["-m", "vllm.entrypoints.openai.api_server"]
    assert vllm_command(launch(cpu()))[1:3] == old
    moved = tmp_path / "entrypoints" / "launchers" / "api_server" / "entry.py"
    moved.parent.mkdir(parents=True)
    moved.touch()
    new = ["-m", "vllm.entrypoints.launchers.api_server.entry"]
    assert vllm_command(launch(cpu()))[1:3] == new


def test_the_environment_sizes_the_cpu_engine_and_keeps_local_weights_offline(
    tmp_path: Path,
) -> None:
    env = environment(
        launch(cpu(), weights=str(tmp_path), cpu_cores=(2, 3), kv_cache_gib=4), {"KEEP": "1"}
    )
    assert env["VLLM_CPU_KVCACHE_SPACE"] == "4"
    assert env["OMP_NUM_THREADS"] == "2"
    assert env["HF_HUB_OFFLINE"] == "1"
    assert env["KEEP"] == "1"
    on_gpu = environment(launch(builders.gpu("L4")), {})
    assert not {"VLLM_CPU_KVCACHE_SPACE", "HF_HUB_OFFLINE"} & set(on_gpu)
    assert on_gpu["DO_NOT_TRACK"] == "1"


def test_ranks_of_a_cpu_engine_are_pinned_by_vllm() -> None:
    env = environment(launch(cpu(), tensor_parallel=2, cpu_cores=(2, 3)), {})
    assert env["VLLM_CPU_OMP_THREADS_BIND"] == "2,3|2,3"
    assert "OMP_NUM_THREADS" not in env


def test_threads_that_the_user_set_are_kept() -> None:
    assert environment(launch(cpu()), {"OMP_NUM_THREADS": "5"})["OMP_NUM_THREADS"] == "5"


def test_without_vllm_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiler.engine.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EngineError, match="pip install"):
        vllm_command(launch(cpu()))


def test_a_ready_engine_answers_until_it_is_stopped(tmp_path: Path) -> None:
    with server(tmp_path, SERVES) as engine:
        engine.wait_ready(30)
        assert engine.alive
        assert engine.healthy()
    assert not engine.alive
    assert not engine.healthy()
    engine.stop()  # a second time does no harm


def test_an_engine_that_dies_at_start_shows_why(tmp_path: Path) -> None:
    with server(tmp_path, DIES) as engine, pytest.raises(EngineError) as caught:
        engine.wait_ready(30)
    first_line = str(caught.value).splitlines()[0]
    assert "m1@1xcpu ended with code 3" in first_line
    assert "ValueError: no room for the KV cache" in first_line
    assert str(engine.log_path) in first_line
    assert caught.value.log_tail == "ValueError: no room for the KV cache"


def test_an_engine_that_is_killed_names_the_signal(tmp_path: Path) -> None:
    with server(tmp_path, KILLED) as engine, pytest.raises(EngineError, match="SIGKILL"):
        engine.wait_ready(30)


def test_an_engine_that_never_gets_ready_is_given_up(tmp_path: Path) -> None:
    with server(tmp_path, HANGS) as engine:
        with pytest.raises(EngineError, match="not ready after"):
            engine.wait_ready(0.5)
        assert engine.alive
    assert not engine.alive


def test_a_log_that_cannot_be_written_is_an_error_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file where the directory should be")
    with pytest.raises(EngineError, match="cannot start"):
        server(tmp_path, SERVES).start()


def family(log: Path) -> list[int]:
    """Process ids that `STUBBORN_FAMILY` wrote; waits for the line, not for a time."""
    with subprocess.Popen(["tail", "-n", "+1", "-F", log], stdout=subprocess.PIPE, text=True) as t:
        assert t.stdout is not None
        line = next(line for line in t.stdout if line.startswith("family"))
        t.kill()
    return [int(pid) for pid in line.split()[1:]]


def wait_for_end(fds: list[int], timeout_s: float = 30) -> None:
    """Fails unless every process behind the pidfds ends."""
    for fd in fds:
        assert select.select([fd], [], [], timeout_s)[0], "a process was left behind"
        os.close(fd)


def test_stop_ends_descendants_that_ignore_it_and_left_the_group(tmp_path: Path) -> None:
    engine = server(tmp_path, STUBBORN_FAMILY)
    engine.start()
    engine.log_path.touch()
    fds = [os.pidfd_open(pid) for pid in family(engine.log_path)]
    engine.stop()
    wait_for_end(fds)


def test_a_parent_that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "engine.log"
    log.parent.mkdir()
    log.touch()
    starts = f"""
import sys, signal
from pathlib import Path
from tests.profiler.test_engine import STUBBORN_FAMILY, server
server(Path({str(tmp_path)!r}), STUBBORN_FAMILY).start()
signal.pause()
"""
    with subprocess.Popen([sys.executable, "-c", starts]) as parent:
        fds = [os.pidfd_open(pid) for pid in family(log)]
        parent.send_signal(signal.SIGKILL)
    wait_for_end(fds)


def test_a_guard_that_is_killed_takes_the_engine_with_it(tmp_path: Path) -> None:
    engine = server(tmp_path, LONE)
    engine.start()
    engine.log_path.touch()
    fds = [os.pidfd_open(pid) for pid in family(engine.log_path)]
    assert engine.pid is not None
    os.kill(engine.pid, signal.SIGKILL)
    wait_for_end(fds)
    engine.stop()
