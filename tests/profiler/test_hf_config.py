"""A model's numbers follow from its config.json, wherever that is found."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.architecture import HfConfig, active_params, total_params
from profiler.errors import InputError
from profiler.hf_config import model_from_hf
from tests.profiler.hf_configs import CONFIGS, PUBLISHED_PARAMS, decoder, llama, write_config


def read(tmp_path: Path, config: dict[str, Any], name: str = "My-Model") -> Any:
    return model_from_hf(str(write_config(tmp_path / name, config)))


@pytest.mark.parametrize("name", PUBLISHED_PARAMS)
def test_parameters_match_the_published_count(name: str) -> None:
    config = HfConfig(CONFIGS[name], name)
    assert total_params(config) == pytest.approx(PUBLISHED_PARAMS[name], rel=1e-3)


@pytest.mark.parametrize(
    ("name", "billions"),
    [("mixtral-8x7b", 12.88), ("qwen3-30b-a3b", 3.35), ("qwen3-235b-a22b", 22.19)],
)
def test_only_the_chosen_experts_are_active(name: str, billions: float) -> None:
    assert active_params(HfConfig(CONFIGS[name], name)) / 1e9 == pytest.approx(billions, abs=0.005)


@given(
    layers=st.integers(1, 20),
    heads=st.sampled_from([1, 2, 4, 8]),
    experts=st.integers(1, 16),
    chosen=st.integers(1, 16),
)
def test_active_never_exceeds_total(layers: int, heads: int, experts: int, chosen: int) -> None:
    chosen = min(chosen, experts)
    moe = {"num_local_experts": experts, "num_experts_per_tok": chosen}
    config = HfConfig(decoder("mixtral", 64, layers, (8, heads), 128, 1000, 512, **moe), "c")
    assert active_params(config) <= total_params(config)
    assert (active_params(config) == total_params(config)) == (chosen == experts)


def test_all_fields_come_from_the_config(tmp_path: Path) -> None:
    model = read(tmp_path, CONFIGS["llama-3.1-8b"])
    assert model.name == "my-model"
    assert (model.layers, model.hidden_size, model.kv_heads, model.head_dim) == (32, 4096, 8, 128)
    assert model.context_tokens == 131072
    assert (model.weight_dtype, model.kv_dtype) == ("bf16", "bf16")
    assert model.active_params == model.total_params
    assert model.kv_bytes_per_token == 131072


def test_a_file_and_its_directory_are_the_same_source(tmp_path: Path) -> None:
    directory = write_config(tmp_path / "m", CONFIGS["qwen3-8b"])
    assert model_from_hf(str(directory / "config.json")) == model_from_hf(str(directory))
    assert model_from_hf(str(directory), "mine").name == "mine"


def test_weights_are_the_directory_or_the_remembered_hub_name(tmp_path: Path) -> None:
    config = {**CONFIGS["qwen3-8b"], "_name_or_path": "Qwen/Qwen3-8B"}
    directory = write_config(tmp_path / "m", config)
    assert model_from_hf(str(directory)).weights == "Qwen/Qwen3-8B"
    (directory / "model.safetensors").touch()
    assert model_from_hf(str(directory)).weights == str(directory)


def test_biases_and_shared_experts_count() -> None:
    plain = total_params(HfConfig(llama(64, 2, (4, 2), 128), "c"))
    biased = total_params(
        HfConfig(llama(64, 2, (4, 2), 128, attention_bias=True, mlp_bias=True), "c")
    )
    assert biased - plain == 2 * ((64 + 2 * 32) + 64 + (2 * 128 + 64))

    moe = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    config = decoder("qwen2_moe", 64, 2, (4, 4), 128, 1000, 512, **moe)
    shared = {**config, "shared_expert_intermediate_size": 48}
    gained = total_params(HfConfig(shared, "c")) - total_params(HfConfig(config, "c"))
    assert gained == 2 * (3 * 64 * 48 + 64)


def test_layers_that_stay_dense_have_no_experts() -> None:
    moe = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    config = decoder("qwen3_moe", 64, 2, (4, 4), 128, 1000, 512, **moe)
    part = {**config, "mlp_only_layers": [0]}
    lost = total_params(HfConfig(config, "c")) - total_params(HfConfig(part, "c"))
    assert lost == (4 * 3 * 64 * 32 + 64 * 4) - 3 * 64 * 128


def test_phi3_mini_matches_its_published_count() -> None:
    config = decoder("phi3", 3072, 32, (32, 32), 8192, 32064, 4096, tie_word_embeddings=False)
    assert total_params(HfConfig(config, "phi-3-mini")) == 3_821_079_552


def test_mistral_matches_its_published_count_by_architecture_alone() -> None:
    config = decoder("mistral", 4096, 32, (32, 8), 14336, 32768, 32768)
    config = {**config, "architectures": ["MistralForCausalLM"], "model_type": None}
    assert total_params(HfConfig(config, "mistral-7b-v0.3")) == 7_248_023_552


def test_the_text_part_of_a_multimodal_config_is_read(tmp_path: Path) -> None:
    text = decoder("gemma3_text", 2560, 34, (8, 4), 10240, 262208, 131072, head_dim=256)
    model = read(
        tmp_path, {"model_type": "gemma3", "text_config": text, "vision_config": {"hidden_size": 1}}
    )
    assert model.total_params == pytest.approx(3.88e9, rel=1e-3)
    assert model.hidden_size == 2560


@pytest.mark.parametrize(
    ("scaling", "expected"),
    [
        (None, 32768),
        ({"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192}, 32768),
        ({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}, 131072),
        ({"rope_type": "linear", "factor": 2.0}, 65536),
    ],
)
def test_rope_scaling_stretches_the_context(
    tmp_path: Path, scaling: dict[str, Any] | None, expected: int
) -> None:
    config = {**CONFIGS["qwen2.5-7b"], "rope_scaling": scaling}
    assert read(tmp_path, config).context_tokens == expected


FP8_GROUP = {"config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "float"}}}}
INT4_GROUP = {"config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "int"}}}}
FP8_KV = {"kv_cache_scheme": {"num_bits": 8, "type": "float"}}


@pytest.mark.parametrize(
    ("quantisation", "weights", "kv"),
    [
        (None, "bf16", "bf16"),
        ({"quant_method": "fp8"}, "fp8", "bf16"),
        ({"quant_method": "awq", "bits": 4}, "int4", "bf16"),
        ({"quant_method": "gptq", "bits": 8}, "int8", "bf16"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "int4", "bf16"),
        ({"quant_method": "compressed-tensors", **INT4_GROUP}, "int4", "bf16"),
        ({"quant_method": "compressed-tensors", **FP8_GROUP, **FP8_KV}, "fp8", "fp8"),
    ],
)
def test_quantisation_sets_the_weight_dtype(
    tmp_path: Path, quantisation: dict[str, Any] | None, weights: str, kv: str
) -> None:
    model = read(tmp_path, {**CONFIGS["llama-3.1-8b"], "quantization_config": quantisation})
    assert (model.weight_dtype, model.kv_dtype) == (weights, kv)


def test_dtype_has_an_old_and_a_new_key(tmp_path: Path) -> None:
    old = {**CONFIGS["smollm2-135m"], "torch_dtype": "float16"}
    assert read(tmp_path, old).weight_dtype == "fp16"
    assert read(tmp_path, {**old, "dtype": "float32"}).weight_dtype == "fp32"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_hidden_layers": None}, "missing key 'num_hidden_layers'"),
        ({"hidden_size": "big"}, "hidden_size: found 'big', expected a positive number"),
        ({"vocab_size": 0}, "vocab_size: found 0"),
        ({"model_type": "lama"}, "model_type: found 'lama'.*nearest: 'llama'"),
        ({"model_type": None}, "missing key 'model_type'"),
        ({"torch_dtype": "complex64"}, "torch_dtype: found 'complex64'"),
        ({"quantization_config": {"quant_method": "odd"}}, "quant_method 'odd'; give weight_dtype"),
    ],
)
def test_a_faulty_config_names_file_and_key(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=rf"config\.json: .*{message}"):
        read(tmp_path, {**CONFIGS["llama-3.1-8b"], **change})


def test_broken_json_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{\n"hidden_size": 1,\n}', encoding="utf-8")
    with pytest.raises(InputError, match=r"config\.json:[23]: not valid JSON"):
        model_from_hf(str(tmp_path))
    (tmp_path / "config.json").write_text("[]", encoding="utf-8")
    with pytest.raises(InputError, match="found a list, expected a JSON object"):
        model_from_hf(str(tmp_path))


def test_a_missing_source_says_what_would_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such file or directory; expected a config\.json"):
        model_from_hf(str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match=r"config\.json: no such file"):
        model_from_hf(str(tmp_path))


class TestHub:
    @pytest.fixture(autouse=True)
    def cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        constants = pytest.importorskip("huggingface_hub.constants")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        return tmp_path / "hub"

    def test_a_cached_hub_name_needs_no_network(self, cache: Path) -> None:
        repository = cache / "models--Qwen--Qwen3-8B"
        revision = "0" * 40
        write_config(repository / "snapshots" / revision, CONFIGS["qwen3-8b"])
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(revision, encoding="utf-8")
        model = model_from_hf("Qwen/Qwen3-8B")
        assert (model.name, model.weights) == ("qwen3-8b", "Qwen/Qwen3-8B")

    @pytest.mark.parametrize("name", ["Qwen/Absent", "not--a/hub..name"])
    def test_offline_and_not_cached_says_how_to_mend(self, name: str) -> None:
        with pytest.raises(InputError, match=rf"{name}: .*pass the path of a local config"):
            model_from_hf(name)


def test_relative_paths_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_config(tmp_path / "tiny", CONFIGS["smollm2-135m"])
    monkeypatch.chdir(tmp_path)
    assert model_from_hf("tiny/config.json").name == "tiny"
    monkeypatch.chdir(tmp_path / "tiny")
    assert model_from_hf(".").name == "tiny"
    assert json.loads(Path("config.json").read_text(encoding="utf-8"))
    assert os.sep in model_from_hf(".").weights
