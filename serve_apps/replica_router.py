"""What Ray Serve tells a handle of the replicas of a group, passed on to whoever asked.

Requests do not go through Serve's handles: a handle is held for its news alone. Serve brings them
by long poll, keeps them while its controller is away, and gives them to the request router of the
deployment, which is this one.
"""

from __future__ import annotations

from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica

from serve_apps.engine_app import URL
from serve_apps.flow.nouns import Replica

GROUP = "group"
"""Keyword of the router's own configuration."""
ROUTER = "serve_apps.replica_router:Directory"


class Directory(RequestRouter):  # type: ignore[misc]
    """Posts its application's replicas, and routes what little Serve itself sends to any."""

    def initialize_state(self, group: str = "") -> None:
        """Of `RequestRouter`: its keyword arguments."""
        self._group = group

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """Of `RequestRouter`: Serve's news. Those that are told to stop are not among them."""
        from serve_apps.board import BOARD  # this process's: Serve sends the class by value

        super().update_replicas(replicas)
        found = [
            Replica(r.replica_id.unique_id, self._group, r.replica_metadata[URL])
            for r in replicas
            if URL in r.replica_metadata
        ]
        BOARD.post(self._deployment_id.app_name, sorted(found, key=lambda r: r.id))

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,  # noqa: ARG002
    ) -> list[list[RunningReplica]]:
        """Of `RequestRouter`."""
        return [list(candidate_replicas)]
