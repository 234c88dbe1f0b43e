"""A plan as one HTML page that needs nothing else: the fleet, the reasons, the evidence.

Everything that a user or a file named is escaped; numbers are formatted here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from html import escape

from orchestrator.explain_report import PER_1000_REQUESTS, binds_line
from orchestrator.html import HUES, document, limit, plain_table, scroll
from orchestrator.pareto_plot import pareto_figure
from orchestrator.profile_card import LABELS, profiles_section
from orchestrator.report import best_single, group_rates, saving_line
from orchestrator.verification_report import verification_lines
from placement.explanation import Explanation, Pareto
from placement.plan import Plan, Route

NOT_SERVED = "none"


def page(plan: Plan, curves: Sequence[Pareto] = ()) -> str:
    """The whole document; ``curves`` are those of `placement.pareto` to show with it."""
    parts = [
        _head(plan, curves),
        _fleet(plan),
        *([_verified(plan)] if plan.verification else []),
        *_maps(plan),
        *([_reasons(plan.explanation)] if plan.explanation else []),
        _candidates(plan),
        *([_curves(curves)] if curves else []),
        *([_prices(plan)] if plan.prices else []),
        *([_excluded(plan)] if plan.excluded else []),
        profiles_section(tuple(dict.fromkeys(g.profile for g in plan.groups))),
    ]
    return document(f"Plan: {plan.service}", "".join(parts), "plan.css")


def _head(plan: Plan, curves: Sequence[Pareto]) -> str:
    cost, slo = plan.cost, plan.slo
    best = best_single(plan)
    links = [("fleet", "Fleet")]
    links += [("verified", "Tried")] if plan.verification else []
    links += [("maps", "Who serves what")]
    links += [("reasons", "Why")] if plan.explanation else []
    links += [("candidates", "Candidates")]
    links += [("curves", "Cost curves")] if curves else []
    links += [("profiles", "Profiles")]
    nav = "".join(f'<a href="#{at}">{name}</a>' for at, name in links)
    return (
        f"<header><h1>{escape(plan.service)}: ${cost.usd_per_hour:,.2f} per hour</h1>"
        f"<p class=lede><b>${cost.usd_per_million_tokens:.3f}</b> per million tokens, TTFT within "
        f"{limit(slo.ttft_s, 's')} and TPOT within {limit(slo.tpot_s * 1e3, 'ms')} for "
        f"<b>{slo.attainment * 100:.6g} %</b> of requests. No fleet in these limits costs less "
        f"than <b>${cost.lower_bound_usd_per_hour:,.2f}/h</b> (gap {cost.gap:.2%})"
        f"{'; ' + escape(saving_line(plan, best)) if best else ''}.</p><nav>{nav}</nav></header>"
    )


def _fleet(plan: Plan) -> str:
    rates = group_rates(plan)
    rows = [
        (
            g.name,
            g.config.model,
            f"{g.config.tensor_parallel} × {g.config.gpu}",
            str(g.replicas),
            f"{g.usd_per_hour:,.2f}",
            f"{g.total_usd_per_hour:,.2f}",
            f"{g.load:.0%}",
            f"{rates[g.name]:.2f}",
            g.market.replace("_", "-"),
            LABELS[g.profile.provenance.kind],
            _error(g.profile.provenance.tpot_error),
        )
        for g in plan.groups
    ]
    headers = ("group", "model", "GPU", "replicas", "$/h each", "$/h", "load", "requests/s",
               "market", "profile", "TPOT error")  # fmt: skip
    return (
        "<section id=fleet><h2>Fleet</h2>"
        + plain_table(headers, rows, text=(1, 2, 8, 9))
        + f"<p>A replica is planned at up to {plan.headroom:.0%} of what it sustains inside the "
        "latency targets. Estimated profiles are arithmetic from catalog numbers: measure before "
        "you rely on them.</p></section>"
    )


def _verified(plan: Plan) -> str:
    record = plan.verification
    assert record is not None
    rows = [
        (s.stream, f"{s.slo.attainment:.6g}", f"{s.before:.2%}", f"{s.trace:.2%}", f"{s.mean:.2%}",
         f"{s.worst:.2%}", f"{s.expected_worst:.2%}")
        for s in record.streams
    ]  # fmt: skip
    headers = ("stream", "asked", "before, worst", "trace", "seeds, mean", "worst", "unseen seed")
    return (
        "<section id=verified><h2>Tried in simulation</h2>"
        + "".join(f"<p>{escape(line)}.</p>" for line in verification_lines(plan))
        + plain_table(headers, rows)
        + "<p>Share of all arrivals that met both targets. Unseen seed: what another drawing of "
        "the same traffic stays above with 97.5 % confidence.</p></section>"
    )


def _maps(plan: Plan) -> Iterator[str]:
    """Per stream, which GPU type serves which size of request."""
    hues = {gpu: i % HUES for i, gpu in enumerate(_gpus(plan))}
    streams = list(dict.fromkeys(r.stream for r in plan.routes))
    maps = []
    for stream in streams:
        routes = [r for r in plan.routes if r.stream == stream]
        title = "" if len(streams) == 1 else f"<h3>{escape(stream)}</h3>"
        maps.append(title + _map(plan, routes, hues))
    key = "".join(f'<span class="hue-{hue}">{escape(gpu)}</span>' for gpu, hue in hues.items())
    yield (
        f"<section id=maps><h2>Who serves what</h2><p class=swatches>{key}</p>"
        f"{''.join(maps)}</section>"
    )


def _map(plan: Plan, routes: Sequence[Route], hues: dict[str, int]) -> str:
    inputs = sorted({r.bucket.input_range for r in routes})
    outputs = sorted({r.bucket.output_range for r in routes})
    at: dict[tuple[object, object], list[Route]] = defaultdict(list)
    for r in routes:
        at[r.bucket.input_range, r.bucket.output_range].append(r)
    total = sum(r.rate_rps for r in routes)
    head = "".join(f"<th scope=col>{high:,}</th>" for _, high in inputs)
    rows = "".join(
        f"<tr><th scope=row>{o[1]:,}</th>"
        + "".join(_map_cell(plan, at[i, o], total, hues) for i in inputs)
        + "</tr>"
        for o in outputs
    )
    return scroll(
        "<table class='winners serves'><caption>GPU type that serves most of each size, and its "
        "share where it is not all. Across: input tokens up to. Down: output tokens up to. The "
        "bar is the size's part of all requests; hatched sizes have none.</caption>"
        f"<thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody></table>"
    )


def _map_cell(plan: Plan, routes: Sequence[Route], total: float, hues: dict[str, int]) -> str:
    rate = sum(r.rate_rps for r in routes)
    if not rate:
        return "<td class=none></td>"
    shares: dict[str, float] = defaultdict(float)
    groups: dict[str, float] = defaultdict(float)
    for r in routes:
        for name, share in r.shares.items():
            shares[plan.group(name).config.gpu] += share * r.rate_rps / rate
            groups[name] += share * r.rate_rps / rate
    gpu = max(shares, key=lambda g: shares[g])
    part = "&nbsp;" if shares[gpu] > 0.995 else f"{shares[gpu]:.0%}"
    told = ", ".join(f"{name} {share:.0%}" for name, share in groups.items())
    title = escape(f"{rate:.3g} requests/s, {rate / total:.2%} of all: {told}", quote=True)
    return (
        f'<td class="hue-{hues[gpu]}" title="{title}"><b>{escape(gpu)}</b><small>{part}</small>'
        f'<i class=weight style="width:{rate / total:.1%}"></i></td>'
    )


def _reasons(told: Explanation) -> str:
    uses = [
        (u.gpu, f"{u.request_share:.1%}", f"{u.token_share:.1%}", f"{u.input_tokens:,.0f}",
         f"{u.output_tokens:,.0f}", f"{u.usd_per_hour:,.2f}", u.words)
        for u in told.uses
    ]  # fmt: skip
    losers = [(x.gpu, _signed(x.forced_usd_per_hour), x.reason) for x in told.losers]
    limits = [(x.limit, "binds" if x.binds else "", x.words) for x in told.limits]
    moves = [
        (m.change, _money(m.shadow_usd_per_hour), _money(m.resolved_usd_per_hour), m.note)
        for m in told.marginals
    ]
    use_headers = ("GPU", "requests", "tokens", "mean input", "mean output", "$/h", "what")
    parts = ["<h3>What each GPU type is used for</h3>", plain_table(use_headers, uses, text=(6,))]
    if losers:
        headers = ("GPU", "$/h more with one", "why")
        parts += [
            "<h3>Why the others are not rented</h3>",
            plain_table(headers, losers, text=(2,)),
            "<p>The price at which a type would pay is that of the fractional optimum. With one: "
            "the best plan that rents at least one anyway.</p>",
        ]
    parts += [
        f"<h3>What binds</h3><p>{escape(binds_line(told.limits))}.</p>",
        plain_table(("limit", "", "use"), limits, text=(1, 2)),
        "<h3>What a little more would save</h3>",
        plain_table(("change", "fractional $/h", "this plan $/h", ""), moves, text=(3,)),
        "<p>Fractional: the most that the optimum with fractional replicas could fall, by its "
        "duals. This plan: planned again with the limit moved; replicas come whole, so it may "
        "save more than the fractional optimum does, or nothing.</p>",
    ]
    return f"<section id=reasons><h2>Why</h2>{''.join(parts)}</section>"


def _candidates(plan: Plan) -> str:
    cheapest_first = sorted(plan.alternatives, key=lambda a: a.usd_per_hour or float("inf"))
    rows = [
        (
            a.gpu,
            "chosen" if a.chosen else "",
            _money(a.usd_per_hour),
            ", ".join(f"{n} × {name}" for name, n in a.replicas.items()) or "–",
            a.reason,
        )
        for a in cheapest_first
    ]
    return (
        "<section id=candidates><h2>Candidates</h2><p>Every GPU type considered, and the cheapest "
        "fleet of it alone.</p>"
        + plain_table(
            ("GPU", "", "$/h alone", "replicas", "against the plan"), rows, text=(1, 3, 4)
        )
        + "</section>"
    )


def _curves(curves: Sequence[Pareto]) -> str:
    return (
        "<section id=curves><h2>Cost curves</h2><div class=cards>"
        + "".join(pareto_figure(c) for c in curves)
        + "</div></section>"
    )


def _prices(plan: Plan) -> str:
    assert plan.prices is not None
    rows = [
        (f"quality, {stream}", f"{worth * PER_1000_REQUESTS / 100:,.4f}",
         "$ per point of quality in 1,000 answers")
        for stream, worth in plan.prices.quality.items()
    ]  # fmt: skip
    rows += [
        (group, f"{price:,.2f}", "$/h for a replica kept at saturation")
        for group, price in plan.prices.load.items()
    ]
    return (
        "<section id=prices><h2>Prices</h2><p>The router weighs quality against load by these.</p>"
        + plain_table(("of", "price", "unit"), rows, text=(2,))
        + "</section>"
    )


def _excluded(plan: Plan) -> str:
    rows = [(f"{e.stream}: {e.bucket.key}", f"{e.rate_rps:.3g}", e.reason) for e in plan.excluded]
    return (
        "<section id=excluded><h2>Not served</h2><p>Requests that no GPU type here can serve "
        "inside the limits; they count as misses.</p>"
        + plain_table(("size", "requests/s", "why"), rows, text=(2,))
        + "</section>"
    )


def _gpus(plan: Plan) -> list[str]:
    return list(dict.fromkeys(g.config.gpu for g in plan.groups))


def _money(usd: float | None) -> str:
    return "–" if usd is None else f"{usd:,.2f}"


def _signed(usd: float | None) -> str:
    return "–" if usd is None else f"{usd:+,.2f}"


def _error(error: float | None) -> str:
    return "not known" if error is None else f"{error:.0%}"
