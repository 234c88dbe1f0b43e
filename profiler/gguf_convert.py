"""Converts one GGUF file into a directory an engine can serve. Run as a program, by `weights`.

Usage: ``gguf_convert.py FILE.gguf DIRECTORY``. Kept out of the caller's process, for the memory
that torch takes and the noise that conversion makes. The result is float32 safetensors, the
tokenizer with its chat template, and a generation config that ends a turn where the template does.
"""

from __future__ import annotations

import ctypes
import functools
import signal
import sys
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>")
"""What ends a turn in the usual chat templates."""


def main() -> None:
    """Convert what the command line names."""
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    _end_with_parent()
    _read_each_file_once()
    import torch
    import transformers

    options: dict[str, Any] = {"gguf_file": source.name}
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(source.parent), **options)
    if hasattr(transformers, "GgufConfig"):  # newer releases keep the blocks packed unless told
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        str(source.parent), dtype=torch.float32, **options
    )
    ends = end_of_turn_ids(tokenizer, model.config.eos_token_id)
    model.generation_config.eos_token_id = ends[0] if len(ends) == 1 else ends
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


def end_of_turn_ids(tokenizer: Any, eos: int | list[int] | None) -> list[int]:
    """Token ids after which generation must stop: the model's own, and the template's.

    GGUF files do not always name the latter, and a chat would run on into the next turn.
    """
    found = list(eos) if isinstance(eos, list) else [eos]
    found.append(tokenizer.eos_token_id)
    template, vocabulary = tokenizer.chat_template or "", tokenizer.get_vocab()
    found += [vocabulary.get(token) for token in TURN_ENDS if token in template]
    return list(dict.fromkeys(token for token in found if token is not None))


def _end_with_parent() -> None:
    """Whoever wanted the result being killed, the kernel ends this program too (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _read_each_file_once() -> None:
    """Three parts of transformers parse the same file, and look up its tensors' names one by one.

    Both are slow in plain Python, and give the same each time.
    """
    import gguf

    for name in ("GGUFReader", "get_tensor_name_map"):
        vars(gguf)[name] = functools.cache(vars(gguf)[name])


if __name__ == "__main__":
    main()
