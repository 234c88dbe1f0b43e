"""Plans as terminal tables."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.deploy.base import Status
from orchestrator.verification_report import counted, verification_lines
from placement.plan import Alternative, Cost, ExpectedQuality, Plan, PlannedRouter

WIDE = 110
"""Columns from which the fleet's table has room for all that it can tell."""


def plan_tables(plan: Plan, width: int = WIDE) -> Iterator[RenderableType]:
    """The plan for a terminal: what it costs, the fleet, and every GPU type considered.

    ``width`` is the terminal's, in columns.
    """
    yield headline(plan)
    yield Text()
    yield fleet_table(plan) if width >= WIDE else narrow_fleet_table(plan)
    for bought in plan.nodes:
        yield Text(
            f"{counted(bought.nodes, 'node')} of {bought.gpus_per_node} x {bought.gpu} at "
            f"${bought.usd_per_node_hour:,.2f}/h: ${bought.total_usd_per_hour:,.2f}/h"
        )
    if plan.alternatives:
        yield Text()
        yield candidate_table(plan)
    for e in plan.excluded:
        yield Text(
            f"not served ({e.rate_rps:.3g}/s of {e.stream}): {e.bucket.key}: {e.reason}",
            style="yellow",
        )
    if plan.router is not None:
        yield Text(router_line(plan.router), style="dim")
    for note in plan.notes:
        yield Text(note, style="dim")


def headline(plan: Plan) -> Text:
    """Cost, proof, saving and what trying it found, a line each."""
    cost = plan.cost
    lines = [
        f"{plan.service}: ${cost.usd_per_hour:,.2f}/h, "
        f"${cost.usd_per_million_tokens:.3f} per million tokens; {bound_line(cost)}"
    ]
    if plan.quality is not None:
        lines.append(quality_line(plan.quality))
    if best := best_single(plan):
        lines.append(saving_line(plan, best))
    lines += verification_lines(plan)
    return Text("\n".join(lines), style="bold")


def bound_line(cost: Cost) -> str:
    """The proof, of the rent alone or of rent and moves together."""
    bound = f"${cost.lower_bound_usd_per_hour:,.2f}/h (gap {cost.gap:.2%})"
    if not cost.switching_usd_per_hour:
        return f"no fleet costs less than {bound}"
    moves = f"${cost.switching_usd_per_hour:,.2f}/h"
    return f"with {moves} for moving to it over the horizon, no fleet costs less than {bound}"


def quality_line(quality: ExpectedQuality) -> str:
    """What the answers are expected to score; under a budget, against the best it could buy."""
    line = f"expected quality {quality.mean:.4f}"
    if quality.bound is None:
        return line
    return f"{line}, at most {quality.bound:.4f} within the budget; then the lowest cost"


def best_single(plan: Plan) -> Alternative | None:
    """The cheapest fleet of one GPU type, where there is one to compare the plan with.

    Under a budget there is not: fleets differ in quality first.
    """
    if plan.quality is not None and plan.quality.bound is not None:
        return None
    priced = [a for a in plan.alternatives if a.usd_per_hour is not None]
    return min(priced, key=_with_moves, default=None)


def _with_moves(single: Alternative) -> float:
    return (single.usd_per_hour or 0.0) + single.switching_usd_per_hour


def saving_line(plan: Plan, best: Alternative) -> str:
    """How the plan compares with the best single-type fleet, in words."""
    alone = _with_moves(best)
    saved = 1 - (plan.cost.usd_per_hour + plan.cost.switching_usd_per_hour) / alone
    if saved < 5e-5:
        best_known = "is best" if plan.cost.gap < 1e-3 else "is the best found in time"
        return f"{best.gpu} alone {best_known}"
    moves = " with its moves" if best.switching_usd_per_hour else ""
    fleet = f"{best.gpu} at ${alone:,.2f}/h{moves}"
    return f"saves {saved:.1%} against the best single-type fleet, {fleet}"


def fleet_table(plan: Plan) -> Table:
    """The replica groups to rent."""
    table = Table("group", "model", "GPU", box=None, pad_edge=False)
    for header in ("replicas", "$/h each", "$/h", "load", "requests/s"):
        table.add_column(header, justify="right")
    table.add_column("market")
    table.add_column("profile")
    rates = group_rates(plan)
    for g in plan.groups:
        c = g.config
        table.add_row(
            g.name,
            c.model,
            f"{c.tensor_parallel} x {c.gpu}",
            str(g.replicas),
            f"{g.usd_per_hour:,.2f}",
            f"{g.total_usd_per_hour:,.2f}",
            f"{g.load:.0%}",
            f"{rates[g.name]:.2f}",
            g.market.replace("_", "-"),
            g.profile.provenance.kind,
        )
    return table


def narrow_fleet_table(plan: Plan) -> Table:
    """The replica groups to rent, without what the group's name tells, or all have in common."""
    table = Table(box=None, pad_edge=False)
    table.add_column("group", overflow="fold")
    table.add_column("GPU", no_wrap=True)
    for header in ("replicas", "$/h", "load", "requests/s"):
        table.add_column(header, justify="right", no_wrap=True)
    rates = group_rates(plan)
    for g in plan.groups:
        table.add_row(
            g.name,
            f"{g.config.tensor_parallel} x {g.config.gpu}",
            str(g.replicas),
            f"{g.total_usd_per_hour:,.2f}",
            f"{g.load:.0%}",
            f"{rates[g.name]:.2f}",
        )
    kinds = dict.fromkeys(g.profile.provenance.kind for g in plan.groups)
    table.caption = f"profiles: {', '.join(kinds)}"
    table.caption_justify, table.caption_style = "left", "dim"
    return table


def candidate_table(plan: Plan) -> Table:
    """Every GPU type considered, what it would cost alone, and why it is or is not in the plan."""
    table = Table("", "GPU", box=None, pad_edge=False)
    table.add_column("$/h alone", justify="right")
    table.add_column("replicas", justify="right")
    table.add_column("against the plan", overflow="fold")
    cheapest_first = sorted(plan.alternatives, key=lambda a: a.usd_per_hour or float("inf"))
    for a in cheapest_first:
        table.add_row(
            "CHOSEN" if a.chosen else "",
            a.gpu,
            f"{a.usd_per_hour:,.2f}" if a.usd_per_hour is not None else "-",
            str(sum(a.replicas.values())) if a.replicas else "-",
            a.reason,
            style="green" if a.chosen else None,
        )
    return table


def group_rates(plan: Plan) -> dict[str, float]:
    """Requests per second that each group is planned to serve."""
    rates = {g.name: 0.0 for g in plan.groups}
    for route in plan.routes:
        for name, share in route.shares.items():
            rates[name] += share * route.rate_rps
    return rates


def plan_changes(current: Plan | None, wanted: Plan) -> list[str]:
    """What putting ``wanted`` in force changes, a line each."""
    before = {g.name: g for g in current.groups} if current else {}
    after = {g.name: g for g in wanted.groups}
    lines = [
        f"+ {g.name}: {g.replicas} x ({g.config.tensor_parallel} x {g.config.gpu})"
        for name, g in after.items()
        if name not in before
    ]
    gone = [(name, g) for name, g in before.items() if name not in after]
    lines += [f"- {name}: {counted(g.replicas, 'replica')}" for name, g in gone]
    for name in before.keys() & after.keys():
        old, new = before[name], after[name]
        if old.replicas != new.replicas:
            lines.append(f"~ {name}: {old.replicas} -> {new.replicas} replicas")
        if old.config != new.config:
            lines.append(f"~ {name}: engine options change, its replicas are replaced")
    if current and _front(current) != _front(wanted):
        lines.append("~ gateway: its processes are replaced one after another")
    if current and not lines and current != wanted:
        lines.append("~ routing shares or predictions change, no engine does")
    return sorted(lines)


def _front(plan: Plan) -> tuple[object, ...]:
    """What the front door is started with."""
    return plan.gateway, plan.targets.local.host


def router_line(router: PlannedRouter) -> str:
    """The learned router of a plan in a line."""
    described = f" ({router.described})" if router.described else ""
    return (
        f"router: {Path(router.artefact).name} {router.version}{described}, "
        f"{len(router.edges) + 1} difficulty bins, policy {router.policy}{_load_policy(router)}"
    )


def _load_policy(router: PlannedRouter) -> str:
    told = router.load_policy
    if told is None:
        return ""
    return f", load policy {told.file} {told.version}{' (insisted on)' if told.insist else ''}"


def status_line(status: Status) -> str:
    """A deployed pool's state in a line."""
    groups = ", ".join(
        f"{g.name} {g.ready}/{g.wanted} {g.message.partition(chr(10))[0]}".strip()
        for g in status.groups
    )
    state = status.state + emulated_mark(status)
    return f"{status.name}: {state}{': ' + groups if groups else ''}"


def emulated_mark(status: Status) -> str:
    """What to add to the state of a pool whose engines are none."""
    return " (emulated)" if status.emulated else ""
