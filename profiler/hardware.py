"""What this machine has: GPUs as NVML lists them, named as the catalog names them, and the CPU."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class FoundGpu:
    """One GPU; ``gpu_type`` is its catalog name, None where the catalog's figures do not fit it."""

    index: int
    name: str
    memory_gb: float
    gpu_type: str | None


@dataclass(frozen=True)
class FoundCpu:
    """The processor, the cores this process may use, and the memory it may fill (decimal GB)."""

    name: str
    cores: int
    memory_gb: float


@dataclass(frozen=True)
class Hardware:
    """All that was found; ``note`` says why there are no GPUs when there are none."""

    cpu: FoundCpu
    gpus: tuple[FoundGpu, ...] = ()
    driver: str | None = None
    note: str | None = None


def find_hardware() -> Hardware:
    """Look at this machine. Never raises: without NVML the answer is the CPU and a note."""
    cpu = FoundCpu(_cpu_name(), _cores(), _memory_bytes() / 1e9)
    try:
        import pynvml
    except ImportError:
        return Hardware(cpu, note="no GPUs looked for: the package nvidia-ml-py is not installed")
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return Hardware(cpu, note=f"no NVIDIA GPUs: NVML says {str(error).lower()}")
    try:
        driver = _text(pynvml.nvmlSystemGetDriverVersion())
        gpus = tuple(_gpu(pynvml, i) for i in range(pynvml.nvmlDeviceGetCount()))
    except pynvml.NVMLError as error:
        return Hardware(cpu, note=f"GPUs could not be read: NVML says {str(error).lower()}")
    finally:
        pynvml.nvmlShutdown()
    return Hardware(cpu, gpus, driver, None if gpus else "no NVIDIA GPUs: NVML lists none")


def read_power_w() -> float | None:
    """Watts all GPUs of this machine draw now; None where NVML is missing or does not tell."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        milliwatts = [pynvml.nvmlDeviceGetPowerUsage(handle) for handle in handles]
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()
    return sum(milliwatts) / 1e3 if milliwatts else None


def gpu_type_of(name: str, memory_gb: float) -> str | None:
    """The catalog name of a GPU that NVML calls ``name``.

    Variants with another bandwidth than the catalog's entry (H100 PCIe and NVL, A10, L40, MIG
    slices) have none: a profile made from the wrong figures is worse than a question.
    """
    words = set(re.split(r"[\s_-]+", name.removeprefix("NVIDIA ").upper()))
    if "MIG" in words:
        return None
    if "A100" in words:
        return "A100-80GB" if memory_gb > 60 else "A100-40GB"
    if "H100" in words:
        return "H100" if words.isdisjoint({"PCIE", "NVL"}) else None
    if "H200" in words:
        return "H200" if "NVL" not in words else None
    return next(
        (
            t
            for t in ("T4", "L4", "A10G", "A30", "A40", "L40S", "B200", "B300", "GB200")
            if t in words
        ),
        None,
    )


def _gpu(nvml: Any, index: int) -> FoundGpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    name = _text(nvml.nvmlDeviceGetName(handle))
    memory_gb = nvml.nvmlDeviceGetMemoryInfo(handle).total / 1e9
    return FoundGpu(index, name, memory_gb, gpu_type_of(name, memory_gb))


def _text(value: str | bytes) -> str:
    """Older NVML bindings answer bytes."""
    return value.decode() if isinstance(value, bytes) else value


def _cpu_name() -> str:
    try:
        info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        info = ""
    match = re.search(r"^model name\s*:\s*(.+)$", info, re.MULTILINE)
    return match[1].strip() if match else platform.processor() or platform.machine()


def _cores() -> int:
    """Cores that this process may run on, which a container may have narrowed."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory_bytes() -> int:
    """Physical memory, or the control group's limit where that is lower."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="utf-8").strip()
    except OSError:
        return physical
    return min(physical, int(limit)) if limit.isdigit() else physical
