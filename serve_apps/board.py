"""Where this process keeps what it was told of the replicas of all groups."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from serve_apps.flow.nouns import Replica


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
