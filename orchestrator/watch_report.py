"""What a running pool sees, as tables for a terminal."""

from __future__ import annotations

import datetime as dt
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

NONE = "–"
_STYLES = {"ok": "green", "cancelled": "dim", "client_error": "dim", "limited": "dim"}


def frame(data: dict[str, Any], decisions: int = 12) -> Group:
    """One picture of the pool: headline, fleet, the last decisions."""
    return Group(_headline(data), Text(), fleet(data), Text(), latest(data, decisions))


def _headline(data: dict[str, Any]) -> Group:
    now, slo = data["now"], data["slo"]
    missed = _below(now["slo_share"], slo["attainment"])
    asked = f" ({share(slo['attainment'])} asked)" if slo["attainment"] else ""
    lines = [
        Text.assemble(
            (data["service"] or "pool", "bold"),
            f"  plan {data['plan'] or NONE}  {data['router']}  ingress {data['ingress']}",
        ),
        Text.assemble(
            f"{number(now['requests_per_s'])} requests/s, "
            f"{number(now['output_tokens_per_s'])} tokens/s; inside the SLO ",
            (share(now["slo_share"]), "red" if missed else "green"),
            f"{asked}; shed {share(now['shed_share'])}, of it refused "
            f"{share(now['refused_share'])}; errors {share(now['error_share'])}",
        ),
        Text(
            f"TTFT {seconds(now['ttft_p50_s'])} / {seconds(now['ttft_p99_s'])}, TPOT "
            f"{seconds(now['tpot_p50_s'])} / {seconds(now['tpot_p99_s'])}, whole "
            f"{seconds(now['duration_p50_s'])} / {seconds(now['duration_p99_s'])} (p50 / p99); "
            f"open {now['open']}, queued {now['queued']}"
        ),
        Text(
            f"rent {usd(now['usd_per_hour'])}/h, planned {usd(now['planned_usd_per_hour'])}/h, "
            f"so far {usd(now['usd_so_far'])}; quality, estimated {number(now['quality'])}"
        ),
    ]
    return Group(*lines)


def fleet(data: dict[str, Any]) -> Table:
    """Groups, their replicas, load and prices."""
    table = Table(box=None, pad_edge=False)
    for name in ("group", "model", "GPU"):
        table.add_column(name)
    for name in ("ready", "else", "at engines", "queued", "req/s", "tok/s", "price $/h", "planned"):
        table.add_column(name, justify="right")
    for g in data["groups"]:
        others = ", ".join(f"{n} {state}" for state, n in g["states"].items() if state != "ready")
        price, planned = g["price_usd_per_hour"], g["planned_price_usd_per_hour"]
        dear = price is None or price > planned * 1.01
        table.add_row(
            Text(g["name"]),
            Text(g["model"]),
            Text(g["gpu"]),
            Text(f"{g['ready']}/{g['wanted']}", "red" if g["ready"] < g["wanted"] else ""),
            others or NONE,
            number(g["in_flight"]),
            number(g["queued"]),
            number(g["requests_per_s"]),
            number(g["output_tokens_per_s"]),
            Text(usd(price), "red" if dear else ""),
            usd(planned),
        )
    return table


def latest(data: dict[str, Any], most: int) -> Table:
    """The last decisions, newest first."""
    table = Table(box=None, pad_edge=False)
    for name in ("at", "request", "asked", "model", "group", "outcome"):
        table.add_column(name, no_wrap=True)
    for name in ("TTFT", "whole"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("why", overflow="ellipsis", no_wrap=True)
    for r in data["decisions"][:most]:
        at = dt.datetime.fromtimestamp(r["arrived_unix_s"], dt.UTC).astimezone()
        table.add_row(
            at.strftime("%H:%M:%S"),
            Text(r["request_id"]),
            Text(r["model_asked"][:24]),
            Text((r["model"] or NONE) + (" (shed)" if r["shed"] else "")),
            Text(r["group"] or NONE),
            Text(f"{r['status']} {r['outcome']}", _STYLES.get(r["outcome"], "red")),
            seconds(r["ttft_s"]),
            seconds(r["duration_s"]),
            Text(r["reason"]),
        )
    return table


def explained(data: dict[str, Any]) -> list[Text | Table]:
    """One request: its course in words, and what was weighed."""
    parts: list[Text | Table] = [Text(line) for line in data["words"]]
    if data["candidates"]:
        table = Table("model", box=None, pad_edge=False)
        for name in ("quality", "price", "inside the SLO", ""):
            table.add_column(name, justify="right")
        for c in data["candidates"]:
            price = NONE if c["price_usd"] is None else f"${c['price_usd']:.3g}"
            kept, chosen = "yes" if c["feasible"] else "no", "chosen" if c["chosen"] else ""
            table.add_row(Text(c["model"]), number(c["quality"]), price, kept, chosen)
        parts += [Text(), table]
    return parts


def number(value: float | None) -> str:
    """Three digits."""
    if value is None:
        return NONE
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def share(value: float | None) -> str:
    """Percent."""
    return NONE if value is None else f"{value:.1%}"


def seconds(value: float | None) -> str:
    """Seconds or milliseconds."""
    if value is None:
        return NONE
    return f"{value:.2f} s" if value >= 1 else f"{value * 1e3:.3g} ms"


def usd(value: float | None) -> str:
    """Dollars and cents; infinite prices come as None."""
    return NONE if value is None else f"${value:,.2f}"


def _below(value: float | None, limit: float | None) -> bool:
    return value is not None and limit is not None and value < limit
