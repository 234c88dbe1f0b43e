"""YAML documents read into pydantic models, with errors that name file, line, key and mend.

`read` returns a validated model or raises one `InputError` that lists every mistake found.
`write` replaces a file in one step, so that a failure never leaves half of one.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from profiler.errors import InputError, nearest
from profiler.files import read_text, write, write_bytes
from profiler.secret_text import find as find_secret

__all__ = [
    "Document",
    "dump",
    "dump_data",
    "open_document",
    "parse",
    "read",
    "read_text",
    "write",
    "write_bytes",
]

M = TypeVar("M", bound=BaseModel)
Loc = tuple[int | str, ...]
Lines = dict[Loc, int]

MAX_REPORTED = 10
MAX_DEPTH = 40
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
    return dump_data(_pruned(model.model_dump(mode="json")))


def _pruned(data: Any) -> Any:
    """Without what says nothing: missing values, and lists and mappings that are empty."""
    if isinstance(data, dict):
        pruned = {k: _pruned(v) for k, v in data.items()}
        return {k: v for k, v in pruned.items() if v not in (None, [], {})}
    return [_pruned(v) for v in data] if isinstance(data, list) else data


def dump_data(data: Any) -> str:
    """Plain data as YAML, in the same style."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=140)


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
    if secret := find_secret(text):  # before a parser's error could show it
        line = text.count("\n", 0, secret.start) + 1
        raise InputError(f"{origin}:{line}: found {secret.kind} in a file; {secret.mend}")
    loader = _Loader(text)
    try:
        _screen(text, origin)
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
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise InputError(f"{origin}: not valid YAML: {error}") from None
    finally:
        loader.dispose()


def _screen(text: str, origin: str) -> None:
    """Refuse what a file of ours never holds and a parser may choke on: aliases, deep nesting."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.AliasEvent):
            raise InputError(f"{origin}:{line}: YAML aliases (*{event.anchor}) are not supported")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise InputError(f"{origin}:{line}: nested more than {MAX_DEPTH} levels deep")


def _walk(node: yaml.Node, loc: Loc, lines: Lines, origin: str) -> None:
    lines.setdefault(loc, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise InputError(f"{origin}:{line}: found a list or mapping as a key")
            key = (*loc, key_node.value)
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
            message = error["msg"].removeprefix("Value error, ")
            key, colon, rest = message.partition(": ")
            if colon and (*at, *loc, key) in lines:  # a rule between keys names the one to look at
                return f"{_where((*at, *loc, key), lines, origin)}: {rest}"
            return f"{where}: {message}"
        case _:
            return f"{where}: found {_show(error['input'])}, expected {_expected(error)}"


def _where(loc: Loc, lines: Lines, origin: str) -> str:
    known = _known_prefix(loc, lines)
    return f"{origin}:{lines.get(known, 1)}: {_path(known) or 'the file'}"


KINDS = {"tuple_type": "a list", "list_type": "a list", "too_short": "at least one entry"}
KINDS |= dict.fromkeys(("model_type", "model_attributes_type", "dict_type"), "a mapping")


def _expected(error: ErrorDetails) -> str:
    if error["type"] in KINDS:
        return KINDS[error["type"]]
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
