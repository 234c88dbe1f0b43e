"""Who asks, once the key was found to be right."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Caller:
    """One holder of a key, as the rest of the data plane sees it."""

    tenant: str
    """Bounded: names come from the keys file."""
    key_id: str | None
    """Public id of the key, never the key; None where no keys are required."""
    weight: float = 1.0
    """Fair share among the tenants that wait."""
    priority: int = 0
    """Higher is served first and shed last."""
    models: frozenset[str] | None = None
    """Names that may be asked for, ``auto`` among them; None: all."""
    default_deadline_s: float | None = None


ANONYMOUS = Caller("anonymous", None)
"""Everybody, where no keys are required."""
