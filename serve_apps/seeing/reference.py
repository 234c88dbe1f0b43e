"""The metric reference in docs/observability.md, written from the definitions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from serve_apps.seeing.alerts import rules
from serve_apps.seeing.definitions import ALL, LABELS, Definition


def as_data() -> list[dict[str, Any]]:
    """Every metric as plain data."""
    return [
        {
            "name": m.name,
            "kind": str(m.kind),
            "unit": m.unit,
            "labels": list(m.labels),
            "scope": str(m.scope),
            "help": m.help,
            "formula": m.formula,
        }
        for m in ALL
    ]


def metrics_table() -> str:
    """Markdown: one row per metric."""
    rows = ["| metric | type | unit | labels | what |", "| --- | --- | --- | --- | --- |"]
    return "\n".join((*rows, *(_row(m) for m in ALL))) + "\n"


def labels_table() -> str:
    """Markdown: one row per label."""
    rows = ["| label | what | values |", "| --- | --- | --- |"]
    for label in LABELS.values():
        values = ", ".join(f"`{v}`" for v in label.values) or f"at most {label.most}"
        rows.append(f"| `{label.name}` | {label.help} | {values} |")
    return "\n".join(rows) + "\n"


def alerts_list() -> str:
    """Markdown: one section per alert."""
    return "\n".join(_alerts())


def _row(m: Definition) -> str:
    name = m.name + ("_total" if m.kind == "counter" else "")
    what = f"{m.help}. {m.formula}." if m.formula else f"{m.help}."
    scope = " Every ingress process tells the same: take the maximum." if m.scope == "fleet" else ""
    labels = ", ".join(m.labels) or "–"
    return f"| `{name}` | {m.kind} | {m.unit or '–'} | {labels} | {what}{scope} |"


def _alerts() -> Iterator[str]:
    for rule in rules()["groups"][0]["rules"]:
        summary = rule["annotations"]["summary"].partition(": ")[2]
        yield f"#### {rule['alert']}\n"
        yield f"{rule['labels']['severity']}, after {rule['for']}: {summary}.\n"
        yield f"```promql\n{rule['expr']}\n```\n"
