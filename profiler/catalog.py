"""GPU types and models by name: those built in, and those of the user's own files.

A catalog file has two optional lists, ``gpus`` and ``models``. An entry whose name is known
overrides only the fields it gives; a new name must be complete.
"""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field

from profiler.core import GpuType, ModelSpec, Noun
from profiler.documents import Document, read_text
from profiler.errors import InputError, UnknownNameError, nearest
from profiler.hf_config import looks_like_source, model_from_hf

DATA = Path(__file__).parent / "data"
N = TypeVar("N", GpuType, ModelSpec)


@dataclass(frozen=True)
class Catalog:
    """Every GPU type and model that can be named, in the order they were read."""

    gpus: dict[str, GpuType]
    models: dict[str, ModelSpec]

    def gpu(self, name: str) -> GpuType:
        """The GPU type of that name, exactly or but for case.

        Raises:
            UnknownNameError: no such type; the message has the nearest.
        """
        return _find("GPU type", name, self.gpus, "(or describe it in a catalog file)")

    def model(self, name: str) -> ModelSpec:
        """The model of that name, exactly or but for case.

        Raises:
            UnknownNameError: no such model; the message has the nearest.
        """
        return _find(
            "model",
            name,
            self.models,
            "(the path of a config.json or a hub name such as Qwen/Qwen3-8B works too)",
        )


class CatalogFile(Noun):
    """The outline of a catalog file; entries are validated once completed."""

    gpus: list[dict[str, Any]] = Field(default_factory=list)
    models: list[dict[str, Any]] = Field(default_factory=list)


def load_catalog(*overlays: Path) -> Catalog:
    """The built-in catalog, then the user's files over it; a later file wins.

    Raises:
        InputError: a file that cannot be read or used, naming it, the line and the valid keys.
    """
    catalog = _built_in()
    for path in overlays:
        document = Document(read_text(path), str(path))
        written_on = dt.date.fromtimestamp(path.stat().st_mtime)
        catalog = _overlay(catalog, document, written_on)
    return catalog


def resolve_model(catalog: Catalog, name_or_path: str) -> ModelSpec:
    """A model of the catalog, or else of a ``config.json``, directory or hub name.

    Raises:
        UnknownNameError: neither a name of the catalog nor anything like a path or hub name.
        InputError: the config cannot be had or used.
    """
    if name_or_path not in catalog.models and looks_like_source(name_or_path):
        return model_from_hf(name_or_path)
    return catalog.model(name_or_path)


def _find(kind: str, name: str, entries: Mapping[str, N], mend: str) -> N:
    if name in entries:
        return entries[name]
    alike = [key for key in entries if key.casefold() == name.casefold()]
    if len(alike) == 1:
        return entries[alike[0]]
    raise UnknownNameError(kind, name, entries, mend=mend)


@functools.cache
def _built_in() -> Catalog:
    catalog = Catalog({}, {})
    for path in (DATA / "gpus.yaml", DATA / "models.yaml"):
        catalog = _overlay(catalog, Document(read_text(path), path.name), None)
    return catalog


def _overlay(catalog: Catalog, document: Document, written_on: dt.date | None) -> Catalog:
    """``catalog`` with the entries of a file over it; ``written_on`` None for our own files."""
    outline = document.validate(CatalogFile)
    merger = _Merger(document, written_on)
    return Catalog(
        merger.merge("gpus", outline.gpus, GpuType, catalog.gpus),
        merger.merge("models", outline.models, ModelSpec, catalog.models),
    )


@dataclass(frozen=True)
class _Merger:
    """Lays the entries of one file over those known so far."""

    document: Document
    written_on: dt.date | None

    def merge(
        self, section: str, entries: list[dict[str, Any]], noun: type[N], known: Mapping[str, N]
    ) -> dict[str, N]:
        merged = dict(known)
        first: dict[str, int] = {}
        for i, entry in enumerate(entries):
            name = str(entry.get("name", ""))
            if name in first:
                line = self.document.line((section, first[name]))
                where = self.document.where((section, i, "name"))
                raise InputError(f"{where}: {name!r} given twice, first on line {line}")
            first[name] = i
            merged[name] = self._entry((section, i), entry, noun, known)
        return merged

    def _entry(
        self, at: tuple[str, int], entry: dict[str, Any], noun: type[N], known: Mapping[str, N]
    ) -> N:
        name = str(entry.get("name", ""))
        if name in known:
            return self.document.validate(noun, at, self._completed(entry, known[name]))
        try:
            return self.document.validate(noun, at, entry)
        except InputError as error:
            if name and "missing key" in str(error):
                raise InputError(f"{error}\n{_new_name_note(at[0], name, known)}") from None
            raise

    def _completed(self, entry: dict[str, Any], known: Noun) -> dict[str, Any]:
        """The entry with what it leaves out taken from the known one; prices field by field.

        A price that is changed without saying where from says that it is the user's own: the
        built-in source and date would vouch for a figure they never saw.
        """
        base = known.model_dump(exclude_unset=True)
        price = entry.get("price")
        if isinstance(price, dict) and "price" in base:
            own = {"source": f"set in {self.document.origin}", "as_of": self.written_on}
            entry = {**entry, "price": {**base["price"], **own, **price}}
        return {**base, **entry}


def _new_name_note(section: str, name: str, known: Mapping[str, object]) -> str:
    close = nearest(name, known)
    meant = f"; did you mean {close!r}?" if close else ""
    return f"{name!r} is not among the known {section}, so its entry must be complete{meant}"
