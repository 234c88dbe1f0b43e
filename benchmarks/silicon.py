"""How far the calibrated roofline is from published runs of real engines that it was not fitted to.

    python -m benchmarks.silicon

Beside it, the estimates that AIConfigurator makes of the same runs from its database of kernels.
Errors are medians of |predicted / measured - 1|. The runs are closed loops of a fixed number of
clients; their throughput follows from their TTFT and TPOT by Little's law, as both predictions do.
Needs the extra `silicon`. The last line is JSON.
"""

from __future__ import annotations

import functools
import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from profiler.calibration import errors, from_file, load_of, predict
from profiler.closed_loop import Seen, throughput_tps
from profiler.efficiency import Errors, calibration
from profiler.published_runs import Run, read_runs
from profiler.silicon import config_of

Group = tuple[str, list[int]]
MAX_STEP_TOKENS = 8192
REFUSALS = (ValueError, RuntimeError, KeyError, AssertionError, NotImplementedError)
# Its own choice of attention kernels first; where it has no data of those, 16-bit ones.
ATTENTION: tuple[dict[str, str], ...] = (
    {},
    {"fmha_quant_mode": "bfloat16"},
    {"fmha_quant_mode": "bfloat16", "kvcache_quant_mode": "bfloat16"},
)
QUANTISATION = {"": "bfloat16", "int4": "int4_wo"}


def figures() -> dict[str, float]:
    """The roofline's errors on all held-out runs, and AIConfigurator's on the same."""
    runs = held_out()
    ours, theirs = predict(from_file(calibration()), runs), aiconfigurator(runs)
    known = [i for i in range(len(runs)) if np.isfinite(theirs.tpot_s[i])]
    own, other = of(ours, runs, range(len(runs))), of(theirs, runs, known)
    same = of(ours, runs, known)
    line = of(predict(from_file(calibration()), runs, default_law=True), runs, range(len(runs)))
    return {
        "silicon_tpot_err": own.tpot,
        "silicon_ttft_err": own.ttft,
        "silicon_throughput_err": own.throughput,
        "silicon_rows": own.rows,
        "silicon_line_tpot_err": line.tpot,
        "silicon_line_throughput_err": line.throughput,
        "silicon_same_rows_tpot_err": same.tpot,
        "silicon_same_rows_ttft_err": same.ttft,
        "silicon_same_rows_throughput_err": same.throughput,
        "aiconfigurator_tpot_err": other.tpot,
        "aiconfigurator_ttft_err": other.ttft,
        "aiconfigurator_throughput_err": other.throughput,
        "aiconfigurator_rows": other.rows,
    }


def held_out() -> list[Run]:
    """The runs that the committed figures were not fitted to."""
    return [run for run in read_runs()[0] if run.held_out]


def figures_of_the_law() -> dict[str, float]:
    """The roofline's errors alone, in a second."""
    runs = held_out()
    found = errors(predict(from_file(calibration()), runs), runs)
    return {
        "silicon_tpot_err": found.tpot,
        "silicon_ttft_err": found.ttft,
        "silicon_throughput_err": found.throughput,
    }


def of(seen: Seen, runs: Sequence[Run], chosen: Sequence[int]) -> Errors:
    """Errors on some of the runs."""
    index = list(chosen)
    part = Seen(seen.tpot_s[index], seen.ttft_s[index], seen.throughput_tps[index])
    return errors(part, [runs[i] for i in index])


@functools.cache
def _estimates() -> tuple[tuple[float, float], ...]:
    """AIConfigurator's (TPOT, TTFT) of each held-out run in seconds; NaN where it has none."""
    logging.getLogger("aiconfigurator_core").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as directory:
        estimate = _Estimator(Path(directory))
        return tuple(estimate(run) for run in held_out())


def aiconfigurator(runs: Sequence[Run]) -> Seen:
    """AIConfigurator's estimates of the held-out runs."""
    tpot, ttft = np.array(_estimates()).T
    return Seen(tpot, ttft, throughput_tps(load_of(runs), tpot, ttft))


class _Estimator:
    """AIConfigurator for one run after another; its sessions are kept, each takes a second to open.

    It is told the batch and the prompt tokens of a step. The latter no run records: whole prompts
    up to the 8,192 tokens that all three engines take by default on such GPUs.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._session = functools.cache(self._open)

    def __call__(self, run: Run) -> tuple[float, float]:
        from aiconfigurator_core.sdk.config import RuntimeConfig

        row = run.row
        key = ("backend", "system", "model_path", "tp_size", "moe_tp_size", "moe_ep_size")
        try:
            session = self._session(*(row[k] for k in key), row["gemm_quant_mode"], run.model)
            config = RuntimeConfig(
                batch_size=run.clients, isl=run.input_tokens, osl=run.output_tokens
            )
            prompts = max(1, min(run.clients, MAX_STEP_TOKENS // run.input_tokens))
            found = session(config, prompts * run.input_tokens)
        except REFUSALS:
            return float("nan"), float("nan")
        return found["tpot"] / 1e3, found["ttft"] / 1e3

    def _open(self, engine: str, system: str, name: str, *layout: Any) -> Callable[..., Any]:
        from aiconfigurator_core.sdk.backends.factory import get_backend
        from aiconfigurator_core.sdk.config_builders import build_model_config
        from aiconfigurator_core.sdk.models import get_model
        from aiconfigurator_core.sdk.perf_database import get_database, get_supported_databases

        size, moe_tp, moe_ep, quantisation, spec = layout
        mode = quantisation or QUANTISATION.get(spec.weight_dtype) or "bfloat16"
        if spec.name.startswith("gpt-oss"):  # its checkpoint says which layers are narrow
            mode = None
        experts = (int(moe_tp or 0), int(moe_ep or 0))
        if experts[0] * experts[1] != int(size):
            experts = (int(size), 1)
        version = get_supported_databases()[system][engine][-1]
        database = get_database(system, engine, version)
        sessions = []
        for attention in ATTENTION:
            config = build_model_config(
                int(size), 1, 1, *experts, gemm_quant_mode=mode, moe_quant_mode=mode, **attention
            )
            model = get_model(self._config(name, spec), config, engine)
            sessions.append((model, get_backend(engine)))

        def run_agg(runtime: Any, prompt_tokens: int) -> Any:
            refused: Exception = ValueError("not tried")
            for model, backend in sessions:
                try:
                    summary = backend.run_agg(model, database, runtime, ctx_tokens=prompt_tokens)
                    return summary.get_result_dict()
                except REFUSALS as error:
                    refused = error
            raise refused

        return run_agg

    def _config(self, name: str, spec: Any) -> str:
        place = self._directory / name.replace("/", "--")
        file = config_of(spec)
        if file is None:
            raise ValueError(f"no config of {name}")
        place.mkdir(exist_ok=True)
        shutil.copy(file, place / "config.json")
        return str(place)


def _groups(runs: Sequence[Run]) -> Iterator[Group]:
    names = {
        "GPU": [r.gpu.name for r in runs],
        "engine": [r.engine for r in runs],
        "model": [r.model.name for r in runs],
    }
    for label, of_runs in names.items():
        for value in sorted(set(of_runs)):
            yield f"{label} {value}", [i for i, v in enumerate(of_runs) if v == value]
    yield "all held-out runs", list(range(len(runs)))


def main() -> None:
    """Print the table and the figures."""
    runs = held_out()
    ours, theirs = predict(from_file(calibration()), runs), aiconfigurator(runs)
    known = np.isfinite(theirs.tpot_s)
    print(
        f"{'':28} {'runs':>5}   roofline: TPOT TTFT  rate   AIConfigurator: TPOT TTFT  rate  runs"
    )
    for label, chosen in _groups(runs):
        own = of(ours, runs, chosen)
        line = f"{label:28} {own.rows:5}   {own.tpot:14.1%} {own.ttft:4.0%} {own.throughput:5.1%}"
        common = [i for i in chosen if known[i]]
        if common:
            other = of(theirs, runs, common)
            line += (
                f"   {other.tpot:20.1%} {other.ttft:4.0%} {other.throughput:5.1%} {other.rows:5}"
            )
        print(line)
    print(json.dumps(figures()))


if __name__ == "__main__":
    main()
