"""The ingress without Ray: gateway and listening socket, in a process of their own.

``python -m benchmarks.stand_gateway`` reads a line of JSON from standard input (`Setup`), prints
the port it listens on, and takes each further line as the replicas that run from then on. SIGTERM
ends it as Serve ends an ingress: no more is taken, what is under way is finished.

``GET /stand/state`` tells what the process holds. With values in the query it waits for them, as
an emulated engine's state does. ``GET /stand/refused`` tells how long each refusal took here, by
the request's id: from its head's last byte until the answer was written.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, Literal

import uvloop
from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from placement.plan import Plan
from profiler.core import Noun
from serve_apps.api import build_app
from serve_apps.collecting import settle
from serve_apps.door import Door
from serve_apps.flow.nouns import Replica
from serve_apps.gateway import Gateway
from serve_apps.guard.guard import Guard
from serve_apps.pool import ENGINE_KEY, IngressSettings
from serve_apps.router.artefact import load_artefact
from serve_apps.router.estimates import Estimates
from serve_apps.router.learned import LearnedRouter
from serve_apps.router.prompts import Prompt
from serve_apps.seeing.record import Outcome

LOOK_S = 0.005
HANG_S = 5.0
MOST_REFUSED = 100_000
Harm = Literal["", "raise", "hang", "garble"]


class Place(Noun):
    """Where a replica listens."""

    id: str
    group: str
    url: str


class Setup(Noun):
    """What the process is started with; ``artefact`` is the file of a learned router."""

    plan: Plan
    replicas: tuple[Place, ...]
    ingress: IngressSettings = IngressSettings(port=0)
    artefact: str = ""


class State(Noun):
    """What the process holds at one moment."""

    in_flight: int = Field(description="leases that are not given back")
    queued: int
    open: int = Field(description="requests that have no record yet")
    busy: int = Field(description="requests that the socket's server still answers")
    upstream: int = Field(description="connections to engines, at work or at rest")
    sockets: int
    files: int
    tasks: int
    rss_bytes: int
    retried: int
    states: dict[str, str] = Field(description="of each replica")


class _Harmed:
    """A source of estimates that goes wrong when it is told to."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self.harm: Harm = ""

    def expected(self, prompts: list[Prompt]) -> Estimates:
        """As the source does, or as badly as was asked for."""
        if self.harm == "raise":
            raise RuntimeError("harmed")
        if self.harm == "hang":
            time.sleep(HANG_S)
        found: Estimates = self._source.expected(prompts)
        if self.harm == "garble":
            found.quality[:] = float("nan")
        return found


class StandGateway:
    """One gateway process."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        ingress = setup.ingress
        self._gateway = Gateway(
            guard=Guard(ingress.guard),
            seeing=ingress.seeing,
            engine_key=os.environ.get(ENGINE_KEY, ""),
        )
        self._harmed: _Harmed | None = None
        learned = None
        if setup.artefact:
            learned = LearnedRouter(setup.plan, load_artefact(Path(setup.artefact)))
            quick: Any = learned._quick
            self._harmed = quick._source = _Harmed(quick._source)
        self._gateway.configure(setup.plan, learned)
        self._find(setup.replicas)
        more = [
            Route("/stand/state", self._tell),
            Route("/stand/refused", self._refused),
            Route("/stand/harm/{harm}", self._harm, methods=["POST"]),
        ]
        self.door = Door(build_app(self._gateway, more), ingress.host, ingress.port or 0)

    async def run(self) -> None:
        """Until SIGTERM, or until standard input ends."""
        told, lost = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, told.set)
        settle()
        self._gateway.start()
        await self.door.open()
        print(self.door.port, flush=True)
        reading = asyncio.create_task(self._read(lost))
        await asyncio.wait(
            [asyncio.create_task(e.wait()) for e in (told, lost)],
            return_when=asyncio.FIRST_COMPLETED,
        )
        await self.door.close(self._setup.ingress.drain_timeout_s if told.is_set() else 0)
        reading.cancel()
        await self._gateway.close()

    async def _read(self, lost: asyncio.Event) -> None:
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            told = Setup.model_validate_json(line)
            self._find(told.replicas)
        lost.set()

    def _find(self, places: tuple[Place, ...]) -> None:
        self._gateway.found([Replica(p.id, p.group, p.url) for p in places])

    def state(self) -> State:
        """What the process holds now."""
        gateway = self._gateway
        files = [_target(f) for f in Path("/proc/self/fd").iterdir()]
        flow = gateway.dispatcher.snapshot()
        return State(
            in_flight=gateway.dispatcher.in_flight,
            queued=gateway.dispatcher.queued,
            open=gateway.seeing.open,
            busy=self.door.busy - 1,  # less this request
            upstream=gateway.upstream.connections,
            sockets=sum(f.startswith("socket:") for f in files),
            files=len(files),
            tasks=len(asyncio.all_tasks()),
            rss_bytes=_rss_bytes(),
            retried=flow.retried,
            states={r.id: r.state for g in flow.groups for r in g.replicas},
        )

    async def _tell(self, request: Request) -> Response:
        wanted = dict(request.query_params)
        until_s = time.monotonic() + float(wanted.pop("timeout_s", 30.0))
        while True:
            found = self.state()
            shown = found.model_dump()
            flat = shown | found.states
            if all(str(flat.get(name)) == value for name, value in wanted.items()):
                return JSONResponse(shown)
            if time.monotonic() > until_s:
                return JSONResponse(shown, 504)
            await asyncio.sleep(LOOK_S)

    async def _refused(self, _request: Request) -> Response:
        found = self._gateway.seeing.journal.latest(MOST_REFUSED)
        took_s = {r.request_id: r.duration_s for r in found if r.outcome is Outcome.OVERLOADED}
        return JSONResponse(took_s)

    async def _harm(self, request: Request) -> Response:
        assert self._harmed is not None, "there is no learned router to harm"
        harm = request.path_params["harm"]
        self._harmed.harm = "" if harm == "none" else harm
        return JSONResponse({"harm": self._harmed.harm})


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""


def _rss_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Read the set-up, and serve."""
    setup = Setup.model_validate_json(sys.stdin.readline())
    uvloop.run(StandGateway(setup).run())


if __name__ == "__main__":
    main()
