"""Where this process keeps what it was told of the replicas of all applications."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from serve_apps.flow.nouns import Replica


class Board:
    """The replicas of all applications, as last told; any thread may tell."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._apps: dict[str, tuple[Replica, ...]] = {}
        self._tell: Callable[[tuple[Replica, ...]], None] | None = None

    def subscribe(self, tell: Callable[[tuple[Replica, ...]], None]) -> None:
        """``tell`` is called with all replicas now, and whenever they change, in any thread."""
        with self._lock:
            self._tell = tell
            tell(self._all())

    def post(self, app: str, replicas: Sequence[Replica]) -> None:
        """These are an application's replicas now."""
        with self._lock:
            if self._apps.get(app) == tuple(replicas):
                return
            self._apps[app] = tuple(replicas)
            if self._tell is not None:
                self._tell(self._all())

    def remove(self, app: str) -> None:
        """An application is no more."""
        self.post(app, ())

    def has(self, app: str) -> bool:
        """Whether an application has replicas."""
        return bool(self._apps.get(app))

    def _all(self) -> tuple[Replica, ...]:
        return tuple(r for replicas in self._apps.values() for r in replicas)


BOARD = Board()
"""Of this process: Serve makes the routers itself."""
