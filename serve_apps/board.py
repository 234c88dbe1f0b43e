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
        self._removed: set[str] = set()
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
        """Tell no more of an application.

        What is known of it stays: Serve keeps its handle, and tells nothing anew of replicas that
        did not change when it is asked for again.
        """
        with self._lock:
            self._removed.add(app)
            if self._apps.get(app) and self._tell is not None:
                self._tell(self._all())

    def restore(self, app: str) -> None:
        """Tell of an application again."""
        with self._lock:
            if app in self._removed:
                self._removed.discard(app)
                if self._apps.get(app) and self._tell is not None:
                    self._tell(self._all())

    def has(self, app: str) -> bool:
        """Whether an application has replicas."""
        return app not in self._removed and bool(self._apps.get(app))

    def _all(self) -> tuple[Replica, ...]:
        told = (found for app, found in self._apps.items() if app not in self._removed)
        return tuple(r for replicas in told for r in replicas)


BOARD = Board()
"""Of this process: Serve makes the routers itself."""
