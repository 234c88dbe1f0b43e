"""YAML documents read into pydantic models, with errors that name file, line, key and mend.

`read` returns a validated model or raises one `InputError` that lists every mistake found.
`write` replaces a file in one step, so that a failure never leaves half of one.
"""

from __future__ import annotations

import os
import tempfile
import types
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from profiler.errors import InputError, nearest

M = TypeVar("M", bound=BaseModel)
Loc = tuple[int | str, ...]
Lines = dict[Loc, int]

MAX_REPORTED = 10
ONE_LINE = 130  # characters of a flat mapping that are still read at a glance


def read(path: str | Path, model: type[M]) -> M:
    """Read and validate one YAML (or JSON) file.

    Raises:
        InputError: the file cannot be read, is not YAML, or does not fit the model.
    """
    return open_document(path).validate(model)


def open_document(path: str | Path) -> Document:
    """A file's data with its lines, for callers that find some mistakes only later."""
    return Document(read_text(path), str(path))


def read_text(path: str | Path) -> str:
    """The text of a file; a missing or unreadable one is the user's error, not ours."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a directory, expected a file") from None
    except PermissionError:
        raise InputError(f"{path}: permission denied") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text (byte {error.start})") from None


def parse(text: str, model: type[M], origin: str) -> M:
    """Validate YAML text; ``origin`` names it in errors."""
    return Document(text, origin).validate(model)


class Document:
    """YAML text as plain data that remembers its lines.

    For callers that validate part by part, such as entries that override others; `parse` does
    the whole at once. Raises InputError when the text is not YAML.
    """

    def __init__(self, text: str, origin: str) -> None:
        self.origin = origin
        self.data, self._lines = _load(text, origin)

    def validate(self, model: type[M], at: Loc = (), data: Any = None) -> M:
        """The data as a model.

        ``at`` is the path of a part; ``data`` stands in for what is written there, such as the
        part completed from elsewhere. Errors name the line of what is written.
        """
        if self.data is None:
            raise InputError(f"{self.origin}: the file is empty, expected {_fields_line(model)}")
        try:
            return model.model_validate(self._part(at) if data is None else data)
        except ValidationError as error:
            errors = error.errors(include_url=False)
            found = [_explain(e, model, self._lines, self.origin, at) for e in errors]
            found = list(dict.fromkeys(found))
            more = [f"... and {len(found) - MAX_REPORTED} more"] * (len(found) > MAX_REPORTED)
            raise InputError("\n".join(found[:MAX_REPORTED] + more)) from None

    def line(self, at: Loc) -> int:
        """The line a path is written on, or that of its nearest written parent."""
        return self._lines.get(_known_prefix(at, self._lines), 1)

    def where(self, at: Loc) -> str:
        """How errors name a path: ``file:line: path``."""
        return _where(at, self._lines, self.origin)

    def _part(self, at: Loc) -> Any:
        part = self.data
        for key in at:
            part = part[key]
        return part


def dump(model: BaseModel) -> str:
    """A model as YAML one can read and diff: block style, keys in the model's order."""
    return dump_data(model.model_dump(mode="json", exclude_none=True))


def dump_data(data: Any) -> str:
    """Plain data as YAML, in the same style."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=140)


def write(path: str | Path, text: str) -> None:
    """Replace a file in one step: write beside it, then rename.

    Raises:
        InputError: the directory is missing or cannot be written.
    """
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: str | Path, content: bytes) -> None:
    """Replace a file in one step, as `write` does, with content that is not text."""
    target = Path(path)
    try:
        fd, tmp = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    except OSError as error:
        raise InputError(f"{path}: cannot write here: {error.strerror}") from None
    try:
        with os.fdopen(fd, "wb") as f:
            f.write(content)
        umask = os.umask(0)
        os.umask(umask)
        Path(tmp).chmod(0o666 & ~umask)
        Path(tmp).replace(target)
    except OSError as error:
        raise InputError(f"{path}: could not be written: {error.strerror}") from None
    finally:
        Path(tmp).unlink(missing_ok=True)


# libyaml's parser is ten times faster and marks lines all the same.
_Loader: type[yaml.SafeLoader | yaml.CSafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Dumper(yaml.SafeDumper):
    """Writes what is flat and short on one line, everything else as a block."""

    def represent_sequence(self, tag: str, sequence: Any, flow_style: bool | None = None) -> Any:  # noqa: ARG002
        return super().represent_sequence(tag, sequence, flow_style=_flat(sequence))

    def represent_mapping(self, tag: str, mapping: Any, flow_style: bool | None = None) -> Any:  # noqa: ARG002
        one_line = all(_flat([v]) or (isinstance(v, list) and _flat(v)) for v in mapping.values())
        short = len(str(mapping)) < ONE_LINE
        return super().represent_mapping(tag, mapping, flow_style=one_line and short)

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        super().increase_indent(flow, False)


def _flat(values: Iterable[Any]) -> bool:
    return not any(isinstance(v, dict | list | tuple) for v in values)


def _load(text: str, origin: str) -> tuple[Any, Lines]:
    """YAML text to plain data and the line of every path in it."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None, {}
        lines: Lines = {}
        _walk(node, (), lines, origin)
        return loader.construct_document(node), lines
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        last = max(1, len(text.splitlines()))  # a mark at the end of the text lies past it
        where = f"{origin}:{min(mark.line + 1, last)}" if mark else origin
        raise InputError(f"{where}: not valid YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{origin}: not valid YAML: {error}") from None
    finally:
        loader.dispose()


def _walk(node: yaml.Node, loc: Loc, lines: Lines, origin: str) -> None:
    lines.setdefault(loc, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key_node, value_node in node.value:
            key = (*loc, key_node.value)
            line = key_node.start_mark.line + 1
            if key in lines:
                name = _path(key)
                raise InputError(
                    f"{origin}:{line}: {name}: given twice, first on line {lines[key]}"
                )
            lines[key] = line
            _walk(value_node, key, lines, origin)
    elif isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            _walk(item, (*loc, i), lines, origin)


def _explain(
    error: ErrorDetails, model: type[BaseModel], lines: Lines, origin: str, at: Loc
) -> str:
    """One pydantic error in the user's terms; ``at`` is where the model stands in the file."""
    loc = tuple(error["loc"])
    where = _where((*at, *loc), lines, origin)
    match error["type"]:
        case "extra_forbidden":
            keys = sorted(_keys_at(model, loc[:-1]))
            close = nearest(str(loc[-1]), keys)
            hint = f"did you mean {close!r}? " if close else ""
            return f"{where}: unknown key {str(loc[-1])!r}; {hint}valid keys: {', '.join(keys)}"
        case "missing":
            return f"{where}: missing key {str(loc[-1])!r}"
        case "value_error":
            return f"{where}: {error['msg'].removeprefix('Value error, ')}"
        case _:
            return f"{where}: found {_show(error['input'])}, expected {_expected(error)}"


def _where(loc: Loc, lines: Lines, origin: str) -> str:
    known = _known_prefix(loc, lines)
    return f"{origin}:{lines.get(known, 1)}: {_path(known) or 'the file'}"


def _expected(error: ErrorDetails) -> str:
    msg = error["msg"]
    for prefix in ("Input should be ", "Input should ", "String should ", "Value should "):
        if msg.startswith(prefix):
            return msg.removeprefix(prefix).removesuffix(", unable to parse string as a number")
    return msg[0].lower() + msg[1:]


def _show(value: Any) -> str:
    kinds = {str: "text", bool: "true/false", int: "number", float: "number", dict: "mapping"}
    kind = kinds.get(type(value), "list" if isinstance(value, list) else type(value).__name__)
    if value is None:
        return "nothing"
    text = repr(value) if len(repr(value)) <= 60 else repr(value)[:57] + "..."
    return f"{text} ({kind})"


def _known_prefix(loc: Loc, lines: Lines) -> Loc:
    """The longest path of the document that ``loc`` names; union tags in it are skipped."""
    path: Loc = ()
    for part in loc:
        if (*path, part) in lines:
            path = (*path, part)
        elif (*path, str(part)) in lines:
            path = (*path, str(part))
    return path


def _path(loc: Loc) -> str:
    out = ""
    for part in loc:
        out += f"[{part}]" if isinstance(part, int) else f"{'.' if out else ''}{part}"
    return out


def _fields_line(model: type[BaseModel]) -> str:
    return f"keys such as {', '.join(list(model.model_fields)[:6])}"


def _keys_at(model: type[BaseModel], loc: Loc) -> set[str]:
    """The valid keys of the mapping at ``loc``, found by following the annotations."""
    reached: list[Any] = [model]
    for part in loc:
        nxt = [t for a in reached for t in _step(a, part)]
        reached = nxt or reached
    return {key for a in reached for m in _models(a) for key in m.model_fields}


def _step(annotation: Any, part: int | str) -> Iterator[Any]:
    for candidate in _members(annotation):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            if isinstance(part, str) and part in candidate.model_fields:
                yield candidate.model_fields[part].annotation
        elif (args := typing.get_args(candidate)) and typing.get_origin(candidate) in (
            dict,
            list,
            tuple,
        ):
            yield args[1] if typing.get_origin(candidate) is dict else args[0]


def _members(annotation: Any) -> Iterator[Any]:
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        yield from _members(typing.get_args(annotation)[0])
    elif origin in (typing.Union, types.UnionType):
        for arg in typing.get_args(annotation):
            yield from _members(arg)
    else:
        yield annotation


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    for member in _members(annotation):
        if isinstance(member, type) and issubclass(member, BaseModel):
            yield member
