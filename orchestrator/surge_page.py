"""A burst as one HTML page that needs nothing else: what came, what was shed, what was scaled."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from orchestrator.autoscale.decisions import ScaleDecision
from orchestrator.burst import Answer
from orchestrator.html import HUES, document, plain_table
from orchestrator.line_plot import Line, line_figure
from orchestrator.surge import Surge, attained, refused_share
from placement.plan import Plan

WINDOW_S = 2.0


def page(surge: Surge, plan: Plan, decisions: Sequence[ScaleDecision]) -> str:
    """The whole document."""
    body = (
        f"<header><h1>{escape(headline(surge))}</h1>"
        "<p class=lede>The engines were emulated: each kept the time of its plan's profile "
        "(estimated for that GPU), on a machine without those GPUs, and answered with filler "
        "words. Gateway, router, refusals, autoscaler and starts of replicas were real; a replica "
        "of a real model takes longer to start.</p></header>"
        f"{_phases(surge)}"
        f"<section id=plots><h2>Over time</h2><div class=cards>{''.join(_plots(surge, decisions))}"
        f"</div></section>{_fleet(plan)}{_decisions(surge, decisions)}"
    )
    return document("A burst: shed, then scale", body, "plan.css")


def headline(surge: Surge) -> str:
    """What became of the burst, in a sentence."""
    burst = surge.burst
    refused = sum(a.refused for a in burst.answers)
    other = len(burst.failed) - refused
    return (
        f"{burst.total:,} requests, {refused:,} refused with 429, {other:,} failed otherwise; "
        f"{recovery(surge)}"
    )


def recovery(surge: Surge) -> str:
    """How long the pool refused."""
    found = surge.recovered_s()
    if found is None:
        return "refusals lasted as long as the burst"
    return f"hardly any more were refused {found:.0f} s into the burst"


def _phases(surge: Surge) -> str:
    first, last = surge.peak
    middle = (first + last) / 2
    end = sum(s for _, s, _ in surge.phases)
    rows = [
        _row(surge, name, a, b)
        for name, a, b in (
            ("before the burst", 0.0, first),
            ("burst, first half", first, middle),
            ("burst, second half", middle, last),
            ("after it", last, end + 1.0),
        )
    ]
    headers = (
        "",
        "seconds",
        "requests/s",
        "refused",
        "inside the SLO, of those served",
        "TTFT p95",
    )
    return f"<section><h2>In four parts</h2>{plain_table(headers, rows)}</section>"


def _row(surge: Surge, name: str, first_s: float, last_s: float) -> tuple[str, ...]:
    answers = surge.between(first_s, last_s)
    met, ttft_s = attained(answers, surge.slo), _ttft(answers)
    return (
        name,
        f"{first_s:.0f}–{last_s:.0f}",
        f"{len(answers) / (last_s - first_s):.1f}",
        f"{refused_share(answers):.0%}",
        "–" if met is None else f"{met:.0%}",
        f"{np.percentile(ttft_s, 95):.2f} s" if len(ttft_s) else "–",
    )


def _plots(surge: Surge, decisions: Sequence[ScaleDecision]) -> Iterator[str]:
    end_s = sum(s for _, s, _ in surge.phases)
    edges = np.arange(0.0, end_s + WINDOW_S, WINDOW_S)
    windows = [surge.between(a, a + WINDOW_S) for a in edges[:-1]]
    middle = (edges[:-1] + edges[1:]) / 2
    marks = [
        (d.time_s - surge.began_unix_s, f"{d.group} {d.before} to {d.after}") for d in decisions
    ]
    marks = [(x, what) for x, what in marks if 0 <= x <= end_s]
    at_s = np.array([m.at_s for m in surge.moments])
    names = [g.name for g in surge.moments[0].groups] if surge.moments else []
    yield line_figure(
        "Load",
        [
            Line("arrived", middle, [len(w) / WINDOW_S for w in windows], 2),
            Line("served", middle, [_served(w) / WINDOW_S for w in windows], 1),
        ],
        x_label="seconds",
        y_label="Requests per second; grey lines are scaling decisions",
        marks=marks,
    )
    yield line_figure(
        "Replicas",
        [
            Line(
                f"{name} {what}", at_s, _column(surge, g, what), (2 * g + (what == "wanted")) % HUES
            )
            for g, name in enumerate(names)
            for what in ("ready", "wanted")
        ],
        x_label="seconds",
        y_label="Replicas that take requests, and those asked for",
        marks=marks,
    )
    yield line_figure(
        "Shed",
        [
            Line("refused", middle, [refused_share(w) for w in windows], 0),
            Line("refused or moved", at_s, [m.shed_share for m in surge.moments], 3),
        ],
        x_label="seconds",
        y_label="Share refused with 429, by arrival; refused or moved to a lesser model, last 10 s",
        percent=True,
        marks=marks,
    )
    seen = [(t, _ttft(w)) for t, w in zip(middle, windows, strict=True)]
    seen = [(t, w) for t, w in seen if len(w)]
    yield line_figure(
        "TTFT",
        [
            Line("median", [t for t, _ in seen], [np.median(w) for _, w in seen], 1),
            Line("p95", [t for t, _ in seen], [np.percentile(w, 95) for _, w in seen], 4),
        ],
        x_label="seconds",
        y_label=f"Seconds to the first token of those served; limit {surge.slo.ttft_s:g} s, dashed",
        y_limit=surge.slo.ttft_s,
        marks=marks,
    )
    yield line_figure(
        "Prices",
        [
            Line(n, at_s, _column(surge, g, "price_usd_per_hour"), 2 * g)
            for g, n in enumerate(names)
        ],
        x_label="seconds",
        y_label="Price of a replica kept at saturation, $/h: what moves requests to lesser models",
        marks=marks,
    )


def _served(answers: Sequence[Answer]) -> int:
    return sum(a.error is None for a in answers)


def _ttft(answers: Sequence[Answer]) -> NDArray[np.float64]:
    found = np.array([a.ttft_s for a in answers if a.error is None], dtype=np.float64)
    finite: NDArray[np.float64] = found[np.isfinite(found)]
    return finite


def _column(surge: Surge, group: int, what: str) -> list[float]:
    return [float(getattr(m.groups[group], what)) for m in surge.moments]


def _fleet(plan: Plan) -> str:
    rows = [
        (g.name, g.config.model, g.config.gpu, str(g.replicas), f"{g.usd_per_hour:,.2f}",
         g.profile.provenance.kind)
        for g in plan.groups
    ]  # fmt: skip
    headers = ("group", "model", "GPU", "planned", "$/h each", "profile")
    table = plain_table(headers, rows, text=(1, 2, 5))
    return f"<section><h2>The planned fleet</h2>{table}</section>"


def _decisions(surge: Surge, decisions: Sequence[ScaleDecision]) -> str:
    rows = [
        (
            f"{d.time_s - surge.began_unix_s:.0f} s",
            f"{dt.datetime.fromtimestamp(d.time_s, dt.UTC):%H:%M:%S}",
            d.group,
            f"{d.before} to {d.after}",
            d.reason,
            f"{d.forecast_rps:.1f}",
            f"{d.high_rps:.1f}",
            f"{d.usd_per_hour:.2f}",
        )
        for d in decisions
    ]
    headers = ("", "UTC", "group", "replicas", "why", "ahead/s", "1 in 20/s", "fleet $/h")
    table = plain_table(headers, rows, text=(1, 2, 4))
    return f"<section><h2>Why it scaled</h2>{table}</section>"
