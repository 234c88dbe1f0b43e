"""What `deploy` says of the front door, in the place of what the plan says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from placement.plan import Plan


@dataclass(frozen=True)
class Door:
    """Options of the command line; what is not given is the plan's."""

    host: str | None = None
    keys: Path | None = None
    processes: int | None = None
    open_: bool = False

    def applied(self, plan: Plan, directory: Path) -> Plan:
        """A plan of a file in ``directory`` with these, and with absolute paths.

        Raises:
            InputError: options that exclude each other, or the plan's section is wrong.
        """
        from serve_apps.gateway_settings import gateway_of, with_gateway

        self._check()
        settings = gateway_of(plan).at(directory)
        guard = settings.guard
        if self.keys is not None:
            found = {"keys": str(self.keys.resolve()), "allow_anonymous": False}
            guard = guard.model_copy(update=found)
        if self.open_:
            guard = guard.model_copy(update={"keys": None, "allow_anonymous": True})
        processes = self.processes or settings.processes
        plan = with_gateway(
            plan, settings.model_copy(update={"guard": guard, "processes": processes})
        )
        if self.host is None:
            return plan
        local = plan.targets.local.model_copy(update={"host": self.host})
        return plan.model_copy(update={"targets": plan.targets.model_copy(update={"local": local})})

    def on_cluster(self, plan: Plan) -> Plan:
        """The plan with what makes sense on Kubernetes.

        Raises:
            InputError: options for this machine.
        """
        from profiler.errors import InputError

        self._check()
        if self.host is not None or self.processes is not None:
            raise InputError(
                "--host and --ingress-processes are for this machine; on Kubernetes set "
                "ingress_replicas and network in the settings"
            )
        if self.keys is not None:
            raise InputError(
                "--keys: on Kubernetes keys come from a Secret: kubectl create secret generic "
                f"api-keys --from-file=keys.yaml={self.keys}, and in the settings "
                "api_keys: {name: api-keys, key: keys.yaml}"
            )
        return self._guarded(plan)

    def on_nodes(self, plan: Plan) -> Plan:
        """The plan with what makes sense on a Ray cluster; keys are at that path on its nodes.

        Raises:
            InputError: options for this machine.
        """
        from profiler.errors import InputError

        self._check()
        if self.host is not None or self.processes is not None:
            raise InputError(
                "--host and --ingress-processes are for this machine; on a Ray cluster the "
                "ingress listens at its node's address"
            )
        return self._guarded(plan)

    def _guarded(self, plan: Plan) -> Plan:
        """The plan with these keys as they are named, or open."""
        from serve_apps.gateway_settings import gateway_of, with_gateway

        if self.keys is None and not self.open_:
            return plan
        keys = None if self.keys is None else str(self.keys)
        settings = gateway_of(plan)
        guard = settings.guard.model_copy(update={"keys": keys, "allow_anonymous": self.open_})
        return with_gateway(plan, settings.model_copy(update={"guard": guard}))

    def _check(self) -> None:
        from profiler.errors import InputError

        if self.open_ and self.keys is not None:
            raise InputError("--open serves without keys; remove it, or --keys")
