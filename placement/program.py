"""The nouns of the program: its variables, its rows, and by how much a row may be exceeded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import pulp

Kind = Literal["stock", "quality", "budget", "spot_share", "replicas"]
"""Limits that can be exceeded by an amount, at a price; see `Slack`."""

Objective = Literal["cost", "quality", "relaxation"]
Terms = list[tuple[pulp.LpVariable, float]]


@dataclass(frozen=True)
class Slack:
    """By how much a limit is exceeded; ``weight`` makes excesses of unlike limits comparable."""

    kind: Kind
    name: str
    asked: float
    sign: int
    weight: float
    excess: pulp.LpVariable

    @property
    def needed(self) -> float:
        """The limit that would do."""
        return self.asked + self.sign * float(self.excess.value() or 0.0)


@dataclass(frozen=True)
class Survival:
    """Rows of `node_loss`: ``constant + per_replica . (n - lost) <= 0`` for any one node lost,
    which holds for every fleet that survives that. ``per_replica`` is ``[options]``, none over 0.
    Without ``loses_node`` the same of fleets of which no node is lost.
    """

    constant: float
    per_replica: tuple[float, ...]
    loses_node: bool = True


@dataclass(frozen=True)
class Model:
    """The program and its variables; ``cells`` and ``shares`` go together.

    Rows are named: ``class_C``, ``load_R``, ``open_R``, ``quality_S``, ``floor_C``, ``stock_K``,
    ``nodes_K``, ``budget``, ``spot_share``, ``replicas_min_B``, ``replicas_max_B``, ``moves_R``.
    """

    lp: pulp.LpProblem
    replicas: list[pulp.LpVariable]
    cells: list[tuple[int, int]]
    shares: list[pulp.LpVariable]
    nodes: dict[int, Terms]
    slacks: list[Slack] = field(default_factory=list)

    def row(self, name: str, terms: Terms, sense: int, rhs: float) -> None:
        """Add ``terms (sense) rhs``; each variable at most once among the terms."""
        expression = pulp.LpAffineExpression(terms)
        self.lp.addConstraint(pulp.LpConstraint(expression, sense, name, rhs))
