"""The questions of a quality run still to be asked or graded, and the tasks that do it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from profiler.answer_log import AnswerLog, Record, grade_fields, record
from profiler.answers import ChatClient
from profiler.errors import InputError
from profiler.graders import Grader
from profiler.questions import DEFAULT_MAX_TOKENS, Question
from profiler.timing import Clock

GIVE_UP_AFTER = 5
"""Failures in a row, each after all its attempts, until a model counts as down."""


@dataclass(frozen=True)
class Options:
    """How to run a question set; ``concurrency`` is per model."""

    limit: int | None = None
    seed: int = 0
    concurrency: int = 8
    max_tokens: int = DEFAULT_MAX_TOKENS
    temperature: float = 0.0
    timeout_s: float = 300.0
    replace: bool = False

    @property
    def sampling(self) -> str:
        """The options that change what a model answers."""
        return f"max_tokens={self.max_tokens} temperature={self.temperature:g}"


@dataclass(frozen=True)
class Progress:
    """``done`` of ``total`` answers; ``eta_s`` counts at the pace so far, None before the first."""

    done: int
    total: int
    errors: int
    eta_s: float | None


class Work:
    """The questions still to be asked or graded, and the tasks that do it."""

    def __init__(
        self,
        log: AnswerLog,
        graders: Mapping[str, Grader],
        options: Options,
        on_progress: Callable[[Progress], None],
        clock: Clock,
    ) -> None:
        self.log = log
        self.graders = graders
        self.options = options
        self.down: dict[str, str] = {}
        self.asked = 0
        self._on_progress = on_progress
        self._clock = clock
        self._failures: dict[str, int] = {}
        self._done = self._total = self._errors = 0

    async def run(self, questions: Sequence[Question], clients: Mapping[str, ChatClient]) -> None:
        """All models at once, each with so many questions at a time."""
        queues = {
            name: deque(q for q in questions if not self._settled(q, name)) for name in clients
        }
        self._total = sum(map(len, queues.values()))
        self._start_s = self._clock()
        try:
            async with asyncio.TaskGroup() as group:
                for name, queue in queues.items():
                    for _ in range(min(self.options.concurrency, len(queue))):
                        group.create_task(self._drain(queue, clients[name]))
        except* InputError as errors:  # the log cannot be written: one message is enough
            raise errors.exceptions[0] from None

    def _settled(self, question: Question, model: str) -> bool:
        found = self.log.records.get((question.id, model))
        return (
            found is not None
            and found.answers(question, self.options.sampling)
            and found.score is not None
            and found.graded == self._graded_as(question)
        )

    def _graded_as(self, question: Question) -> str:
        return question.graded_as(self.graders[question.grader].settings)

    async def _drain(self, queue: deque[Question], client: ChatClient) -> None:
        while queue and client.model not in self.down:
            question = queue.popleft()
            found = await self._answer(question, client)
            if found is None:
                return
            if found.text is not None:
                found = await self._grade(question, found)
            self.log.add(found)
            self._tell(found)

    async def _answer(self, question: Question, client: ChatClient) -> Record | None:
        """The answer kept from before, or a new one; None once the model is given up."""
        kept = self.log.records.get((question.id, client.model))
        if kept is not None and kept.answers(question, self.options.sampling):
            return kept
        limit = question.max_tokens or self.options.max_tokens
        answer = await client.ask(question.chat, limit)
        if client.model in self.down:
            return None
        failures = self._failures.get(client.model, 0) + 1 if answer.model_fault else 0
        self._failures[client.model] = failures
        if failures >= GIVE_UP_AFTER:
            self.down[client.model] = answer.error
        self.asked += answer.text is not None
        return record(question, client.model, self.options.sampling, answer)

    async def _grade(self, question: Question, found: Record) -> Record:
        grade = await self.graders[question.grader].grade(question, found.text or "")
        return replace(found, **grade_fields(grade, self._graded_as(question)))

    def _tell(self, found: Record) -> None:
        self._done += 1
        self._errors += found.text is None
        pace_s = (self._clock() - self._start_s) / self._done
        eta_s = pace_s * (self._total - self._done)
        self._on_progress(Progress(self._done, self._total, self._errors, eta_s))
