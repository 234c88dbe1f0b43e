"""A question set: JSON lines, each a prompt, the right answer, and the grader that compares.

    {"prompt": "What is 12 x 12?", "answer": "144", "grader": "number"}

Every mistake names file and line. A question without an id gets one made of its content, so that
lines may be added or moved without changing what the others are called.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from profiler.core import Count, NonNegative, Noun
from profiler.documents import MAX_REPORTED, read_text
from profiler.errors import InputError, nearest

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
CHOICE_INSTRUCTION = "Answer with the letter of the right choice."
DEFAULT_MAX_TOKENS = 1024


class Message(Noun):
    """One turn of a chat."""

    role: Literal["system", "user", "assistant"]
    content: str


class Question(Noun):
    """One line of a question set.

    ``answer`` is what the grader compares with; several are all right. Where ``choices`` are
    given they are appended to the prompt as ``A. ...``, with an instruction to name a letter.
    """

    id: str = ""
    dataset: str = ""
    subject: str | None = None
    prompt: str | None = Field(None, min_length=1)
    messages: tuple[Message, ...] | None = Field(None, min_length=1)
    answer: str | int | float | tuple[str, ...]
    grader: str
    choices: tuple[str, ...] | None = Field(None, min_length=2, max_length=len(LETTERS))
    max_tokens: Count | None = None
    tolerance: NonNegative | None = Field(None, description="relative; grader number only")

    @model_validator(mode="after")
    def _one_prompt(self) -> Question:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give either prompt (text) or messages (a chat), and not both")
        if self.messages is not None and self.messages[-1].role != "user":
            raise ValueError("the last of the messages must be the user's")
        return self

    @property
    def answers(self) -> tuple[str, ...]:
        """The accepted answers as text."""
        if isinstance(self.answer, tuple):
            return self.answer
        whole = isinstance(self.answer, float) and self.answer.is_integer()
        return (str(int(self.answer) if whole else self.answer),)

    @property
    def chat(self) -> list[dict[str, str]]:
        """The messages to send, choices included."""
        turns = self.messages or (Message(role="user", content=self.prompt or ""),)
        sent = [turn.model_dump() for turn in turns]
        if self.choices:
            options = [f"{LETTERS[i]}. {text}" for i, text in enumerate(self.choices)]
            sent[-1]["content"] = "\n".join([sent[-1]["content"], *options, CHOICE_INSTRUCTION])
        return sent

    @property
    def text(self) -> str:
        """The prompt as one text, as routers see it: a chat's turns, each under its role."""
        sent = self.chat
        if len(sent) == 1:
            return sent[0]["content"]
        return "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in sent)

    @property
    def asked_as(self) -> str:
        """A fingerprint of what is asked; an answer to it need not be asked for again."""
        return fingerprint([self.chat, self.max_tokens])

    def graded_as(self, settings: str = "") -> str:
        """A fingerprint of the grading; ``settings`` are the grader's own, such as its judge."""
        return fingerprint([self.grader, self.answers, self.choices, self.tolerance, settings])


@dataclass(frozen=True)
class QuestionSet:
    """Questions in the file's order, where each was written, and a fingerprint of them all."""

    name: str
    questions: tuple[Question, ...]
    lines: tuple[int, ...]
    digest: str

    def where(self, index: int) -> str:
        """How errors name a question: ``file:line``."""
        return f"{self.name}:{self.lines[index]}"

    def sample(self, limit: int | None, seed: int) -> tuple[Question, ...]:
        """``limit`` questions drawn at random, in the file's order.

        A larger limit with the same seed holds all of a smaller one's, so a run can be extended.
        """
        if limit is None or limit >= len(self.questions):
            return self.questions
        order = list(range(len(self.questions)))
        random.Random(seed).shuffle(order)
        return tuple(self.questions[i] for i in sorted(order[:limit]))


def fingerprint(data: Any) -> str:
    """A short digest of plain data."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]


def read_questions(path: str | Path) -> QuestionSet:
    """Read and check a question set.

    Raises:
        InputError: the file cannot be read or holds no question, or lines of it are no JSON, do
            not fit, name an unknown grader, or repeat an id; the first mistakes are all listed.
    """
    mistakes: list[str] = []
    found: list[tuple[int, Question]] = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            found.append((number, _question(line, Path(path).stem)))
        except ValueError as error:
            mistakes += [f"{path}:{number}: {part}" for part in str(error).splitlines()]
    mistakes += _repeated(found, path)
    if mistakes:
        more = [f"... and {len(mistakes) - MAX_REPORTED} more"] * (len(mistakes) > MAX_REPORTED)
        raise InputError("\n".join(mistakes[:MAX_REPORTED] + more))
    if not found:
        raise InputError(
            f"{path}: holds no question; expected one JSON object a line, such as "
            '{"prompt": "What is 2 + 2?", "answer": "4", "grader": "number"}'
        )
    questions = tuple(question for _, question in found)
    digest = fingerprint([q.model_dump(mode="json") for q in questions])
    return QuestionSet(str(path), questions, tuple(n for n, _ in found), digest)


def _question(line: str, dataset: str) -> Question:
    """Raises ValueError, one mistake a line."""
    from profiler.graders import check

    try:
        data = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at column {error.colno}") from None
    if not isinstance(data, dict):
        raise ValueError(f"found {type(data).__name__}, expected a JSON object")
    try:
        question = Question.model_validate(data)
    except ValidationError as error:
        raise ValueError("\n".join(dict.fromkeys(map(_explain, error.errors())))) from None
    name = fingerprint([question.chat, question.answers, question.grader])
    dataset = question.dataset or dataset
    named = {"dataset": dataset, "id": question.id or f"{dataset}/{name}"}
    question = question.model_copy(update=named)
    check(question)
    return question


def _explain(error: Any) -> str:
    if error["loc"][:1] == ("answer",) and error["type"] != "missing":
        return f"answer: found {_shown(error['input'])}, expected text, a number or a list of texts"
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        close = nearest(str(error["loc"][-1]), Question.model_fields)
        hint = f"did you mean {close!r}? " if close else ""
        return f"unknown key {key!r}; {hint}valid keys: {', '.join(Question.model_fields)}"
    if error["type"] == "missing":
        return f"missing key {key!r}"
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if error["type"] == "value_error":
        return str(message)
    return f"{key}: found {_shown(error['input'])}, expected {message[0].lower() + message[1:]}"


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)[:60]


def _repeated(found: Sequence[tuple[int, Question]], path: str | Path) -> list[str]:
    first: dict[str, int] = {}
    return [
        f"{path}:{number}: id {question.id!r} given twice, first on line {first[question.id]}"
        for number, question in found
        if first.setdefault(question.id, number) != number
    ]
