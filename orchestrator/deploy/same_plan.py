"""Whether what runs is the plan of a file, deployed with options of the command line."""

from __future__ import annotations

from typing import Any

from manifests.serve_config import plan_in_short
from placement.plan import Plan


def same_plan(running: Plan, plan: Plan) -> bool:
    """Whether two plans are the same but for who may come in and how the router weighs load.

    ``--open``, ``--keys`` and ``--load-policy`` change these, and no engine.
    """
    return _fleet(running) == _fleet(plan)


def _fleet(plan: Plan) -> dict[str, Any]:
    return {k: v for k, v in plan_in_short(plan).items() if k != "router"}
