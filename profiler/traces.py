"""Request traces: when each request arrived and how many tokens it read and wrote.

`read_trace` takes the formats of `profiler.trace_formats`; `write_trace` writes our own.
"""

from __future__ import annotations

import csv
import gzip
import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from profiler import documents
from profiler.errors import InputError
from profiler.trace_formats import FormatName, read_columns

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
ScaleHow = Literal["compress", "superpose"]


@dataclass(frozen=True, eq=False)
class Trace:
    """Requests in order of arrival; all arrays have one entry a request and are read-only.

    Time starts with the first request: ``arrival_s[0] == 0``, ascending, equal times allowed.
    ``prefix_hit_tokens`` are input tokens found in a prefix cache; ``session`` are labels of
    conversations or clients. Both are None where the source has none.

    Raises:
        ValueError: the arrays are empty, differ in length, or break one of these rules.
    """

    arrival_s: Floats
    input_tokens: Ints
    output_tokens: Ints
    source: str
    prefix_hit_tokens: Ints | None = None
    session: npt.NDArray[np.str_] | None = None

    def __post_init__(self) -> None:
        self._freeze("arrival_s", np.float64)
        for name in ("input_tokens", "output_tokens", "prefix_hit_tokens"):
            self._freeze(name, np.int64)
        self._freeze("session", np.str_)
        if len(self) == 0:
            raise ValueError("a trace holds at least one request")
        if self.arrival_s[0] != 0 or not np.isfinite(self.arrival_s[-1]):
            raise ValueError("arrival_s must start at 0 and be finite")
        if not (np.diff(self.arrival_s) >= 0).all():
            raise ValueError("arrival_s must ascend")
        if min(self.input_tokens.min(), self.output_tokens.min()) < 1:
            raise ValueError("every request has at least one input and one output token")

    def _freeze(self, name: str, dtype: type[np.generic]) -> None:
        value = getattr(self, name)
        if value is None:
            return
        array = np.array(value, dtype=dtype)
        if array.shape != (len(self.arrival_s),):
            raise ValueError(f"{name} has shape {array.shape}, expected ({len(self.arrival_s)},)")
        array.setflags(write=False)
        object.__setattr__(self, name, array)

    def __len__(self) -> int:
        return len(self.arrival_s)

    @property
    def duration_s(self) -> float:
        """From the first arrival to the last."""
        return float(self.arrival_s[-1])

    @property
    def mean_rate_rps(self) -> float:
        """Inverse of the mean inter-arrival time: (requests - 1) / duration.

        Raises:
            InputError: all requests arrive at one moment, so there is no rate.
        """
        self.require_duration()
        return (len(self) - 1) / self.duration_s

    @property
    def arrival_cv(self) -> float:
        """Coefficient of variation of inter-arrival times: standard deviation over mean.

        Raises:
            InputError: all requests arrive at one moment.
        """
        return float(np.diff(self.arrival_s).std() * self.mean_rate_rps)

    def require_duration(self) -> None:
        """Refuse a trace that has no rate.

        Raises:
            InputError: all requests arrive at one moment.
        """
        if self.duration_s == 0:
            raise InputError(
                f"{self.source}: all requests ({len(self)}) arrive at one moment, which gives no "
                "rate; expected at least two requests at different times"
            )

    def slice(self, start_s: float, end_s: float) -> Trace:
        """The requests with ``start_s <= arrival_s < end_s``, time starting anew with the first.

        Raises:
            InputError: no request arrives in that span.
        """
        low, high = np.searchsorted(self.arrival_s, (start_s, end_s))
        if low >= high:
            raise InputError(
                f"{self.source}: no requests from {start_s:g} s to {end_s:g} s; "
                f"the trace lasts {self.duration_s:g} s"
            )
        return self.picked(np.arange(low, high), f"{self.source}, {start_s:g} s to {end_s:g} s")

    def scaled(self, rate_factor: float, how: ScaleHow, seed: int = 0) -> Trace:
        """The trace at ``rate_factor`` times its rate.

        ``compress`` divides every arrival time by the factor: the same requests in less time,
        each burst sharper. ``superpose`` keeps the duration and lays copies over each other, each
        shifted round the trace by a random offset; the fractional copy is thinned at random.

        Raises:
            InputError: the factor is not above 0, or leaves no request.
        """
        if not (np.isfinite(rate_factor) and rate_factor > 0):
            raise InputError(f"rate factor: found {rate_factor}, expected a number above 0")
        source = f"{self.source}, rate x{rate_factor:g} ({how})"
        if how == "compress":
            return replace(self, arrival_s=self.arrival_s / rate_factor, source=source)
        rng = np.random.default_rng(seed)
        copies, fraction = divmod(rate_factor, 1.0)
        picks = [np.arange(len(self)) for _ in range(int(copies))]
        picks.append(np.flatnonzero(rng.random(len(self)) < fraction))
        offsets = [0.0, *(rng.random(int(copies)) * self.duration_s)]
        shifted = [
            np.mod(self.arrival_s[pick] + offset, np.nextafter(self.duration_s, np.inf))
            for pick, offset in zip(picks, offsets, strict=True)
        ]
        return self.picked(np.concatenate(picks), source, np.concatenate(shifted))

    def picked(self, rows: Ints, source: str, arrival_s: Floats | None = None) -> Trace:
        """A trace of some rows, each as often as named, sorted by arrival and starting at 0.

        ``arrival_s`` are their arrival times, instead of those they have.

        Raises:
            InputError: there are no rows.
        """
        times = self.arrival_s[rows] if arrival_s is None else arrival_s
        if len(times) == 0:
            raise InputError(f"{source}: no requests are left")
        order = np.argsort(times, kind="stable")
        rows, times = rows[order], times[order]
        hits, labels = self.prefix_hit_tokens, self.session
        return Trace(
            arrival_s=times - times[0],
            input_tokens=self.input_tokens[rows],
            output_tokens=self.output_tokens[rows],
            source=source,
            prefix_hit_tokens=None if hits is None else hits[rows],
            session=None if labels is None else labels[rows],
        )


def read_trace(path: str | Path, format: FormatName = "auto") -> Trace:  # noqa: A002
    """Read a trace; its format is found from the header or keys unless one is forced.

    Gzip is told by its first bytes, whatever the file's name. Logs are often slightly out of
    order, so requests are sorted by arrival, those of one moment in the file's order.

    Raises:
        InputError: the file cannot be read, its format is unknown, it holds no requests, or rows
            are malformed; then the first ten are listed by line, and all counted.
    """
    columns = read_columns(Path(path), format)
    time: npt.NDArray[Any] = np.asarray(columns.time)  # int64 for Azure's nanoseconds
    order = np.argsort(time, kind="stable")
    time = time[order]
    hits, labels = columns.prefix_hit_tokens, columns.session
    return Trace(
        arrival_s=(time - time[0]) * columns.format.unit_s,
        input_tokens=np.asarray(columns.input_tokens)[order],
        output_tokens=np.asarray(columns.output_tokens)[order],
        source=str(path),
        prefix_hit_tokens=None if hits is None else np.asarray(hits)[order],
        session=None if labels is None else np.asarray(labels)[order],
    )


def write_trace(trace: Trace, path: str | Path) -> None:
    """Write our own columns as CSV, gzipped when the name ends in ``.gz``, in one step.

    Reading the file back gives the same figures to the last bit.

    Raises:
        InputError: the directory is missing or cannot be written.
    """
    columns: dict[str, list[Any]] = {
        "arrival_s": trace.arrival_s.tolist(),
        "input_tokens": trace.input_tokens.tolist(),
        "output_tokens": trace.output_tokens.tolist(),
    }
    if trace.prefix_hit_tokens is not None:
        columns["prefix_hit_tokens"] = trace.prefix_hit_tokens.tolist()
    if trace.session is not None:
        columns["session"] = trace.session.tolist()
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    content = text.getvalue().encode("utf-8")
    # mtime 0: equal traces make equal files
    is_gzip = Path(path).suffix == ".gz"
    documents.write_bytes(path, gzip.compress(content, mtime=0) if is_gzip else content)
