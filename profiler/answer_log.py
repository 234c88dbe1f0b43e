"""Answers kept as they come: a file of JSON lines that is only ever appended to.

It is the source of the outcome table, which can be made from it again at any time. A run that
was cut short goes on from it, a mended grader grades its answers anew, and a model added later
adds its own lines.
"""

from __future__ import annotations

import errno
import fcntl
import io
import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from profiler.answers import Answer
from profiler.errors import InputError
from profiler.graders.base import Grade
from profiler.questions import Question

Key = tuple[str, str]
"""Question id, model name."""


@dataclass(frozen=True)
class Record:
    """One model's answer to one question, and its grade.

    ``asked``, ``sampling`` and ``graded`` fingerprint the prompt, the request's options and the
    grading, so that what is stale is noticed. A score of None is ungraded, or no answer.
    """

    id: str
    model: str
    asked: str
    sampling: str
    graded: str = ""
    text: str | None = None
    error: str = ""
    score: float | None = None
    answer: str | None = None
    note: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    latency_s: float | None = None
    logprobs: tuple[float, ...] = ()
    margins: tuple[float, ...] = ()
    cut: bool = False

    @property
    def key(self) -> Key:
        """What it is an answer of."""
        return self.id, self.model

    def answers(self, question: Question, sampling: str | None = None) -> bool:
        """Whether it holds an answer to this very question, asked with these options."""
        return (
            self.text is not None
            and self.asked == question.asked_as
            and sampling in (None, self.sampling)
        )


def record(question: Question, model: str, sampling: str, answer: Answer) -> Record:
    """An answer as it is kept, not graded yet; figures rounded to what they are good for."""
    return Record(
        question.id,
        model,
        question.asked_as,
        sampling,
        text=answer.text,
        error=answer.error,
        input_tokens=answer.input_tokens,
        output_tokens=answer.output_tokens,
        latency_s=None if answer.latency_s is None else round(answer.latency_s, 4),
        logprobs=tuple(round(p, 4) for p in answer.logprobs),
        margins=tuple(round(p, 4) for p in answer.margins),
        cut=answer.cut,
    )


def grade_fields(grade: Grade, graded_as: str) -> dict[str, Any]:
    """A grade as fields of a `Record`."""
    score = None if math.isnan(grade.score) else grade.score
    return {"score": score, "answer": grade.answer, "note": grade.note, "graded": graded_as}


class AnswerLog:
    """The file, held open and locked by one run at a time.

    Raises:
        InputError: it cannot be opened or written, another run holds it, or a line inside it is
            broken. A last line that was cut short is dropped.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._records: dict[Key, Record] = {}
        self._file: io.FileIO | None = None

    def __enter__(self) -> AnswerLog:
        try:
            self._file = io.FileIO(self.path, "a+")
        except OSError as error:
            raise InputError(f"{self.path}: cannot write here: {error.strerror}") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._load()
        except BlockingIOError:
            self._file.close()
            raise InputError(
                f"{self.path}: another run is writing to it; wait for its end, or --save elsewhere"
            ) from None
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._file is not None
        self._file.close()

    @property
    def records(self) -> Mapping[Key, Record]:
        """The latest record of each question and model."""
        return self._records

    def add(self, found: Record) -> None:
        """Keep one answer; it is on its way to the disk when this returns."""
        assert self._file is not None
        try:
            line = json.dumps(asdict(found)).encode() + b"\n"
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise InputError(
                f"{self.path}: could not be written: {error.strerror}; the answers before this one "
                "are kept, and the same command goes on from them"
            ) from None
        self._records[found.key] = found

    def _load(self) -> None:
        assert self._file is not None
        self._file.seek(0)
        *lines, cut_short = self._file.readall().split(b"\n")
        for number, line in enumerate(lines, start=1):
            found = self._parse(number, line)
            self._records[found.key] = found
        if cut_short:
            self._file.truncate(sum(len(line) + 1 for line in lines))

    def _parse(self, number: int, line: bytes) -> Record:
        try:
            data = json.loads(line)
            data |= {key: tuple(data[key]) for key in ("logprobs", "margins")}
            return Record(**data)
        except (ValueError, KeyError, TypeError):
            raise InputError(
                f"{self.path}:{number}: not an answer this version wrote; remove the line to have "
                "its question asked again, or --save elsewhere"
            ) from None
