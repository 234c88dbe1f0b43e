"""With which options a service on a Ray cluster was deployed, from what runs."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from orchestrator.deploy.rayserve.config import RayOptions, ingress_name
from orchestrator.deploy.rayserve.seen import Seen
from profiler.errors import ClusterError
from serve_apps.pool import DRAIN_TIMEOUT_S, IngressSettings


def options_of(seen: Seen) -> RayOptions:
    """The options under which another plan of the service is one more deployment like the last.

    Raises:
        ClusterError: it is not there, or was deployed by another version.
    """
    config = seen.configs.get(ingress_name(seen.service))
    note = seen.note
    if config is None or note is None:
        raise ClusterError(f"no service {seen.service!r} runs there")
    try:
        settings = IngressSettings.model_validate(config.get("args") or {})
        front: dict[str, Any] = config["deployments"][0]
        router = (front.get("user_config") or {}).get("router") or {}
        drain_s = settings.drain_timeout_s
        return RayOptions(
            port=settings.port or RayOptions().port,
            host=settings.host,
            ingress_replicas=int(front["num_replicas"]),
            guard=settings.guard,
            seeing=settings.seeing,
            emulate=note.emulated,
            ship_code=bool((config.get("runtime_env") or {}).get("py_modules")),
            router_artefact=router.get("artefact") or None,
            drain_timeout_s=None if drain_s == DRAIN_TIMEOUT_S else drain_s,
        )
    except (ValidationError, KeyError, IndexError, TypeError) as error:
        raise ClusterError(
            f"how {seen.service!r} was deployed cannot be read ({error}); deploy the plan yourself"
        ) from None
