"""How much of the traffic is kept, logged and traced."""

from __future__ import annotations

import os
from typing import Annotated

from pydantic import Field

from profiler.core import Noun, Share

OTLP_VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class SeeingSettings(Noun):
    """Settings of one ingress process."""

    journal: Annotated[int, Field(ge=0, le=1_000_000)] = Field(
        5_000, description="requests that can be explained; about 2 kB each"
    )
    log_share: Share = Field(1.0, description="of requests that went well; all others are logged")
    log_per_s: Annotated[float, Field(ge=0)] = Field(
        50.0, description="log lines a second at most; 0 writes none"
    )
    otlp_endpoint: str | None = Field(
        None, description="where traces go (OTLP over HTTP); OTEL_EXPORTER_OTLP_ENDPOINT otherwise"
    )
    trace_share: Share = Field(1.0, description="of requests that are traced, where traces go out")

    @property
    def traces(self) -> bool:
        """Whether traces go anywhere."""
        wanted = self.otlp_endpoint or any(os.environ.get(name) for name in OTLP_VARIABLES)
        disabled = os.environ.get("OTEL_SDK_DISABLED", "").casefold() == "true"
        return bool(wanted) and not disabled and self.trace_share > 0
