"""The one exception tree. Every error a user can cause carries its exit code.

OrchestratorError            1  a bug of ours, when raised bare
  InputError                 2  a file, flag or value the user gave
    UnknownNameError         2  a name no catalog or plan knows
  InfeasibleError            3  the request is well formed, and cannot be met
  ClusterError               4  the place to run is unreachable, refuses, or lacks something
    EngineError              4  an engine did not start, or died
  SloMissedError             5  a trial fell short of the share of requests that must meet the SLO
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class OrchestratorError(Exception):
    """Root of the tree. ``exit_code`` is what the CLI ends with."""

    exit_code = 1


class InputError(OrchestratorError):
    """Something the user wrote is wrong; the message says where, what, and how to mend it."""

    exit_code = 2


class UnknownNameError(InputError):
    """A name that is not in a catalog, plan or service; the message names the nearest one."""

    def __init__(self, kind: str, name: str, known: Iterable[str], *, mend: str = "") -> None:
        known = sorted(known)
        self.name = name
        self.nearest = nearest(name, known)
        hint = (
            f"; did you mean {self.nearest!r}?" if self.nearest else f"; known: {', '.join(known)}"
        )
        super().__init__(f"unknown {kind} {name!r}{hint}{' ' + mend if mend else ''}")


class InfeasibleError(OrchestratorError):
    """No plan satisfies every limit; the message names the limits that bind."""

    exit_code = 3


class ClusterError(OrchestratorError):
    """The place to run cannot be reached, refuses, or lacks what the plan needs."""

    exit_code = 4


class EngineError(ClusterError):
    """An engine did not start or died; ``log_tail`` holds the end of what it wrote."""

    def __init__(self, message: str, log_tail: str = "") -> None:
        self.log_tail = log_tail
        super().__init__(f"{message}\n{log_tail}" if log_tail else message)


class SloMissedError(OrchestratorError):
    """A trial was asked to keep the SLO, and did not; the message says by how much."""

    exit_code = 5


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name a user most likely meant, or None when nothing is close.

    A part of a name, such as ``spot`` of ``spot_usd_per_hour``, is close when no other has it.
    """
    by_fold = {k.casefold(): k for k in known}
    fold = name.casefold()
    match = difflib.get_close_matches(fold, by_fold, n=1, cutoff=0.5)
    if not match and len(fold) >= 3:
        holders = [k for k in by_fold if fold in k]
        match = holders if len(holders) == 1 else []
    return by_fold[match[0]] if match else None
