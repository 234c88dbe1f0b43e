"""Builders of small traces, and the public traces where they are at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from profiler.traces import Trace, read_trace

PUBLIC = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "traces"


def a_trace(arrival_s=(0.0, 1.0, 2.5), input_tokens=None, output_tokens=None, **more) -> Trace:
    n = len(arrival_s)
    return Trace(
        arrival_s=np.asarray(arrival_s, dtype=float),
        input_tokens=np.asarray([100] * n if input_tokens is None else input_tokens),
        output_tokens=np.asarray([10] * n if output_tokens is None else output_tokens),
        source=more.pop("source", "a test"),
        **more,
    )


def public_trace(name: str) -> Trace:
    path = PUBLIC / f"{name}.csv.gz"
    if not path.exists():
        pytest.skip(f"needs the public trace {name} in ../shared/data/traces")
    return read_trace(path)
