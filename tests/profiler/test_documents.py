"""A document read part by part names the lines of what is written, wherever the rest is from."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, ConfigDict

from profiler.documents import Document, parse
from profiler.errors import InputError, nearest


class Pair(BaseModel):
    model_config = ConfigDict(extra="forbid")
    left: int
    right: int


TEXT = "pairs:\n  - left: 1\n    right: 2\n  - left: x\n"


def test_a_part_is_validated_where_it_stands() -> None:
    document = Document(TEXT, "f.yaml")
    assert document.validate(Pair, ("pairs", 0)) == Pair(left=1, right=2)
    with pytest.raises(InputError, match=r"f\.yaml:4: pairs\[1\]\.left: found 'x'") as caught:
        document.validate(Pair, ("pairs", 1))
    assert "f.yaml:4: pairs[1]: missing key 'right'" in str(caught.value)


def test_a_part_completed_from_elsewhere_keeps_its_lines() -> None:
    document = Document(TEXT, "f.yaml")
    with pytest.raises(InputError, match=r"^f\.yaml:4: pairs\[1\]\.left: found 'x'[^\n]*$"):
        document.validate(Pair, ("pairs", 1), {"left": "x", "right": 2})
    # What is not written has the line of what it belongs to.
    assert document.line(("pairs", 1, "right")) == 4
    assert document.where(("pairs", 0, "right")) == "f.yaml:3: pairs[0].right"


@pytest.mark.parametrize("text", ["left: [", "left: 1\n  right: 2", "left: 1\nleft: 2", "a: *b"])
def test_text_that_is_not_yaml_names_a_line_of_the_file(text: str) -> None:
    with pytest.raises(InputError, match=r"^f\.yaml:[12]: "):
        parse(text, Pair, "f.yaml")


def test_a_part_of_a_key_is_close_to_it() -> None:
    assert nearest("spot", ["spot_usd_per_hour", "on_demand_usd_per_hour"]) == "spot_usd_per_hour"
    assert nearest("usd", ["spot_usd_per_hour", "on_demand_usd_per_hour"]) is None
    assert nearest("zzz", ["spot"]) is None
