"""On which replica a prompt's beginning lies cached, as far as we sent it there ourselves."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

from serve_apps.router.base import RouteRequest

MOST_NAMES = 10_000
LONGEST_NAME = 256
PREFIX_SHARE = 0.5
"""Of a prompt that begins like another, so much is taken to be alike; the hash tells no more."""
FORGET_S = 600.0
"""Engines evict what was not used for long; nobody tells when."""


@dataclass(frozen=True, slots=True)
class Cached:
    """A replica's id, and how many of a prompt's tokens it holds."""

    replica: str
    tokens: float


@dataclass(frozen=True, slots=True)
class _Place:
    replica: str
    tokens: float
    at_s: float
    input_tokens: int


class Affinity:
    """Where sessions and prefixes were answered last; the oldest are forgotten first.

    Only tokens that need not be prefilled again speak for a replica, never the habit itself: the
    placement weighs them against its queue.
    """

    def __init__(self, most: int = MOST_NAMES) -> None:
        self._most = most
        self._places: OrderedDict[Hashable, _Place] = OrderedDict()

    def __len__(self) -> int:
        return len(self._places)

    def cached(self, asked: RouteRequest, now: float) -> Cached | None:
        """The replica that holds most of this prompt; None when none is known to."""
        best: Cached | None = None
        for name, whole in _names(asked):
            place = self._places.get(name)
            if place is None or now - place.at_s > FORGET_S:
                continue
            if whole and asked.input_tokens < place.input_tokens:
                continue  # shorter than its last turn: not the same conversation
            tokens = min(place.tokens, asked.input_tokens - 1.0)
            if best is None or tokens > best.tokens:
                best = Cached(place.replica, tokens)
        return best

    def remember(self, asked: RouteRequest, replica: str, output_tokens: float, now: float) -> None:
        """Note where a request went."""
        for name, whole in _names(asked):
            tokens = asked.input_tokens + output_tokens if whole else asked.input_tokens
            share = 1.0 if whole else PREFIX_SHARE
            self._places[name] = _Place(replica, share * tokens, now, asked.input_tokens)
            self._places.move_to_end(name)
        while len(self._places) > self._most:
            self._places.popitem(last=False)


def _names(asked: RouteRequest) -> tuple[tuple[Hashable, bool], ...]:
    """What a prompt is known by, and whether all of it continues what that stands for."""
    session, prefix = asked.session, asked.prefix
    if session:
        key = (session[:LONGEST_NAME], True)
        return (key,) if prefix is None else (key, (prefix, False))
    return () if prefix is None else ((prefix, False),)
