"""Demand: what arrives at this ingress in each of the plan's size buckets, served or not.

A request is counted when it is about to be placed, so one that is then refused counts too. How long
its answer would be is not known yet: it is spread over the output buckets of its input bucket as
the answers of late fell, at first as the plan expects.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from placement.plan import AUTO, Plan
from profiler import files
from serve_apps.router.table import Range, nearest_range

SMOOTHING = 0.01
Bucket = tuple[str, str]
"""A stream and the key of one of its size buckets."""


class Demand:
    """Which buckets a request counts for."""

    def __init__(self, plan: Plan, count: Callable[[Bucket, float], None]) -> None:
        """``count`` is given each bucket's part of a request; the parts sum to 1."""
        self._count = count
        self._cells: dict[str, dict[Range, dict[Range, float]]] = {}
        self._keys: dict[tuple[str, Range, Range], str] = {}
        for route in plan.routes:
            inputs, outputs = route.bucket.input_range, route.bucket.output_range
            cell = self._cells.setdefault(route.stream, {}).setdefault(inputs, {})
            cell[outputs] = cell.get(outputs, 0.0) + route.rate_rps
            self._keys[route.stream, inputs, outputs] = route.bucket.key
        for cells in self._cells.values():
            for cell in cells.values():
                total = sum(cell.values())
                for outputs in cell:
                    cell[outputs] /= total

    def arrived(self, model: str, input_tokens: int, limit: int | None) -> None:
        """A request that names this model, or ``auto``; ``limit`` is its ``max_tokens``."""
        found = self._cell(model, input_tokens)
        if found is None:
            return
        stream, inputs, cell = found
        for outputs, share in cell.items():
            if share <= 0:
                continue
            over = limit is not None and outputs[0] >= limit
            falls = nearest_range(cell, limit) if limit is not None and over else outputs
            self._count((stream, self._keys[stream, inputs, falls]), share)

    def answered(self, model: str, input_tokens: int, output_tokens: int) -> None:
        """Learn from the length of a whole answer."""
        found = self._cell(model, input_tokens)
        if found is not None:
            cell = found[2]
            fell = nearest_range(cell, output_tokens)
            for outputs in cell:
                cell[outputs] += SMOOTHING * ((outputs == fell) - cell[outputs])

    def _cell(self, model: str, input_tokens: int) -> tuple[str, Range, dict[Range, float]] | None:
        stream = model if model in self._cells else AUTO
        cells = self._cells.get(stream)
        if cells is None:
            return None
        inputs = nearest_range(cells, input_tokens)
        return stream, inputs, cells[inputs]


def write_counts(directory: Path, counts: Mapping[tuple[str, ...], float]) -> None:
    """Tell this machine how many have arrived at this process so far by `Bucket`; in one step.

    Raises:
        InputError: the file cannot be written.
    """
    told = {
        "pid": os.getpid(),
        "at_unix_s": time.time(),
        "counts": [[*bucket, count] for bucket, count in counts.items()],
    }
    files.write(directory / f"{os.getpid()}.json", json.dumps(told))
