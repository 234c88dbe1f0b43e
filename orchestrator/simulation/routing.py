"""`RouteTable`'s turns for a whole load at once: the same groups in the same order.

Which group a request is meant for depends on the requests before it and on nothing else, so the
turns are dealt before the simulation. Who has to avoid a group is routed by the table itself, as
in production; those turns are counted apart from these.
"""

from __future__ import annotations

import numpy as np

from orchestrator.simulation.load import Load, outside
from orchestrator.simulation.state import NONE
from orchestrator.simulator import Floats, Ints
from profiler.compiled import compiled
from serve_apps.router.base import RouteRequest, UnknownModelError
from serve_apps.router.table import RouteTable


def planned_groups(table: RouteTable, groups: tuple[str, ...], load: Load) -> Ints:
    """The index of the group that `RouteTable.route` would give each request in turn.

    -1 where it raises `UnknownModelError`. Requests are taken to come without ``max_tokens``.
    """
    classes = np.full(len(load), NONE, dtype=np.int64)
    members: list[dict[str, float]] = []
    for s, stream in enumerate(load.streams):
        rows = np.flatnonzero(load.stream == s)
        nearest = _nearest(table.input_ranges(stream), load.input_tokens[rows])
        for k in np.unique(nearest):
            here = rows[nearest == k]
            try:
                shares = table.shares(RouteRequest(stream, int(load.input_tokens[here[0]])))
            except UnknownModelError:
                break
            classes[here] = len(members)
            members.append(shares)
    width = max((len(m) for m in members), default=1)
    shares_of = np.zeros((len(members), width))
    group_of = np.full((len(members), width), NONE, dtype=np.int64)
    for c, shares in enumerate(members):
        for j, (name, share) in enumerate(shares.items()):
            shares_of[c, j], group_of[c, j] = share, groups.index(name)
    sizes = np.array([len(m) for m in members], dtype=np.int64)
    chosen = np.full(len(load), NONE, dtype=np.int64)
    served = np.zeros((len(members), width), dtype=np.int64)
    _deal(classes, shares_of, group_of, sizes, served, np.zeros_like(sizes), chosen)
    return chosen


def _nearest(ranges: list[tuple[int, int]], tokens: Ints) -> Ints:
    if not ranges:
        return np.zeros(len(tokens), dtype=np.int64)
    nearest: Ints = np.argmin([outside(tokens, r) for r in ranges], axis=0)
    return nearest


@compiled
def _deal(
    classes: Ints,
    shares: Floats,
    groups: Ints,
    sizes: Ints,
    served: Ints,
    turns: Ints,
    chosen: Ints,
) -> None:
    """The turns of every class: `serve_apps.router.quota.Quota`, to the last bit.

    Writes to the last three. (Arrays made here would take long to compile.)
    """
    for i in range(len(classes)):
        c = classes[i]
        if c == NONE:
            continue
        turns[c] += 1
        size = sizes[c]
        slack = 1.0 / (2 * size - 2) if size > 1 else 0.0
        best, deadline, most, most_owed = NONE, np.inf, 0, -np.inf
        for j in range(size):
            owed = shares[c, j] * turns[c] - served[c, j]
            if owed > most_owed:
                most, most_owed = j, owed
            if owed >= slack:
                due = (served[c, j] + 1 - slack) / shares[c, j]
                if due < deadline:
                    best, deadline = j, due
        taken = most if best == NONE else best
        served[c, taken] += 1
        chosen[i] = groups[c, taken]
