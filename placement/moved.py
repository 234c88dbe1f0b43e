"""The same problem with one limit moved, for asking what the limit costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from placement.limits import ReplicaBound
from placement.problem import Problem, RequestClass, Stock, load_matrix, lost_share
from profiler.core import Slo


def with_slo(problem: Problem, change: Callable[[Slo], Slo], *, own_too: bool = True) -> Problem:
    """Other latency targets for the same request classes, loads computed anew.

    With ``own_too``, classes that have a target of their own change as well. Classes that were
    excluded stay so, and those served still make up for them.
    """

    def changed(c: RequestClass) -> RequestClass:
        return replace(c, slo=change(c.slo)) if c.slo is not None and own_too else c

    classes, slo = tuple(changed(c) for c in problem.classes), change(problem.slo)
    load_s = load_matrix(classes, problem.options, slo, served_share=1 - lost_share(problem))
    return replace(problem, classes=classes, slo=slo, load_s=load_s)


def with_quality(problem: Problem, stream: str, mean: float | None) -> Problem:
    """Another mean quality for a stream; None asks for none."""
    kept = {s: q for s, q in problem.limits.quality_mean.items() if s != stream}
    target = {} if mean is None else {stream: mean}
    return replace(problem, limits=replace(problem.limits, quality_mean=kept | target))


def with_stock(problem: Problem, stock: Stock, available: int) -> Problem:
    """Another number of accelerators to be had of one pool."""
    moved = replace(stock, available=available)
    stocks = tuple(moved if s == stock else s for s in problem.stocks)
    return replace(problem, stocks=stocks)


def with_replica_on(problem: Problem, gpu: str) -> Problem:
    """At least one replica on a GPU type."""
    replicas = (*problem.limits.replicas, ReplicaBound(minimum=1, gpu=gpu))
    return replace(problem, limits=replace(problem.limits, replicas=replicas))
