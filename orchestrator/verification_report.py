"""What trying a plan found, in words: the same for the terminal and the HTML page."""

from __future__ import annotations

from collections.abc import Iterator

from placement.plan import Plan
from placement.verification import TriedStream, Verification


def verification_lines(plan: Plan) -> Iterator[str]:
    """The verdict first; nothing where the plan was not tried."""
    record = plan.verification
    if record is None:
        return
    streams = record.streams
    if record.holds:
        yield f"holds in simulation: {_shares(streams)}, on {_what(record)}"
    else:
        short = [s for s in streams if min(s.worst, s.expected_worst) < s.slo.attainment]
        yield f"DOES NOT HOLD in simulation: {_shares(tuple(short))}, on {_what(record)}"
        if record.note:
            yield record.note
    yield cost_line(plan, record)


def cost_line(plan: Plan, record: Verification) -> str:
    """The cost of the promise, in dollars and, under a budget, in quality."""
    cost, quality = record.promise_usd_per_hour, record.unverified_quality
    first = "cheapest" if quality is None else "best"
    if record.rounds == 1:
        return f"the promise costs nothing: the {first} plan holds as it is"
    before = min(s.before for s in record.streams)
    was = f"at ${record.unverified_usd_per_hour:,.2f}/h"
    if quality is not None and plan.quality is not None:
        lost = f"{max(quality - plan.quality.mean, 0.0):.4f} of quality"
        was = f"of quality {quality:.4f} {was}"
    else:
        share = f" ({cost / record.unverified_usd_per_hour:+.1%})" if cost else ""
        lost = f"${cost:,.2f}/h{share}"
    return (
        f"the promise costs {lost}: the {first} plan, {was}, reached {before:.1%}; "
        f"{record.rounds} plans tried; the bound is for the headroom this took"
    )


def missed_line(record: Verification) -> str:
    """By how much the worst stream misses."""
    worst = min(record.streams, key=lambda s: min(s.worst, s.expected_worst) - s.slo.attainment)
    reached = min(worst.worst, worst.expected_worst)
    return (
        f"{worst.stream}: {reached:.2%} of requests met the SLO in simulation, expected "
        f"{worst.slo.attainment:.2%}"
    )


def counted(count: int, thing: str) -> str:
    """A number of things, such as 1 node or 2 nodes."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def _shares(streams: tuple[TriedStream, ...]) -> str:
    return "; ".join(
        f"{_named(s, streams)}{s.worst:.1%} of requests met the SLO at worst, "
        f"asked {s.slo.attainment:.6g}"
        for s in streams
    )


def _named(stream: TriedStream, among: tuple[TriedStream, ...]) -> str:
    """A stream's name where there are several, with its SLO where it has several."""
    if len(among) == 1:
        return ""
    if sum(s.stream == stream.stream for s in among) == 1:
        return f"{stream.stream} "
    return f"{stream.stream} in {stream.slo.ttft_s:g} s, {stream.slo.tpot_s * 1e3:g} ms "


def _what(record: Verification) -> str:
    requests = counted(record.requests, "request")
    return f"the traffic of {requests} and {len(record.seeds)} seeds of it"
