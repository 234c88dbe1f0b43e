"""One engine: its OpenAI API server as a child process, started, watched and ended.

The engine runs under `profiler.guard`, so it ends with whoever started it, even when that is
killed. The engine's own HTTP port is the interface; nothing of vLLM is imported here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from profiler import guard, logtail
from profiler.core import GpuType, ModelSpec, ReplicaConfig
from profiler.errors import EngineError

POLL_S = 0.1
DEFAULT_KV_CACHE_GIB = 1


@dataclasses.dataclass(frozen=True)
class Launch:
    """Everything that decides how an engine process is started.

    ``weights`` is a local directory or a hub name. ``cpu_cores`` and ``kv_cache_gib`` matter on
    the ``cpu`` type only: the cores it has to itself, a thread for each (None: all of the
    machine but one), and the memory of its KV cache.
    """

    config: ReplicaConfig
    model: ModelSpec
    gpu: GpuType
    weights: str
    port: int
    host: str = "127.0.0.1"
    cpu_cores: tuple[int, ...] | None = None
    kv_cache_gib: int = DEFAULT_KV_CACHE_GIB


Command = Callable[[Launch], list[str]]


def vllm_command(launch: Launch) -> list[str]:
    """The command line of vLLM's API server.

    On the CPU: float32, because bfloat16 gives wrong text on some CPUs; no torch.compile, which
    costs minutes at the first start and gains about a tenth in speed. ``extra_args`` come last,
    so ``--no-enforce-eager`` there brings it back.

    Raises:
        EngineError: vLLM is not installed.
    """
    options = launch.config.engine
    args = [sys.executable, "-m", _api_server()]
    args += ["--model", launch.weights, "--served-model-name", launch.config.model]
    args += ["--host", launch.host, "--port", str(launch.port), "--disable-uvicorn-access-log"]
    args += ["--max-num-seqs", str(options.max_num_seqs)]
    args += ["--max-num-batched-tokens", str(options.max_num_batched_tokens)]
    if options.max_model_len is not None:
        args += ["--max-model-len", str(options.max_model_len)]
    if launch.config.tensor_parallel > 1:
        args += ["--tensor-parallel-size", str(launch.config.tensor_parallel)]
    if launch.gpu.vendor == "cpu":
        args += ["--dtype", "float32", "--enforce-eager"]
    else:
        args += ["--gpu-memory-utilization", str(options.gpu_memory_utilization)]
        if launch.model.kv_dtype == "fp8":
            args += ["--kv-cache-dtype", "fp8"]
    return [*args, *options.extra_args]


def _api_server() -> str:
    """The module of the installed vLLM that serves the API when run.

    vLLM moved it and warns of the old place, which all versions from 0.10 to 0.32 have. Its files
    are looked at, since importing them takes seconds.
    """
    spec = importlib.util.find_spec("vllm")
    if spec is None:
        raise EngineError(vllm_missing())
    moved = Path("entrypoints", "launchers", "api_server", "entry.py")
    if any(Path(root, moved).is_file() for root in spec.submodule_search_locations or ()):
        return ".".join(("vllm", *moved.with_suffix("").parts))
    return "vllm.entrypoints.openai.api_server"


def vllm_missing() -> str:
    """What to tell a user on whose machine vLLM is not installed."""
    return (
        f"vLLM is not installed for {sys.executable}; to mend it: "
        "pip install 'llm-orchestrator[gpu]' on a machine with NVIDIA GPUs, or 'make install' "
        "in a checkout for vLLM's CPU build"
    )


def environment(launch: Launch, base: Mapping[str, str]) -> dict[str, str]:
    """The engine's environment: ``base``, no usage reports, and the CPU's sizes when on it."""
    env = dict(base) | {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    if Path(launch.weights).is_dir():
        env |= {"HF_HUB_OFFLINE": "1"}
    if launch.gpu.vendor == "cpu":
        env["VLLM_CPU_KVCACHE_SPACE"] = str(launch.kv_cache_gib)
        env |= _cpu_threads(launch, env)
    return env


def _cpu_threads(launch: Launch, env: Mapping[str, str]) -> dict[str, str]:
    """Threads of a CPU engine: its cores, or all but one, which its scheduler and server need.

    A single rank runs inside the engine's core process, without vLLM's worker process: it starts
    a third sooner and takes 0.7 GB less, at the same speed (vllm-cpu 0.32.0, 2 cores). vLLM then
    leaves the threads to OpenMP. Several ranks are pinned by vLLM. What the user set wins.
    """
    cores = launch.cpu_cores
    if launch.config.tensor_parallel > 1 or env.get("VLLM_ENABLE_V1_MULTIPROCESSING") == "1":
        ranks = launch.config.tensor_parallel
        bind = "|".join([",".join(map(str, cores or ()))] * ranks)
        return {"VLLM_CPU_OMP_THREADS_BIND": bind} if cores else {}
    threads = len(cores) if cores else max(1, len(os.sched_getaffinity(0)) - 1)
    return {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "OMP_NUM_THREADS": env.get("OMP_NUM_THREADS", str(threads)),
    }


class EngineServer(ABC):
    """An engine's process. Use as a context manager, or call `start`, `wait_ready` and `stop`.

    The thread that calls `start` must outlive the engine: the kernel ends the engine with it.
    """

    def __init__(
        self,
        name: str,
        port: int,
        *,
        log_path: Path,
        host: str = "127.0.0.1",
        stop_grace_s: float = 5.0,
    ) -> None:
        """Nothing starts yet. ``name`` is for messages."""
        self.name = name
        self.host = host
        self.port = port
        self.log_path = log_path
        self._stop_grace_s = stop_grace_s
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()

    @abstractmethod
    def _command(self) -> list[str]:
        """The engine's command line."""

    def _environment(self) -> dict[str, str]:
        """The engine's environment."""
        return dict(os.environ)

    @property
    def url(self) -> str:
        """Base URL of the engine's own HTTP server, without a trailing slash."""
        return f"http://{self.host}:{self.port}"

    @property
    def pid(self) -> int | None:
        """Process id of the engine's guard, which leads its process group; None before start."""
        return self._process.pid if self._process else None

    @property
    def alive(self) -> bool:
        """Whether the engine process runs; it need not be ready."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the process; returns at once.

        Raises:
            EngineError: the engine is not installed, or the log cannot be written.
        """
        command = self._command()
        guarded = [sys.executable, "-I", "-S", str(guard.__file__)]
        guarded += [str(os.getpid()), str(self._stop_grace_s), *command]
        try:
            self.log_path.parent.mkdir(parents=True, exist_ok=True)
            with self.log_path.open("ab") as log:
                self._process = subprocess.Popen(
                    guarded,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=self._environment(),
                    start_new_session=True,
                )
        except OSError as error:
            raise EngineError(f"{self.log_path}: {error.strerror}: cannot start") from None

    def wait_ready(self, timeout_s: float) -> None:
        """Block until the engine answers ``/health``.

        Raises:
            EngineError: the process ended, was stopped, or is not ready after ``timeout_s``.
        """
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if not self.alive:
                raise self._died()
            if self.healthy():
                return
            if self._stopping.wait(POLL_S):
                raise EngineError(f"engine {self.name} was stopped while it started")
        raise EngineError(
            f"engine {self.name} was not ready after {timeout_s:.0f} s; its log: {self.log_path}",
            logtail.tail(self.log_path),
        )

    def healthy(self, timeout_s: float = 5.0) -> bool:
        """Whether the engine answers its health check now."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout_s)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def stop(self) -> None:
        """End the engine and all its processes: SIGTERM, then SIGKILL. Safe to call twice."""
        self._stopping.set()
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(self._stop_grace_s + 5)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _died(self) -> EngineError:
        name = self.name
        if self._process is None:
            return EngineError(f"engine {name} was never started")
        code = self._process.returncode
        how = (
            f"was ended by {_signal_name(code - 128)}" if code > 128 else f"ended with code {code}"
        )
        cause = logtail.cause(self.log_path)
        return EngineError(
            f"engine {name} {how} before it was ready"
            f"{': ' + cause if cause else ''}; its log: {self.log_path}",
            logtail.tail(self.log_path),
        )


class VllmServer(EngineServer):
    """vLLM's API server."""

    def __init__(
        self,
        config: ReplicaConfig,
        model: ModelSpec,
        gpu: GpuType,
        weights: str,
        *,
        log_path: Path,
        host: str = "127.0.0.1",
        cpu_cores: Sequence[int] | None = None,
        kv_cache_gib: int = DEFAULT_KV_CACHE_GIB,
        command: Command = vllm_command,
        stop_grace_s: float = 5.0,
    ) -> None:
        """Nothing starts yet; ``command`` can be replaced to run something else than vLLM."""
        port = free_port(host)
        super().__init__(config.key, port, log_path=log_path, host=host, stop_grace_s=stop_grace_s)
        cores = tuple(cpu_cores) if cpu_cores else None
        self.launch = Launch(config, model, gpu, weights, port, host, cores, kv_cache_gib)
        self._command_of = command

    def _command(self) -> list[str]:
        return self._command_of(self.launch)

    def _environment(self) -> dict[str, str]:
        return environment(self.launch, os.environ)


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that was free a moment ago, and that no other caller on this machine is given
    while this process lives."""
    while True:
        with socket.socket() as s:
            s.bind((host, 0))
            port: int = s.getsockname()[1]
        if _claim(port):
            return port


def _claim(port: int) -> bool:
    """Claim a port among programs like this one, by a Unix socket's name without a file (Linux).

    Engines listen seconds after their port was chosen; of several that start at a time on one
    machine two would now and then be given the same one, and one of them pass for the other.
    """
    if sys.platform != "linux":
        return True
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        claim.bind(f"\0orchestrator-port-{port}")
    except OSError:
        claim.close()
        return False
    claim.detach()  # held until this process ends
    return True


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
