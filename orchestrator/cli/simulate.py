"""`simulate`: a trace through a plan's fleet, with the router in the loop."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.output import (
    Format,
    OutputOption,
    YesOption,
    emit,
    refuse_to_overwrite,
    say,
    steps,
)

if TYPE_CHECKING:
    from orchestrator.simulation_result import SimulationResult
    from orchestrator.traffic import Traffic
    from placement.plan import Plan


def simulate(
    plan: Annotated[Path, typer.Argument(help="A plan file.")],
    trace: Annotated[
        list[str] | None,
        typer.Option(
            "--trace", "-t", help="A trace to replay; STREAM=FILE, repeated, for several streams."
        ),
    ] = None,
    service: Annotated[
        Path | None, typer.Option(help="Replay the traffic of a service file instead.")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Draw the traffic anew; without it, the trace as it is."),
    ] = None,
    rate: Annotated[
        float, typer.Option(min=0.001, help="Times the trace's rate, drawn anew where not 1.")
    ] = 1.0,
    events: Annotated[
        Path | None, typer.Option(help="Cold starts, failures and spot reclaims: a YAML file.")
    ] = None,
    save: Annotated[
        Path | None, typer.Option("--save", "-s", help="Write every request here, as Parquet.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", help="Write a self-contained HTML page here.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Exit with code 5 where the SLO is missed.")
    ] = False,
    output: OutputOption = Format.TABLE,
    yes: YesOption = False,
) -> None:
    """Replay a trace through a plan's fleet, and say what its users would have waited."""
    from orchestrator import simulation_file, simulation_page
    from orchestrator.judging import met
    from orchestrator.simulation.run import Conditions
    from orchestrator.simulation.run import simulate as run
    from orchestrator.simulation_events import read_events
    from orchestrator.simulation_report import simulation_tables
    from orchestrator.simulation_result import summarise
    from orchestrator.traffic import faster, scenario
    from placement.plan import Plan
    from profiler import documents

    for path in (save, report):
        if path is not None:
            refuse_to_overwrite(path, yes=yes)
    if save is not None:
        simulation_file.require_pyarrow()
    with steps("simulating") as step:
        fleet = documents.read(plan, Plan)
        conditions, befalling = read_events(events, fleet) if events else (Conditions(), ())
        step("reading the traffic")
        traffic = {s: faster(t, rate) for s, t in _traffic(fleet, trace or [], service).items()}
        drawn = scenario(traffic, seed)
        step(f"{sum(len(t) for t in drawn.values()):,} requests")
        timings = run(fleet, drawn, events=befalling, conditions=conditions)
    found = met(fleet, timings)
    result = summarise(fleet, timings, seed, found)
    if save is not None:
        simulation_file.save_requests(save, timings, found, plan=fleet.digest, seed=seed)
    if report is not None:
        documents.write(report, simulation_page.page(result, timings, found))
    emit(result.model_dump(mode="json"), output, lambda: list(simulation_tables(result)))
    for path in (save, report):
        if path is not None:
            say(f"wrote {path}")
    if check:
        _require(result)


def _traffic(plan: Plan, traces: list[str], service: Path | None) -> Mapping[str, Traffic]:
    """Each stream's traffic, from trace files or a service file.

    Raises:
        InputError: neither or both are given, or a stream's trace is missing or given twice.
        UnknownNameError: the plan has no such stream.
    """
    from orchestrator.loading import load_service
    from orchestrator.traffic import of_trace, traffic_of
    from profiler.errors import InputError, UnknownNameError
    from profiler.traces import read_trace

    if bool(traces) == (service is not None):
        found = "both" if traces else "neither"
        raise InputError(f"expected --trace or --service, found {found}")
    streams = list(dict.fromkeys(r.stream for r in plan.routes))
    if service is not None:
        by_stream = traffic_of(load_service(service))
        if unknown := next((s for s in by_stream if s not in streams), None):
            raise UnknownNameError("stream", unknown, streams, mend=f"in {service}")
        return by_stream
    files: dict[str, str] = {}
    for given in traces:
        stream, equals, path = given.partition("=")
        if not equals or stream not in streams:  # a path may hold a "=" too
            stream, path = _only(streams, given), given
        if stream in files:
            raise InputError(f"two traces for the stream {stream!r}: {files[stream]} and {path}")
        files[stream] = path
    return {stream: of_trace(read_trace(path)) for stream, path in files.items()}


def _only(streams: list[str], given: str) -> str:
    from profiler.errors import InputError

    if len(streams) != 1:
        raise InputError(
            f"--trace {given}: the plan has {len(streams)} streams ({', '.join(streams)}); "
            f"say which this is, such as --trace {streams[0]}={given}"
        )
    return streams[0]


def _require(result: SimulationResult) -> None:
    """Raises SloMissedError where a stream misses its SLO."""
    from profiler.errors import SloMissedError

    missed = [s for s in result.streams if not s.holds]
    if missed:
        raise SloMissedError(
            "; ".join(
                f"{s.stream}: {s.attainment:.2%} of requests met the SLO, expected "
                f"{s.slo.attainment:.2%}"
                for s in missed
            )
        )


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(simulate)
