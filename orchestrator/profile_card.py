"""One profile as a card of the HTML page: its law with error bars, residuals, provenance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from orchestrator.html import scroll
from profiler.core import Profile, StepTime
from profiler.evidence import Residual, residuals

UNITS = {
    "base_s": ("empty step", 1e3, "ms"),
    "per_prefill_token_s": ("prompt token", 1e6, "µs"),
    "per_sequence_s": ("sequence", 1e6, "µs"),
    "per_kv_token_s": ("cached token", 1e9, "ns"),
}
LABELS = {"measured": "measured", "silicon": "published database", "roofline": "estimated"}
WIDTH, HEIGHT, MARGIN = 320, 150, 34


def profiles_section(profiles: Sequence[Profile]) -> str:
    """What was measured as cards, what was computed as one table."""
    computed = [p for p in profiles if p.provenance.kind == "roofline" and not p.rates]
    cards = "".join(profile_card(p) for p in profiles if p not in computed)
    return (
        "<section id=profiles><h2>Profiles</h2><p>The numbers above rest on these. A step of the "
        "engine takes <i>base + prompt tokens + sequences + cached tokens</i>, each at its "
        f"coefficient.</p>{f'<div class=cards>{cards}</div>' if cards else ''}"
        f"{scroll(law_table(computed)) if computed else ''}</section>"
    )


def profile_card(profile: Profile) -> str:
    """An ``<article>``; every text of the profile is escaped."""
    source, points = profile.provenance, residuals(profile)
    plot = residual_plot(points) if points else ""
    return (
        f'<article><h3>{escape(profile.config.key)} <span class="tag {source.kind}">'
        f"{LABELS[source.kind]}</span>{_rates_tag(profile)}</h3>{_law(profile)}{plot}{_rates(profile)}"
        f"{_provenance(profile)}</article>"
    )


def _rates_tag(profile: Profile) -> str:
    estimated = profile.provenance.kind == "roofline"
    return '<span class="tag measured">rates measured</span>' if profile.rates and estimated else ""


def residual_plot(points: Sequence[Residual]) -> str:
    """Relative errors of the fitted points over their measured times, as SVG."""
    bound = max(0.1, *(abs(r.error) for r in points)) * 1.1
    logs = [math.log10(r.point.time_s) for r in points]
    low, high = min(logs), max(logs)
    span = (high - low) or 1.0

    def x(log: float) -> float:
        return MARGIN + 8 + (log - low) / span * (WIDTH - MARGIN - 20)

    def y(error: float) -> float:
        return HEIGHT / 2 - 8 - error / bound * (HEIGHT / 2 - 18)

    dots = "".join(
        f'<circle class="{r.point.kind}" cx="{x(log):.1f}" cy="{y(r.error):.1f}" r="3.5">'
        f"<title>{escape(_point_title(r))}</title></circle>"
        for r, log in zip(points, logs, strict=True)
    )
    tick = bound / 1.1
    lines = "".join(
        f'<line class="{"zero" if e == 0 else "grid"}" x1="{MARGIN}" x2="{WIDTH - 4}" '
        f'y1="{y(e):.1f}" y2="{y(e):.1f}"/><text x="{MARGIN - 4}" y="{y(e) + 4:.1f}" '
        f'text-anchor="end">{e:+.0%}</text>'.replace("+0%", "0")
        for e in (-tick, 0.0, tick)
    )
    kinds = [k for k in ("decode", "prefill", "mixed") if any(r.point.kind == k for r in points)]
    key = "".join(f"<span class={k}>{k}</span>" for k in kinds)
    return (
        "<figure><figcaption>Residuals, (predicted − measured) ÷ measured, over measured time "
        f"<span class=key>{key}</span></figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="residuals of the fit">'
        f'{lines}{dots}<text x="{MARGIN + 8}" y="{HEIGHT - 3}">{_time(low)}</text>'
        f'<text x="{WIDTH - 4}" y="{HEIGHT - 3}" text-anchor="end">{_time(high)}</text></svg>'
        "</figure>"
    )


def law_table(profiles: Sequence[Profile]) -> str:
    """Computed profiles, a row each; they have neither points nor known errors."""
    head = "".join(f"<th>{label}, {unit}</th>" for label, _, unit in UNITS.values())
    rows = "".join(
        f"<tr><th scope=row>{escape(p.config.key)}</th>"
        + "".join(f"<td>{getattr(p.step_time, n) * f:.3g}</td>" for n, (_, f, _) in UNITS.items())
        + f"<td>{p.kv_capacity_tokens:,}</td><td>{_percent(p.provenance.tpot_error)}</td>"
        f"<td class=text>{escape(p.provenance.note or '')}</td></tr>"
        for p in profiles
    )
    return (
        "<table class=plain><thead><tr><th class=text>estimated from catalog numbers</th>"
        f"{head}<th>KV cache, tokens</th><th>TPOT error</th><th class=text>note</th></tr></thead>"
        f"<tbody>{rows}</tbody></table>"
    )


def _percent(error: float | None) -> str:
    return "not known" if error is None else f"{error:.1%}"


def _law(profile: Profile) -> str:
    rows = []
    for name, (label, factor, unit) in UNITS.items():
        value = getattr(profile.step_time, name) * factor
        rows.append(
            f"<tr><th scope=row>per {label}</th><td>{value:.3g} {unit}</td>"
            f"<td>{_interval(name, profile.step_time_95, factor)}</td></tr>".replace(
                "per empty step", "empty step"
            )
        )
    shown = profile.step_time_95 is not None
    head = "<thead><tr><th></th><td>fit</td><td>95 % interval</td></tr></thead>" if shown else ""
    return f"<table class=law>{head}<tbody>{''.join(rows)}</tbody></table>"


def _interval(name: str, ends: tuple[StepTime, StepTime] | None, factor: float) -> str:
    """Both ends, and a bar that shows them against twice the upper one."""
    if ends is None:
        return ""
    low, high = (getattr(end, name) * factor for end in ends)
    if high <= 0:
        return "not told"
    left, width = low / high * 100, max((high - low) / high * 100, 1)
    return (
        f"{low:.3g} – {high:.3g}<span class=bar><i style='left:{left:.0f}%;width:{width:.0f}%'>"
        "</i></span>"
    )


def _rates(profile: Profile) -> str:
    if not profile.rates:
        return ""
    rows = "".join(
        f"<tr><td>{r.input_tokens:g}</td><td>{r.output_tokens:g}</td>"
        f"<td>{f'{r.rate_rps:.3g}' if r.rate_rps else 'none'}</td>"
        f"<td>{r.slo.ttft_s:.3g} s, {r.slo.tpot_s * 1e3:.3g} ms, {r.slo.attainment:.3g}</td></tr>"
        for r in profile.rates
    )
    return (
        f"<details><summary>{len(profile.rates)} measured rates</summary><div class=scroll>"
        "<table class=plain><thead><tr><th>input</th><th>output</th><th>requests/s</th>"
        f"<th>under TTFT, TPOT, share</th></tr></thead><tbody>{rows}</tbody></table>"
        "</div></details>"
    )


def _provenance(profile: Profile) -> str:
    source = profile.provenance
    errors = [
        f"{name} {error:.1%}"
        for name, error in (("TPOT", source.tpot_error), ("TTFT", source.ttft_error))
        if error is not None
    ]
    facts = {
        "error of the fit": ", ".join(errors) + " (median)" if errors else "not known",
        "points": str(source.points) if source.points else None,
        "hardware": source.hardware,
        "engine": source.engine,
        "driver": source.driver,
        "host": source.host,
        "date": str(source.date),
        "KV cache": f"{profile.kv_capacity_tokens:,} tokens",
        "longest sequence": f"{profile.max_model_len:,} tokens",
        "note": source.note,
    }
    listed = "".join(f"<dt>{k}</dt><dd>{escape(v)}</dd>" for k, v in facts.items() if v)
    return f"<dl>{listed}</dl>"


def _point_title(r: Residual) -> str:
    p = r.point
    work = (
        f"{p.prefill_tokens:.0f} prompt tokens in {p.steps} steps"
        if p.kind == "prefill"
        else f"{p.sequences:.3g} sequences, {p.kv_tokens:.0f} cached tokens"
    )
    return f"{p.kind}: {work}; {p.time_s * 1e3:.3g} ms, law {r.predicted_s * 1e3:.3g} ms"


def _time(log: float) -> str:
    seconds = 10**log
    return f"{seconds:.2g} s" if seconds >= 1 else f"{seconds * 1e3:.2g} ms"
