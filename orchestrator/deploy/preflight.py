"""What must hold before anything is started on this machine, each with its mend."""

from __future__ import annotations

import errno
import importlib.util
import os
import socket
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from placement.plan import Plan
from profiler.catalog import load_catalog
from profiler.engine import vllm_missing
from profiler.errors import ClusterError, InputError
from profiler.hardware import FoundGpu, find_hardware
from serve_apps.pool import emulated_settings, engine_settings

HOST = "127.0.0.1"
RAY_BYTES = 1.1 * 2**30
"""What Ray, Ray Serve and the ingress take beside the engines (measured with Ray 2.60)."""

MOST_EMULATED_PER_CORE = 8
"""Emulated engines take little to run, but about two seconds of a core each to start."""


def check_installed(*, emulate: bool = False) -> None:
    """
    Raises:
        ClusterError: Ray Serve or vLLM is not installed; emulated engines need no vLLM.
    """
    if not all(_installed(m) for m in ("ray", "starlette", "prometheus_client", "httptools")):
        raise ClusterError(
            "Ray Serve is not installed; to mend it: pip install 'llm-orchestrator[serve]'"
        )
    if not emulate and not _installed("vllm"):
        raise ClusterError(vllm_missing())


def check_port(port: int, host: str = HOST) -> None:
    """Whether the address can be listened on.

    Raises:
        InputError: something listens on the port already.
    """
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind((host, port))
        except PermissionError:
            raise InputError(f"port {port} needs root; choose one above 1023 with --port") from None
        except OSError as error:
            if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
                raise InputError(
                    f"this machine has no IPv4 address {host!r}; choose another with --host"
                ) from None
            owner = _listener(port)
            by = f" by {owner}" if owner else ""
            raise InputError(
                f"port {port} on {host} is in use{by}; choose another with --port"
            ) from None


def check_accelerators(plan: Plan, gpus: Sequence[FoundGpu]) -> None:
    """``gpus`` are this machine's. A type of the user's own may be any that the catalog lacks.

    Raises:
        ClusterError: the plan needs GPUs that this machine does not have.
    """
    needed: Counter[str] = Counter()
    for group in plan.groups:
        if plan.gpus[group.config.gpu].vendor != "cpu":
            needed[group.config.gpu] += group.replicas * group.config.tensor_parallel
    present = Counter(g.gpu_type for g in gpus)
    known = load_catalog().gpus if needed else {}
    for gpu, count in sorted(needed.items()):
        have = present[gpu] if gpu in known else present[None]
        if have < count:
            names = Counter(g.name for g in gpus)
            found = ", ".join(f"{n} x {name}" for name, n in sorted(names.items()))
            raise ClusterError(
                f"the plan needs {count} x {gpu}, this machine has {found or 'no NVIDIA GPU'}; "
                "plan for what is here, or deploy to another target"
            )


def check_memory(plan: Plan, available_bytes: float, *, emulate: bool = False) -> None:
    """An estimate: engines on the ``cpu`` type, or emulated, must fit into RAM beside Ray.

    Raises:
        ClusterError: they do not.
    """
    weights = dict.fromkeys(plan.models, "")
    settings = emulated_settings(plan, "") if emulate else engine_settings(plan, weights, "", ())
    engines = [s for s in settings.values() if s.memory_bytes]
    if not engines:
        return
    needed = RAY_BYTES + sum(s.replicas * s.memory_bytes for s in engines)
    if needed > available_bytes:
        parts = ", ".join(
            f"{s.replicas} x {s.group} {s.memory_bytes / 1e9:.1f} GB" for s in engines
        )
        raise ClusterError(
            f"the plan needs about {needed / 1e9:.1f} GB of memory ({parts}, Ray "
            f"{RAY_BYTES / 1e9:.1f} GB; estimated), {available_bytes / 1e9:.1f} GB are available; "
            "use fewer replicas, or lower max_num_seqs or max_model_len"
        )


def more_that_fit(
    plan: Plan, group: str, wanted: Mapping[str, int], starting: Mapping[str, int], emulate: bool
) -> int:
    """How many more replicas of a group this machine can hold (memory is an estimate).

    ``wanted`` are replicas by group, of which ``starting`` have not taken their memory yet.
    """
    weights = dict.fromkeys(plan.models, "")
    settings = emulated_settings(plan, "") if emulate else engine_settings(plan, weights, "", ())
    mine = settings[group]
    room = MOST_EMULATED_PER_CORE * len(os.sched_getaffinity(0)) - sum(wanted.values())
    if mine.memory_bytes:
        promised = sum(n * settings[name].memory_bytes for name, n in starting.items())
        fit = int((available_memory_bytes() - promised) // mine.memory_bytes)
        return min(fit, room) if emulate else fit
    kind, known = mine.config.gpu, load_catalog().gpus
    present = Counter(g.gpu_type for g in find_hardware().gpus)
    taken = sum(
        wanted[g.name] * g.config.tensor_parallel for g in plan.groups if g.config.gpu == kind
    )
    return (present[kind if kind in known else None] - taken) // mine.config.tensor_parallel


def available_memory_bytes() -> float:
    """RAM that can be had without swapping, as the kernel estimates it."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return float(line.split()[1]) * 1024
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES"))


def _installed(module: str) -> bool:
    """Whether a top-level module can be imported; does not import it."""
    return importlib.util.find_spec(module) is not None


def _listener(port: int) -> str | None:
    """The program that listens on a TCP port, where this user may see it."""
    inodes = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
            inodes.add(f"socket:[{fields[9]}]")
    for fd in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if str(fd.readlink()) in inodes:
                process = fd.parent.parent
                return f"{(process / 'comm').read_text().strip()} (process {process.name})"
        except OSError:
            continue
    return None
