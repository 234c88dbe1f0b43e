"""What HTML pages share: one file each that needs nothing else, no scripts, fonts or network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files

HUES = 10
"""GPU types have as many colours in maps; further ones repeat."""


def document(title: str, body: str, *styles: str) -> str:
    """A whole page; ``styles`` are style sheets of the package beside the common one."""
    data = files("orchestrator").joinpath("data")
    names = ("value.css", *styles)
    style = "".join(data.joinpath(name).read_text(encoding="utf-8") for name in names)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{style}</style></head>"
        f"<body><main>{body}</main></body></html>\n"
    )


def scroll(table: str) -> str:
    """A table that scrolls by itself where the window is narrow."""
    return f"<div class=scroll tabindex=0>{table}</div>"


def limit(value: float, unit: str) -> str:
    """A limit with its unit, not broken over lines."""
    return f"<b>{value:.6g}&nbsp;{unit}</b>"


def plain_table(
    headers: Sequence[str], rows: Iterable[Sequence[str]], *, text: Sequence[int] = ()
) -> str:
    """A table whose first column names the row; columns in ``text`` read left to right.

    Everything is escaped.
    """

    def kind(i: int) -> str:
        return " class=text" if i in text else ""

    head = "".join(
        f"<th scope=col{kind(i) or (' class=text' if i == 0 else '')}>{escape(h)}</th>"
        for i, h in enumerate(headers)
    )
    body = "".join(
        f"<tr><th scope=row>{escape(row[0])}</th>"
        + "".join(f"<td{kind(i)}>{escape(cell)}</td>" for i, cell in enumerate(row[1:], start=1))
        + "</tr>"
        for row in rows
    )
    return scroll(f"<table class=plain><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")
