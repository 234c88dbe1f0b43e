"""Power is the mean of NVML's samples; without NVML there is none, and no trouble."""

from __future__ import annotations

import sys
import threading

import pytest

from profiler.hardware import read_power_w
from profiler.power import PowerMeter
from tests.profiler.test_hardware import fake_nvml


def test_the_mean_of_the_samples_is_told():
    readings = iter([100.0, 200.0, 300.0])
    enough = threading.Event()

    def read() -> float | None:
        watts = next(readings, None)
        if watts is None:
            enough.set()
        return watts

    meter = PowerMeter(read, every_s=0.001)
    with meter.running():
        assert enough.wait(10)
    assert meter.mean_w == pytest.approx(200.0)


def test_each_stretch_has_its_own_mean():
    readings = iter([100.0, 300.0])
    meter = PowerMeter(lambda: next(readings), every_s=1000.0)
    means = []
    for _ in range(2):
        with meter.running():
            pass
        means.append(meter.mean_w)
    assert means == [100.0, 300.0]


def test_without_a_reading_there_is_no_mean():
    meter = PowerMeter(lambda: None)
    with meter.running():
        pass
    assert meter.mean_w is None


def test_watts_of_all_gpus_are_summed(monkeypatch):
    nvml = fake_nvml(("NVIDIA L4", 24.2), ("NVIDIA L4", 24.2))
    nvml.nvmlDeviceGetPowerUsage = lambda gpu: 71_500
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert read_power_w() == 143.0
    assert nvml.closed


@pytest.mark.parametrize(
    "nvml",
    [None, fake_nvml(fails="nvmlInit"), fake_nvml(fails="nvmlDeviceGetCount"), fake_nvml()],
    ids=["no package", "no driver", "broken", "no device"],
)
def test_without_nvml_there_are_no_watts(monkeypatch, nvml):
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert read_power_w() is None
