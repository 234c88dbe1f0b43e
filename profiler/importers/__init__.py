"""Profiles from the results of other tools: one module for each format.

Each has ``read(documents, setting)``, from parsed JSON and what the files leave unsaid to profiles.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from profiler.core import Profile
from profiler.errors import UnknownNameError
from profiler.importers.fields import Node, read_json
from profiler.importers.setting import Setting

FormatName = Literal["melange", "aibrix", "guidellm", "vllm"]
MODULES: dict[FormatName, str] = {
    "melange": "melange", "aibrix": "aibrix", "guidellm": "guidellm", "vllm": "vllm_bench",
}  # fmt: skip


def import_profiles(
    paths: Sequence[str | Path],
    format_name: FormatName,
    setting: Setting,
) -> list[Profile]:
    """The profiles that some files of one format hold.

    Raises:
        UnknownNameError: no such format.
        InputError: a file that cannot be read or used, with the path of the key.
    """
    if format_name not in MODULES:
        raise UnknownNameError("format", format_name, get_args(FormatName))
    documents = [document for path in paths for document in read_json(path)]
    module = importlib.import_module(f"profiler.importers.{MODULES[format_name]}")
    found: list[Profile] = module.read(documents, setting)
    return found


__all__ = ["FormatName", "Node", "Setting", "import_profiles", "read_json"]
