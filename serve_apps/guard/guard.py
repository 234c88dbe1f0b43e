"""The guard in front of the data plane: one object that says who may ask what, and how much."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from serve_apps.api_error import ApiError
from serve_apps.guard import body as bodies
from serve_apps.guard.caller import ANONYMOUS, Caller
from serve_apps.guard.headers import (
    Headers,
    check_body_headers,
    check_local_page,
    check_origin,
    is_local,
)
from serve_apps.guard.keyring import Holder, KeyRing
from serve_apps.guard.limits import Meter, day_of, until_next
from serve_apps.guard.meters import Meters
from serve_apps.guard.peer import Peer, is_own_user
from serve_apps.guard.prices import TokenPrice
from serve_apps.guard.screen import read_object
from serve_apps.guard.settings import GuardSettings

log = logging.getLogger("orchestrator.guard")

CREDENTIALS = (b"authorization", b"x-api-key")
MEND = "create a key with `orchestrator keys create --admin` and set guard.keys"


class Used(Protocol):
    """What `Guard.charge` reads of a finished request's record."""

    @property
    def model(self) -> str: ...
    @property
    def input_tokens(self) -> int: ...
    @property
    def output_tokens(self) -> int | None: ...
    @property
    def predicted_cost_usd(self) -> float | None: ...
    @property
    def dispatched_s(self) -> float | None: ...


class Guard:
    """Keys, limits and body checks.

    For one request: ``admit(headers)``, read the body, ``read(body)``, ``clean(fields)``,
    ``allow(caller, model)``, ``reserve(caller, ...)``, serve, and after every successful
    ``reserve`` exactly one ``charge(caller, record, reserved)``.
    """

    def __init__(
        self,
        settings: GuardSettings | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        own_user: Callable[[Peer], bool] = is_own_user,
    ) -> None:
        """``clock`` is monotonic, ``now`` is Unix time, both in seconds; ``own_user`` tells
        whether a process of this machine is of the user that we are, or root's.

        Raises:
            InputError: the keys file or the usage directory cannot be used.
        """
        self.settings = settings or GuardSettings()
        self._clock = clock
        self._now = now
        self._own_user = own_user
        self._ring: KeyRing | None = None
        self._meters: Meters | None = None
        self._prices: Mapping[str, TokenPrice] = self.settings.prices
        self._unpriced: set[str] = set()
        deadline_s = self.settings.default_deadline_s
        self._anonymous = replace(ANONYMOUS, default_deadline_s=deadline_s)
        if self.settings.keys is not None:
            self._ring = KeyRing(
                self.settings.keys, clock=clock, now=now, default_deadline_s=deadline_s
            )
            shares = self.settings.ingresses
            self._meters = Meters(self.settings.usage, shares=shares, clock=clock, now=now)

    @property
    def required(self) -> bool:
        """Whether requests need a key."""
        return self._ring is not None

    def price(self, prices: Mapping[str, TokenPrice]) -> None:
        """Prices of a new plan, see `plan_prices`; those that the operator set go before."""
        self._prices = {**prices, **self.settings.prices}

    def admit(self, headers: Headers) -> Caller:
        """Who asks; counts the request against the key's rate. Call before the body is read.

        Raises:
            ApiError: 401 no valid key, 403 another site's page or a key of the wrong kind,
                415 a body that is no plain JSON, 429 with Retry-After.
        """
        headers = list(headers)
        check_body_headers(headers)
        if self._ring is None:
            self._check_page(headers)
            return self._anonymous
        holder = self._holder(headers)
        if holder.entry.admin:
            raise _forbidden("an admin key answers no completions; create one without --admin")
        self._count(holder)
        return holder.caller

    def admin(self, headers: Headers, peer: Peer | None = None) -> None:
        """Whether an operator asks. Where no keys are required, that is our own user on this
        machine: a proxy here that speaks for others is a user of its own.

        ``peer`` is the other end of the connection, None where it is not known.

        Raises:
            ApiError: 401 no valid key; 403 not an admin key, or another site's page.
        """
        headers = list(headers)
        check_origin(headers, self.settings.origins)
        if self._ring is None:
            if peer is None or not is_local(headers, peer.host):
                raise _forbidden(f"without API keys, this is for the service's own machine; {MEND}")
            if not self._own_user(peer):
                raise _forbidden(
                    f"without API keys, this is for the user that the service runs as; {MEND}"
                )
        elif not self._holder(headers).entry.admin:
            raise _forbidden("this needs an admin key: orchestrator keys create --admin")

    def scrape(self, headers: Headers, peer: Peer | None = None) -> None:
        """Whether this may read ``/metrics``: an operator, or all where ``open_metrics`` is set.

        Raises:
            ApiError: as `admin`.
        """
        if self.settings.open_metrics:
            check_origin(headers, self.settings.origins)
        else:
            self.admin(headers, peer)

    def read(self, body: bytes) -> dict[str, Any]:
        """The body's JSON object: screened for bombs, then parsed, once.

        Raises:
            ApiError: 400, it is none, or beyond a limit; 413, too large.
        """
        return read_object(body, self.settings.body)

    def clean(self, fields: Mapping[str, Any]) -> tuple[str, ...]:
        """The top-level keys to cut out of the body with `splice.strip`; usually none.

        Raises:
            ApiError: 400, naming the field that is refused and why.
        """
        return bodies.clean(fields, self.settings)

    def allow(self, caller: Caller, model: str) -> None:
        """Whether the key may ask for this model, by the name the client gave.

        ``auto`` with a preference (``auto:cost``) is ``auto``; who has it on the list lets the
        router choose among all models.

        Raises:
            ApiError: 403, it is not on the key's list.
        """
        if caller.models is None or model in caller.models or _plain(model) in caller.models:
            return
        listed = ", ".join(sorted(caller.models))
        raise ApiError(
            403,
            f"this key may not ask for model {model[:100]!r}; it may ask for: {listed}",
            kind="permission_error",
            param="model",
            code="model_not_allowed",
        )

    def visible(self, caller: Caller, models: Iterable[str]) -> list[str]:
        """The models that ``/v1/models`` shows this caller."""
        return [m for m in models if caller.models is None or m in caller.models]

    def reserve(
        self,
        caller: Caller,
        input_tokens: int,
        max_output_tokens: int | None,
        answers: int = 1,
    ) -> int:
        """Set aside the tokens that a request is expected to use; the result goes to `charge`.

        ``max_output_tokens`` holds for each of the ``answers`` that it asks for (prompts times n).

        Raises:
            ApiError: 429 with Retry-After: tokens per minute, or the budget is spent.
        """
        meter = self._meter(caller)
        if meter is None:
            return 0
        expected = meter.expected_tokens(input_tokens, max_output_tokens, answers)
        now = self._now()
        if (period := meter.over_budget(day_of(now), expected)) is not None:
            raise _quota(period, until_next(period, now))
        wait_s = meter.tokens.wait_s(expected, self._clock()) if meter.tokens else 0.0
        if wait_s > 0:
            raise _rate("tokens", wait_s)
        meter.hold(expected)
        return expected

    def charge(self, caller: Caller, record: Used, reserved: int = 0, answers: int = 1) -> None:
        """Correct the key's tokens and budget by what was used; nothing for what never ran.

        Where the output was not counted (the client left), the tokens set aside stand for it.
        """
        meter = self._meter(caller)
        if meter is None:
            return
        day = day_of(self._now())
        if record.dispatched_s is None:
            meter.settle(reserved, 0, 0, 0.0, day)
            return
        output = record.output_tokens
        if output is None:
            output = max(0, reserved - record.input_tokens)
        usd = self._cost_usd(record, output)
        meter.settle(reserved, record.input_tokens, output, usd, day, answers)

    def sync(self) -> None:
        """Look at the keys file; write what was used, and read what other ingresses used.

        To be called every ``settings.sync_s``. It reads and writes files, and may run in another
        thread than all the rest.
        """
        if self._ring is not None:
            self._ring.refresh()
        if self._meters is not None:
            self._meters.sync()

    def close(self) -> None:
        """Write what was used once more, and let the next ingress go on from there."""
        if self._meters is not None:
            self._meters.close()

    def _check_page(self, headers: Headers) -> None:
        """Where no key is asked for, a page that a user here looks at must not ask either.

        Beyond this machine all are welcome by a setting; on it, a page is of this machine too.
        """
        check_origin(headers, self.settings.origins)
        if not self.settings.allow_anonymous:
            check_local_page(headers, self.settings.origins)

    def _holder(self, headers: Headers) -> Holder:
        """The key's holder. One message for no key, an unknown one and a wrong one."""
        assert self._ring is not None
        holder = self._ring.find(_credential(headers))
        if holder is None:
            raise _unauthenticated(
                "no valid API key; send one as 'Authorization: Bearer orc_...' "
                "(operators make them with `orchestrator keys create`)"
            )
        if holder.entry.disabled:
            raise _unauthenticated("this API key was revoked")
        if self._now() >= holder.expires_s:
            raise _unauthenticated("this API key has expired")
        return holder

    def _count(self, holder: Holder) -> None:
        assert self._meters is not None
        meter = self._meters.of(holder.entry)
        if meter.requests is not None:
            wait_s = meter.requests.wait_s(1, self._clock())
            if wait_s > 0:
                raise _rate("requests", wait_s)
            meter.requests.take(1)
        meter.mine.requests += 1

    def _meter(self, caller: Caller) -> Meter | None:
        if self._meters is None or caller.key_id is None:
            return None
        return self._meters.known(caller.key_id)

    def _cost_usd(self, record: Used, output_tokens: int) -> float:
        """By the model's price; else as the router predicted; else nothing, and the log says so."""
        price = self._prices.get(record.model)
        if price is not None:
            return price.of(record.input_tokens, output_tokens)
        if record.predicted_cost_usd is not None:
            return record.predicted_cost_usd
        if record.model not in self._unpriced:
            self._unpriced.add(record.model)
            log.warning("model %r has no price: no budget counts it", record.model)
        return 0.0


def _credential(headers: Headers) -> str:
    """The one key that a request names; none and several alike are text that is no key."""
    given = [value for name, value in headers if name in CREDENTIALS]
    if len(given) != 1:
        return ""
    text = given[0].decode("latin-1").strip()
    scheme, _, rest = text.partition(" ")
    return rest.strip() if scheme.casefold() == "bearer" else text


def _plain(model: str) -> str:
    return model.partition(":")[0]


def _unauthenticated(message: str) -> ApiError:
    return ApiError(
        401,
        message,
        code="invalid_api_key",
        headers={"www-authenticate": 'Bearer realm="orchestrator"'},
    )


def _forbidden(message: str) -> ApiError:
    return ApiError(403, message, kind="permission_error", code="forbidden")


def _rate(what: str, wait_s: float) -> ApiError:
    return ApiError(
        429,
        f"this key's {what} per minute are used up; try again in {math.ceil(wait_s)} s",
        kind=what,
        code="rate_limit_exceeded",
        headers={"retry-after": str(math.ceil(wait_s))},
    )


def _quota(period: str, wait_s: float) -> ApiError:
    return ApiError(
        429,
        f"this key's budget of the {period} is spent or held by requests under way",
        kind="insufficient_quota",
        code="insufficient_quota",
        headers={"retry-after": str(math.ceil(wait_s))},
    )
