"""A `ModelSpec` from a Hugging Face ``config.json``: a file, a directory, or a hub name."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from profiler.architecture import HfConfig, active_params, total_params
from profiler.core import Dtype, ModelSpec
from profiler.documents import read_text
from profiler.errors import InputError

CONFIG = "config.json"
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
DTYPES: dict[str, Dtype] = {
    "float32": "fp32", "float16": "fp16", "bfloat16": "bf16", "float8_e4m3fn": "fp8",
}  # fmt: skip
INTEGERS: dict[int, Dtype] = {4: "int4", 8: "int8"}
FLOATS: dict[int, Dtype] = {8: "fp8", 16: "bf16"}
WEIGHT_FILES = ("*.safetensors", "*.bin", "*.gguf")


def model_from_hf(source: str, name: str | None = None) -> ModelSpec:
    """The numbers of a model, read from its ``config.json``.

    ``source`` is the path of a ``config.json``, a directory that holds one, or a hub name
    (``organisation/model``), which is looked for in the local Hugging Face cache first and then
    downloaded. Parameters are counted from the architecture; a vision tower is not counted. The
    name defaults to the last part of the source, in lower case.

    Raises:
        InputError: not found, not JSON, a key missing, or an architecture this cannot count.
    """
    path, weights = _locate(source)
    data = _load(path)
    if weights is None:
        weights = _weights_beside(path, data)
    config = HfConfig(data, str(path))
    dtype = _dtype(config)
    experts, chosen = config.experts or (None, None)
    return ModelSpec(
        name=name or _default_name(source, path),
        weights=weights,
        total_params=total_params(config),
        active_params=active_params(config),
        layers=config.count("num_hidden_layers"),
        hidden_size=config.count("hidden_size"),
        attention_heads=config.count("num_attention_heads"),
        kv_heads=config.kv_heads,
        head_dim=config.head_dim,
        context_tokens=_context_tokens(config),
        weight_dtype=_quantised(config) or dtype,
        kv_dtype=_kv_dtype(config) or dtype,
        experts=experts,
        experts_per_token=chosen,
        kv_latent_dim=config.kv_latent_dim,
    )


def looks_like_source(text: str) -> bool:
    """Whether a text can be a path or a hub name, rather than a name of the catalog."""
    return "/" in text or text.endswith(".json") or text.startswith((".", "~"))


def _locate(source: str) -> tuple[Path, str | None]:
    """The config's path, and the weights where the source itself names them."""
    path = Path(source).expanduser()
    if path.is_dir():
        return path / CONFIG, None
    if path.is_file():
        return path, None
    if HUB_NAME.fullmatch(source) and not source.endswith(".json") and source[0] not in "./~":
        return _from_hub(source), source
    raise InputError(
        f"{source}: no such file or directory; expected a {CONFIG}, a directory that holds one, "
        "or a hub name such as Qwen/Qwen3-8B"
    )


def _from_hub(name: str) -> Path:
    mend = f"pass the path of a local {CONFIG} instead"
    try:
        from huggingface_hub import hf_hub_download, try_to_load_from_cache
        from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError
    except ImportError:
        raise InputError(
            f"{name}: reading a hub name needs huggingface_hub (pip install huggingface_hub); "
            f"or {mend}"
        ) from None
    try:
        cached = try_to_load_from_cache(name, CONFIG)
        return Path(cached if isinstance(cached, str) else hf_hub_download(name, CONFIG))
    except GatedRepoError:
        raise InputError(
            f"{name}: the hub guards this model; accept its licence there and log in with "
            f"`hf auth login`, or {mend}"
        ) from None
    except RepositoryNotFoundError:
        raise InputError(f"{name}: the hub has no such model, or it is private; {mend}") from None
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"{name}: {CONFIG} is not in the local cache and could not be downloaded ({reason}); "
            f"{mend}"
        ) from None


def _load(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}: not valid JSON: {error.msg}") from None
    if not isinstance(data, dict):
        raise InputError(f"{path}: found a {type(data).__name__}, expected a JSON object")
    return data


def _weights_beside(path: Path, data: dict[str, Any]) -> str:
    """The directory when it holds weights; else the hub name the config remembers, if any."""
    directory = path.parent.resolve()
    remembered = str(data.get("_name_or_path") or "")
    holds_weights = any(any(directory.glob(pattern)) for pattern in WEIGHT_FILES)
    if not holds_weights and HUB_NAME.fullmatch(remembered):
        return remembered
    return str(directory)


def _default_name(source: str, path: Path) -> str:
    is_hub_name = not Path(source).expanduser().exists()
    last = source.rsplit("/", 1)[-1] if is_hub_name else path.resolve().parent.name
    return re.sub(r"[^a-z0-9._-]+", "-", last.lower()).strip("-._") or "model"


def _context_tokens(config: HfConfig) -> int:
    """The longest sequence the model may serve, stretched as its RoPE scaling says.

    Llama-3 and LongRoPE configs already hold the stretched length; the rest hold the original.
    """
    longest = config.count("max_position_embeddings")
    scaling = config.data.get("rope_scaling") or config.data.get("rope_parameters") or {}
    kind = scaling.get("rope_type") or scaling.get("type")
    factor = scaling.get("factor") or 1
    if kind == "yarn":
        return int((scaling.get("original_max_position_embeddings") or longest) * factor)
    if kind in ("linear", "dynamic"):
        return int(longest * factor)
    return longest


def _dtype(config: HfConfig) -> Dtype:
    """The dtype of weights that are not quantised, and of the KV cache."""
    value = config.data.get("dtype") or config.data.get("torch_dtype") or "bfloat16"
    text = str(value).removeprefix("torch.")
    if text not in DTYPES:
        raise InputError(
            f"{config.origin}: torch_dtype: found {value!r}, expected one of {', '.join(DTYPES)}"
        )
    return DTYPES[text]


def _quantised(config: HfConfig) -> Dtype | None:
    """The dtype of quantised weights; None where the config names no quantisation.

    Raises:
        InputError: a quantisation whose width cannot be told from the config.
    """
    quantisation = config.data.get("quantization_config")
    if not quantisation:
        return None
    method = str(quantisation.get("quant_method", "")).lower()
    found: Dtype | None = None
    if method in ("fp8", "fbgemm_fp8"):
        found = "fp8"
    elif method == "mxfp4":
        found = "fp4"
    elif method in ("gptq", "awq", "auto-round"):
        found = INTEGERS.get(quantisation.get("bits", 4))
    elif method == "bitsandbytes":
        found = "int4" if quantisation.get("load_in_4bit") else "int8"
    elif method in ("compressed-tensors", "compressed_tensors"):
        found = _group_dtype(quantisation)
    if found is None:
        raise InputError(
            f"{config.origin}: quantization_config: cannot tell the width of the weights from "
            f"quant_method {method!r}; give weight_dtype in a catalog file"
        )
    return found


def _group_dtype(quantisation: dict[str, Any]) -> Dtype | None:
    """The dtype all groups of a compressed-tensors config share; None where they differ."""
    groups = (quantisation.get("config_groups") or {}).values()
    schemes = [_scheme_dtype(g.get("weights") or {}) for g in groups if isinstance(g, dict)]
    return schemes[0] if len(set(schemes)) == 1 else None


def _scheme_dtype(scheme: dict[str, Any]) -> Dtype | None:
    widths = FLOATS if scheme.get("type") == "float" else INTEGERS
    return widths.get(scheme.get("num_bits", 0))


def _kv_dtype(config: HfConfig) -> Dtype | None:
    """The KV cache's dtype where the checkpoint carries its scales; engines then follow it."""
    scheme = (config.data.get("quantization_config") or {}).get("kv_cache_scheme")
    return _scheme_dtype(scheme) if scheme else None
