"""A YAML file is read whole or refused with file, line, what was found and what was expected."""

import pytest
from pydantic import BaseModel, ConfigDict, Field

from profiler import documents
from profiler.core import Noun, Price, Slo
from profiler.documents import Document, parse
from profiler.errors import InputError, nearest


class Thing(Noun):
    slo: Slo
    prices: tuple[Price, ...] = ()
    by_name: dict[str, Slo] = Field(default_factory=dict)


def fail(tmp_path, text):
    path = tmp_path / "thing.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        documents.read(path, Thing)
    return str(caught.value).replace(f"{path}", "thing.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "slo:\n  ttft_s: 1\n  tpot_ms: 1\n  tpot_s: 1\n",
            "thing.yaml:3: slo.tpot_ms: unknown key 'tpot_ms'; did you mean 'tpot_s'? "
            "valid keys: attainment, tpot_s, ttft_s",
        ),
        (
            "slo: {ttft_s: fast, tpot_s: 1}\n",
            "thing.yaml:1: slo.ttft_s: found 'fast' (text), expected a valid number",
        ),
        (
            "slo:\n  ttft_s: 1\n  tpot_s: -1\n",
            "thing.yaml:3: slo.tpot_s: found -1 (number), expected greater than 0",
        ),
        ("slo:\n  ttft_s: 1\n", "thing.yaml:1: slo: missing key 'tpot_s'"),
        (
            "slo:\n  ttft_s: 1\n  ttft_s: 2\n",
            "thing.yaml:3: slo.ttft_s: given twice, first on line 2",
        ),
        ("slo: [\n", "thing.yaml:1: not valid YAML: did not find expected node content"),
        ("", "thing.yaml: the file is empty, expected keys such as slo, prices, by_name"),
        ("- 1\n", "thing.yaml:1: the file: found [1] (list), expected a mapping"),
        (
            "slo: {ttft_s: 1, tpot_s: 1}\nprices:\n  - source: x\n    as_off: 2026-01-01\n",
            "thing.yaml:4: prices[0].as_off: unknown key 'as_off'; did you mean 'as_of'?",
        ),
        (
            "slo: {ttft_s: 1, tpot_s: 1}\nby_name:\n  a:\n    ttft_s: 1\n    tpot: 1\n",
            "thing.yaml:5: by_name.a.tpot: unknown key 'tpot'; did you mean 'tpot_s'?",
        ),
    ],
)
def test_mistakes_are_placed_and_named(tmp_path, text, message):
    assert message in fail(tmp_path, text)


def test_every_mistake_is_listed(tmp_path):
    message = fail(tmp_path, "slo: {ttft_s: a, tpot_s: b}\nmore: 1\n")
    assert len(message.splitlines()) == 3


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere.yaml: no such file"):
        documents.read(tmp_path / "nowhere.yaml", Thing)


def test_values_found_wrong_later_still_have_their_line(tmp_path):
    path = tmp_path / "thing.yaml"
    path.write_text("slo:\n  ttft_s: 1\n  tpot_s: 1\n")
    document = documents.open_document(path)
    assert document.where(("slo", "tpot_s")) == f"{path}:3: slo.tpot_s"


def test_what_is_written_reads_back(tmp_path):
    thing = Thing(slo=Slo(ttft_s=1, tpot_s=0.05), by_name={"a": Slo(ttft_s=2, tpot_s=1)})
    documents.write(tmp_path / "x.yaml", documents.dump(thing))
    assert documents.read(tmp_path / "x.yaml", Thing) == thing


def test_a_failed_write_keeps_the_old_file_and_leaves_no_other(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        documents.write(path, "\ud800")
    assert [p.name for p in tmp_path.iterdir()] == ["x.yaml"]
    assert path.read_text() == "old"


def test_a_missing_directory_is_the_users_error(tmp_path):
    with pytest.raises(InputError, match="cannot write here"):
        documents.write(tmp_path / "none" / "x.yaml", "x")


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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &x [1]\nb: *x\n", "f.yaml:2: YAML aliases (*x) are not supported"),
        ("a: &x [*x]\n", "f.yaml:1: YAML aliases (*x)"),
        ("? [a]\n: 1\n", "f.yaml:1: found a list or mapping as a key"),
        ("[" * 100_000, "f.yaml:1: nested more than 40 levels deep"),
    ],
)
def test_what_a_parser_may_choke_on_is_refused(text, message):
    with pytest.raises(InputError) as caught:
        parse(text, Pair, "f.yaml")
    assert str(caught.value).startswith(message)


def test_paths_that_lead_to_no_file_are_the_users_error(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for bad in (
        tmp_path,
        tmp_path / "file" / "x",
        tmp_path / ("n" * 300),
        tmp_path / "loop",
        "a\0b",
    ):
        with pytest.raises(InputError):
            documents.read(bad, Thing)


def test_writing_follows_links_and_spares_what_is_no_file(tmp_path):
    (tmp_path / "real.yaml").write_text("old")
    (tmp_path / "link.yaml").symlink_to(tmp_path / "real.yaml")
    documents.write(tmp_path / "link.yaml", "new")
    assert (tmp_path / "link.yaml").is_symlink()
    assert (tmp_path / "real.yaml").read_text() == "new"
    with pytest.raises(InputError, match="not a plain file"):
        documents.write("/dev/null", "x")
