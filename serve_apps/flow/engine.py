"""One engine replica as the dispatcher knows it."""

from __future__ import annotations

from serve_apps.flow.nouns import Replica


class Engine:
    """What is in flight on a replica, and how well it does."""

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self.last_byte_s = 0.0
