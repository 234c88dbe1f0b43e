"""A question in names or in a service file becomes a table at the right prices."""

import pytest

from orchestrator.loading import load_service
from orchestrator.valuing import of_names, of_service, valuation
from profiler import documents
from profiler.catalog import load_catalog
from profiler.errors import InputError, UnknownNameError
from profiler.value import DEFAULT_SIZES
from tests.builders import slo

SERVICE = """\
name: chat
models: [{model: llama-3.1-8b, tensor_parallel: [1, 2]}]
gpus: [{type: L40S, usd_per_hour: 0.5}, H100]
slo: {ttft_s: 2.0, tpot_s: 0.06}
workload: {rate_rps: 5, sizes: azure-chat}
"""


def ask(models=("llama-3.1-8b",), gpus=("L4", "H100"), profiles=(), markets=("on_demand",)):
    return of_names(load_catalog(), models, gpus, profiles, slo(), markets, DEFAULT_SIZES)


def test_every_pair_has_a_cell_for_each_size_and_market():
    found = valuation(ask(("llama-3.1-8b", "qwen2.5-0.5b"), markets=("on_demand", "spot")))
    assert len(found.table.cells) == 2 * 2 * 2 * len(DEFAULT_SIZES)
    assert {g.name for g in found.gpus} == {"L4", "H100"}


def test_all_means_every_type_but_the_cpu():
    assert "cpu" not in {g.name for _, g in ask(gpus=["all"]).gpus}


def test_a_replica_costs_all_its_gpus():
    catalog = load_catalog()
    for cell in valuation(ask()).table.cells:
        price = catalog.gpu(cell.gpu).price.on_demand_usd_per_hour
        assert cell.usd_per_hour == pytest.approx(price * cell.tensor_parallel)


def test_a_service_brings_its_prices_and_tensor_parallel_sizes(tmp_path):
    path = tmp_path / "service.yaml"
    path.write_text(SERVICE)
    loaded = load_service(path)
    question = of_service(loaded, loaded.service.slo, ("on_demand", "spot"), DEFAULT_SIZES)
    cells = valuation(question).table.cells
    assert {c.tensor_parallel for c in cells if c.feasible} <= {1, 2}
    on_demand = [c for c in cells if c.gpu == "L40S" and c.market == "on_demand"]
    assert {c.usd_per_hour / c.tensor_parallel for c in on_demand} == {0.5}
    spot = [c for c in cells if c.gpu == "L40S" and c.market == "spot"]
    assert {c.usd_per_hour / c.tensor_parallel for c in spot} == {1.005}


def test_a_profile_file_takes_the_place_of_the_estimate(tmp_path):
    (estimate, *_) = valuation(ask(gpus=["H100"])).profiles
    source = estimate.provenance.model_copy(update={"kind": "measured", "tpot_error": 0.04})
    known = estimate.model_copy(update={"provenance": source})
    documents.write(tmp_path / "p.yaml", documents.dump(known))
    cells = valuation(ask(gpus=["H100"], profiles=[tmp_path / "p.yaml"])).table.cells
    assert {(c.basis, c.error) for c in cells} == {("measured", 0.04)}


def test_what_does_not_fit_keeps_its_reason():
    cells = valuation(ask(("llama-3.1-405b",), ("L4", "H200"))).table.cells
    assert all("does not fit" in c.reason for c in cells if c.gpu == "L4")


def test_nothing_to_compare_is_an_error():
    with pytest.raises(InputError, match="nothing can be compared: does not fit"):
        valuation(ask(("llama-3.1-405b",), ("L4",)))
    with pytest.raises(UnknownNameError, match="did you mean 'H100'"):
        ask(gpus=["H10"])
