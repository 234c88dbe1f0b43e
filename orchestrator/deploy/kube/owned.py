"""What a field manager set of an object: the part that server-side apply would take from it.

Going back to what was there before means applying just that part again: fields that we added
since then go, and fields of others are not touched.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from manifests.objects import FIELD_MANAGER, Object


def owned(live: Mapping[str, Any], manager: str = FIELD_MANAGER) -> Object | None:
    """The part of a live object that ``manager`` applied; None where it applied nothing.

    Reads ``metadata.managedFields`` (FieldsV1: ``f:name`` a field, ``k:{..}`` a list's item by
    its keys, ``v:..`` a set's value; an empty set of fields stands for the whole value).
    """
    entries = [
        e["fieldsV1"]
        for e in live["metadata"].get("managedFields", ())
        if e["manager"] == manager and e.get("operation") == "Apply" and "fieldsV1" in e
    ]
    if not entries:
        return None
    part: Object = _pick(live, entries[0])
    metadata = {"name": live["metadata"]["name"], **part.get("metadata", {})}
    if "namespace" in live["metadata"]:
        metadata["namespace"] = live["metadata"]["namespace"]
    head = {"apiVersion": live["apiVersion"], "kind": live["kind"], "metadata": metadata}
    return head | {k: v for k, v in part.items() if k not in head}


def _pick(value: Any, fields: Mapping[str, Any]) -> Any:
    named = {k: v for k, v in fields.items() if k != "."}
    if not named:
        return value
    if isinstance(value, list):
        return [_pick(v, f) for k, f in named.items() for v in value if _matches(v, k)]
    if not isinstance(value, Mapping):
        return value
    return {
        k.removeprefix("f:"): _pick(value[k.removeprefix("f:")], f)
        for k, f in named.items()
        if k.removeprefix("f:") in value
    }


def _matches(item: Any, key: str) -> bool:
    if key.startswith("v:"):
        return bool(item == json.loads(key[2:]))
    if key.startswith("k:") and isinstance(item, Mapping):
        return all(item.get(k) == v for k, v in json.loads(key[2:]).items())
    return False
