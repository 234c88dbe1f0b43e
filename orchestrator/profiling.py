"""Profiles of engines that run: one started here for the purpose, or one at a URL."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from profiler.core import GpuType, ModelSpec, Profile, ReplicaConfig
from profiler.errors import EngineError

if TYPE_CHECKING:
    from profiler.measure import Measurement

START_TIMEOUT_S = 900.0


def profile_here(
    model: ModelSpec,
    gpu: GpuType,
    config: ReplicaConfig,
    *,
    budget_s: float,
    on_step: Callable[[str], None] = lambda _: None,
) -> Measurement:
    """Start an engine on this machine, measure it, end it.

    Raises:
        EngineError: the engine does not start or dies; ends with the tail of its log.
    """
    from profiler import logtail
    from profiler.engine import VllmServer
    from profiler.weights import local_weights

    on_step("fetching the weights")
    weights = local_weights(model)
    with tempfile.TemporaryDirectory(prefix="orchestrator-profile-") as tmp:
        server = VllmServer(config, model, gpu, weights, log_path=Path(tmp, "engine.log"))
        with server:
            on_step("starting the engine")
            server.wait_ready(START_TIMEOUT_S)
            try:
                return profile_at(server.url, config, budget_s=budget_s, on_step=on_step)
            except EngineError as error:
                if server.alive:
                    raise
                raise EngineError(
                    f"{error}; the engine died", logtail.tail(server.log_path)
                ) from error


def profile_at(
    url: str,
    config: ReplicaConfig,
    *,
    budget_s: float,
    on_step: Callable[[str], None] = lambda _: None,
) -> Measurement:
    """Measure an idle engine at a URL; a token for it is taken from OPENAI_API_KEY.

    Raises:
        ClusterError: it is unreachable, busy or refuses.
    """
    from profiler.measure import Progress, measure_engine

    def show(progress: Progress) -> None:
        on_step(f"{progress.elapsed_s:.0f} of {progress.budget_s:.0f} s: {progress.probe}")

    key = os.environ.get("OPENAI_API_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else None
    return measure_engine(url, config, budget_s=budget_s, headers=headers, on_progress=show)


def describe(profile: Profile) -> list[tuple[str, str]]:
    """A profile as label and value, for a table."""
    law, source = profile.step_time, profile.provenance
    errors = [
        f"{name} {error:.1%}"
        for name, error in (("TPOT", source.tpot_error), ("TTFT", source.ttft_error))
        if error is not None
    ]
    rows = [
        ("replica", profile.config.key),
        ("source", f"{source.kind}, {source.date}"),
        ("engine", source.engine or "-"),
        ("hardware", source.hardware or "-"),
        ("step, empty", f"{law.base_s * 1e3:.3f} ms"),
        ("per prompt token", f"{law.per_prefill_token_s * 1e6:.2f} us"),
        ("per sequence", f"{law.per_sequence_s * 1e6:.2f} us"),
        ("per KV token", f"{law.per_kv_token_s * 1e9:.2f} ns"),
        ("KV cache", f"{profile.kv_capacity_tokens:,} tokens"),
        ("longest sequence", f"{profile.max_model_len:,} tokens"),
        ("median error of the fit", ", ".join(errors) or "-"),
    ]
    return [*rows, ("note", source.note)] if source.note else rows
