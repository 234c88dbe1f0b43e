"""``python -m profiler.emulated SETTINGS_JSON HOST PORT``: one emulated engine, until SIGTERM."""

from __future__ import annotations

import os
import sys

from profiler.emulated.engine import EmulatedEngine
from profiler.emulated.running import run_until_told
from profiler.emulated.settings import Settings
from profiler.errors import OrchestratorError

DEATH = 137
"""As if by SIGKILL, which is what most deaths of engines look like from outside."""


def main(argv: list[str]) -> int:
    """The exit code."""
    settings = Settings.model_validate_json(argv[0])
    engine = EmulatedEngine(
        settings,
        host=argv[1],
        port=int(argv[2]),
        on_death=lambda: os._exit(DEATH),
        key=os.environ.get("VLLM_API_KEY", ""),  # as vLLM's server takes it
    )
    try:
        run_until_told([engine])
    except OrchestratorError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
