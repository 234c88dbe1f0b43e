"""The machine's GPUs get their catalog names; without NVML there is a CPU and a reason."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from profiler.hardware import find_hardware, gpu_type_of


def fake_nvml(*gpus: tuple[str | bytes, float], fails: str | None = None) -> ModuleType:
    """A pynvml that lists (name, decimal GB), or whose call named ``fails`` raises."""
    nvml = ModuleType("pynvml")

    class NVMLError(Exception):
        pass

    def answer(name, value):
        def call(*args):
            if name == fails:
                raise NVMLError("Driver Not Loaded")
            return value(*args)

        setattr(nvml, name, call)

    nvml.NVMLError = NVMLError
    nvml.closed = False
    answer("nvmlInit", lambda: None)
    answer("nvmlShutdown", lambda: setattr(nvml, "closed", True))
    answer("nvmlSystemGetDriverVersion", lambda: "570.1")
    answer("nvmlDeviceGetCount", lambda: len(gpus))
    answer("nvmlDeviceGetHandleByIndex", lambda i: gpus[i])
    answer("nvmlDeviceGetName", lambda gpu: gpu[0])
    answer("nvmlDeviceGetMemoryInfo", lambda gpu: SimpleNamespace(total=gpu[1] * 1e9))
    return nvml


@pytest.mark.parametrize(
    ("name", "memory_gb", "gpu_type"),
    [
        ("Tesla T4", 16.1, "T4"),
        ("NVIDIA L4", 24.2, "L4"),
        ("NVIDIA L40", 48.3, None),
        ("NVIDIA L40S", 48.3, "L40S"),
        ("NVIDIA A10", 24.1, None),
        ("NVIDIA A10G", 24.1, "A10G"),
        ("NVIDIA A30", 25.3, "A30"),
        ("NVIDIA A40", 48.3, "A40"),
        ("NVIDIA A100-SXM4-40GB", 42.4, "A100-40GB"),
        ("A100-PCIE-40GB", 42.4, "A100-40GB"),
        ("NVIDIA A100-SXM4-80GB", 85.9, "A100-80GB"),
        ("NVIDIA A100 80GB PCIe", 85.9, "A100-80GB"),
        ("NVIDIA H100 80GB HBM3", 85.5, "H100"),
        ("NVIDIA H100 PCIe", 85.5, None),
        ("NVIDIA H100 NVL", 100.4, None),
        ("NVIDIA GH200 480GB", 102.0, None),
        ("NVIDIA H200", 150.7, "H200"),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", 5.1, None),
        ("NVIDIA GeForce RTX 4090", 25.7, None),
    ],
)
def test_nvml_names_map_to_catalog_names(name, memory_gb, gpu_type):
    assert gpu_type_of(name, memory_gb) == gpu_type


def test_gpus_are_listed_with_the_driver(monkeypatch):
    nvml = fake_nvml(("NVIDIA L4", 24.2), (b"NVIDIA A100-SXM4-80GB", 85.9))
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    found = find_hardware()
    assert [(g.index, g.gpu_type, g.memory_gb) for g in found.gpus] == [
        (0, "L4", 24.2),
        (1, "A100-80GB", 85.9),
    ]
    assert (found.driver, found.note) == ("570.1", None)
    assert nvml.closed


@pytest.mark.parametrize(
    ("nvml", "reason"),
    [
        (None, "nvidia-ml-py is not installed"),
        (fake_nvml(fails="nvmlInit"), "no NVIDIA GPUs: NVML says driver not loaded"),
        (fake_nvml(("NVIDIA L4", 24.2), fails="nvmlDeviceGetName"), "could not be read"),
        (fake_nvml(), "NVML lists none"),
    ],
    ids=["no package", "no driver", "broken", "no device"],
)
def test_without_gpus_the_note_says_why(monkeypatch, nvml, reason):
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    found = find_hardware()
    assert found.gpus == ()
    assert reason in found.note
    assert found.cpu.name and found.cpu.cores >= 1 and found.cpu.memory_gb > 0
