"""What every router answers: which replica group takes this request, and why."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Protocol

from profiler.errors import UnknownNameError


@dataclasses.dataclass(frozen=True, slots=True)
class RouteRequest:
    """What is known of a request when it arrives.

    ``input_tokens`` is an estimate; ``max_output_tokens`` is the client's limit, None without one.
    """

    model: str
    input_tokens: int
    max_output_tokens: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Decision:
    """Where a request goes: a replica group, the model it hosts, and the reason in one line.

    ``others`` tells whether yet another group could take it.
    """

    group: str
    model: str
    reason: str
    others: bool = False


class UnknownModelError(UnknownNameError):
    """No group of this pool serves the model that the request names."""


class NoGroupLeftError(Exception):
    """Every group that could take a request is to be avoided."""


class Router(Protocol):
    """Chooses a replica group for a request; called once per request, from one event loop."""

    def route(self, request: RouteRequest, avoid: Collection[str] = ()) -> Decision:
        """Pick a group, none of those in ``avoid``.

        Raises:
            UnknownModelError: the pool does not serve the model asked for.
            NoGroupLeftError: every group that could take the request is to be avoided.
        """
        ...
