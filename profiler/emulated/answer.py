"""One answer of an emulated engine, from its first token to its last, in vLLM's JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from profiler.emulated.asked import Asked
from profiler.emulated.faults import Fault
from profiler.emulated.http import Exchange, chunk
from profiler.emulated.replica import Request

WORDS = (" filler", " words", " of", " an", " emulated", " engine")
"""What every answer says, over and over: a word a token."""
DONE = b"data: [DONE]\n\n"


class Piece(Request):
    """A request in the engine's batch that writes one choice of an answer."""

    __slots__ = ("answer", "finish_reason", "index", "told")

    def __init__(
        self, answer: Answer, index: int, prompt_tokens: int, output_tokens: int, reason: str
    ) -> None:
        super().__init__(0.0, prompt_tokens, output_tokens)
        self.answer = answer
        self.index = index
        self.finish_reason = reason
        self.told = 0  # tokens sent; behind `generated` by the time spent outside the steps


@dataclass(frozen=True, slots=True)
class Label:
    """What each part of an answer says of itself."""

    id: str
    model: str
    fingerprint: str


class Answer:
    """Writes tokens as they come; ends well, or as a fault has it."""

    def __init__(
        self,
        exchange: Exchange,
        asked: Asked,
        label: Label,
        fault: Fault | None,
        on_end: Callable[[Answer], None],
    ) -> None:
        """``on_end`` hears when the engine need work on it no more, and, where it then hangs,
        once more when the client leaves."""
        self.pieces = [
            Piece(self, i, c.prompt_tokens, c.output_tokens, c.finish_reason)
            for i, c in enumerate(asked.choices)
        ]
        self.asked = asked
        self.complete = False
        self.hung = False
        self._exchange = exchange
        self._label = label
        self._fault = fault
        self._on_end = on_end
        self._begun = self._over = False
        self._unfinished = len(self.pieces)
        self._words: dict[tuple[int, int], bytes] = {}
        kind = "chat.completion" if asked.chat else "text_completion"
        self._common = {
            "id": label.id,
            "object": kind + (".chunk" if asked.chat and asked.stream else ""),
            "created": int(time.time()),
            "model": label.model,
            "system_fingerprint": label.fingerprint,
        }

    @property
    def told(self) -> int:
        """Tokens sent, or kept for the end."""
        return sum(piece.told for piece in self.pieces)

    def begin(self) -> None:
        """Set out; a fault may be the end of it."""
        self._exchange.on_gone = self._left
        if self._fault is not None and self._fault.after_tokens == 0:
            self._strike(self._fault)
        elif self.asked.stream:
            self._exchange.begin()
            self._begun = True

    @property
    def waits(self) -> bool:
        """Whether the engine is to work on it."""
        return not self._over

    def token(self, piece: Piece) -> None:
        """One more token of a choice."""
        if self._over:
            return
        piece.told += 1
        last = piece.told == piece.output_tokens
        if self.asked.stream:
            self._exchange.write(self._part(piece, last=last))
        if last:
            self._unfinished -= 1
        if self._unfinished == 0:
            self._finish()
        elif self._fault is not None and self.told >= self._fault.after_tokens:
            self._strike(self._fault)

    def abandon(self) -> None:
        """The engine dies with it."""
        self._exchange.abort()

    def _part(self, piece: Piece, *, last: bool) -> bytes:
        """The event of a token; most of an answer's are equal but for the word."""
        at = (piece.told - 1) % len(WORDS)
        first = self.asked.chat and piece.told == 1
        if first or last or self.asked.usage_always:
            role = self._event(self._choice(piece, {"role": "assistant", "content": ""}))
            reason = piece.finish_reason if last else None
            event = self._event(self._choice(piece, WORDS[at], reason))
            return chunk(role + event) if first else chunk(event)
        key = (piece.index, at)
        if key not in self._words:
            self._words[key] = chunk(self._event(self._choice(piece, WORDS[at])))
        return self._words[key]

    def _choice(
        self, piece: Piece, said: str | dict[str, str], reason: str | None = None
    ) -> dict[str, Any]:
        ending = {"logprobs": None, "finish_reason": reason, "stop_reason": None}
        if not self.asked.chat:
            return {"index": piece.index, "text": said, **ending}
        delta = {"content": said} if isinstance(said, str) else said
        return {"index": piece.index, "delta": delta, **ending}

    def _event(self, *choices: dict[str, Any], usage: bool = False) -> bytes:
        fields = {**self._common, "choices": choices}
        if usage or self.asked.usage_always:
            fields["usage"] = self._usage()
        return b"data: " + json.dumps(fields, separators=(",", ":")).encode() + b"\n\n"

    def _usage(self) -> dict[str, int]:
        prompt, told = self.asked.prompt_tokens, self.told
        return {
            "prompt_tokens": prompt, "completion_tokens": told, "total_tokens": prompt + told
        }  # fmt: skip

    def _finish(self) -> None:
        self.complete = True
        self._end()
        if self.asked.stream:
            usage = self._event(usage=True) if self.asked.usage_at_end else b""
            self._exchange.write(chunk(usage + DONE))
            self._exchange.end()
            return
        choices = [self._whole(piece) for piece in self.pieces]
        body = {**self._common, "choices": choices, "usage": self._usage()}
        self._exchange.respond(200, json.dumps(body).encode())

    def _whole(self, piece: Piece) -> dict[str, Any]:
        words, rest = divmod(piece.output_tokens, len(WORDS))
        text = "".join(WORDS) * words + "".join(WORDS[:rest])
        said = (
            {"message": {"role": "assistant", "content": text}}
            if self.asked.chat
            else {"text": text}
        )
        ending = {"logprobs": None, "finish_reason": piece.finish_reason, "stop_reason": None}
        return {"index": piece.index, **said, **ending}

    def _strike(self, fault: Fault) -> None:
        if fault.kind == "hang":
            self._over = self.hung = True
            self._on_end(self)
            return
        self._end()
        if fault.kind == "cut":
            self._exchange.abort()
            return
        message = "emulated fault"
        error = {"message": message, "type": "InternalServerError", "code": fault.status}
        body = json.dumps({"error": error}).encode()
        if self._begun:
            self._exchange.write(chunk(b"data: " + body + b"\n\n" + DONE))
            self._exchange.end()
        else:
            self._exchange.respond(fault.status, body)

    def _left(self) -> None:
        self.hung = False
        self._end()

    def _end(self) -> None:
        self._exchange.on_gone = None
        self._over = True
        self._on_end(self)
