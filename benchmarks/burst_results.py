"""What was judged, one line of a file each, so that a run that broke off goes on where it was.

A line counts again only for the same case, scenario, seed, policy and `Row.told`: everything that
the policy was told (its parameters, and a digest of the estimates it sees). It knows nothing of the
code: after a change of the simulator or the dispatcher, begin a new file.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.burst_load import Scenario
from orchestrator.simulation.measures import Measures

Key = tuple[str, Scenario, int, str, str]


@dataclass(frozen=True)
class Row:
    """One policy on one scenario by one seed; ``told`` is what it was told."""

    case: str
    scenario: Scenario
    seed: int
    policy: str
    measures: Measures
    told: str = ""

    @property
    def key(self) -> Key:
        """What makes it the same run as another."""
        return self.case, self.scenario, self.seed, self.policy, self.told


def kept(path: Path | None) -> dict[Key, Row]:
    """Rows of a file, none where there is none yet; of lines that say the same, the last."""
    if path is None or not path.exists():
        return {}
    rows = [_row(json.loads(line)) for line in path.read_text().splitlines()]
    return {row.key: row for row in rows}


def keep(path: Path, rows: Iterable[Row]) -> None:
    """Add rows to a file. What never came back or was not asked is Infinity or NaN there."""
    lines = "".join(json.dumps(asdict(row)) + "\n" for row in rows)
    with path.open("a") as file:
        file.write(lines)  # at once: a run that is stopped leaves whole lines


def _row(found: dict[str, Any]) -> Row:
    measures = found["measures"]
    measures["mix"] = tuple(measures["mix"])
    row = Row(**{**found, "scenario": Scenario(**found["scenario"]), "measures": None})
    return dataclasses.replace(row, measures=Measures(**measures))
