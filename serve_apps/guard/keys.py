"""API keys: how they are made, what is kept of them, and the file that keeps it.

A key is ``orc_ID_SECRET``: a public id of 50 random bits by which it is found, and 256 random bits.
Only its SHA-256 is kept. Slow hashes (scrypt, bcrypt, Argon2) make guessing dear where people
choose passwords; nobody guesses one of 2^256 keys at any speed, and a slow hash on every request
would be a way to overload the service.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import secrets
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, Field, model_validator

from profiler.core import Count, Noun, Positive
from serve_apps.guard.known_keys import KNOWN

PREFIX = "orc_"
MAX_KEYS = 10_000

KeyId = Annotated[str, Field(pattern=r"^[a-z2-7]{10}$")]
Hash = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
Tenant = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$")]
"""A label of metrics: lower-case letters, digits, dots, dashes, at most 63 characters."""


class KeyEntry(Noun):
    """What is known of one key. Limits that are not given do not apply."""

    id: KeyId
    hash: Hash
    tenant: Tenant
    admin: bool = Field(False, description="for the operator's calls; answers no completions")
    priority: Annotated[int, Field(ge=-10, le=10)] = Field(
        0, description="higher is served first and shed last"
    )
    weight: Positive = Field(1.0, description="fair share among tenants")
    models: tuple[str, ...] | None = Field(
        None, min_length=1, description="names that may be asked for, `auto` among them"
    )
    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = Field(None, description="input and output")
    budget_usd_per_day: Positive | None = Field(None, description="days of UTC")
    budget_usd_per_month: Positive | None = Field(None, description="calendar months of UTC")
    default_deadline_s: Positive | None = Field(
        None, description="of requests that name no deadline"
    )
    created: AwareDatetime | None = None
    expires: AwareDatetime | None = Field(None, description="with a time zone")
    disabled: bool = False
    previous_hash: Hash | None = Field(None, description="of the key before it was rotated")
    previous_until: AwareDatetime | None = None
    note: str | None = Field(None, max_length=200)

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if (self.previous_hash is None) != (self.previous_until is None):
            raise ValueError("previous_hash and previous_until stand together or not at all")
        if {self.hash, self.previous_hash} & _KNOWN_HASHES:
            raise ValueError("hash: it is that of a publicly known default key, which is no secret")
        return self


class KeysFile(Noun):
    """All keys of a service."""

    version: Literal[1] = 1
    keys: tuple[KeyEntry, ...] = Field((), max_length=MAX_KEYS)

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        for what in ("id", "hash"):
            seen = set()
            for entry in self.keys:
                if (value := getattr(entry, what)) in seen:
                    raise ValueError(f"keys: two entries have {what} {value}; expected one each")
                seen.add(value)
        return self


def new_id() -> str:
    """A public id that no other key has."""
    return base64.b32encode(secrets.token_bytes(7)).decode().lower()[:10]


def new_key(key_id: str) -> str:
    """A new key under this id; shown once, kept nowhere."""
    return f"{PREFIX}{key_id}_{secrets.token_urlsafe(32)}"


def engine_key() -> str:
    """A key between ingress and engines, for an environment variable; never for a file."""
    return secrets.token_urlsafe(32)


def id_of(key: str) -> str:
    """The public id in a key; of anything else, some text that is no id."""
    return key.removeprefix(PREFIX).partition("_")[0]


def hash_of(key: str) -> str:
    """What is kept of a key."""
    return f"sha256:{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()}"


def utc_now() -> dt.datetime:
    """Now, to the second."""
    return dt.datetime.now(dt.UTC).replace(microsecond=0)


_KNOWN_HASHES = frozenset(hash_of(form) for k in KNOWN for form in (k, k.upper(), k.title()))
