"""Trace files turned into columns: which format it is, and every row checked.

Three formats, each as CSV with a header or as one JSON object a line, gzipped or not:

- ``own``: ``arrival_s,input_tokens,output_tokens[,prefix_hit_tokens][,session|client]``
- ``azure``: ``TIMESTAMP,ContextTokens,GeneratedTokens``, timestamps as in ISO 8601
- ``mooncake``: ``timestamp`` (milliseconds), ``input_length``, ``output_length``

Other columns are ignored. Blank lines hold no row and are passed over; any other line that is
not a whole request stops the reading with the file and line of each mistake.
"""

from __future__ import annotations

import csv
import datetime as dt
import gzip
import io
import json
import math
import operator
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from profiler.errors import InputError
from profiler.files import read_bytes

FormatName = Literal["auto", "own", "azure", "mooncake"]
Rows = Callable[[list[str]], Iterator[tuple[int, Sequence[Any]]]]
"""Given the columns wanted, the line and values of each row; a value may be `_MISSING`."""

MAX_REPORTED = 10
MAX_TOKENS = 2**31 - 1
_GZIP_MAGIC = b"\x1f\x8b"
_PREFIX_HIT = "prefix_hit_tokens"
_LABELS = ("session", "client")
_MISSING = object()


def _seconds(value: Any) -> float:
    number = _number(value)
    if number < 0:
        raise ValueError(f"found {value!r}, expected a time of at least 0")
    return number


def _nanoseconds(value: Any) -> int:
    """Nanoseconds since 1970 of an ISO 8601 timestamp; without a zone it is taken as UTC.

    Whole numbers keep all seven digits that Azure writes, which floats since 1970 would not.
    """
    match = _TIMESTAMP.fullmatch(value.strip()) if isinstance(value, str) else None
    try:
        if match is None:
            raise ValueError
        seconds, fraction, zone = match.groups(default="")
        moment = dt.datetime.fromisoformat(seconds + zone)
    except ValueError:
        wanted = "a timestamp such as 2023-11-16 18:15:46.6805900"
        raise ValueError(f"found {_show(value)}, expected {wanted}") from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    since = moment - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    return (since.days * 86_400 + since.seconds) * 10**9 + int(f"{fraction:0<9}"[:9])


_TIMESTAMP = re.compile(
    r"(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:?\d\d)?", re.ASCII
)


@dataclass(frozen=True)
class Format:
    """The column names of one format, and how its clock reads."""

    name: str
    time: str
    input: str
    output: str
    read_time: Callable[[Any], float]
    unit_s: float

    @property
    def required(self) -> tuple[str, str, str]:
        """The columns every row must have."""
        return (self.time, self.input, self.output)


FORMATS = (
    Format("own", "arrival_s", "input_tokens", "output_tokens", _seconds, 1.0),
    Format("azure", "TIMESTAMP", "ContextTokens", "GeneratedTokens", _nanoseconds, 1e-9),
    Format("mooncake", "timestamp", "input_length", "output_length", _seconds, 1e-3),
)


@dataclass(frozen=True)
class Columns:
    """Columns of a file in its own order; ``time`` is in the format's unit, from any origin."""

    format: Format
    time: list[float]
    input_tokens: list[int]
    output_tokens: list[int]
    prefix_hit_tokens: list[int] | None
    session: list[str] | None


class _Problems:
    """The mistakes of one file: the first few in words, all of them counted."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.shown: list[str] = []
        self.count = 0

    def add(self, line: int, what: str) -> None:
        self.count += 1
        if self.count <= MAX_REPORTED:
            self.shown.append(f"{self.path}:{line}: {what}")

    def stop_if_any(self) -> None:
        if not self.count:
            return
        more = self.count - len(self.shown)
        tail = [f"... and {more} more"] if more else []
        rows = "1 malformed row" if self.count == 1 else f"{self.count} malformed rows"
        end = f"{self.path}: {rows}; nothing was read: mend or remove them"
        raise InputError("\n".join([*self.shown, *tail, end]))


def read_columns(path: Path, name: FormatName) -> Columns:
    """Read every row of a trace file.

    Raises:
        InputError: the file cannot be read, its format is unknown, it holds no requests, or any
            row is malformed; the message lists the first ten by line, and their number.
    """
    text = _decode(path, _uncompressed(path))
    problems = _Problems(path)
    is_json = text.lstrip()[:1] in ("{", "[")
    keys, rows = (_json_rows if is_json else _csv_rows)(text, problems)
    if not keys:
        problems.stop_if_any()
        raise InputError(f"{path}: no requests: the file is empty")
    columns = _collect(_format(path, name, keys), keys, rows, problems)
    problems.stop_if_any()
    if not columns.time:
        raise InputError(f"{path}: no requests: only a header")
    return columns


def _uncompressed(path: Path) -> bytes:
    content = read_bytes(path)
    try:
        return gzip.decompress(content) if content.startswith(_GZIP_MAGIC) else content
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(
            f"{path}: the gzip file is cut short or damaged ({error}); fetch or write it again"
        ) from None


def _decode(path: Path, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}:{line}: not UTF-8 text (byte {error.start})") from None


def _csv_rows(text: str, problems: _Problems) -> tuple[set[str], Rows]:
    # strict: without it a stray quote would swallow the rows up to the next one
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in next((row for row in reader if row), [])]
    except csv.Error as error:
        problems.add(reader.line_num, f"not CSV: {error}")
        return set(), lambda _: iter(())
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise InputError(f"{problems.path}:{reader.line_num}: column {twice!r} is named twice")

    def rows(wanted: list[str]) -> Iterator[tuple[int, Sequence[Any]]]:
        width, pick = len(header), operator.itemgetter(*map(header.index, wanted))
        try:
            for row in reader:
                if len(row) == width:
                    yield reader.line_num, pick(row)
                elif row:
                    what = f"found {len(row)} fields, expected {width} as in the header"
                    problems.add(reader.line_num, what)
        except csv.Error as error:
            problems.add(reader.line_num, f"not CSV: {error}")

    return set(header), rows


def _json_rows(text: str, problems: _Problems) -> tuple[set[str], Rows]:
    found: list[tuple[int, dict[str, Any]]] = []
    # not splitlines(): JSON strings may hold U+2028, which it would break at
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                problems.add(number, f"not JSON: {getattr(error, 'msg', error)}")
                continue
            if isinstance(value, dict):
                found.append((number, value))
            else:
                what = f"found {_show(value)}, expected one JSON object on each line"
                problems.add(number, what)
    keys = set(found[0][1]) if found else set()
    optional = {key for _, row in found for key in (_PREFIX_HIT, *_LABELS) if key in row}
    return keys | optional, lambda wanted: (
        (line, [row.get(key, _MISSING) for key in wanted]) for line, row in found
    )


def _format(path: Path, name: FormatName, keys: set[str]) -> Format:
    known = {f.name: f for f in FORMATS}
    if name != "auto":
        missing = [key for key in known[name].required if key not in keys]
        if not missing:
            return known[name]
        raise InputError(f"{path}: no column {missing[0]!r}, which the format {name!r} needs")
    for candidate in FORMATS:
        if keys.issuperset(candidate.required):
            return candidate
    wanted = " or ".join(",".join(f.required) for f in FORMATS)
    raise InputError(f"{path}: found columns {_show(sorted(keys))}, expected {wanted}")


def _collect(layout: Format, keys: set[str], rows: Rows, problems: _Problems) -> Columns:
    own = layout.name == "own"
    has_hits = own and _PREFIX_HIT in keys
    label = next((key for key in _LABELS if key in keys), None) if own else None
    wanted = [*layout.required, *[_PREFIX_HIT] * has_hits, *[label or ""] * bool(label)]
    read_time = layout.read_time
    out = Columns(layout, [], [], [], [] if has_hits else None, [] if label else None)
    for line, values in rows(wanted):
        column = 0
        try:
            time = read_time(values[0])
            input_tokens = _tokens(values[column := 1])
            output_tokens = _tokens(values[column := 2])
            hit = _tokens(values[column := 3], 0, input_tokens) if has_hits else 0
            session = _label(values[column := len(wanted) - 1]) if label else ""
        except ValueError as error:
            absent = values[column] is _MISSING
            problems.add(line, f"{wanted[column]}: {'missing' if absent else error}")
        else:
            out.time.append(time)
            out.input_tokens.append(input_tokens)
            out.output_tokens.append(output_tokens)
            if out.prefix_hit_tokens is not None:
                out.prefix_hit_tokens.append(hit)
            if out.session is not None:
                out.session.append(session)
    return out


def _tokens(value: Any, least: int = 1, most: int = MAX_TOKENS) -> int:
    if isinstance(value, str) and value.isdecimal() and len(value) < 20:
        number: float = int(value)
    else:
        number = _number(value)
    if not least <= number <= most or number != int(number):
        raise ValueError(f"found {_show(value)}, expected a whole number from {least} to {most}")
    return int(number)


def _number(value: Any) -> float:
    try:
        # float() would read 1_000 and true as numbers
        if isinstance(value, bool) or (isinstance(value, str) and "_" in value):
            raise ValueError
        number = float(value)
    except (ValueError, TypeError, OverflowError):
        raise ValueError(f"found {_show(value)}, expected a number") from None
    if not math.isfinite(number):
        raise ValueError(f"found {_show(value)}, expected a finite number")
    return number


def _label(value: Any) -> str:
    text = str(value)
    if not isinstance(value, str | int) or "\n" in text or "\r" in text:
        raise ValueError(f"found {_show(value)}, expected a label on one line")
    return text


def _show(value: Any) -> str:
    if value == "":
        return "nothing"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
