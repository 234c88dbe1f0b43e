"""A plan is tried against the service's own traffic, and against more of the same kind."""

from pathlib import Path

import numpy as np
import pytest

from orchestrator.loading import load_service
from orchestrator.traffic import TooFastError, busiest, faster, of_trace, scenario, traffic_of
from profiler.arrivals import PoissonArrivals
from profiler.generator import generate
from profiler.traces import write_trace
from tests.profiler.traces_for_tests import a_trace

SERVICE = """\
name: chat
models: [{model: llama-3.1-8b, workload: {rate_rps: 0.5, sizes: azure-chat}}]
gpus: [L40S]
slo: {ttft_s: 2.0, tpot_s: 0.06}
workload: {trace: t.csv, multiply_rate: 2}
"""


@pytest.fixture
def loaded(tmp_path: Path):
    write_trace(generate(PoissonArrivals(rate_rps=2), "azure-chat", 600), tmp_path / "t.csv")
    (tmp_path / "s.yaml").write_text(SERVICE)
    return load_service(tmp_path / "s.yaml")


def test_each_stream_has_the_rate_it_is_planned_for(loaded):
    rates = {s: t.trace.mean_rate_rps for s, t in traffic_of(loaded).items()}
    assert rates["auto"] == pytest.approx(4, rel=0.1)
    assert rates["llama-3.1-8b"] == pytest.approx(0.5, rel=0.1)


def test_shorter_traffic_goes_on_as_long_as_the_longest(loaded):
    drawn = scenario(traffic_of(loaded), 3)
    lengths = [t.duration_s for t in drawn.values()]
    assert lengths[0] == pytest.approx(lengths[1], rel=0.05)
    assert drawn["auto"].mean_rate_rps == pytest.approx(4, rel=0.1)


def test_generated_arrivals_are_generated_anew(tmp_path):
    (tmp_path / "s.yaml").write_text(
        SERVICE.replace(
            "trace: t.csv, multiply_rate: 2",
            "arrivals: {kind: poisson, rate_rps: 3}, sizes: azure-chat, duration_s: 300",
        )
    )
    auto = traffic_of(load_service(tmp_path / "s.yaml"))["auto"]
    one, same, other = (auto.again(s) for s in (1, 1, 2))
    np.testing.assert_array_equal(one.arrival_s, same.arrival_s)
    assert len({len(auto.trace), len(one), len(other)}) > 1


def test_of_a_long_trace_the_busiest_stretch_is_tried():
    trace = a_trace(np.concatenate([np.arange(50.0), 50 + np.arange(50) * 0.1, 60 + np.arange(50)]))
    found = busiest(trace, 40)
    assert len(found) == 40
    assert found.duration_s == pytest.approx(3.9)
    assert busiest(trace, 150) is trace


def test_once_the_rate_is_the_traffic_itself():
    traffic = of_trace(a_trace(np.arange(100.0)))
    assert faster(traffic, 1.0) is traffic
    assert len(faster(traffic, 2.0).trace) == 200


def test_a_rate_of_which_only_moments_could_be_tried_is_refused(tmp_path):
    text = SERVICE.replace("trace: t.csv, multiply_rate: 2", "rate_rps: 1e6, sizes: azure-chat")
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(TooFastError, match=r"1e\+06 requests/s .* last 0\.5 s"):
        traffic_of(load_service(tmp_path / "s.yaml"))
