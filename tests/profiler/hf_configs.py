"""Published ``config.json`` files, cut to the keys that matter, with their published sizes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def decoder(
    model_type: str,
    hidden: int,
    layers: int,
    heads: tuple[int, int],
    mlp: int,
    vocab: int,
    context: int,
    /,
    **more: Any,
) -> dict[str, Any]:
    """A config in the hub's own keys; ``heads`` are query heads and KV heads."""
    return {
        "model_type": model_type,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads[0],
        "num_key_value_heads": heads[1],
        "intermediate_size": mlp,
        "vocab_size": vocab,
        "max_position_embeddings": context,
        "torch_dtype": "bfloat16",
        **more,
    }


def llama(
    hidden: int, layers: int, heads: tuple[int, int], mlp: int, **more: Any
) -> dict[str, Any]:
    """A Llama 3 config."""
    more = {"tie_word_embeddings": False, **more}
    return decoder("llama", hidden, layers, heads, mlp, 128256, 131072, **more)


def qwen2(
    hidden: int, layers: int, heads: tuple[int, int], mlp: int, vocab: int = 152064, **more: Any
) -> dict[str, Any]:
    """A Qwen 2.5 config (instruct)."""
    more = {"tie_word_embeddings": False, **more}
    return decoder("qwen2", hidden, layers, heads, mlp, vocab, 32768, **more)


def qwen3(
    hidden: int, layers: int, heads: tuple[int, int], mlp: int, kind: str = "qwen3", **more: Any
) -> dict[str, Any]:
    """A Qwen 3 config."""
    more = {"tie_word_embeddings": False, "head_dim": 128, **more}
    return decoder(kind, hidden, layers, heads, mlp, 151936, 40960, **more)


def gemma2(
    hidden: int, layers: int, heads: tuple[int, int], mlp: int, head_dim: int = 256
) -> dict[str, Any]:
    """A Gemma 2 config, which leaves out that embeddings are tied."""
    return decoder("gemma2", hidden, layers, heads, mlp, 256000, 8192, head_dim=head_dim)


def deepseek_v3(
    layers_dense: int, heads: int, experts: int, vocab: int, context: int
) -> dict[str, Any]:
    """A DeepSeek-V3 config: latent attention, one shared expert."""
    return decoder(
        "deepseek_v3", 7168, 61, (heads, heads), 18432, vocab, context,
        kv_lora_rank=512, q_lora_rank=1536, qk_rope_head_dim=64, qk_nope_head_dim=128,
        v_head_dim=128, n_routed_experts=experts, num_experts_per_tok=8, n_shared_experts=1,
        moe_intermediate_size=2048, first_k_dense_replace=layers_dense, scoring_func="sigmoid",
        tie_word_embeddings=False,
    )  # fmt: skip


def gpt_oss(layers: int, experts: int) -> dict[str, Any]:
    """A gpt-oss config: biases everywhere, sinks in the attention."""
    return decoder(
        "gpt_oss", 2880, layers, (64, 8), 2880, 201088, 131072,
        attention_bias=True, num_local_experts=experts, num_experts_per_tok=4,
        tie_word_embeddings=False,
    )  # fmt: skip


TIED: dict[str, Any] = {"tie_word_embeddings": True}
MOE: dict[str, Any] = {"num_experts": 128, "num_experts_per_tok": 8}

CONFIGS: dict[str, dict[str, Any]] = {
    "llama-3.1-8b": llama(4096, 32, (32, 8), 14336),
    "llama-3.1-70b": llama(8192, 80, (64, 8), 28672),
    "llama-3.1-405b": llama(16384, 126, (128, 8), 53248),
    "llama-3.2-1b": llama(2048, 16, (32, 8), 8192, head_dim=64, **TIED),
    "llama-3.2-3b": llama(3072, 28, (24, 8), 8192, head_dim=128, **TIED),
    "qwen2.5-0.5b": qwen2(896, 24, (14, 2), 4864, 151936, **TIED),
    "qwen2.5-1.5b": qwen2(1536, 28, (12, 2), 8960, 151936, **TIED),
    "qwen2.5-3b": qwen2(2048, 36, (16, 2), 11008, 151936, **TIED),
    "qwen2.5-7b": qwen2(3584, 28, (28, 4), 18944),
    "qwen2.5-14b": qwen2(5120, 48, (40, 8), 13824),
    "qwen2.5-32b": qwen2(5120, 64, (40, 8), 27648),
    "qwen2.5-72b": qwen2(8192, 80, (64, 8), 29568),
    "qwen3-0.6b": qwen3(1024, 28, (16, 8), 3072, **TIED),
    "qwen3-1.7b": qwen3(2048, 28, (16, 8), 6144, **TIED),
    "qwen3-4b": qwen3(2560, 36, (32, 8), 9728, **TIED),
    "qwen3-8b": qwen3(4096, 36, (32, 8), 12288),
    "qwen3-14b": qwen3(5120, 40, (40, 8), 17408),
    "qwen3-32b": qwen3(5120, 64, (64, 8), 25600),
    "qwen3-30b-a3b": qwen3(
        2048, 48, (32, 4), 6144, kind="qwen3_moe", moe_intermediate_size=768, **MOE
    ),
    "qwen3-235b-a22b": qwen3(
        4096, 94, (64, 4), 12288, kind="qwen3_moe", moe_intermediate_size=1536, **MOE
    ),
    "mixtral-8x7b": decoder(
        "mixtral", 4096, 32, (32, 8), 14336, 32000, 32768,
        num_local_experts=8, num_experts_per_tok=2, tie_word_embeddings=False,
    ),
    "deepseek-v3": deepseek_v3(3, 128, 256, 129280, 163840),
    "kimi-k2.5": deepseek_v3(1, 64, 384, 163840, 262144),
    "gpt-oss-20b": gpt_oss(24, 32),
    "gpt-oss-120b": gpt_oss(36, 128),
    "minimax-m2.5": decoder(
        "minimax_m2", 3072, 62, (48, 8), 1536, 200064, 196608,
        head_dim=128, num_local_experts=256, num_experts_per_tok=8, scoring_func="sigmoid",
        tie_word_embeddings=False,
    ),
    "gemma-2-2b": gemma2(2304, 26, (8, 4), 9216),
    "gemma-2-9b": gemma2(3584, 42, (16, 8), 14336),
    "gemma-2-27b": gemma2(4608, 46, (32, 16), 36864, head_dim=128),
    "smollm2-135m": decoder("llama", 576, 30, (9, 3), 1536, 49152, 8192, **TIED),
}  # fmt: skip

PUBLISHED_PARAMS = {
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.1-70b": 70_553_706_496,
    "llama-3.1-405b": 405_853_388_800,
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.2-3b": 3_212_749_824,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-7b": 7_615_616_512,
    "qwen2.5-72b": 72_706_203_648,
    "qwen3-8b": 8_190_735_360,
    "qwen3-30b-a3b": 30_532_122_624,
    "qwen3-235b-a22b": 235_093_634_560,
    "mixtral-8x7b": 46_702_792_704,
    "deepseek-v3": 671_026_419_200,
    "gpt-oss-20b": 20_914_757_184,
    "gpt-oss-120b": 116_829_156_672,
    "gemma-2-2b": 2_614_341_888,
    "gemma-2-9b": 9_241_705_984,
    "gemma-2-27b": 27_227_128_320,
    "smollm2-135m": 134_515_008,
}


def write_config(directory: Path, config: dict[str, Any]) -> Path:
    """``config.json`` in a directory, made if need be; returns the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return directory
