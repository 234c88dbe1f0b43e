"""Where each conversation was answered last, and how much of its prompt lies cached there."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

MOST_SESSIONS = 10_000
LONGEST_NAME = 256


@dataclass(frozen=True, slots=True)
class LastTurn:
    """A session's last request: its group, its prompt, and prompt plus expected answer."""

    group: str
    input_tokens: int
    context_tokens: float


class Sessions:
    """The last turn of the sessions seen most recently; older ones are forgotten."""

    def __init__(self, most: int = MOST_SESSIONS) -> None:
        self._most = most
        self._last: OrderedDict[str, LastTurn] = OrderedDict()

    def __len__(self) -> int:
        return len(self._last)

    def cached(self, session: str | None, input_tokens: int) -> tuple[str, float] | None:
        """The group of the last turn and the tokens of this prompt cached there; None if unknown.

        A prompt shorter than the last one is no continuation of it.
        """
        last = self._last.get(session[:LONGEST_NAME]) if session else None
        if last is None or input_tokens < last.input_tokens:
            return None
        return last.group, min(last.context_tokens, input_tokens)

    def remember(self, session: str, turn: LastTurn) -> None:
        """Note where a session's request went."""
        key = session[:LONGEST_NAME]
        self._last[key] = turn
        self._last.move_to_end(key)
        if len(self._last) > self._most:
            self._last.popitem(last=False)
