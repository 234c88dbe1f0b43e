"""Builders that Serve's declarative config names: a replica group's engines, and the ingress.

Serve fills in replicas, actor options and ``user_config`` from the config; ``args`` are what
rarely changes, since a change of them replaces every replica.
"""

from __future__ import annotations

from typing import Any

from ray.serve import Application

from serve_apps.app import engine_application, ingress_deployment
from serve_apps.pool import EngineSettings, IngressSettings

STARTS = 3
"""A cluster has nodes that fail, and hubs that are slow: one failed start proves nothing."""


def engine(args: dict[str, Any]) -> Application:
    """The application of one replica group; ``args`` are `EngineSettings`."""
    return engine_application(EngineSettings.model_validate(args), STARTS)


def ingress(args: dict[str, Any]) -> Application:
    """The application that answers clients; ``args`` are `IngressSettings`, its plan comes as
    ``user_config``."""
    return ingress_deployment(IngressSettings.model_validate(args))
