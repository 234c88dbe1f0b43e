"""What runs on a Ray cluster's Serve: a service of ours, and the applications of others."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from manifests.serve_config import ENGINE_DEPLOYMENT, ENGINE_IMPORT, INGRESS_IMPORT
from orchestrator.deploy.rayserve.config import Note, Object, ingress_name
from placement.plan import Plan
from profiler.errors import ClusterError

DECLARED = "declarative"
DELETING = "DELETING"
RUNNING = "RUNNING"
REDACTED = "<redacted>"
STARTS_PROXY = "HeadOnly"
"""Where Serve is not there yet: our clients come through the ingress's own port."""


@dataclasses.dataclass(frozen=True)
class Seen:
    """Serve's own account at one moment, with an eye to one service."""

    service: str
    told: Mapping[str, Any]

    @property
    def apps(self) -> Mapping[str, Object]:
        """All applications on the cluster by name."""
        found: Mapping[str, Object] = self.told.get("applications") or {}
        return found

    @property
    def ours(self) -> dict[str, Object]:
        """The service's applications, those that are on their way out too."""
        return {n: a for n, a in self.apps.items() if self._is_ours(n, a)}

    @property
    def configs(self) -> dict[str, Object]:
        """What the service's applications were told to be, by name."""
        told = {n: a.get("deployed_app_config") for n, a in self.ours.items()}
        return {n: c for n, c in told.items() if c is not None and not _leaves(self.apps[n])}

    @property
    def note(self) -> Note | None:
        """What the deployment says of itself."""
        told = self._user_config.get("deployment")
        return Note.model_validate(told) if told else None

    @property
    def plan(self) -> Plan | None:
        """The plan in force, or on its way; None where the service is not there."""
        told = self._user_config.get("plan")
        if told is None:
            return None
        try:
            return Plan.model_validate(told)
        except ValidationError:
            raise ClusterError(
                f"the plan of {self.service!r} on the cluster cannot be read: it was deployed by "
                "another version of this program; delete it with that one, or use that one"
            ) from None

    @property
    def app_of(self) -> Mapping[str, str]:
        """The application of each group of that plan."""
        found: Mapping[str, str] = self._user_config.get("apps") or {}
        return found

    def deployment(self, app: str) -> Object:
        """The one deployment of an application; empty where there is none."""
        deployments = (self.apps.get(app) or {}).get("deployments") or {}
        return next(iter(deployments.values()), {})

    def replicas(self, app: str, state: str | None = RUNNING) -> list[Object]:
        """An application's replicas in a state; all without one."""
        found = self.deployment(app).get("replicas") or ()
        return [r for r in found if state is None or r["state"] == state]

    def merged(self, ours: Sequence[Object]) -> Object:
        """The whole config with these as the service's applications; others' as they are.

        Raises:
            ClusterError: another's application has the name of one, or cannot be read.
        """
        others = dict(self._others())
        for app in ours:
            self.check_name(app["name"])
        config: Object = {
            "proxy_location": self.told.get("proxy_location") or STARTS_PROXY,
            "applications": [*others.values(), *ours],
        }
        for key in ("http_options", "grpc_options", "target_capacity"):
            if self.told.get(key) is not None:
                config[key] = self.told[key]
        return config

    def check_name(self, name: str) -> None:
        """
        Raises:
            ClusterError: another's application has it.
        """
        there = self.apps.get(name)
        if there is not None and not self._is_ours(name, there):
            raise ClusterError(
                f"the cluster has an application {name!r} that is not of this service; to mend: "
                "delete it, or give the plan another service name"
            )

    def _others(self) -> Iterator[tuple[str, Object]]:
        for name, app in self.apps.items():
            if self._is_ours(name, app) or app.get("source") != DECLARED or _leaves(app):
                continue
            config = app.get("deployed_app_config")
            if config is None or _redacted(config):
                raise ClusterError(
                    f"the application {name!r} of others cannot be read whole, so deploying beside "
                    "it would lose or change it; try again, or deploy it from code"
                )
            yield name, config

    @property
    def _user_config(self) -> Mapping[str, Any]:
        config = self.configs.get(ingress_name(self.service))
        deployments = config.get("deployments") if config else None
        return (deployments[0].get("user_config") or {}) if deployments else {}

    def _is_ours(self, name: str, app: Mapping[str, Any]) -> bool:
        if not name.startswith(f"{self.service}."):
            return False
        if _leaves(app):
            return True
        config = app.get("deployed_app_config") or {}
        return config.get("import_path") in (ENGINE_IMPORT, INGRESS_IMPORT)


def engine_replicas(config: Mapping[str, Any]) -> int:
    """How many replicas an application's config asks for."""
    found = next(d for d in config["deployments"] if d["name"] == ENGINE_DEPLOYMENT)
    return int(found["num_replicas"])


def is_engine(config: Mapping[str, Any]) -> bool:
    """Whether a config is of a group's engines."""
    return bool(config["import_path"] == ENGINE_IMPORT)


def with_replicas(config: Mapping[str, Any], replicas: int) -> Object:
    """A group's config with another number of replicas."""
    deployments = [
        d | {"num_replicas": replicas} if d["name"] == ENGINE_DEPLOYMENT else d
        for d in config["deployments"]
    ]
    return dict(config) | {"deployments": deployments}


def differences(before: Mapping[str, Object], now: Mapping[str, Object]) -> list[str]:
    """What another changed of a service, a line each. Serve may add fields to what it was told."""
    lines = [f"{n} is gone" for n in before.keys() - now.keys()]
    lines += [f"{n} was added" for n in now.keys() - before.keys()]
    for name in before.keys() & now.keys():
        paths = list(_departures(before[name], now[name]))
        if paths:
            lines.append(f"{name}: {', '.join(paths[:4])}")
    return sorted(lines)


def _departures(old: Any, new: Any, at: str = "") -> Iterator[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key, value in old.items():
            yield from _departures(value, new.get(key), f"{at}.{key}" if at else str(key))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for i, (a, b) in enumerate(zip(old, new, strict=True)):
            yield from _departures(a, b, f"{at}[{i}]")
    elif old != new:
        yield f"{at} {_short(old)} -> {_short(new)}"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _leaves(app: Mapping[str, Any]) -> bool:
    return app.get("status") == DELETING


def _redacted(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_redacted(v) for v in value.values())
    if isinstance(value, list):
        return any(_redacted(v) for v in value)
    return bool(value == REDACTED)
