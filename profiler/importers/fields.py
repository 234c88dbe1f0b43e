"""JSON of other tools, read with errors that name the file and the path of the key."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from profiler.documents import read_text
from profiler.errors import InputError, nearest

SHOWN = 60


@dataclass(frozen=True)
class Node:
    """A part of a JSON document that knows where it stands; ``path`` is empty at the root."""

    data: Any
    origin: str
    path: str = ""

    def __getitem__(self, key: str) -> Node:
        """The value of a key that must be there."""
        found = self.get(key)
        if found is None:
            keys = self._mapping()
            close = nearest(key, keys)
            hint = f"; did you mean {close!r}?" if close else f"; keys: {', '.join(keys) or 'none'}"
            raise InputError(f"{self.where}: missing key {key!r}{hint}")
        return found

    def get(self, key: str) -> Node | None:
        """The value of a key, or None where it is missing or null."""
        value = self._mapping().get(key)
        return None if value is None else self._child(value, f".{key}")

    def __contains__(self, key: str) -> bool:
        return isinstance(self.data, dict) and key in self.data

    def entries(self) -> Iterator[tuple[str, Node]]:
        """The keys of a mapping with their values."""
        for key, value in self._mapping().items():
            yield key, self._child(value, f".{key}")

    def items(self) -> list[Node]:
        """The elements of a list."""
        if not isinstance(self.data, list):
            raise self.wrong("a list")
        return [self._child(value, f"[{i}]") for i, value in enumerate(self.data)]

    def text(self) -> str:
        """A string."""
        if not isinstance(self.data, str):
            raise self.wrong("text")
        return self.data

    def number(self, *, above: float = -math.inf) -> float:
        """A finite number greater than ``above``."""
        value = self.data
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or value <= above:
            raise self.wrong("a number" if math.isinf(above) else f"a number above {above:g}")
        return float(value)

    def amount(self) -> float:
        """A number that is zero or more."""
        value = self.number()
        if value < 0:
            raise self.wrong("zero or more")
        return value

    def matrix(self, rows: int, columns: int, shape: str) -> list[list[float]]:
        """Numbers of zero or more, ``[rows][columns]``; ``shape`` names the axes in errors."""
        found = [[cell.amount() for cell in row.items()] for row in self.items()]
        widths = sorted({len(row) for row in found})
        if len(found) == rows and widths == [columns]:
            return found
        turned = len(found) == columns and widths == [rows]
        hint = "; the axes are the other way round" if turned else ""
        width = "/".join(map(str, widths)) or "0"
        raise InputError(
            f"{self.where}: found {len(found)} rows of {width} columns, "
            f"expected {shape}, {rows} rows of {columns}{hint}"
        )

    def wrong(self, expected: str) -> InputError:
        """The error of a value that is not what it should be."""
        shown = json.dumps(self.data, default=str)
        shown = shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}..."
        return InputError(f"{self.where}: found {shown}, expected {expected}")

    @property
    def where(self) -> str:
        """``file: key.path[index]``."""
        return f"{self.origin}: {self.path.removeprefix('.')}" if self.path else self.origin

    def _mapping(self) -> dict[str, Any]:
        if not isinstance(self.data, dict):
            raise self.wrong("a mapping")
        return self.data

    def _child(self, value: Any, step: str) -> Node:
        return Node(value, self.origin, self.path + step)


def read_json(path: str | Path) -> list[Node]:
    """The documents of a file: one of JSON, or one in each line.

    Raises:
        InputError: the file cannot be read, is empty, or is not JSON.
    """
    text = read_text(path)
    if not text.strip():
        raise InputError(f"{path}: the file is empty, expected JSON")
    try:
        return [Node(json.loads(text), str(path))]
    except json.JSONDecodeError as error:
        lines = [(i, line) for i, line in enumerate(text.splitlines(), 1) if line.strip()]
        if error.msg != "Extra data" or len(lines) < 2:
            raise _not_json(path, error, error.lineno) from None
        return [_line(path, i, line) for i, line in lines]


def _line(path: str | Path, number: int, line: str) -> Node:
    try:
        return Node(json.loads(line), f"{path}:{number}")
    except json.JSONDecodeError as error:
        raise _not_json(path, error, number) from None


def _not_json(path: str | Path, error: json.JSONDecodeError, line: int) -> InputError:
    return InputError(f"{path}:{line}: not JSON: {error.msg} (column {error.colno})")
