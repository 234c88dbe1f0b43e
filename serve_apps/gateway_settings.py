"""What users set of the gateway: the section ``gateway`` of a service file, carried by its plan."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from placement.plan import Plan
from profiler.core import Count, Noun
from profiler.errors import InputError
from serve_apps.guard.settings import GuardSettings
from serve_apps.seeing.settings import SeeingSettings


class GatewaySettings(Noun):
    """How the ingress processes guard, share and watch. Where they listen is the targets' part."""

    processes: Count = Field(
        1, description="that answer at a time on one machine; clusters count theirs by pod or node"
    )
    standby: Annotated[int, Field(ge=0, le=16)] = Field(
        1, description="that take over at once when one ends; on one machine"
    )
    guard: GuardSettings = GuardSettings()
    seeing: SeeingSettings = SeeingSettings()

    def at(self, directory: str | Path) -> GatewaySettings:
        """The same with absolute paths."""
        return self.model_copy(update={"guard": self.guard.at(directory)})

    def beside(self, directory: str | Path) -> GatewaySettings:
        """The same with paths relative to a directory, as a file that is put there has them."""
        base = Path(directory).resolve()
        paths = {"keys": self.guard.keys, "usage": self.guard.usage}
        found = {k: os.path.relpath(v, base) for k, v in paths.items() if v is not None}
        return self.model_copy(update={"guard": self.guard.model_copy(update=found)})


def gateway_of(plan: Plan) -> GatewaySettings:
    """The plan's settings of the gateway.

    Raises:
        InputError: they are wrong.
    """
    try:
        return GatewaySettings.model_validate(plan.gateway)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(["gateway", *map(str, first["loc"])])
        raise InputError(f"plan of {plan.service!r}: {where}: {first['msg']}") from None


def with_gateway(plan: Plan, settings: GatewaySettings) -> Plan:
    """The plan with these settings; what is left at its default is not written down."""
    data = settings.model_dump(mode="json", exclude_defaults=True)
    return plan.model_copy(update={"gateway": data})
