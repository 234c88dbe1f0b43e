"""`autoscale`: keep a plan's fleet as large as its load asks for."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.output import say

if TYPE_CHECKING:
    from orchestrator.autoscale.decisions import ReplanDecision, ScaleDecision
    from orchestrator.autoscale.metrics import ScaleMetrics
    from orchestrator.autoscale.session import Session


class Replan(enum.StrEnum):
    """What to do about a plan that would be cheaper."""

    OFF = "off"
    SUGGEST = "suggest"
    APPLY = "apply"


def autoscale(
    plan: Annotated[Path, typer.Argument(help="The plan file that is deployed.")],
    target: Annotated[str, typer.Option(help="Where it runs: a name of a target.")] = "local",
    interval: Annotated[float, typer.Option(min=1.0, help="Seconds between two turns.")] = 20.0,
    miss_worth: Annotated[
        float,
        typer.Option(
            min=1.0, help="What a missed request costs, over the rent that serving it is."
        ),
    ] = 10.0,
    budget: Annotated[
        float | None, typer.Option(min=0.0, help="Rent never goes above this, $/h.")
    ] = None,
    minimum: Annotated[
        list[str] | None, typer.Option("--min", help="GROUP=N: never fewer; 0 without it.")
    ] = None,
    maximum: Annotated[list[str] | None, typer.Option("--max", help="GROUP=N: never more.")] = None,
    cold_start: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            help="Seconds from asking for a replica to its first request; measured where the "
            "target knows, 104 otherwise.",
        ),
    ] = None,
    warm_up: Annotated[
        float, typer.Option(min=0.0, help="Seconds in which nothing is stopped.")
    ] = 120.0,
    replan: Annotated[
        Replan,
        typer.Option(
            help="When groups that the plan has not would be cheaper: write that plan and say so, "
            "or put it in force. Needs --service."
        ),
    ] = Replan.SUGGEST,
    service: Annotated[
        Path | None,
        typer.Option(help="The service file of the plan, which says what may be rented."),
    ] = None,
    horizon: Annotated[
        float, typer.Option(min=0.1, help="Hours in which a new plan must pay for its moves.")
    ] = 4.0,
    state: Annotated[
        Path | None, typer.Option(help="What was learned; PLAN.scaling.json without it.")
    ] = None,
    journal: Annotated[
        Path | None, typer.Option(help="Decisions as JSON lines; PLAN.scaling.jsonl without it.")
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Tell Prometheus of decisions here."),
    ] = None,
    metrics_host: Annotated[
        str, typer.Option(help="Where --metrics-port listens; 0.0.0.0: all addresses.")
    ] = "127.0.0.1",
    turns: Annotated[
        int | None, typer.Option(min=1, help="Stop after so many turns; else on a signal.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Decide and say, change nothing.")
    ] = False,
) -> None:
    """Start and stop replicas as the load asks for it, and say why."""
    import time

    from orchestrator.autoscale.decisions import Journal
    from orchestrator.autoscale.policy import COLD_START_S, ScalePolicy, check
    from orchestrator.autoscale.session import Session, reached
    from orchestrator.autoscale_replanning import replanner_of
    from placement.plan import Plan
    from profiler import documents
    from profiler.errors import InputError

    if replan is Replan.APPLY and service is None:
        raise InputError("--replan apply: what may be rented is not known; expected --service FILE")
    running, place = reached(plan, target)
    policy = ScalePolicy(
        miss_worth=miss_worth,
        budget_usd_per_hour=budget,
        minimum=_counts(minimum, "--min"),
        maximum=_counts(maximum, "--max"),
        cold_start_s=cold_start or place.cold_start_s or COLD_START_S,
        warm_up_s=warm_up,
    )
    check(documents.read(plan, Plan), policy)
    kept = Journal(journal or plan.with_suffix(".scaling.jsonl"))

    metrics = _metrics(metrics_port, metrics_host)

    def told(decision: ScaleDecision | ReplanDecision) -> None:
        kept.add([decision])
        if metrics is not None:
            metrics.tell(decision)
        say(decision.line())

    session = Session(
        running,
        place,
        policy,
        told=told,
        say=say,
        state_file=state or plan.with_suffix(".scaling.json"),
        dry_run=dry_run,
        clock=time.time,
    )
    if replan is not Replan.OFF and service is not None:
        may_apply = replan is Replan.APPLY and not dry_run
        session.replanner = replanner_of(
            running, plan, service, place, policy, horizon, told, say, may_apply=may_apply
        )
    with nullcontext() if dry_run else place.hold(), _saved(session):
        session.start()
        done = 0
        while turns is None or done < turns:
            session.wait(interval)
            session.turn()
            done += 1


@contextlib.contextmanager
def _saved(session: Session) -> Iterator[None]:
    """What was learned is written on the way out, however that comes."""
    try:
        yield
    finally:
        session.close()


def _metrics(port: int | None, host: str) -> ScaleMetrics | None:
    """Metrics on a port, where one is asked for."""
    from profiler.errors import InputError

    if port is None:
        return None
    try:
        from orchestrator.autoscale.metrics import ScaleMetrics
    except ImportError:
        raise InputError(
            "--metrics-port: prometheus_client is not installed; to mend it: "
            "pip install 'llm-orchestrator[serve]'"
        ) from None
    metrics = ScaleMetrics()
    metrics.serve(port, host)
    return metrics


def _counts(given: list[str] | None, option: str) -> dict[str, int]:
    """GROUP=N, repeated; raises InputError."""
    from profiler.errors import InputError

    found = {}
    for text in given or []:
        name, _, count = text.partition("=")
        if not name or not count.isdigit():
            raise InputError(f"{option} {text}: expected GROUP=N, such as {option} a-l40s-tp1=2")
        found[name] = int(count)
    return found


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(autoscale)
