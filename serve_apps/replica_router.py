"""What Ray Serve tells a handle of the replicas of a group, passed on to whoever asked.

Requests do not go through Serve's handles: a handle is held for its news alone. Serve brings them
by long poll, keeps them while its controller is away, and gives them to the request router of the
deployment, which is this one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica

from serve_apps.engine_app import URL
from serve_apps.flow.nouns import Replica

GROUP = "group"
"""Keyword of the router's own configuration."""
ROUTER = "serve_apps.replica_router:Directory"


class Board:
    """The replicas of all groups, as last told; any thread may tell."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._groups: dict[str, tuple[Replica, ...]] = {}
        self._tell: Callable[[tuple[Replica, ...]], None] | None = None

    def subscribe(self, tell: Callable[[tuple[Replica, ...]], None]) -> None:
        """``tell`` is called with all replicas now, and whenever they change, in any thread."""
        with self._lock:
            self._tell = tell
            tell(self._all())

    def post(self, group: str, replicas: Sequence[Replica]) -> None:
        """These are a group's replicas now."""
        with self._lock:
            if self._groups.get(group) == tuple(replicas):
                return
            self._groups[group] = tuple(replicas)
            if self._tell is not None:
                self._tell(self._all())

    def remove(self, group: str) -> None:
        """A group is no more."""
        self.post(group, ())

    def _all(self) -> tuple[Replica, ...]:
        return tuple(r for replicas in self._groups.values() for r in replicas)


BOARD = Board()
"""Of this process: Serve makes the routers itself."""


class Directory(RequestRouter):  # type: ignore[misc]
    """Posts the replicas of its group, and routes what little Serve itself sends to any of them."""

    def initialize_state(self, group: str = "") -> None:
        """Of `RequestRouter`: its keyword arguments."""
        self._group = group

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """Of `RequestRouter`: Serve's news. Those that are told to stop are not among them."""
        super().update_replicas(replicas)
        found = [
            Replica(r.replica_id.unique_id, self._group, r.replica_metadata[URL])
            for r in replicas
            if URL in r.replica_metadata
        ]
        BOARD.post(self._group, sorted(found, key=lambda r: r.id))

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,  # noqa: ARG002
    ) -> list[list[RunningReplica]]:
        """Of `RequestRouter`."""
        return [list(candidate_replicas)]
