"""The brain of the data plane: `Dispatcher`."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable

from placement.plan import Plan
from serve_apps.flow.nouns import Asker, Lease, Refused, Replica, Result, Wait
from serve_apps.router.base import Router, RouteRequest


class Dispatcher:
    """Decides which replica takes a request, when, and whether at all.

    Called from one thread. `tick` wants to be called every 50 ms or so while requests wait.
    """

    def __init__(
        self, plan: Plan, router: Router, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock

    def configure(self, plan: Plan, router: Router) -> None:
        """Serve by another plan from now on; what is in flight stays counted."""
        raise NotImplementedError

    def replicas(self, found: Iterable[Replica]) -> None:
        """Take in what discovery sees now; those that stay keep their counts and health."""
        raise NotImplementedError

    def try_dispatch(
        self,
        asked: RouteRequest,
        caller: Asker,
        deadline_s: float | None = None,
        avoid: Collection[str] = (),
    ) -> Lease | Wait | Refused:
        """Place a request now, or let it wait, or refuse it; never blocks.

        ``deadline_s``: seconds from now by which the first byte is to come; None: by the plan's
        SLO. ``avoid``: ids of replicas not to use.

        Raises:
            UnknownModelError: the pool does not serve the model asked for.
        """
        raise NotImplementedError

    async def dispatch(
        self,
        asked: RouteRequest,
        caller: Asker,
        deadline_s: float | None = None,
        avoid: Collection[str] = (),
    ) -> Lease:
        """As `try_dispatch`, and waits; when cancelled, the request leaves no trace.

        Raises:
            Refused: it is not served; says why, and when to ask again.
            UnknownModelError: the pool does not serve the model asked for.
        """
        raise NotImplementedError

    def retry(self, lease: Lease) -> Lease | None:
        """Another replica for a request whose engine failed before the first byte.

        Call it after ``lease.done`` with ``UNREACHABLE``, ``TIMEOUT`` or ``ENGINE_ERROR`` (502,
        503, 504). None: no replica is left, no time, or the retry budget is spent.
        """
        raise NotImplementedError

    def tick(self) -> None:
        """Let time pass: expire those that waited too long, use room that came free."""
        raise NotImplementedError

    def due_probes(self, now: float | None = None) -> list[Replica]:
        """Replicas to be asked for their health now; ask again within 100 ms."""
        raise NotImplementedError

    def probed(self, replica: Replica, ok: bool) -> None:
        """What a probe said."""
        raise NotImplementedError

    def drain(self) -> None:
        """Refuse everything new; what waits or is in flight goes on."""
        raise NotImplementedError

    async def drained(self) -> None:
        """Return when nothing waits and nothing is in flight."""
        raise NotImplementedError

    def now(self) -> float:
        """The time in seconds."""
        return self._clock()

    def note_first_byte(self, lease: Lease) -> None:
        """For `Lease` alone."""
        raise NotImplementedError

    def note_done(self, lease: Lease, result: Result, output_tokens: int | None) -> None:
        """For `Lease` alone."""
        raise NotImplementedError

    def note_cancelled(self, wait: Wait) -> None:
        """For `Wait` alone."""
        raise NotImplementedError
