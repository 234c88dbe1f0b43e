"""Events files: what befalls a simulated fleet besides its requests.

cold_start_s: 90                  # or one a group: {chat-l4-tp1: 60}
replace: true                     # a replica for each that dies or is reclaimed
reclaim_notice_s: 120
events:
  - {at_s: 600, kind: die, group: chat-l4-tp1}
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from orchestrator.simulation.events import Event, Kind
from orchestrator.simulation.run import COLD_START_S, RECLAIM_NOTICE_S, Conditions
from placement.plan import Plan
from profiler import documents
from profiler.core import NonNegative, Noun
from profiler.errors import UnknownNameError


class EventEntry(Noun):
    """One event; see `orchestrator.simulation.events.Event`."""

    at_s: NonNegative
    kind: Kind
    group: str
    replica: int | None = Field(None, ge=0, description="by order of start; else the least busy")


class EventsFile(Noun):
    """Surroundings and events of a simulation."""

    cold_start_s: NonNegative | dict[str, NonNegative] = COLD_START_S
    replace: bool = Field(True, description="start a replica for each that dies or is reclaimed")
    reclaim_notice_s: NonNegative = RECLAIM_NOTICE_S
    events: tuple[EventEntry, ...] = ()


def read_events(path: Path, plan: Plan) -> tuple[Conditions, tuple[Event, ...]]:
    """Conditions and events for a plan.

    Raises:
        InputError: the file cannot be read or does not fit; names the line.
        UnknownNameError: it names a group that the plan does not have.
    """
    document = documents.open_document(path)
    found = document.validate(EventsFile)
    groups = [g.name for g in plan.groups]
    named: list[tuple[tuple[str | int, ...], str]] = [
        (("events", i, "group"), e.group) for i, e in enumerate(found.events)
    ]
    if isinstance(found.cold_start_s, dict):
        named += [(("cold_start_s",), name) for name in found.cold_start_s]
    for at, name in named:
        if name not in groups:
            where = f"{path}:{document.line(at)}"
            raise UnknownNameError(f"group ({where})", name, groups)
    conditions = Conditions(
        cold_start_s=found.cold_start_s,
        replace=found.replace,
        reclaim_notice_s=found.reclaim_notice_s,
    )
    return conditions, tuple(Event(e.at_s, e.kind, e.group, e.replica) for e in found.events)
