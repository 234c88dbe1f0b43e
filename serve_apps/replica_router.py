"""Which replica of a group takes a request: the one with the fewest in flight, and not a dead one.

Runs inside Ray Serve's handle, in the process of the ingress.
"""

from __future__ import annotations

from collections.abc import Collection

from ray.serve.request_router import (
    PendingRequest,
    RequestRouter,
    RunningReplica,
)

AVOID = "avoid"
"""Keyword of ``handle.choose_replica`` that holds the replica ids not to choose if others can."""


class LeastInFlight(RequestRouter):  # type: ignore[misc]
    """Offers every replica but those to avoid; Serve takes the one with the shortest queue.

    Requests are matched one by one, not first come first served across all that wait, so that
    what one request avoids is never handed to it on behalf of another.
    """

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        """One rank of candidates; all of them when every one is to be avoided."""
        avoid: Collection[str] = ()
        if pending_request is not None:
            avoid = pending_request.kwargs.get(AVOID, ())
            # Else Serve asks again at once, in a tight loop, while every replica is full.
            pending_request.routing_context.should_backoff = True
        wanted = [r for r in candidate_replicas if r.replica_id.unique_id not in avoid]
        return [wanted or list(candidate_replicas)]
