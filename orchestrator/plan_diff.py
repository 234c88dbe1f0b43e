"""What separates two plans: the groups, the money, and which requests would go elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field
from rich.console import RenderableType
from rich.text import Text

from orchestrator.report import plan_changes
from placement.plan import Plan, ReplicaGroup, Route
from profiler.core import NonNegative, Noun, Share

SAME_USD = 5e-5


class GroupChange(Noun):
    """One replica group that is not the same in both plans."""

    name: str
    change: Literal["added", "removed", "resized", "replaced"]
    replicas_before: int = 0
    replicas_after: int = 0
    usd_per_hour_change: float


class PlanDiff(Noun):
    """From one plan to another."""

    usd_per_hour_before: NonNegative
    usd_per_hour_after: NonNegative
    groups: tuple[GroupChange, ...] = ()
    moved_share: Share = Field(
        description="of the later plan's requests whose size both route: those that change group"
    )
    new_share: Share = Field(description="of the later plan's requests: of sizes new to it")
    dropped: tuple[str, ...] = Field((), description="request classes that only the earlier routes")
    lines: tuple[str, ...] = Field((), description="the changes to the groups, in words")

    @property
    def same(self) -> bool:
        """Whether nothing that runs or is paid for differs."""
        moves = self.moved_share >= SAME_USD or self.new_share >= SAME_USD
        return not (self.groups or self.dropped or moves) and abs(self.usd_per_hour) < SAME_USD

    @property
    def usd_per_hour(self) -> float:
        """What the change adds to the cost."""
        return self.usd_per_hour_after - self.usd_per_hour_before


def plan_diff(before: Plan, after: Plan) -> PlanDiff:
    """The changes from one plan to another."""
    old, new = _routes(before), _routes(after)
    total = sum(r.rate_rps for r in new.values())
    known = sum(new[k].rate_rps for k in new.keys() & old.keys())
    moved = sum(new[k].rate_rps * _moved(old[k], new[k]) for k in new.keys() & old.keys())
    return PlanDiff(
        usd_per_hour_before=before.cost.usd_per_hour,
        usd_per_hour_after=after.cost.usd_per_hour,
        groups=tuple(_group_changes(before, after)),
        moved_share=_share(moved, known),
        new_share=_share(total - known, total),
        dropped=tuple(f"{r.stream}: {r.bucket.key}" for k, r in old.items() if k not in new),
        lines=tuple(line for line in plan_changes(before, after) if "routing shares" not in line),
    )


def diff_lines(diff: PlanDiff) -> Iterator[RenderableType]:
    """The changes for a terminal."""
    if diff.same:
        yield Text("no difference in groups, routes or cost")
        return
    styles = {"+": "green", "-": "red", "~": "yellow"}
    for line in diff.lines:
        yield Text(line, style=styles.get(line[:1], ""))
    if not diff.lines:
        yield Text("the same groups")
    yield Text(_money_line(diff), style="bold")
    yield Text(_moved_line(diff))


def _money_line(diff: PlanDiff) -> str:
    before, after = diff.usd_per_hour_before, diff.usd_per_hour_after
    relative = f" ({diff.usd_per_hour / before:+.1%})" if before else ""
    return f"${before:,.2f}/h -> ${after:,.2f}/h: {diff.usd_per_hour:+,.2f} $/h{relative}"


def _moved_line(diff: PlanDiff) -> str:
    line = f"{diff.moved_share:.1%} of requests change group"
    if diff.new_share >= SAME_USD:
        line += f"; {diff.new_share:.1%} are of sizes that were not routed before"
    if diff.dropped:
        count = len(diff.dropped)
        line += f"; {count} request class{'es are' if count > 1 else ' is'} no longer routed"
    return line


def _routes(plan: Plan) -> dict[tuple[object, ...], Route]:
    return {
        (r.stream, r.bucket.input_range, r.bucket.output_range, r.difficulty): r
        for r in plan.routes
    }


def _moved(old: Route, new: Route) -> float:
    """Share of a class that changes group: half the sum of absolute differences."""
    names = old.shares.keys() | new.shares.keys()
    return sum(abs(new.shares.get(n, 0.0) - old.shares.get(n, 0.0)) for n in names) / 2


def _group_changes(before: Plan, after: Plan) -> Iterator[GroupChange]:
    old, new = ({g.name: g for g in plan.groups} for plan in (before, after))
    for name in sorted(old.keys() | new.keys()):
        was, is_now = old.get(name), new.get(name)
        if change := _change(was, is_now):
            yield GroupChange(
                name=name,
                change=change,
                replicas_before=was.replicas if was else 0,
                replicas_after=is_now.replicas if is_now else 0,
                usd_per_hour_change=round(_usd(is_now) - _usd(was), 6),
            )


def _change(
    was: ReplicaGroup | None, is_now: ReplicaGroup | None
) -> Literal["added", "removed", "resized", "replaced"] | None:
    if was is None or is_now is None:
        return "added" if was is None else "removed"
    if was.config != is_now.config:
        return "replaced"
    return "resized" if was.replicas != is_now.replicas else None


def _usd(group: ReplicaGroup | None) -> float:
    return group.total_usd_per_hour if group else 0.0


def _share(part: float, whole: float) -> float:
    return round(min(max(part / whole, 0.0), 1.0), 6) if whole else 0.0
