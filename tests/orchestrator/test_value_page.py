"""The page stands alone, shows winners, fits and gaps, and escapes whatever was named."""

import re
from html.parser import HTMLParser

from orchestrator.value_page import page
from orchestrator.valuing import Valuation
from profiler.core import MeasuredPoint, MeasuredRate, Price
from profiler.value import Offer, Size, value_table
from tests.builders import DAY, gpu, profile, slo, step_time

EVIL = '<script>alert("x")</script>'
SMALL, LARGE = Size(input_tokens=128, output_tokens=64), Size(input_tokens=4096, output_tokens=512)
POINTS = (
    MeasuredPoint(kind="decode", time_s=0.012, sequences=8, kv_tokens=900),
    MeasuredPoint(kind="prefill", time_s=0.05, prefill_tokens=700),
)


class Tags(HTMLParser):
    """Which tags a document has, and whether every one that opens closes."""

    VOID = frozenset({"meta", "br", "line"})

    def __init__(self, text):
        super().__init__()
        self.open, self.seen, self.attributes = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag


def measured(**changed):
    source = profile().provenance.model_copy(
        update={"kind": "measured", "tpot_error": 0.031, "note": EVIL, "engine": "vllm 0.32"}
    )
    rate = MeasuredRate(input_tokens=128, output_tokens=64, rate_rps=3.0, slo=slo())
    low, high = step_time(base_s=0.009), step_time(base_s=0.013)
    return profile().model_copy(
        update={
            "provenance": source, "points": POINTS, "rates": (rate,), "step_time_95": (low, high),
        } | changed
    )  # fmt: skip


def rendered():
    profiles = (measured(), profile(gpu="L4", max_model_len=1000))
    offers = [Offer(p, "on_demand", 1.0) for p in profiles]
    price = Price(on_demand_usd_per_hour=1.5, source=EVIL, as_of=DAY)
    types = (gpu("A100", price=price), gpu("L4"))
    table = value_table(offers, slo(), [SMALL, LARGE], {("llama-8b", "T4"): f"no {EVIL}"})
    return page(Valuation(table, profiles, types))


def test_it_needs_nothing_else():
    text = rendered()
    tags = Tags(text)
    assert tags.open == []
    assert not {"script", "link", "img", "iframe"} & set(tags.seen)
    assert not re.search(r"https?://|url\(|@import", text)
    assert all(v.startswith("#") for k, v in tags.attributes if k in {"href", "src"})
    assert len(text) < 5e6


def test_whatever_was_named_is_escaped():
    text = rendered()
    assert "<script" not in text
    assert "&lt;script&gt;alert(&quot;x&quot;)" in text


def test_winners_gaps_and_evidence_are_there():
    text = rendered()
    assert "4608 tokens exceed the 1000" in text
    assert "<circle" in text
    assert "9 – 13<span class=bar>" in text
    assert "TPOT 3.1%" in text
    assert "1 measured rates" in text
    assert "vllm 0.32" in text
    assert "±3%" in text
    assert re.search(r'class="hue-\d"><b>A100</b>', text)


def test_a_profile_without_points_has_no_plot():
    found = value_table([Offer(profile(), "on_demand", 1.0)], slo(), [SMALL])
    text = page(Valuation(found, (profile(),), (gpu(),)))
    assert "<svg" not in text
    assert "estimated from catalog numbers" in text


def test_light_and_dark_both_have_colours():
    assert "prefers-color-scheme:dark" in rendered()
