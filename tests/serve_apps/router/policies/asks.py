"""Builders for policies' tests."""

from __future__ import annotations

from typing import Any

from serve_apps.router.policies.base import Ask

MODELS = ("small", "medium", "large")


def ask(**changes: Any) -> Ask:
    """Three models, better and dearer from one to the next."""
    settings: dict[str, Any] = {
        "models": MODELS,
        "quality": (0.5, 0.7, 0.8),
        "price": (1.0, 3.0, 10.0),
    }
    return Ask(**(settings | changes))


def pair(weak: float = 0.5, strong: float = 0.8, **changes: Any) -> Ask:
    """Two models, the strong one ten times as dear."""
    settings: dict[str, Any] = {
        "models": ("weak", "strong"),
        "quality": (weak, strong),
        "price": (1.0, 10.0),
    }
    return Ask(**(settings | changes))
