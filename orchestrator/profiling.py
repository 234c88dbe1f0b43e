"""Profiles of engines that run: one started here for the purpose, or one at a URL."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from profiler.core import GpuType, ModelSpec, Profile, ReplicaConfig, Slo
from profiler.errors import EngineError

if TYPE_CHECKING:
    from profiler.measure import Measurement

RATES_SHOWN = 6
START_TIMEOUT_S = 900.0


@dataclass(frozen=True)
class Saturation:
    """What to try an engine's limits with: request sizes (input, output tokens) and the SLO."""

    sizes: tuple[tuple[int, int], ...]
    slo: Slo


def profile_here(
    model: ModelSpec,
    gpu: GpuType,
    config: ReplicaConfig,
    *,
    budget_s: float,
    points: Path | None = None,
    saturation: Saturation | None = None,
    on_step: Callable[[str], None] = lambda _: None,
    on_note: Callable[[str], None] = lambda _: None,
) -> Measurement:
    """Start an engine on this machine, measure it, end it.

    Arguments are those of `profile_at`.

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
                return profile_at(
                    server.url,
                    config,
                    budget_s=budget_s,
                    points=points,
                    saturation=saturation,
                    on_step=on_step,
                    on_note=on_note,
                )
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
    points: Path | None = None,
    saturation: Saturation | None = None,
    on_step: Callable[[str], None] = lambda _: None,
    on_note: Callable[[str], None] = lambda _: None,
) -> Measurement:
    """Measure an idle engine at a URL; a token for it is taken from OPENAI_API_KEY.

    Args:
        url: the server's base.
        config: what runs there.
        budget_s: about how long to take; half of it goes to saturation where that is asked for.
        points: keeps each point as it is measured, so that an interrupted measurement resumes.
        saturation: sizes whose highest rate inside an SLO is to be measured as well.
        on_step: told what is under way, with the time left.
        on_note: told what the user should know afterwards, too.

    Raises:
        ClusterError: it is unreachable, busy or refuses.
    """
    from profiler.measure import Progress, measure_engine

    def show(progress: Progress) -> None:
        left = max(0.0, progress.budget_s - progress.elapsed_s)
        on_step(f"{progress.probe}, about {left:.0f} s left")

    key = os.environ.get("OPENAI_API_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else None
    share = 0.5 if saturation else 1.0
    found = measure_engine(
        url,
        config,
        budget_s=budget_s * share,
        headers=headers,
        points_path=points,
        on_progress=show,
        on_note=on_note,
    )
    if saturation is None:
        return found
    return _saturated(found, saturation, budget_s * (1 - share), headers, on_step)


def _saturated(
    found: Measurement,
    wanted: Saturation,
    budget_s: float,
    headers: dict[str, str] | None,
    on_step: Callable[[str], None],
) -> Measurement:
    from profiler.saturation import Trial, bucket_of, saturate_all

    def show(trial: Trial) -> None:
        size = f"{trial.bucket.input_tokens:.0f}+{trial.bucket.output_tokens:.0f} tokens"
        on_step(f"{size}: {trial.attainment:.0%} in time at {trial.rate_rps:.2f} req/s")

    endpoint = found.endpoint
    buckets = [bucket_of(*size) for size in wanted.sizes]
    profile = saturate_all(
        endpoint.url,
        endpoint.model,
        found.profile,
        wanted.slo,
        buckets,
        budget_s=budget_s,
        headers=headers,
        on_trial=show,
    )
    return dataclasses.replace(found, profile=profile)


def describe(profile: Profile) -> list[tuple[str, str]]:
    """A profile as label and value, for a table."""
    law, source = profile.step_time, profile.provenance
    low, high = profile.step_time_95 or (None, None)

    def cell(name: str, scale: float, unit: str, digits: int) -> str:
        text = f"{getattr(law, name) * scale:.{digits}f}"
        if low is not None and high is not None:
            ends = (f"{getattr(end, name) * scale:.{digits}f}" for end in (low, high))
            return f"{text} {unit} (95 %: {' to '.join(ends)})"
        return f"{text} {unit}"

    errors = [
        f"{name} {error:.1%}"
        for name, error in (("TPOT", source.tpot_error), ("TTFT", source.ttft_error))
        if error is not None
    ]
    computed = source.kind == "roofline"
    extra_ms = [s * 1e3 for s in law.batch_extra_s]
    by_batch = f"{min(extra_ms):+.1f} to {max(extra_ms):+.1f} ms" if extra_ms else None
    rows = [
        ("replica", profile.config.key),
        ("source", f"{source.kind}, {source.date}"),
        ("engine", source.engine or "-"),
        ("hardware", source.hardware or "-"),
        ("step, empty", cell("base_s", 1e3, "ms", 3)),
        ("per prompt token", cell("per_prefill_token_s", 1e6, "us", 2)),
        ("per sequence", cell("per_sequence_s", 1e6, "us", 2)),
        ("per KV token", cell("per_kv_token_s", 1e9, "ns", 2)),
        *([("by batch size", by_batch)] if by_batch else []),
        ("KV cache", f"{profile.kv_capacity_tokens:,} tokens"),
        ("longest sequence", f"{profile.max_model_len:,} tokens"),
        (f"median error {'elsewhere' if computed else 'of the fit'}", ", ".join(errors) or "-"),
    ]
    note = [("note", source.note)] if source.note else []
    if profile.request_overhead_s:
        rows.append(("per request", f"{profile.request_overhead_s * 1e3:.1f} ms"))
    if profile.power_w is not None:
        rows.append(("power", f"{profile.power_w:.0f} W"))
    if len(profile.rates) > RATES_SHOWN:
        none = sum(rate.rate_rps == 0 for rate in profile.rates)
        sizes = f"{len(profile.rates)} sizes, at {none} of them none keeps the limits"
        return [*rows, ("measured rates", sizes), *note]
    rows += [
        (
            f"most inside {rate.slo.ttft_s:g} s / {rate.slo.tpot_s:g} s",
            f"{rate.input_tokens:.0f}+{rate.output_tokens:.0f} tokens: "
            f"{rate.rate_rps:.2f} req/s"
            + ("" if rate.predicted_rps is None else f" (predicted {rate.predicted_rps:.2f})"),
        )
        for rate in profile.rates
    ]
    return [*rows, *note]
