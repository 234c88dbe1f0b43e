"""The seam between the ingress and whatever knows the replicas: Ray Serve, or a test."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol


@dataclasses.dataclass(frozen=True, slots=True)
class Replica:
    """One running engine: its identity, and the base URL of its own HTTP server."""

    id: str
    url: str


class NoReplicaError(Exception):
    """A group has no replica ready."""


class GroupBusyError(Exception):
    """Every replica of a group stayed full for as long as a request was to wait."""


class ReplicaPicker(Protocol):
    """Picks a replica and holds a slot on it, and knows how many are ready."""

    def pick(
        self, group: str, avoid: Collection[str], wait_s: float
    ) -> AbstractAsyncContextManager[Replica]:
        """Hold a slot on the least busy replica of a group while the context is open.

        Replicas whose id is in ``avoid`` are taken only when there is no other.

        Raises:
            NoReplicaError: none is ready.
            GroupBusyError: all are full, and stayed so for ``wait_s``.
        """
        ...

    async def ready(self) -> Mapping[str, int]:
        """How many replicas of each group are ready now; absent groups have none."""
        ...
