"""A guard with a keys file of its own and clocks that the test moves."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serve_apps.guard import keys_file
from serve_apps.guard.guard import Guard
from serve_apps.guard.keys import KeyEntry
from serve_apps.guard.settings import GuardSettings

NOON_S = 1_767_268_800.0  # 2026-01-01 12:00 UTC


@dataclass
class Clock:
    """Both clocks; they move together."""

    passed_s: float = 0.0

    def monotonic(self) -> float:
        return 1000.0 + self.passed_s

    def unix(self) -> float:
        return NOON_S + self.passed_s


@dataclass
class Record:
    """What `Guard.charge` reads."""

    model: str = "m1"
    input_tokens: int = 100
    output_tokens: int | None = 50
    predicted_cost_usd: float | None = None
    dispatched_s: float | None = 1.0


@dataclass
class House:
    """A directory with keys; makes keys and guards."""

    directory: Path
    clock: Clock = field(default_factory=Clock)

    @property
    def path(self) -> Path:
        return self.directory / "keys.yaml"

    def key(self, tenant: str = "acme", **limits: Any) -> str:
        def entry(key_id: str, hashed: str) -> KeyEntry:
            return KeyEntry(id=key_id, hash=hashed, tenant=tenant, **limits)

        return keys_file.create(self.path, entry)[0]

    def guard(self, **settings: Any) -> Guard:
        given = GuardSettings(keys=str(self.path), **settings)
        return Guard(given, clock=self.clock.monotonic, now=self.clock.unix)


def bearer(key: str, *more: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    return [
        (b"host", b"pool"),
        (b"content-type", b"application/json"),
        (b"authorization", f"Bearer {key}".encode()),
        *more,
    ]
