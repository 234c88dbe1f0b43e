"""Counts a decoder's parameters from its Hugging Face config, by the arithmetic of its layers.

A family differs from Llama in few ways (biases, norms, experts), so each is a row of `FAMILIES`
and one formula serves all. Sources: the modelling files of the transformers library.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from profiler.errors import InputError, nearest


@dataclass(frozen=True)
class Family:
    """How a model type differs from Llama."""

    tied_by_default: bool = False
    qkv_bias: bool = False
    qk_norm: bool = False
    norms_per_layer: int = 2
    default_head_dim: int | None = None
    experts_key: str | None = None
    expert_size_key: str = "intermediate_size"
    mla: bool = False
    biased: bool = False  # every attention, router and expert matrix has a bias
    wide_qk_norm: bool = False  # over all heads at once, not one head


FAMILIES: dict[str, Family] = {
    "llama": Family(),
    "mistral": Family(),
    "mixtral": Family(experts_key="num_local_experts"),
    "qwen2": Family(qkv_bias=True),
    "qwen2_moe": Family(
        qkv_bias=True, experts_key="num_experts", expert_size_key="moe_intermediate_size"
    ),
    "qwen3": Family(qk_norm=True, default_head_dim=128),
    "qwen3_moe": Family(
        qk_norm=True, experts_key="num_experts", expert_size_key="moe_intermediate_size"
    ),
    "gemma2": Family(tied_by_default=True, norms_per_layer=4, default_head_dim=256),
    "gemma3_text": Family(
        tied_by_default=True, norms_per_layer=4, qk_norm=True, default_head_dim=256
    ),
    "phi3": Family(),
    "deepseek_v2": Family(
        mla=True, experts_key="n_routed_experts", expert_size_key="moe_intermediate_size"
    ),
    "deepseek_v3": Family(
        mla=True, experts_key="n_routed_experts", expert_size_key="moe_intermediate_size"
    ),
    "kimi_k2": Family(
        mla=True, experts_key="n_routed_experts", expert_size_key="moe_intermediate_size"
    ),
    "gpt_oss": Family(default_head_dim=64, experts_key="num_local_experts", biased=True),
    "minimax_m2": Family(wide_qk_norm=True, experts_key="num_local_experts"),
}

MODEL_TYPES = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "mistral",
    "MixtralForCausalLM": "mixtral",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen2MoeForCausalLM": "qwen2_moe",
    "Qwen3ForCausalLM": "qwen3",
    "Qwen3MoeForCausalLM": "qwen3_moe",
    "Gemma2ForCausalLM": "gemma2",
    "Gemma3ForCausalLM": "gemma3_text",
    "Phi3ForCausalLM": "phi3",
    "DeepseekV2ForCausalLM": "deepseek_v2",
    "DeepseekV3ForCausalLM": "deepseek_v3",
    "GptOssForCausalLM": "gpt_oss",
    "MiniMaxM2ForCausalLM": "minimax_m2",
}
"""Architecture name to model type, for configs that lack the latter."""


class HfConfig:
    """The text part of a ``config.json``; reading a key checks it.

    Raises:
        InputError: from any property, naming the file and the key, when it is missing or unfit.
    """

    def __init__(self, data: dict[str, Any], origin: str) -> None:
        text = data.get("text_config")
        self.data: dict[str, Any] = {**data, **text} if isinstance(text, dict) else data
        self.origin = origin

    def count(self, key: str, default: int | None = None) -> int:
        """A positive whole number."""
        value = self.data.get(key)
        if value is None and default is not None:
            return default
        if value is None:
            raise InputError(f"{self.origin}: missing key {key!r}, expected a positive number")
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"{self.origin}: {key}: found {value!r}, expected a positive number")
        return value

    @property
    def family(self) -> Family:
        """The arithmetic to use, found by ``model_type`` or the architecture's name."""
        architecture = next(iter(self.data.get("architectures") or []), None)
        kind = self.data.get("model_type") or MODEL_TYPES.get(str(architecture))
        if kind in FAMILIES:
            return FAMILIES[kind]
        if kind is None and architecture is None:
            raise InputError(f"{self.origin}: missing key 'model_type', expected a decoder's name")
        close = nearest(str(kind or architecture), FAMILIES)
        raise InputError(
            f"{self.origin}: model_type: found {kind or architecture!r}, whose parameters this "
            f"program cannot count{f' (nearest: {close!r})' if close else ''}; known: "
            f"{', '.join(FAMILIES)}. Write the model's numbers into a catalog file instead."
        )

    @property
    def heads(self) -> int:
        """Attention (query) heads."""
        return self.count("num_attention_heads")

    @property
    def kv_heads(self) -> int:
        """Key and value heads; as many as query heads where the config names none."""
        return self.count("num_key_value_heads", self.heads)

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        if self.family.mla:
            return self.count("v_head_dim")
        fallback = self.family.default_head_dim or self.count("hidden_size") // self.heads
        return self.count("head_dim", fallback)

    @property
    def kv_latent_dim(self) -> int | None:
        """Values that multi-head latent attention caches per token and layer; None without it."""
        if not self.family.mla:
            return None
        return self.count("kv_lora_rank") + self.count("qk_rope_head_dim")

    @property
    def experts(self) -> tuple[int, int] | None:
        """Routed experts in a layer and those one token uses; None in a dense model."""
        key = self.family.experts_key
        return None if key is None else (self.count(key), self.count("num_experts_per_tok"))

    @property
    def tied(self) -> bool:
        """Whether the output layer shares the embedding's weights."""
        return bool(self.data.get("tie_word_embeddings", self.family.tied_by_default))


def total_params(config: HfConfig) -> int:
    """All parameters of the decoder; a vision tower beside it is not counted."""
    return _fixed_params(config) + sum(
        _mlp_params(config, layer, active=False) for layer in range(_layers(config))
    )


def active_params(config: HfConfig) -> int:
    """Parameters one token passes through: of the routed experts, only those chosen."""
    return _fixed_params(config) + sum(
        _mlp_params(config, layer, active=True) for layer in range(_layers(config))
    )


def _layers(config: HfConfig) -> int:
    return config.count("num_hidden_layers")


def _fixed_params(config: HfConfig) -> int:
    """Everything but the feed-forward blocks."""
    hidden = config.count("hidden_size")
    embeddings = config.count("vocab_size") * hidden * (1 if config.tied else 2)
    per_layer = _attention_params(config) + config.family.norms_per_layer * hidden
    return embeddings + _layers(config) * per_layer + hidden


def _attention_params(config: HfConfig) -> int:
    if config.family.mla:
        return _mla_params(config)
    hidden = config.count("hidden_size")
    queries = config.heads * config.head_dim
    keys_values = 2 * config.kv_heads * config.head_dim
    weights = hidden * (queries + keys_values) + queries * hidden
    biased = bool(config.data.get("attention_bias"))
    sinks = config.heads * config.family.biased
    norms = 2 * config.head_dim * config.family.qk_norm
    norms += (queries + keys_values // 2) * config.family.wide_qk_norm
    bias = (queries + keys_values) * (biased or config.family.qkv_bias) + hidden * biased
    return weights + bias + norms + sinks


def _mla_params(config: HfConfig) -> int:
    """Latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1): projections down and up."""
    hidden, heads, latent = config.count("hidden_size"), config.heads, config.count("kv_lora_rank")
    rope, nope = config.count("qk_rope_head_dim"), config.count("qk_nope_head_dim")
    value = config.count("v_head_dim")
    queries = heads * (nope + rope)
    rank = config.data.get("q_lora_rank")
    query = hidden * rank + rank + rank * queries if rank else hidden * queries
    keys_values = hidden * (latent + rope) + latent + latent * heads * (nope + value)
    return int(query + keys_values + heads * value * hidden)


def _mlp_params(config: HfConfig, layer: int, *, active: bool) -> int:
    hidden = config.count("hidden_size")
    family = config.family
    if family.experts_key is None or _is_dense(config, layer):
        width = config.count("intermediate_size")
        bias = (2 * width + hidden) * bool(config.data.get("mlp_bias"))
        return 3 * hidden * width + bias
    experts = config.count(family.experts_key)
    passed = config.count("num_experts_per_tok") if active else experts
    width = config.count(family.expert_size_key)
    shared_width = config.data.get("shared_expert_intermediate_size") or 0
    shared = 3 * hidden * shared_width + hidden * bool(shared_width)  # with its gate
    shared += 3 * hidden * width * int(config.data.get("n_shared_experts") or 0)
    # A bias of the router, or the score correction that DeepSeek-V3 and MiniMax balance it by.
    biased_router = family.biased or config.data.get("scoring_func") == "sigmoid"
    router = hidden * experts + experts * biased_router
    each = 3 * hidden * width + (2 * width + hidden) * family.biased
    return passed * each + shared + router


def _is_dense(config: HfConfig, layer: int) -> bool:
    """Qwen's MoE models may keep some layers dense, DeepSeek's the first ones."""
    if layer < int(config.data.get("first_k_dense_replace") or 0):
        return True
    step = config.count("decoder_sparse_step", 1)
    return layer in (config.data.get("mlp_only_layers") or []) or (layer + 1) % step != 0
