"""Writing a service's applications to a Ray cluster where others write too."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from orchestrator.deploy.rayserve.config import Object
from orchestrator.deploy.rayserve.dashboard import AwayError, Dashboard
from orchestrator.deploy.rayserve.seen import Seen, differences
from profiler.errors import ClusterError

PATIENCE_S = 60.0
"""The dashboard may be away so long while something is waited for."""
PAUSE_S = 1.0


class ConflictError(ClusterError):
    """Another operator changed the service meanwhile."""


class Writer:
    """Reads before it writes, and writes only what stands as it was last seen.

    Serve's API has no condition on a write: what another writes between our read and our write,
    milliseconds apart, is found by the next read only.
    """

    def __init__(
        self,
        dashboard: Dashboard,
        seen: Seen,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.dashboard = dashboard
        self._service = seen.service
        self._expected = seen.configs
        self._clock, self._sleep = clock, sleep

    def read(self) -> Seen:
        """What runs now.

        Raises:
            ConflictError: it is not what was last seen or written.
        """
        seen = look(self.dashboard, self._service)
        if lines := differences(self._expected, seen.configs):
            by = f" by {seen.note.by}" if seen.note is not None and seen.note.by else ""
            raise ConflictError(
                f"{self._service!r} was changed{by} meanwhile: {'; '.join(lines)}; to mend: look "
                "at what runs now with `orchestrator status`, then deploy again"
            )
        return seen

    def patient_read(self) -> Seen:
        """As `read`, over a dashboard that is away for a short time."""
        until_s = self._clock() + PATIENCE_S
        while True:
            try:
                return self.read()
            except AwayError:
                if self._clock() > until_s:
                    raise
                self._sleep(PAUSE_S)

    def put(self, ours: Iterable[Object]) -> None:
        """Make these the service's applications, beside those of others.

        Raises:
            ConflictError: the service was changed by another meanwhile.
            ClusterError: Serve refuses.
        """
        apps = list(ours)
        self.dashboard.put(self.patient_read().merged(apps))
        self._expected = {a["name"]: a for a in apps}


def look(dashboard: Dashboard, service: str) -> Seen:
    """A service, and what else Serve runs."""
    return Seen(service, dashboard.serving())
