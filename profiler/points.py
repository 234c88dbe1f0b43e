"""Measured points on disk: one Parquet file, replaced in one step after each probe.

A row is one point of one run of a probe. Rows belong to an identity (config, engine, host), so a
file may hold several; a resumed measurement takes its own. The schema's version is in the file's
metadata. A file that cannot be read is renamed, never overwritten.
"""

from __future__ import annotations

import dataclasses
import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profiler import documents
from profiler.errors import InputError
from profiler.probes import Probe
from profiler.step_fit import Point

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA_VERSION = 1
_VERSION_KEY = b"orchestrator_points_version"
_TYPES: dict[str, str] = {
    "config": "string", "engine": "string", "host": "string", "hardware": "string",
    "measured_at_s": "float64", "run": "int64", "cost_s": "float64",
    "load_average": "float64", "power_w": "float64",
    "probe_sequences": "int64", "probe_input_tokens": "int64", "probe_output_tokens": "int64",
    "probe_held_out": "bool", "probe_rounds": "int64",
    "kind": "string", "time_s": "float64", "steps": "int64", "prefill_tokens": "int64",
    "sequences": "int64", "kv_tokens": "float64", "overheads": "int64",
}  # fmt: skip
"""Columns and their Arrow types. A change of meaning, name or type raises SCHEMA_VERSION."""

_POINT = ("kind", "time_s", "steps", "prefill_tokens", "sequences", "kv_tokens", "overheads")
Write = Callable[[str | Path, bytes], None]


@dataclass(frozen=True)
class Identity:
    """Whose points: they are used again only where all of it is equal."""

    config: str
    engine: str
    host: str
    hardware: str


@dataclass(frozen=True)
class Run:
    """One run of a probe: what it gave and cost, how busy the machine was, what it drew."""

    probe: Probe
    points: tuple[Point, ...]
    cost_s: float
    measured_at_s: float
    load_average: float | None = None
    power_w: float | None = None


class PointsFile:
    """The points of one identity, kept in a Parquet file.

    ``note`` says what happened on opening where the user should know.
    """

    def __init__(self, path: str | Path, identity: Identity, *, write: Write | None = None) -> None:
        """Read what is there; a file that is no points file is moved aside.

        Raises:
            InputError: pyarrow is missing, or the file cannot be read or moved aside.
        """
        _arrow(path)
        self.path = Path(path)
        self.note: str | None = None
        self._identity = dataclasses.asdict(identity)
        self._write = write or documents.write_bytes
        self._rows = self._read()
        self.runs: list[Run] = _runs([r for r in self._rows if self._is_mine(r)])

    def add(self, run: Run) -> None:
        """Keep a run.

        Raises:
            InputError: the file cannot be written, such as for a full disk; it then holds
                everything up to the run before.
        """
        number = 1 + max((r["run"] for r in self._rows), default=0)
        rows = [self._row(run, point, number) for point in run.points]
        try:
            self._write(self.path, _encode([*self._rows, *rows]))
        except (InputError, OSError) as error:
            raise InputError(
                f"{error}; {len(self.runs)} measured probes are safe in {self.path}: make room "
                "and run the same command to go on from there"
            ) from None
        self._rows += rows
        self.runs.append(run)

    def _row(self, run: Run, point: Point, number: int) -> dict[str, Any]:
        probe = {f"probe_{k}": v for k, v in dataclasses.asdict(run.probe).items()}
        about = {
            "measured_at_s": run.measured_at_s, "run": number, "cost_s": run.cost_s,
            "load_average": run.load_average, "power_w": run.power_w,
        }  # fmt: skip
        return self._identity | about | probe | {k: getattr(point, k) for k in _POINT}

    def _is_mine(self, row: dict[str, Any]) -> bool:
        return all(row[k] == v for k, v in self._identity.items())

    def _read(self) -> list[dict[str, Any]]:
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise InputError(f"{self.path}: cannot read it: {error.strerror}") from None
        found = _decode(content)
        if isinstance(found, str):
            aside = self._move_aside()
            self.note = f"{self.path}: {found}; kept as {aside}, starting a new one"
            return []
        return found

    def _move_aside(self) -> Path:
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.aside-{number}")).exists():
            number += 1
        try:
            os.rename(self.path, aside)  # noqa: PTH104 - Path.rename replaces silently, too
        except OSError as error:
            raise InputError(
                f"{self.path}: not a points file, and it cannot be moved aside: {error.strerror}; "
                "name another with --points"
            ) from None
        return aside


def available() -> bool:
    """Whether pyarrow, which reads and writes the file, is installed."""
    import importlib.util

    return importlib.util.find_spec("pyarrow") is not None


def _arrow(path: str | Path) -> None:
    if not available():
        raise InputError(
            f"{path}: keeping points needs pyarrow; to mend it: "
            "pip install 'llm-orchestrator[profile]'"
        )


def _schema() -> pa.Schema:
    import pyarrow as pa

    fields = [pa.field(name, pa.type_for_alias(kind)) for name, kind in _TYPES.items()]
    return pa.schema(fields, metadata={_VERSION_KEY: str(SCHEMA_VERSION).encode()})


def _encode(rows: Sequence[dict[str, Any]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows), schema=_schema()), sink)
    return sink.getvalue()


def _decode(content: bytes) -> list[dict[str, Any]] | str:
    """The rows, or what is wrong with the file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(io.BytesIO(content))
    except (pa.ArrowException, OSError):
        return "damaged, or not a Parquet file"
    version = (table.schema.metadata or {}).get(_VERSION_KEY)
    if version is None:
        return "a Parquet file, but not one of measured points"
    if version != str(SCHEMA_VERSION).encode():
        return f"found schema version {version.decode(errors='replace')}, expected {SCHEMA_VERSION}"
    if missing := set(_TYPES) - set(table.column_names):
        return f"lacks the columns {', '.join(sorted(missing))}"
    rows: list[dict[str, Any]] = table.select(list(_TYPES)).to_pylist()
    return rows


def _runs(rows: Sequence[dict[str, Any]]) -> list[Run]:
    by_number: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        by_number.setdefault(row["run"], []).append(row)
    return [_run(by_number[number]) for number in sorted(by_number)]


def _run(rows: Sequence[dict[str, Any]]) -> Run:
    first = rows[0]
    probe = Probe(**{f.name: first[f"probe_{f.name}"] for f in dataclasses.fields(Probe)})
    points = tuple(Point(**{k: row[k] for k in _POINT}) for row in rows)
    about = {k: first[k] for k in ("cost_s", "measured_at_s", "load_average", "power_w")}
    return Run(probe, points, **about)
