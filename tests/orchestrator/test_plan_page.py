"""The page of a plan stands alone, shows fleet, reasons and curves, and escapes what was named."""

import re

from orchestrator.plan_page import page
from placement.explanation import Explanation, Loser, Marginal, Pareto, ParetoPoint, Prices, Use
from placement.plan import Alternative, ExcludedClass
from tests.orchestrator.test_value_page import EVIL, Tags
from tests.plan_builders import bucket, group, plan, route

CURVE = Pareto(
    over="ttft",
    unit="s",
    points=(
        ParetoPoint(value=1.0, reason=EVIL),
        ParetoPoint(value=2.0, usd_per_hour=4.0, asked=True),
        ParetoPoint(value=8.0, usd_per_hour=3.0),
    ),
)


def told():
    use = Use(
        gpu="L4", groups=("b",), usd_per_hour=1, request_share=0.5, token_share=0.5,
        input_tokens=10, output_tokens=10, words="long prompts",
    )  # fmt: skip
    return Explanation(
        uses=(use,),
        losers=(Loser(gpu="A100", reason=EVIL, forced_usd_per_hour=0.5),),
        marginals=(Marginal(change="10 ms more TPOT", shadow_usd_per_hour=0.16, note=EVIL),),
    )


def explained():
    both = plan(
        (group("a"), group("b", gpu="L4")),
        (route({"a": 1}), route({"a": 0.25, "b": 0.75}, inputs=(1000, 2000), rate_rps=3)),
    )
    return both.model_copy(
        update={
            "explanation": told(),
            "prices": Prices(quality={"auto": 1.0}, load={"a": 2.0, "b": 3.0}),
            "alternatives": (Alternative(gpu="L4", chosen=True, usd_per_hour=9, reason=EVIL),),
            "excluded": (ExcludedClass(stream="auto", bucket=bucket(), rate_rps=0.1, reason=EVIL),),
        }
    )


def test_it_stands_alone_and_is_well_formed():
    text = page(explained(), (CURVE,))
    tags = Tags(text)
    assert tags.open == []
    assert not {"script", "link", "img", "iframe"} & set(tags.seen)
    assert not re.search(r"https?://|@import|url\(", text)
    assert "prefers-color-scheme:dark" in text


def test_what_was_named_is_escaped():
    text = page(explained(), (CURVE,))
    assert EVIL not in text
    assert "&lt;script&gt;" in text


def test_every_link_of_the_page_has_its_place():
    text = page(explained(), (CURVE,))
    for anchor in re.findall(r'href="#([\w-]+)"', text):
        assert f"id={anchor}" in text


def test_the_map_shows_who_serves_each_size_and_by_how_much():
    text = page(explained())
    cells = re.findall(r'<td class="hue-(\d)" title="([^"]*)"><b>([^<]*)</b><small>([^<]*)', text)
    assert [(gpu, share) for _, _, gpu, share in cells] == [("cpu", "&nbsp;"), ("L4", "75%")]
    assert "3 requests/s, 75.00% of all: a 25%, b 75%" in cells[1][1]
    assert cells[0][0] != cells[1][0], "GPU types differ in colour"


def test_a_bare_plan_has_a_page_too():
    text = page(plan())
    assert Tags(text).open == []
    assert "id=reasons" not in text
    assert "id=curves" not in text
