"""The one place that is told of requests, and passes it on to whatever shows them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from serve_apps.seeing.record import RequestRecord
from serve_apps.seeing.snapshot import Snapshot


class Seeing:
    """Told of each request at arrival and at its end; asks for a `Snapshot` when it is looked at.

    Every call is made on one event loop (or thread), so nothing here is locked.
    """

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self._snapshot = snapshot
        self.open = 0

    def know(
        self, *, models: Iterable[str] = (), groups: Iterable[str] = (), tenants: Iterable[str] = ()
    ) -> None:
        """Names that may be labels from now on; any other is counted as "other"."""

    def started(self, record: RequestRecord) -> None:  # noqa: ARG002
        """A request arrived."""
        self.open += 1

    def finished(self, record: RequestRecord) -> None:  # noqa: ARG002
        """A request is over, however it ended; ``finished_s`` and ``outcome`` are set."""
        self.open -= 1

    def engine_headers(self, record: RequestRecord) -> dict[str, str]:
        """What to send to the engine with the next attempt: W3C traceparent, if there is one."""
        return {"traceparent": record.traceparent} if record.traceparent else {}

    def tick(self) -> None:
        """Called about once a second by the ingress: adds up what is sampled (rent over time)."""
