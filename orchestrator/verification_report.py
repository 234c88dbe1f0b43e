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
    yield cost_line(record)


def cost_line(record: Verification) -> str:
    """The cost of the promise."""
    cost = record.promise_usd_per_hour
    if record.rounds == 1:
        return "the promise costs nothing: the cheapest plan holds as it is"
    before = min(s.before for s in record.streams)
    share = f" ({cost / record.unverified_usd_per_hour:+.1%})" if cost else ""
    return (
        f"the promise costs ${cost:,.2f}/h{share}: the cheapest plan, at "
        f"${record.unverified_usd_per_hour:,.2f}/h, reached {before:.1%}; {record.rounds} plans "
        "tried; the bound is for the headroom this took"
    )


def missed_line(record: Verification) -> str:
    """By how much the worst stream misses."""
    worst = min(record.streams, key=lambda s: min(s.worst, s.expected_worst) - s.slo.attainment)
    reached = min(worst.worst, worst.expected_worst)
    return (
        f"{worst.stream}: {reached:.2%} of requests met the SLO in simulation, expected "
        f"{worst.slo.attainment:.2%}"
    )


def _shares(streams: tuple[TriedStream, ...]) -> str:
    several = len(streams) > 1
    return "; ".join(
        f"{s.stream + ' ' if several else ''}{s.worst:.1%} of requests met the SLO at worst, "
        f"asked {s.slo.attainment:.6g}"
        for s in streams
    )


def _what(record: Verification) -> str:
    return f"the traffic of {record.requests:,} requests and {len(record.seeds)} seeds of it"
