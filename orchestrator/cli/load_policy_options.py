"""`--load-policy` of `deploy`: what chooses the model under load instead of prices."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.output import say

if TYPE_CHECKING:
    from placement.plan import Plan

LoadPolicyOption = Annotated[
    Path | None,
    typer.Option(
        "--load-policy",
        help="Of `router train-load`, for this plan; used where its trial says it beats prices.",
    ),
]
InsistOption = Annotated[
    bool,
    typer.Option("--insist-on-load-policy", help="Use it although its trial does not say so."),
]


@dataclass(frozen=True)
class LoadPolicy:
    """What the command line says of it."""

    path: Path | None = None
    insist: bool = False

    def applied(self, plan: Plan) -> Plan:
        """The plan with the policy in it, after saying what becomes of it.

        Raises:
            InputError: it does not fit the plan, or there is none to insist on.
        """
        from profiler.errors import InputError
        from serve_apps.router.planned_load import in_a_line, with_load_policy

        if self.path is None:
            if self.insist:
                raise InputError("--insist-on-load-policy: say which one with --load-policy")
            return plan
        changed, values = with_load_policy(plan, self.path, insist=self.insist)
        say(in_a_line(values, insist=self.insist))
        return changed
