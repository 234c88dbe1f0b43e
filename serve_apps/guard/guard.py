"""The guard in front of the data plane: one object that says who may ask what."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from serve_apps.guard.caller import ANONYMOUS, Caller

Headers = Iterable[tuple[bytes, bytes]]
"""As ASGI gives them: names in lower case."""


class Used(Protocol):
    """What `Guard.charge` reads of a finished request's record."""

    model: str | None
    input_tokens: int
    output_tokens: int | None
    predicted_cost_usd: float | None
    dispatched_s: float | None


class Guard:
    """Keys, limits and body checks. Order of calls for one request:

    ``admit(headers)``, read the body, ``read(body)``, ``clean(fields)``, ``allow(caller, model)``,
    ``reserve(caller, ...)``, serve, ``charge(caller, record, reserved)`` exactly once.
    """

    def admit(self, headers: Headers) -> Caller:
        """Who asks; counts the request against the key's rate.

        Raises:
            ApiError: 401 no valid key, 403 foreign page, 415 encoded body, 429 with Retry-After.
        """
        return ANONYMOUS

    def admin(self, headers: Headers, peer: str | None = None) -> None:
        """Whether this may be an administrator; ``peer`` is the client's own address if known.

        Raises:
            ApiError: 401 or 403.
        """

    def read(self, body: bytes) -> dict[str, Any]:
        """The body's JSON object, screened for bombs before it is parsed (once).

        Raises:
            ApiError: 400, it is none or it is a bomb.
        """
        raise NotImplementedError

    def clean(self, fields: Mapping[str, Any]) -> tuple[str, ...]:
        """The top-level keys to cut out of the body with `strip`; usually none.

        Raises:
            ApiError: 400, naming the field that is refused and why.
        """
        raise NotImplementedError

    def allow(self, caller: Caller, model: str) -> None:
        """
        Raises:
            ApiError: 403, the model is not on the key's list.
        """

    def visible(self, caller: Caller, models: Iterable[str]) -> Sequence[str]:
        """The models that ``/v1/models`` shows this caller."""
        return [m for m in models if caller.models is None or m in caller.models]

    def reserve(self, caller: Caller, input_tokens: int, max_output_tokens: int | None) -> int:
        """Take the tokens that a request is expected to use; the result goes to `charge`.

        Raises:
            ApiError: 429 with Retry-After.
        """
        return 0

    def charge(self, caller: Caller, record: Used, reserved: int = 0) -> None:
        """Correct the key's tokens and budget by what was used."""

    def sync(self) -> None:
        """Write what was used, read what other ingresses used. Call once a second or two."""

    def close(self) -> None:
        """Write what was used, once more."""
