"""The terminal heat map says all that its colours say without them, and fits its width."""

import io

from rich.console import Console

from orchestrator.value_report import millions, value_tables
from profiler.value import Offer, Size, value_table
from tests.builders import profile, slo

SIZES = [Size(input_tokens=i, output_tokens=o) for o in (64, 1024) for i in (128, 2048)]


def shown(width=140, **kwargs):
    offers = [
        Offer(profile(gpu="A100"), "on_demand", 2.0),
        Offer(profile(gpu="L4", max_model_len=1000, tensor_parallel=4), "on_demand", 1.0),
    ]
    console = Console(file=io.StringIO(), width=width, **kwargs)
    for part in value_tables(value_table(offers, slo(), SIZES), width):
        console.print(part)
    return console.file.getvalue()


def test_winners_estimates_and_replica_widths_are_marks():
    text = shown()
    (l4,) = [line for line in text.splitlines() if line.startswith("L4")]
    (a100,) = [line for line in text.splitlines() if line.startswith("A100")]
    assert l4.split()[1].startswith("*~")
    assert l4.split()[1].endswith("/4")
    assert l4.split()[2:] == ["-", "-", "-"]
    assert a100.split()[1].startswith("~")
    assert a100.split()[2].startswith("*~")


def test_gaps_are_told_with_their_reason():
    assert "- L4: 3 of 4 sizes, such as 2048+64: 2112 tokens exceed the 1000" in shown()


def test_a_narrow_terminal_gets_a_table_per_answer_length():
    text = shown(width=40)
    assert max(map(len, text.splitlines())) <= 40
    assert text.count("in+out") == 2
    assert shown().count("in+out") == 1


def test_colour_adds_nothing_that_text_lacks():
    coloured = shown(force_terminal=True, color_system="256")
    assert "\x1b[" in coloured
    assert "\x1b[" not in shown(no_color=True)


def test_three_digits():
    assert [millions(n) for n in (123.4e6, 24e6, 3.5e6, 0.051e6)] == [
        "123",
        "24.0",
        "3.50",
        "0.051",
    ]
