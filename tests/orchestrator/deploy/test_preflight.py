"""What is missing on this machine is said before anything is started, with its mend."""

import importlib.util
import socket

import pytest

from orchestrator.deploy import preflight
from profiler.errors import ClusterError, InputError
from profiler.hardware import FoundGpu, gpu_type_of
from tests.plan_builders import group, plan


def test_a_port_in_use_is_named_with_its_owner_and_the_option() -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        with pytest.raises(InputError, match=rf"port {port} .* in use by .*process.*--port"):
            preflight.check_port(port)
    preflight.check_port(port)


@pytest.mark.parametrize(("missing", "mend"), [("ray", r"\[serve\]"), ("vllm", r"\[gpu\]")])
def test_a_missing_package_is_named_with_its_command(
    monkeypatch: pytest.MonkeyPatch, missing: str, mend: str
) -> None:
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == missing else object()
    )
    with pytest.raises(ClusterError, match=f"(?i){missing}.*pip install.*{mend}"):
        preflight.check_installed()


def test_emulated_engines_need_neither_vllm_nor_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "vllm" else object()
    )
    preflight.check_installed(emulate=True)
    p = plan((group("a", gpu="L4", replicas=40), group("b", gpu="cpu", replicas=2)))
    preflight.check_memory(p, 64e9, emulate=True)
    with pytest.raises(ClusterError, match=r"needs about .*40 x a .*2 x b"):
        preflight.check_memory(p, 4e9, emulate=True)


def found(*devices: tuple[str, float]) -> list[FoundGpu]:
    """GPUs as NVML names them, with their memory in GB."""
    return [FoundGpu(i, n, gb, gpu_type_of(n, gb)) for i, (n, gb) in enumerate(devices)]


def test_gpus_that_are_not_here_are_counted() -> None:
    p = plan((group("a", gpu="L4", replicas=4), group("b", gpu="cpu")))
    with pytest.raises(ClusterError, match="needs 4 x L4, this machine has no NVIDIA GPU"):
        preflight.check_accelerators(p, [])
    with pytest.raises(ClusterError, match="needs 4 x L4, this machine has 2 x NVIDIA L4"):
        preflight.check_accelerators(p, found(*[("NVIDIA L4", 24.2)] * 2))
    preflight.check_accelerators(p, found(*[("NVIDIA L4", 24.2)] * 4))


@pytest.mark.parametrize(
    ("gpu", "device", "memory_gb", "same"),
    [
        ("A100-80GB", "NVIDIA A100-SXM4-80GB", 85.9, True),
        ("A100-80GB", "NVIDIA A100-PCIE-40GB", 42.9, False),
        ("A100-40GB", "NVIDIA A100-PCIE-40GB", 42.9, True),
        ("L4", "NVIDIA L40S", 48.3, False),
        ("H100", "NVIDIA H100 80GB HBM3", 85.5, True),
        ("H100", "NVIDIA H100 NVL", 100.0, False),
        ("my-own-type", "NVIDIA H100 NVL", 100.0, True),
        ("my-own-type", "NVIDIA H100 80GB HBM3", 85.5, False),
    ],
)
def test_a_gpu_is_what_profiling_takes_it_for(
    gpu: str, device: str, memory_gb: float, same: bool
) -> None:
    p = plan((group("a", gpu=gpu),))
    if same:
        preflight.check_accelerators(p, found((device, memory_gb)))
    else:
        with pytest.raises(ClusterError):
            preflight.check_accelerators(p, found((device, memory_gb)))


def test_cpu_engines_must_fit_into_memory() -> None:
    p = plan((group("a", replicas=2),))
    preflight.check_memory(p, 64e9)
    with pytest.raises(ClusterError, match=r"needs about .* GB .*2 x a .* 4\.0 GB are available"):
        preflight.check_memory(p, 4e9)
    preflight.check_memory(plan((group("a", gpu="L4"),)), 0)


def test_this_machine_can_be_asked() -> None:
    assert preflight.available_memory_bytes() > 0
