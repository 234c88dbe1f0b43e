"""Other gateways, each in a virtual environment of its own, started over a backend at hand."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

CACHE = Path.home() / ".cache" / "llm-orchestrator" / "rivals"
INSTALL_TIMEOUT_S = 1200
DONE = ".installed"


@dataclass(frozen=True)
class Rival:
    """A gateway: what is installed, and how it is started on a port over a backend's."""

    name: str
    packages: tuple[str, ...]
    command: Callable[[Path, int, int], Sequence[str]]
    environment: Mapping[str, str] = field(default_factory=dict)


class NotInstallableError(Exception):
    """A rival cannot be had here; says why."""


def _vllm_router(home: Path, port: int, backend: int) -> list[str]:
    return [
        str(home / "bin" / "vllm-router"),
        "--worker-urls", f"http://127.0.0.1:{backend}",
        "--host", "127.0.0.1",
        "--port", str(port),
        "--policy", "round_robin",
        "--log-level", "error",
    ]  # fmt: skip


def _litellm(home: Path, port: int, backend: int) -> list[str]:
    config = home / f"config-{backend}.yaml"
    parameters = {
        "model": "openai/m",
        "api_base": f"http://127.0.0.1:{backend}/v1",
        "api_key": "sk-none",
    }
    model = {"model_name": "m", "litellm_params": parameters}
    config.write_text(json.dumps({"model_list": [model]}), encoding="utf-8")  # JSON is YAML
    return [
        str(home / "bin" / "litellm"),
        "--config", str(config),
        "--host", "127.0.0.1",
        "--port", str(port),
        "--num_workers", "1",
        "--telemetry", "False",
    ]  # fmt: skip


_LITELLM_ENV = {
    "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",  # of no use to it, on loopback
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
}
RIVALS = (
    Rival("vllm-router", ("vllm-router",), _vllm_router),
    Rival("litellm", ("litellm[proxy]",), _litellm, _LITELLM_ENV),
)


def installed(rival: Rival, cache: Path = CACHE) -> Path:
    """The rival's virtual environment, made on first use.

    Raises:
        NotInstallableError: with the end of what the installer said.
    """
    home = cache / rival.name
    if (home / DONE).exists():
        return home
    home.parent.mkdir(parents=True, exist_ok=True)
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(home)],
        [str(home / "bin" / "pip"), "install", "--quiet", *rival.packages],
    ):
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NotInstallableError(str(error)) from None
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip().splitlines()
            raise NotInstallableError(said[-1] if said else f"exit code {done.returncode}")
    (home / DONE).touch()
    return home
