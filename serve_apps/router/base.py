"""What every router answers: which replica group takes this request, and why."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Protocol, runtime_checkable

from profiler.core import Slo
from profiler.errors import UnknownNameError
from serve_apps.router.policies.base import Ask
from serve_apps.router.policies.preference import Preference
from serve_apps.router.prompts import Prompt


@dataclasses.dataclass(frozen=True, slots=True)
class RouteRequest:
    """What is known of a request when it arrives.

    ``input_tokens`` is an estimate; ``max_output_tokens`` is the client's limit, None without one.
    ``prompt`` is what a learned router looks at, None where there is no such router or no text;
    ``session`` tells requests of one conversation; ``preference`` is how much quality it wants.
    ``stream``: the answer comes piece by piece, so its first byte is its first token. ``prefix``
    is a hash of the prompt's leading bytes, alike where those are. ``importance`` multiplies the
    worth of quality while prices are up: who has more of it is moved later.
    """

    model: str
    input_tokens: int
    max_output_tokens: int | None = None
    prompt: Prompt | None = None
    session: str | None = None
    preference: Preference | None = None
    stream: bool = True
    prefix: int | None = None
    importance: float = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class Decision:
    """Where a request goes: a replica group, the model it hosts, and the reason in one line.

    ``others`` tells whether yet another group could take it. ``quality`` is the expected score of
    the answer and ``cost_usd`` the share of the fleet's price that it takes, where a learned
    router decided; ``ask`` is then what it was asked, for policies that learn. ``output_tokens``
    is the answer's expected length and ``slo`` what holds for it, where the router knows them.
    ``shed``: the price of load moved it to another model than the plan's prices would.
    ``fallback``: the plan's shares decided because the router failed or was late.
    """

    group: str
    model: str
    reason: str
    others: bool = False
    quality: float | None = None
    cost_usd: float | None = None
    ask: Ask | None = None
    output_tokens: float | None = None
    slo: Slo | None = None
    shed: bool = False
    fallback: bool = False


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


@runtime_checkable
class WeighsLoad(Protocol):
    """A router that chooses by price; it is asked once, with all that is to be avoided.

    Others are asked where a request is meant to go, and again if it cannot go there.
    """

    weighs_load: bool
