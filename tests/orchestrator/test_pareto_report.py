"""A cost curve as bars of text and as a drawing: every setting shown, infeasible ones named."""

from io import StringIO
from xml.etree import ElementTree

import pytest
from rich.console import Console

from orchestrator.pareto_plot import pareto_figure
from orchestrator.pareto_report import bar, pareto_tables
from placement.explanation import Pareto, ParetoPoint

CURVE = Pareto(
    over="tpot",
    unit="s",
    points=(
        ParetoPoint(value=0.03, reason="stock of <H100>: 1 offered, 2 needed:\n  more"),
        ParetoPoint(value=0.06, usd_per_hour=8.0, gpus={"H100": 2}, asked=True),
        ParetoPoint(value=0.12, usd_per_hour=2.0, gpus={"L4": 3}, excluded_share=0.01),
    ),
)


def shown(width=100, encoding="utf-8"):
    out = StringIO()
    console = Console(file=out, width=width, no_color=True)
    for part in pareto_tables(CURVE, width, encoding):
        console.print(part)
    return out.getvalue()


def test_every_setting_has_its_row():
    rows = [" ".join(line.split()) for line in shown(140).splitlines()[2:]]
    assert rows[0] == "30 - no plan: stock of <H100>: 1 offered, 2 needed"
    assert rows[1].startswith("asked 60 8.00 ███")
    assert rows[1].endswith("2 x H100")
    assert rows[2].endswith("3 x L4; leaves out 1.00%")


def test_bars_are_in_proportion():
    lengths = {line.split("█")[0].split()[-1]: line.count("█") for line in shown().splitlines()[3:]}
    assert lengths["8.00"] == 4 * lengths["2.00"] == 40


@pytest.mark.parametrize("width", [72, 80, 140])
def test_it_fits_the_terminal_in_plain_ascii_too(width):
    found = shown(width, "ascii")
    assert max(len(line) for line in found.splitlines()) <= width
    assert found.isascii()
    assert "####" in found


@pytest.mark.parametrize(
    ("share", "drawn"), [(1.0, "████"), (0.5, "██"), (0.53125, "██▏"), (0.0, "▏")]
)
def test_a_bar_is_drawn_to_an_eighth(share, drawn):
    assert bar(share, 4) == drawn


def test_the_drawing_is_well_formed_and_escapes_reasons():
    svg = pareto_figure(CURVE)
    svg = svg[svg.index("<svg") : svg.index("</svg>") + 6]
    svg = svg.replace("role=img", "role='img'")
    for kind in ("grid", "gap", "steps", "asked", "decode"):
        svg = svg.replace(f"class={kind}", f"class='{kind}'")
    root = ElementTree.fromstring(svg)
    assert len(root.findall(".//circle")) == 2
    assert len(root.findall(".//line[@class='gap']")) == 1
    assert "<H100>" not in pareto_figure(CURVE)


def test_a_curve_without_a_plan_says_so():
    empty = Pareto(over="quality", unit="mean quality", points=(ParetoPoint(value=1, reason="x"),))
    assert "No setting has a plan" in pareto_figure(empty)
