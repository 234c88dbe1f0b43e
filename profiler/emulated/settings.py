"""What is emulated, and how."""

from __future__ import annotations

import hashlib

from pydantic import Field

from profiler.core import Noun, Positive, Profile
from profiler.emulated.asked import Outputs
from profiler.emulated.faults import Fault


class Settings(Noun):
    """What is emulated, and how."""

    profile: Profile
    outputs: Outputs = Outputs()
    speed: Positive = Field(1.0, description="2: every time is halved")
    fault: Fault | None = Field(None, description="from the start")
    seed: int = Field(0, description="of the choice of requests that a fault strikes")

    @property
    def fingerprint(self) -> str:
        """``emulated-`` and the profile's identity: its config, and a digest of its figures."""
        figures = self.profile.model_dump_json(exclude={"points", "rates", "provenance"})
        digest = hashlib.sha256(figures.encode()).hexdigest()[:8]
        return f"emulated-{self.profile.config.key}-{digest}"
