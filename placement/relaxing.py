"""What is the least that would have to give, where no fleet keeps every limit."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

import numpy as np

from placement.model import Kind, Model, Slack, build
from placement.node_loss import broken_survivals, sole_servers
from placement.problem import Problem
from placement.solver import run_highs, values

KINDS: tuple[Kind, ...] = ("quality", "stock", "replicas", "spot_share", "budget")
MOVED = 1e-6
GAP = 1e-4


@dataclass(frozen=True)
class Change:
    """A limit as asked, and the nearest value of it that would do."""

    limit: str
    asked: float
    needed: float
    text: str


@dataclass(frozen=True)
class Relaxation:
    """Changes that together make the problem feasible: all of one kind, if one kind can."""

    changes: tuple[Change, ...]

    def __str__(self) -> str:
        return " and ".join(c.text for c in self.changes)


def relaxations(problem: Problem, *, time_limit_s: float = 30.0) -> list[Relaxation]:
    """The ways out, each by the least excess: of every kind of limit that can mend the problem
    alone, else of all kinds together. Never empty.
    """
    found = [r for kind in KINDS if (r := _by({kind}, problem, time_limit_s))]
    found += list(_without_spares(problem, time_limit_s))
    found = found or [r for r in [_by(KINDS, problem, time_limit_s)] if r]
    unknown = "which limits bind was not found in time, or no change of them alone would do"
    return found or [Relaxation((Change("", math.nan, math.nan, unknown),))]


def _by(kinds: Collection[Kind], problem: Problem, time_limit_s: float) -> Relaxation | None:
    """The least excess over limits of these kinds, their sizes being weighed by what was asked."""
    survivals = sole_servers(problem)
    while True:
        model = build(problem, objective="relaxation", elastic=kinds, survivals=survivals)
        if not model.slacks:
            return None
        if run_highs(model.lp, time_limit_s=time_limit_s, gap=GAP).status != "solved":
            return None
        broken = broken_survivals(problem, values(problem, model)[0])
        if not broken:
            break
        survivals += broken
    changes = [
        _change(s, problem, model) for s in model.slacks if (s.excess.value() or 0.0) > MOVED
    ]
    return Relaxation(tuple(changes)) if changes else None


def _change(slack: Slack, problem: Problem, model: Model) -> Change:
    asked, needed = slack.asked, slack.needed
    match slack.kind:
        case "stock":
            text = f"{slack.name}: {asked:g} offered, {round(needed)} needed"
        case "quality":
            reach = math.floor(needed * 1e4 + 1e-2) / 1e4
            text = f"{slack.name}: {asked:g} asked, at most {reach:.4f} reachable"
        case "budget":
            text = f"{slack.name}: {asked:g} asked, {math.ceil(needed * 100) / 100:.2f} needed"
        case "spot_share":
            asked, needed = problem.limits.spot_share or 0.0, _spot_share(problem, model)
            text = f"spot.share: {asked:g} asked, {needed:.4f} needed"
        case "replicas":
            text = f"{slack.name}: {asked:g} asked, {round(needed)} needed"
    return Change(slack.name, asked, needed, text)


def _spot_share(problem: Problem, model: Model) -> float:
    gpus = values(problem, model)[0] * np.array([o.gpus for o in problem.options])
    spot = np.array([o.market == "spot" for o in problem.options])
    return float(gpus[spot].sum() / max(gpus.sum(), 1))


def _without_spares(problem: Problem, time_limit_s: float) -> Iterator[Relaxation]:
    """Spare capacity is kept or not: whether the rest can be had without it."""
    limits = problem.limits
    headroom, reserve = limits.node_loss_headroom, limits.spot_reserve
    if headroom is not None:
        without = replace(problem, limits=replace(limits, node_loss_headroom=None))
        if _feasible(without, time_limit_s):
            text = "node_loss: no spare capacity for a lost node can be had; without it a plan can"
            yield Relaxation((Change("node_loss", headroom, math.nan, text),))
    if reserve:
        without = replace(problem, limits=replace(limits, spot_reserve=0.0))
        if _feasible(without, time_limit_s):
            text = f"spot.reserve: {reserve:g} asked; a plan exists with none"
            yield Relaxation((Change("spot.reserve", reserve, 0.0, text),))


def _feasible(problem: Problem, time_limit_s: float) -> bool:
    survivals = sole_servers(problem)
    while True:
        model = build(problem, survivals=survivals)
        if run_highs(model.lp, time_limit_s=time_limit_s, gap=1.0).status != "solved":
            return False
        broken = broken_survivals(problem, values(problem, model)[0])
        if not broken:
            return True
        survivals += broken
