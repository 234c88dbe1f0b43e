"""What the data plane's parts say to each other: replicas, leases, refusals."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from serve_apps.router.base import Decision, RouteRequest

if TYPE_CHECKING:
    from serve_apps.flow.admission import Request
    from serve_apps.flow.engine import Engine
    from serve_apps.flow.group import Group

RefusalKind = Literal["overload", "queue_full", "deadline", "unavailable"]
"""The first three are answered with 429, the last, when no engine is left, with 503."""


@dataclass(frozen=True, slots=True)
class Replica:
    """One running engine: its identity, its group, and the base URL of its own HTTP server."""

    id: str
    group: str
    url: str


class Asker(Protocol):
    """Who sends a request, as far as sharing needs it."""

    @property
    def tenant(self) -> str:
        """Who shares fairly with whom."""

    @property
    def weight(self) -> float:
        """Its fair share, against other tenants' of one priority."""

    @property
    def priority(self) -> int:
        """Higher is served first and shed last."""


@dataclass(frozen=True, slots=True)
class Anyone:
    """An `Asker` where nobody is told apart."""

    tenant: str = "anonymous"
    weight: float = 1.0
    priority: int = 0


class Result(enum.Enum):
    """How a try on an engine ended.

    ``client_error``: the engine said 4xx, or the request was at fault. ``engine_error``: it said
    5xx. ``unreachable``: no connection, or lost before the first byte. ``timeout``: no byte in
    time. ``cut``: lost in the middle of the answer. ``cancelled``: the client left, or we gave up.
    """

    OK = "ok"
    CLIENT_ERROR = "client_error"
    ENGINE_ERROR = "engine_error"
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    CUT = "cut"
    CANCELLED = "cancelled"


class Refused(Exception):  # noqa: N818 - an answer, not an error
    """A request that is not served: why, and after how many seconds to ask again."""

    def __init__(self, kind: RefusalKind, retry_after_s: float, message: str) -> None:
        super().__init__(message)
        self.kind: RefusalKind = kind
        self.retry_after_s = retry_after_s
        self.message = message


class Ledger(Protocol):
    """What keeps count of leases and waits: the `Dispatcher`."""

    def now(self) -> float:
        """The time in seconds."""

    def note_first_byte(self, lease: Lease) -> None:
        """See `Lease.first_byte`."""

    def note_done(self, lease: Lease, result: Result, output_tokens: int | None) -> None:
        """See `Lease.done`."""

    def note_cancelled(self, wait: Wait) -> None:
        """See `Wait.cancel`."""


@dataclass(slots=True)
class Task:
    """A request as the queues and engines see it: who asks, how big, by when.

    Times are absolute, in seconds of the dispatcher's clock; ``output_tokens`` is expected;
    ``load_s`` is the replica-seconds that it takes on the group it waits for.
    """

    asked: RouteRequest
    asker: Asker
    arrived_s: float
    deadline_s: float
    last_s: float
    """Who has waited that long is refused; later than the deadline where that is the plan's."""
    given: bool
    """Whether the deadline is the caller's own."""
    decision: Decision
    output_tokens: float
    request: Request
    load_s: float = 0.0


class Lease:
    """One request's place in an engine, counted from its dispatch until `done`, exactly once.

    ``predicted_ttft_s`` counts from the dispatch, ``waited_s`` is the time in the queue before
    it. ``shed``: load moved it to another model than it would have had in a calm hour.
    ``patience_s``: without a byte for so long after the dispatch the engine is to be given up
    on: call ``done(Result.TIMEOUT)``, then `Dispatcher.retry`, unless `more_patience_s` gives it
    more; infinite where no other engine could take the request.
    """

    __slots__ = (
        "_ended",
        "_ledger",
        "attempt",
        "decodes",
        "decodes_s",
        "dispatched_s",
        "engine",
        "first_byte_s",
        "group",
        "overdue_s",
        "patience_s",
        "predicted_tpot_s",
        "predicted_ttft_s",
        "prefill_tokens",
        "prefilled_before",
        "reserved_tokens",
        "result",
        "start_tick",
        "task",
        "tried",
        "waited_s",
        "work_s",
    )

    def __init__(
        self, ledger: Ledger, group: Group, engine: Engine, task: Task, dispatched_s: float
    ) -> None:
        self._ledger = ledger
        self._ended = False
        self.group = group
        self.engine = engine
        self.task = task
        self.attempt = 1
        self.tried: tuple[str, ...] = ()
        self.dispatched_s = dispatched_s
        self.waited_s = dispatched_s - task.arrived_s
        self.first_byte_s: float | None = None
        self.prefill_tokens = float(task.asked.input_tokens)
        self.reserved_tokens = self.start_tick = self.overdue_s = 0.0
        self.decodes_s = self.prefilled_before = 0.0
        self.result: Result | None = None
        self.decodes = False
        self.work_s = 0.0
        self.predicted_ttft_s = self.predicted_tpot_s = 0.0
        self.patience_s = math.inf

    @property
    def replica(self) -> Replica:
        """Where the request is to be sent."""
        return self.engine.replica

    @property
    def decision(self) -> Decision:
        """Group and model, and why."""
        return self.task.decision

    @property
    def shed(self) -> bool:
        """Whether load moved it to another model than it would have had in a calm hour."""
        return self.task.decision.shed

    @property
    def ended(self) -> bool:
        """Whether it was given back."""
        return self._ended

    def first_byte(self) -> None:
        """The first byte of the answer came; later calls change nothing."""
        if self.first_byte_s is None and not self._ended:
            self._ledger.note_first_byte(self)

    def progress(self) -> None:
        """More bytes came: the engine is alive. Need not be told of every piece."""
        self.engine.last_byte_s = self._ledger.now()

    def done(self, result: Result, output_tokens: int | None = None) -> None:
        """Give the place back; later calls change nothing.

        ``output_tokens`` as counted or told by the engine, None where unknown.
        """
        if not self._ended:
            self._ended = True
            self.result = result
            self._ledger.note_done(self, result, output_tokens)


class Wait:
    """A request in the queue of a group; settled by a lease or a refusal, once.

    Whoever waits sets ``settle``, which is called with the answer, and calls `cancel` when
    nobody waits any more: then it leaves no trace.
    """

    __slots__ = ("_ledger", "answer", "cancelled", "settle", "task", "uncorrected_s")

    def __init__(self, ledger: Ledger, task: Task) -> None:
        self._ledger = ledger
        self.task = task
        self.answer: Lease | Refused | None = None
        self.cancelled = False
        self.settle: Callable[[Lease | Refused], None] | None = None
        self.uncorrected_s = 0.0

    @property
    def deadline_s(self) -> float:
        """When it is refused at the latest, in seconds of the dispatcher's clock."""
        return self.task.last_s

    @property
    def pending(self) -> bool:
        """Whether it is neither settled nor cancelled."""
        return self.answer is None and not self.cancelled

    def give(self, answer: Lease | Refused) -> None:
        """Settle it."""
        self.answer = answer
        if self.settle is not None:
            self.settle(answer)

    def cancel(self) -> None:
        """Nobody waits any more; a lease that was given meanwhile is given back."""
        if isinstance(self.answer, Lease):
            self.answer.done(Result.CANCELLED)
        elif self.pending:
            self.cancelled = True
            self._ledger.note_cancelled(self)
