"""Generation stops where the model ends, and where its chat template ends a turn."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from profiler.gguf_convert import end_of_turn_ids


@dataclass
class Tokenizer:
    chat_template: str | None = "{{ m }}<|im_end|>"
    eos_token_id: int | None = 0
    vocabulary: dict[str, int] = field(default_factory=lambda: {"<|im_end|>": 2, "<|end|>": 7})

    def get_vocab(self) -> dict[str, int]:
        return self.vocabulary


@pytest.mark.parametrize(
    ("tokenizer", "eos", "expected"),
    [
        (Tokenizer(), 0, [0, 2]),
        (Tokenizer(eos_token_id=2), 2, [2]),
        (Tokenizer(eos_token_id=None), [5, 2], [5, 2]),
        (Tokenizer(chat_template=None), None, [0]),
        (Tokenizer(vocabulary={}), 0, [0]),
    ],
)
def test_ends(tokenizer: Tokenizer, eos: int | list[int] | None, expected: list[int]) -> None:
    assert end_of_turn_ids(tokenizer, eos) == expected
