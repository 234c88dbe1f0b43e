"""An emulated engine as a child process, with vLLM's way of being started, watched and ended."""

from __future__ import annotations

import sys
from pathlib import Path

from profiler.emulated.settings import Settings
from profiler.engine import EngineServer, free_port

MODULE = "profiler.emulated"
UNUSED = {"points": (), "rates": ()}
"""Parts of a profile that an engine does not run by; they can be long."""


class EmulatedServer(EngineServer):
    """A process of its own for one emulated engine."""

    def __init__(
        self,
        settings: Settings,
        *,
        log_path: Path,
        host: str = "127.0.0.1",
        stop_grace_s: float = 5.0,
    ) -> None:
        """Nothing starts yet."""
        name = f"{settings.profile.config.key} (emulated)"
        super().__init__(
            name, free_port(host), log_path=log_path, host=host, stop_grace_s=stop_grace_s
        )
        short = settings.profile.model_copy(update=UNUSED)
        self.settings = settings.model_copy(update={"profile": short})

    def _command(self) -> list[str]:
        told = self.settings.model_dump_json(exclude_defaults=True)
        return [sys.executable, "-m", MODULE, told, self.host, str(self.port)]

    def _environment(self) -> dict[str, str]:
        root = str(Path(__file__).parents[2])
        env = super()._environment()
        env["PYTHONPATH"] = ":".join(filter(None, (root, env.get("PYTHONPATH"))))
        return env
