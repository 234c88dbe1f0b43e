"""Simulated requests as a Parquet file, one row a request in order of arrival.

Times are seconds. ``first_token_s`` and ``finish_s`` are null where they never came, ``tpot_s``
also for answers of one token, ``group`` where a request was never sent. The schema's metadata hold
its version, the plan's digest and the seed.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from orchestrator.judging import Met
from orchestrator.simulation.result import FleetTimings, Outcome
from profiler import documents
from profiler.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA_VERSION = 1
VERSION_KEY = b"orchestrator.simulation.version"


def require_pyarrow() -> None:
    """Before long work.

    Raises:
        InputError: pyarrow is not installed; says how to mend it.
    """
    import importlib.util

    if importlib.util.find_spec("pyarrow") is None:
        raise InputError(
            "saving requests as Parquet needs pyarrow; to mend it: "
            "pip install 'llm-orchestrator[profile]'"
        )


def save_requests(
    path: Path, timings: FleetTimings, found: Met, *, plan: str, seed: int | None
) -> None:
    """Write the file in one step.

    Raises:
        InputError: pyarrow is missing, or the file cannot be written.
    """
    require_pyarrow()
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(_table(timings, found, plan, seed), sink, compression="zstd")
    documents.write_bytes(path, sink.getvalue())


def _table(timings: FleetTimings, found: Met, plan: str, seed: int | None) -> pa.Table:
    import pyarrow as pa

    def seconds(values: np.ndarray) -> pa.Array:
        return pa.array(values, mask=~np.isfinite(values))

    def names(index: np.ndarray, of: tuple[str, ...]) -> pa.Array:
        return pa.array(np.array([*of, None], dtype=object)[index], pa.string())

    columns = {
        "stream": names(timings.stream, timings.streams),
        "arrival_s": pa.array(timings.arrival_s),
        "input_tokens": pa.array(timings.input_tokens),
        "output_tokens": pa.array(timings.output_tokens),
        "group": names(timings.group, timings.groups),
        "replica": pa.array(timings.replica),
        "outcome": names(timings.outcome, tuple(o.name.lower() for o in Outcome)),
        "first_token_s": seconds(timings.first_token_s),
        "finish_s": seconds(timings.finish_s),
        "ttft_s": seconds(timings.ttft_s),
        "tpot_s": seconds(timings.tpot_s),
        "met_ttft": pa.array(found.ttft),
        "met_tpot": pa.array(found.tpot),
        "preemptions": pa.array(timings.preemptions),
        "losses": pa.array(timings.losses),
    }
    metadata = {
        VERSION_KEY: str(SCHEMA_VERSION).encode(),
        b"orchestrator.simulation.plan": plan.encode(),
        b"orchestrator.simulation.seed": b"" if seed is None else str(seed).encode(),
    }
    return pa.table(columns).replace_schema_metadata(metadata)
