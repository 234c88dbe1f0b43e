"""A trace file is read whole or not at all, and written so that it reads back the same."""

from __future__ import annotations

import gzip
import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.errors import InputError
from profiler.traces import Trace, read_trace, write_trace
from tests.profiler.traces_for_tests import a_trace, public_trace

OWN = "arrival_s,input_tokens,output_tokens\n"
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"


def write(tmp_path: Path, content: str | bytes, name: str = "trace.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def rows(trace: Trace) -> list[tuple[float, int, int]]:
    columns = (trace.arrival_s, trace.input_tokens, trace.output_tokens)
    return list(zip(*(c.tolist() for c in columns), strict=True))


def refusal(path: Path, **options) -> str:
    with pytest.raises(InputError) as error:
        read_trace(path, **options)
    return str(error.value)


def test_own_columns_are_read(tmp_path):
    trace = read_trace(write(tmp_path, OWN + "0,100,5\n0.25,200,6\n"))
    assert rows(trace) == [(0.0, 100, 5), (0.25, 200, 6)]
    assert trace.prefix_hit_tokens is None
    assert trace.session is None
    assert trace.source.endswith("trace.csv")


@pytest.mark.parametrize("label", ["session", "client"])
def test_prefix_hits_and_labels_are_kept_and_other_columns_ignored(tmp_path, label):
    header = f"model,{label},prefix_hit_tokens,output_tokens,input_tokens,arrival_s\n"
    trace = read_trace(write(tmp_path, header + 'm,"a, b",64,5,100,0\nm,c,0,6,200,1\n'))
    assert rows(trace) == [(0.0, 100, 5), (1.0, 200, 6)]
    assert trace.prefix_hit_tokens.tolist() == [64, 0]
    assert trace.session.tolist() == ["a, b", "c"]


def test_azure_timestamps_keep_all_seven_digits(tmp_path):
    text = (
        AZURE + "2023-11-16 18:15:46.6805900,374,44\n"
        "2023-11-16 18:15:46.6805907,10,3\n2023-11-17 00:00:00,5,2\n"
    )
    trace = read_trace(write(tmp_path, text))
    assert trace.arrival_s.tolist() == pytest.approx([0.0, 7e-7, 20653.31941], abs=1e-10)
    assert trace.input_tokens.tolist() == [374, 10, 5]


def test_azure_timestamps_with_a_zone_are_read(tmp_path):
    text = AZURE + "2024-05-10 00:00:00.009930+00:00,5,2\n2024-05-10T02:00:01+02:00,5,2\n"
    assert read_trace(write(tmp_path, text)).arrival_s.tolist() == pytest.approx([0.0, 0.99007])


def test_mooncake_lines_are_read(tmp_path):
    text = (
        '{"timestamp": 27000, "input_length": 6955, "output_length": 52, "hash_ids": [46, 47]}\n'
        '{"timestamp": 30500, "input_length": 6472, "output_length": 26, "hash_ids": [46]}\n'
    )
    trace = read_trace(write(tmp_path, text, "trace.jsonl"))
    assert rows(trace) == [(0.0, 6955, 52), (3.5, 6472, 26)]


def test_own_and_azure_keys_are_read_from_json_lines_and_mooncake_from_csv(tmp_path):
    own = {"arrival_s": 3, "input_tokens": 7, "output_tokens": 2.0, "session": 12}
    trace = read_trace(write(tmp_path, json.dumps(own)))
    assert rows(trace) == [(0.0, 7, 2)]
    assert trace.session.tolist() == ["12"]
    azure = {"TIMESTAMP": "2024-01-01 00:00:00", "ContextTokens": 7, "GeneratedTokens": 2}
    assert rows(read_trace(write(tmp_path, json.dumps(azure)))) == [(0.0, 7, 2)]
    mooncake = "timestamp,input_length,output_length\n0,7,2\n1500,8,3\n"
    assert rows(read_trace(write(tmp_path, mooncake))) == [(0.0, 7, 2), (1.5, 8, 3)]


def test_a_line_separator_inside_a_json_string_does_not_break_the_line(tmp_path):
    row = {"arrival_s": 0, "input_tokens": 1, "output_tokens": 1, "session": "a\u2028b"}
    text = json.dumps(row, ensure_ascii=False)
    assert read_trace(write(tmp_path, text)).session.tolist() == ["a\u2028b"]


def test_gzip_is_told_by_its_bytes(tmp_path):
    packed = gzip.compress((OWN + "0,1,1\n").encode())
    assert len(read_trace(write(tmp_path, packed, "no-suffix"))) == 1
    assert len(read_trace(write(tmp_path, OWN + "0,1,1\n", "plain.csv.gz"))) == 1


def test_byte_order_mark_blank_lines_and_windows_line_ends_are_accepted(tmp_path):
    text = "\ufeff" + OWN + "0,1,1\n\n1,2,2\n\n"
    assert rows(read_trace(write(tmp_path, text.replace("\n", "\r\n")))) == [(0, 1, 1), (1, 2, 2)]


def test_requests_out_of_order_are_sorted_stably(tmp_path):
    trace = read_trace(write(tmp_path, OWN + "5,1,1\n3,2,1\n5,3,1\n3,4,1\n"))
    assert rows(trace) == [(0.0, 2, 1), (0.0, 4, 1), (2.0, 1, 1), (2.0, 3, 1)]
    many = "".join(f"{1 - n % 2},{n},1\n" for n in range(1, 1001))
    trace = read_trace(write(tmp_path, OWN + many))
    assert trace.input_tokens.tolist() == [*range(1, 1001, 2), *range(2, 1001, 2)]


def test_a_format_can_be_forced(tmp_path):
    both = "arrival_s,timestamp,input_tokens,output_tokens,input_length,output_length\n"
    path = write(tmp_path, both + "1,0,10,20,30,40\n")
    assert rows(read_trace(path)) == [(0.0, 10, 20)]
    assert rows(read_trace(path, format="mooncake")) == [(0.0, 30, 40)]
    assert "no column 'TIMESTAMP', which the format 'azure' needs" in refusal(path, format="azure")


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ("1,2", "found 2 fields, expected 3 as in the header"),
        ("1,2,3,4", "found 4 fields, expected 3"),
        ("x,2,3", "arrival_s: found 'x', expected a number"),
        ("-1,2,3", "arrival_s: found '-1', expected a time of at least 0"),
        ("nan,2,3", "arrival_s: found 'nan', expected a finite number"),
        ("inf,2,3", "arrival_s: found 'inf', expected a finite number"),
        (",2,3", "arrival_s: found nothing, expected a number"),
        ("1,,3", "input_tokens: found nothing"),
        ("1,0,3", "input_tokens: found '0', expected a whole number from 1"),
        ("1,-2,3", "input_tokens: found '-2'"),
        ("1,2.5,3", "input_tokens: found '2.5', expected a whole number"),
        ("1,1_0,3", "input_tokens: found '1_0', expected a number"),
        ("1,nan,3", "input_tokens: found 'nan'"),
        ("1,2,0", "output_tokens: found '0', expected a whole number from 1"),
        ("1,2,many", "output_tokens: found 'many'"),
        ("1,2,99999999999999999999999", "output_tokens: found '9999999"),
        ("1,2," + "9" * 5000, "output_tokens: found '9999999"),
        ('1,2,"3', "not CSV"),
        ('1,"2"x,3', "not CSV"),
        (f"1,2,{'3' * 200_000}", "not CSV: field larger"),
    ],
)
def test_a_malformed_csv_row_is_named_by_line(tmp_path, row, found):
    path = write(tmp_path, OWN + f"0,1,1\n{row}\n")
    message = refusal(path)
    assert message.startswith(f"{path}:3: ")
    assert found in message
    assert "1 malformed row;" in message


@pytest.mark.parametrize("extra", ["prefix_hit_tokens", "session"])
@pytest.mark.parametrize("value", ["101", "-1", '"two\nlines"'])
def test_a_malformed_optional_column_is_refused(tmp_path, extra, value):
    path = write(tmp_path, OWN.strip() + f",{extra}\n0,100,1,0\n1,100,1,{value}\n")
    if extra == "prefix_hit_tokens" or "\n" in value:
        assert f"{extra}: found" in refusal(path)
    else:
        assert read_trace(path).session.tolist() == ["0", value]


def test_a_stray_quote_does_not_swallow_the_rows_after_it(tmp_path):
    text = OWN.strip() + ',session\n0,1,1,"a\n1,1,1,b\n2,1,1,c"\n3,1,1,d\n'
    assert "expected a label on one line" in refusal(write(tmp_path, text))


@pytest.mark.parametrize(
    "timestamp",
    ["yesterday", "", "2023-13-16 18:15:46", "2023-11-16", "1700158546", "2023-11-16 18:15:46.x"],
)
def test_an_unreadable_timestamp_is_refused(tmp_path, timestamp):
    path = write(tmp_path, AZURE + f"2023-11-16 18:15:46,1,1\n{timestamp},374,44\n")
    message = refusal(path)
    assert message.startswith(f"{path}:3: TIMESTAMP: found")
    assert "expected a timestamp such as 2023-11-16 18:15:46.6805900" in message


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("{", "not JSON"),
        ('{"arrival_s": 1} x', "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[1, 2, 3]", "expected one JSON object on each line"),
        ('{"arrival_s": 1, "input_tokens": 2}', "output_tokens: missing"),
        ('{"arrival_s": null, "input_tokens": 2, "output_tokens": 3}', "arrival_s: found None"),
        ('{"arrival_s": NaN, "input_tokens": 2, "output_tokens": 3}', "arrival_s: found nan"),
        ('{"arrival_s": 1, "input_tokens": true, "output_tokens": 3}', "input_tokens: found True"),
        ('{"arrival_s": 1, "input_tokens": [], "output_tokens": 3}', "input_tokens: found []"),
        ('{"arrival_s": 1, "input_tokens": 1e400, "output_tokens": 3}', "input_tokens: found inf"),
        (
            '{"arrival_s": 1, "input_tokens": 1, "output_tokens": 3, "session": [1]}',
            "session: found [1], expected a label",
        ),
    ],
)
def test_a_malformed_json_line_is_named(tmp_path, line, found):
    good = '{"arrival_s": 0, "input_tokens": 1, "output_tokens": 1, "session": "s"}'
    path = write(tmp_path, f"{good}\n\n{line}\n", "trace.jsonl")
    message = refusal(path)
    assert message.startswith(f"{path}:3: ")
    assert found in message


def test_an_optional_key_that_only_some_json_lines_have_is_not_dropped(tmp_path):
    plain = {"arrival_s": 0, "input_tokens": 9, "output_tokens": 1}
    text = json.dumps(plain) + "\n" + json.dumps({**plain, "prefix_hit_tokens": 4})
    path = write(tmp_path, text)
    assert refusal(path).startswith(f"{path}:1: prefix_hit_tokens: missing")


def test_ten_mistakes_are_shown_and_all_counted(tmp_path):
    path = write(tmp_path, OWN + "0,1,1\n" + "0,0,1\n" * 25)
    lines = refusal(path).splitlines()
    assert [line.split(":")[1] for line in lines[:10]] == [str(n) for n in range(3, 13)]
    assert lines[10] == "... and 15 more"
    assert "25 malformed rows; nothing was read" in lines[11]


EMPTY_GZIP = gzip.compress(b"", mtime=0)


@pytest.mark.parametrize("content", ["", "\n\n", " \n", OWN, OWN + "\n", EMPTY_GZIP])
def test_a_file_without_requests_says_so(tmp_path, content):
    message = refusal(write(tmp_path, content))
    assert "no requests" in message or "found columns" in message
    assert message.count("\n") == 0


def test_unknown_columns_are_refused_with_the_known_ones(tmp_path):
    message = refusal(write(tmp_path, "time,prompt,answer\n0,1,1\n"))
    assert "found columns ['answer', 'prompt', 'time']" in message
    assert "arrival_s,input_tokens,output_tokens or TIMESTAMP" in message
    assert "found columns" in refusal(write(tmp_path, "0,374,44\n1,2,3\n"))


def test_a_column_named_twice_is_refused(tmp_path):
    path = write(tmp_path, "arrival_s,input_tokens,output_tokens,arrival_s\n0,1,1,5\n")
    assert "column 'arrival_s' is named twice" in refusal(path)


def test_a_json_array_is_refused(tmp_path):
    text = '[{"arrival_s": 0, "input_tokens": 1, "output_tokens": 1}]'
    assert "expected one JSON object on each line" in refusal(write(tmp_path, text))


@pytest.mark.parametrize("damage", [lambda b: b[:-9], lambda b: b[:12], lambda b: b[:20] + b"xx"])
def test_damaged_gzip_is_refused(tmp_path, damage):
    whole = gzip.compress((OWN + "0,1,1\n" * 1000).encode())
    assert "cut short or damaged" in refusal(write(tmp_path, damage(whole), "t.csv.gz"))


def test_bytes_that_are_not_text_are_refused_by_line(tmp_path):
    path = write(tmp_path, (OWN + "0,1,1\n").encode() + b"1,\xff,1\n")
    assert refusal(path).startswith(f"{path}:3: not UTF-8 text")


def test_missing_files_and_directories_are_refused(tmp_path):
    assert refusal(tmp_path / "none.csv").endswith("no such file")
    assert "is a directory" in refusal(tmp_path)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_what_is_written_reads_back_the_same(data):
    n = data.draw(st.integers(1, 20))
    times = data.draw(st.lists(st.floats(0, 1e9), min_size=n, max_size=n))
    tokens = st.lists(st.integers(1, 200_000), min_size=n, max_size=n)
    label = st.text(st.characters(exclude_characters="\n\r\0", exclude_categories=["Cs"]))
    labels = st.none() | st.lists(label, min_size=n, max_size=n)
    inputs = data.draw(tokens)
    arrival_s = np.sort(times) - min(times)
    trace = a_trace(
        arrival_s,
        inputs,
        data.draw(tokens),
        session=data.draw(labels),
        prefix_hit_tokens=data.draw(st.sampled_from([None, inputs, [0] * n])),
    )
    with tempfile.TemporaryDirectory() as folder:
        for name in ("trace.csv", "trace.csv.gz"):
            path = Path(folder) / name
            write_trace(trace, path)
            back = read_trace(path)
            assert rows(back) == rows(trace)
            for column in ("prefix_hit_tokens", "session"):
                here, there = getattr(trace, column), getattr(back, column)
                assert (here is None) == (there is None)
                assert here is None or here.tolist() == there.tolist()
        assert (Path(folder) / "trace.csv.gz").read_bytes().startswith(b"\x1f\x8b")


def test_equal_traces_make_equal_files(tmp_path):
    write_trace(a_trace(), tmp_path / "a.csv.gz")
    write_trace(a_trace(), tmp_path / "b.csv.gz")
    assert (tmp_path / "a.csv.gz").read_bytes() == (tmp_path / "b.csv.gz").read_bytes()


def test_writing_where_one_cannot_is_refused_and_leaves_nothing(tmp_path):
    with pytest.raises(InputError, match="cannot write here"):
        write_trace(a_trace(), tmp_path / "missing" / "t.csv")
    (tmp_path / "t.csv").mkdir()
    with pytest.raises(InputError, match="not a plain file"):
        write_trace(a_trace(), tmp_path / "t.csv")
    assert [p.name for p in tmp_path.iterdir()] == ["t.csv"]


def test_rate_duration_and_cv_come_from_the_gaps():
    trace = a_trace((0.0, 1.0, 4.0))
    assert (len(trace), trace.duration_s, trace.mean_rate_rps) == (3, 4.0, 0.5)
    assert trace.arrival_cv == pytest.approx(0.5)
    with pytest.raises(InputError, match=r"all requests \(1\) arrive at one moment"):
        _ = a_trace((0.0,)).mean_rate_rps


def test_a_slice_holds_its_start_and_not_its_end():
    trace = a_trace((0.0, 1.0, 2.0, 3.0), input_tokens=[1, 2, 3, 4], session=list("abcd"))
    part = trace.slice(1.0, 3.0)
    assert rows(part) == [(0.0, 2, 10), (1.0, 3, 10)]
    assert part.session.tolist() == ["b", "c"]
    with pytest.raises(InputError, match="no requests from 5 s to 9 s"):
        trace.slice(5, 9)


def test_compressing_keeps_the_requests_and_the_shape():
    trace = a_trace((0.0, 1.0, 4.0)).scaled(2, how="compress")
    assert trace.arrival_s.tolist() == [0.0, 0.5, 2.0]
    assert trace.source == "a test, rate x2 (compress)"


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0, 2.25])
def test_superposing_keeps_the_duration_and_multiplies_the_rate(factor):
    rng = np.random.default_rng(1)
    arrival_s = np.concatenate([[0.0], np.sort(rng.uniform(0, 1000, 4000))])
    sizes = np.arange(1, 4002)
    scaled = a_trace(arrival_s, input_tokens=sizes).scaled(factor, how="superpose", seed=4)
    assert len(scaled) == pytest.approx(4001 * factor, rel=0.05)
    assert scaled.duration_s == pytest.approx(1000, rel=0.01)
    counts = np.bincount(scaled.input_tokens, minlength=4002)[1:]
    assert set(counts.tolist()) <= {int(factor), int(factor) + 1}
    assert set(counts.tolist()) == {int(factor)} or factor % 1


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), float("inf")])
def test_a_rate_factor_must_be_above_zero(factor):
    with pytest.raises(InputError, match="expected a number above 0"):
        a_trace().scaled(factor, how="compress")


@pytest.mark.parametrize(
    "broken",
    [
        {"arrival_s": ()},
        {"arrival_s": (1.0, 2.0)},
        {"arrival_s": (0.0, 2.0, 1.0)},
        {"arrival_s": (0.0, float("nan"))},
        {"arrival_s": (0.0, float("inf"))},
        {"input_tokens": [1, 2]},
        {"output_tokens": [1, 2, 0]},
        {"session": ["a"]},
        {"prefix_hit_tokens": [[1], [2], [3]]},
    ],
)
def test_a_trace_that_breaks_its_rules_is_refused(broken):
    with pytest.raises(ValueError, match=r"arrival_s|request|shape"):
        a_trace(**broken)


def test_a_trace_cannot_be_changed():
    trace = a_trace()
    with pytest.raises(ValueError, match="read-only"):
        trace.arrival_s[0] = 5


@pytest.mark.parametrize(
    ("name", "requests", "extras"),
    [
        ("azure2023_conv", 19_366, (False, False)),
        ("azure2023_code_first_half", 5_353, (False, False)),
        ("mooncake_conversation", 12_031, (True, True)),
        ("servegen_mlarge_day3_4rps", 325_150, (False, True)),
    ],
)
def test_public_traces_are_read_whole(name, requests, extras):
    trace = public_trace(name)
    assert len(trace) == requests
    assert (trace.prefix_hit_tokens is not None, trace.session is not None) == extras
