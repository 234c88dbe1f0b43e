"""Parquet is an extra: what says so where it is missing."""

from __future__ import annotations

from profiler.errors import InputError


def require_pyarrow() -> None:
    """Raises InputError, with the mend, where pyarrow is not installed."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise InputError(
            "outcome tables are Parquet files and need pyarrow; "
            "pip install 'llm-orchestrator[profile]'"
        ) from None
