"""The page stands alone, escapes names, and draws every router."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from orchestrator.router_page import page
from tests.orchestrator.comparisons import comparison

VOID = {"meta", "br", "line", "img"}


class Balanced(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_it_is_whole_and_needs_nothing_from_elsewhere() -> None:
    text = page([comparison(), comparison()])
    parser = Balanced()
    parser.feed(text)
    assert parser.open == []
    assert "<script" not in text
    assert not re.findall(r"(?:src|href)=(?![\"']?#)", text)


def test_names_are_escaped() -> None:
    text = page([comparison()])
    assert "a &lt;b&gt; to c" in text
    assert "ours &amp; co" in text
    assert "a <b> to c" not in text


def test_every_router_is_drawn_baselines_dashed_and_long_curves_thinned() -> None:
    text = page([comparison()])
    assert len(re.findall(r"<path", text)) == 2
    assert len(re.findall(r'<path class="base"', text)) == 1
    assert "<circle" in text
    longest = max(re.findall(r' d="(M[^"]*)"', text), key=len)
    assert longest.count("L") <= 401
    # The last point is kept: the curve ends where the router does.
    assert longest.endswith("710.0,12.0")
