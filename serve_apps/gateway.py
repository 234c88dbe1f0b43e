"""What the ingress knows, joined: guard, router, dispatcher, engines and what is seen of it all.

Knows no Ray: replicas are told to it. Requests take the short way through `relay.Call`; all else
(`pages.py`) is Starlette's.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from placement.plan import Plan
from profiler.errors import InputError
from serve_apps import openai_api
from serve_apps.arrivals import Demand, write_counts
from serve_apps.asking import Headers, deadline_s, route_request
from serve_apps.estimating import AtOnce, Estimating
from serve_apps.feedback import Feedback, Given
from serve_apps.flow.dispatcher import Dispatcher
from serve_apps.flow.nouns import Replica
from serve_apps.flow.settings import FlowSettings
from serve_apps.guard.caller import Caller
from serve_apps.guard.guard import Guard
from serve_apps.guard.prices import plan_prices
from serve_apps.guard.splice import strip
from serve_apps.replies import starting
from serve_apps.router.base import Router, RouteRequest
from serve_apps.router.learned import LearnedRouter
from serve_apps.router.steady import SteadyRouter
from serve_apps.router.table import RouteTable
from serve_apps.seeing.record import Outcome, RequestRecord
from serve_apps.seeing.seeing import Seeing
from serve_apps.seeing.settings import SeeingSettings
from serve_apps.seeing.snapshot import Snapshot
from serve_apps.snapshots import snapshot_of
from serve_apps.stalls import Stalls
from serve_apps.upstream import EngineGoneError, SilentEngineError, Upstream

TICK_S = 0.05
SECOND_S = 1.0
PROBE_TIMEOUT_S = 1.0
LEARNED = "learned.npz"
"""What feedback taught the router, beside the log of it."""
READERS = {
    "/v1/chat/completions": openai_api.chat_request,
    "/v1/completions": openai_api.completion_request,
}
"""All that a client can make the ingress ask of an engine, and what reads it."""

log = logging.getLogger("orchestrator.gateway")


@dataclasses.dataclass(slots=True)
class Question:
    """A request that may be asked: what of, by whom, and with which bytes."""

    route: RouteRequest
    caller: Caller
    path: bytes
    body: bytes
    model: str
    answers: int
    reserved: int
    deadline_s: float | None

    def body_for(self, model: str) -> bytes:
        """The body as it was sent, for this model."""
        return self.body if model == self.model else openai_api.with_model(self.body, model)


class Gateway:
    """State behind the API. Used from one event loop; `start` lets time pass for it."""

    def __init__(
        self,
        plan: Plan | None = None,
        *,
        guard: Guard | None = None,
        seeing: SeeingSettings | None = None,
        flow: FlowSettings | None = None,
        engine_key: str = "",
        name: str = "",
        peers: Callable[[], tuple[str, ...]] = tuple,
        clock: Callable[[], float] = time.monotonic,
        arrivals_dir: Path | None = None,
    ) -> None:
        """``name`` tells this process from others in metrics, ``peers`` where each is found;
        ``arrivals_dir`` is where to tell each second how many requests have arrived.
        """
        self.clock = clock
        self.guard = guard or Guard()
        self.seeing = Seeing(self.snapshot, seeing, name)
        self._peers = peers
        self.feedback = Feedback()
        self._stalls = Stalls()
        self.upstream = Upstream(key=engine_key, stalls=self._stalls)
        self.started_s = int(time.time())
        self.was_ready = False
        """Whether each model had a replica at some time: from then on requests may come here. What
        goes wrong later is answered request by request."""
        self._plan: Plan | None = None
        self._table: RouteTable | None = None
        self._learned: LearnedRouter | None = None
        self._flow = flow or FlowSettings()
        self._dispatcher: Dispatcher | None = None
        self._demand: Demand | None = None
        self._arrivals_dir = arrivals_dir
        self._replicas: tuple[Replica, ...] = ()
        self._wanted: Mapping[str, int] = {}
        self.estimating: Estimating | AtOnce | None = None
        """What estimates prompts, where there is a learned router."""
        self._ticking: asyncio.Task[None] | None = None
        self._probes: dict[str, asyncio.Task[None]] = {}
        self._syncing: asyncio.Task[None] | None = None
        self._taught = False
        if plan is not None:
            self.configure(plan)

    # what is in force

    def configure(
        self, plan: Plan, learned: LearnedRouter | None = None, feedback: Path | None = None
    ) -> None:
        """Route by this plan from the next request on; requests in flight are not disturbed.

        ``learned`` is the plan's learned router, ``feedback`` a file that judgements are added to;
        what they teach is kept beside it.
        """
        if learned is not None and self._learned is not None:
            learned.take_over(self._learned)
        elif learned is not None and feedback is not None:
            learned.recall(feedback.with_name(LEARNED))
        self._table = RouteTable(plan) if learned is None else learned.table
        self._learned = learned
        self._plan = plan
        self.feedback.path = feedback
        router: Router = self._table
        if self.estimating is not None:
            self.estimating.close()
        self.estimating = None
        if learned is not None:
            router = steady = SteadyRouter(learned, self._table)
            kind = AtOnce if learned.bounded else Estimating
            self.estimating = kind(steady.prepare)
            learned.only_prepared()
        if self._dispatcher is None:
            self._dispatcher = Dispatcher(plan, router, self.clock, settings=self._flow)
        else:
            self._dispatcher.configure(plan, router)
        self._dispatcher.replicas(self._replicas)
        self.seeing.configure(plan)
        self.guard.price(plan_prices(plan))
        self._demand = Demand(plan, self.seeing.metrics.arrivals.add)
        self._wanted = {}

    def scaled(self, wanted: Mapping[str, int], cold_start_s: float | None = None) -> None:
        """So many replicas of these groups are wanted now, whatever the plan says.

        ``cold_start_s``: what the pool knows of how long one takes to start.
        """
        self._wanted = wanted
        planned = {g.name: g.replicas for g in self.plan.groups}
        self.dispatcher.scaled(planned | dict(wanted), cold_start_s)

    def found(self, replicas: Iterable[Replica]) -> None:
        """These replicas run now, and no others; those that went finish what they have."""
        self._replicas = tuple(replicas)
        self.upstream.keep({r.url for r in self._replicas})
        if self._dispatcher is not None:
            self._dispatcher.replicas(self._replicas)

    @property
    def dispatcher(self) -> Dispatcher:
        """Who decides where a request goes, and when.

        Raises:
            ApiError: 503, there is no plan yet.
        """
        if self._dispatcher is None:
            raise starting()
        return self._dispatcher

    @property
    def plan(self) -> Plan:
        """The plan in force.

        Raises:
            ApiError: 503, there is none yet.
        """
        if self._plan is None:
            raise starting()
        return self._plan

    @property
    def table(self) -> RouteTable:
        """The plan's shares.

        Raises:
            ApiError: 503, there is no plan yet.
        """
        if self._table is None:
            raise starting()
        return self._table

    @property
    def router(self) -> Router:
        """What decides which model answers."""
        return self._learned or self.table

    @property
    def learned(self) -> bool:
        """Whether a learned router is in force."""
        return self._learned is not None

    @property
    def max_body_bytes(self) -> int:
        """Larger bodies are refused."""
        return self.guard.settings.body.max_bytes

    @property
    def replicas(self) -> tuple[Replica, ...]:
        """Those that run, as last told."""
        return self._replicas

    @property
    def ready(self) -> dict[str, int]:
        """How many replicas of each group of the plan there are."""
        count = {g.name: 0 for g in self.plan.groups}
        for replica in self._replicas:
            if replica.group in count:
                count[replica.group] += 1
        return count

    @property
    def serves_all(self) -> bool:
        """Whether each model of the plan has a replica."""
        ready = self.ready
        served = {g.config.model for g in self.plan.groups if ready[g.name]}
        return served == {g.config.model for g in self.plan.groups}

    def models(self, names: Collection[str]) -> dict[str, int]:
        """The longest context (tokens) that each of these names of models is sure to have."""
        limits = [(g.config.model, g.profile.max_model_len) for g in self.plan.groups]
        hosted = {model for model, _ in limits}
        return {
            name: min(n for model, n in limits if model == name or name not in hosted)
            for name in names
        }

    # one request

    def ask(self, record: RequestRecord, caller: Caller, body: bytes, headers: Headers) -> Question:
        """Read a body, once, and make of it what is asked of the dispatcher.

        Raises:
            ApiError: 400 malformed, 403 not for this caller, 429 the caller's limits.
        """
        guard, table = self.guard, self.table
        fields = guard.read(body)
        dropped = guard.clean(fields)
        request = READERS[record.path](fields, prompts=self._learned is not None)
        record.model_asked, record.stream = request.model, request.stream
        record.input_tokens = request.input_tokens
        guard.allow(caller, request.model)
        route = route_request(request, headers, table.models, learned=self.learned)
        deadline = deadline_s(headers, caller.default_deadline_s)
        kept = strip(body, dropped) if dropped else body
        # Last: whatever is refused above has set nothing aside that nobody would give back.
        answers = request.answers
        reserved = guard.reserve(caller, request.input_tokens, request.max_output_tokens, answers)
        if self._demand is not None:
            limit = request.max_output_tokens
            self._demand.arrived(request.model, request.input_tokens, limit)
        path = record.path.encode()
        return Question(route, caller, path, kept, request.model, answers, reserved, deadline)

    def finished(self, record: RequestRecord) -> None:
        """A request is over, however it ended."""
        self.seeing.finished(record)
        if self._demand is not None and record.outcome is Outcome.OK and record.output_tokens:
            asked, output = record.model_asked, record.output_tokens
            self._demand.answered(asked, record.input_tokens, output)

    def engine_headers(self, record: RequestRecord) -> bytes:
        """Lines of our own for an engine; nothing of what a client sent is among them."""
        lines = b"x-request-id: %s\r\n" % record.request_id.encode()
        for name, value in self.seeing.engine_headers(record).items():
            lines += f"{name}: {value}\r\n".encode()
        return lines

    def judge(self, body: bytes) -> Given:
        """Take in feedback, and let the router learn from it.

        Raises:
            ApiError: 400, 404 or 409, see `Feedback.give`.
        """
        given = self.feedback.give(body)
        if self._learned is not None and given.decision.ask is not None:
            self._learned.learn(given.decision.ask, given.decision.model, given.score)
            self._taught = True
        return given

    def _remember(self) -> None:
        """Keep what feedback taught since then; here and not in a thread, so it is whole."""
        if not self._taught or self._learned is None or self.feedback.path is None:
            return
        self._taught = False
        try:
            self._learned.remember(self.feedback.path.with_name(LEARNED))
        except OSError as error:
            log.warning("what feedback taught is not kept: %s", error)

    # time

    def start(self) -> None:
        """Let time pass: queues, probes, what is sampled. Ends with `close`."""
        if self._ticking is None:
            self._ticking = asyncio.create_task(self._tick())
            self._stalls.start(self._stalled)

    async def close(self) -> None:
        """Stop, and close the connections to the engines."""
        if self._ticking is not None:
            self._ticking.cancel()
            apart = [self._syncing] if self._syncing is not None else []
            probes = self._probes.values()
            await asyncio.gather(self._ticking, *probes, *apart, return_exceptions=True)
            self._ticking = None
        self._stalls.close()
        self._remember()
        self.upstream.close()
        if self.estimating is not None:
            self.estimating.close()
        await asyncio.to_thread(self.seeing.close)
        await asyncio.to_thread(self.guard.close)

    def drain(self) -> None:
        """Refuse what is new; what is in flight goes on."""
        if self._dispatcher is not None:
            self._dispatcher.drain()

    def snapshot(self) -> Snapshot:
        """The fleet now."""
        if self._plan is None or self._dispatcher is None:
            return Snapshot()
        found = snapshot_of(self._plan, self._dispatcher.snapshot(), self._wanted)
        return dataclasses.replace(found, ingresses=self._peers())

    def _stalled(self, seconds: float) -> None:
        if self._dispatcher is not None:
            self._dispatcher.stalled(seconds)

    async def _tick(self) -> None:
        sampled_s = synced_s = self.clock()
        while True:
            await asyncio.sleep(TICK_S)
            try:
                now_s = self.clock()
                if self._dispatcher is not None:
                    self._dispatcher.tick()
                    for replica in self._dispatcher.due_probes(now_s):
                        self._probe(replica)
                if now_s - sampled_s >= SECOND_S:
                    sampled_s = now_s
                    self.seeing.tick()
                    self._remember()
                    await self._tell_arrivals()
                syncing = self._syncing is not None and not self._syncing.done()
                if now_s - synced_s >= self.guard.settings.sync_s and not syncing:
                    synced_s = now_s
                    self._syncing = asyncio.create_task(self._sync())
            except Exception:  # time must go on, whatever one of them does
                log.exception("a tick failed")

    async def _sync(self) -> None:
        """Share limits and read keys; apart, for a disk that hangs must not stop time."""
        try:
            await asyncio.to_thread(self.guard.sync)
        except Exception:
            log.exception("limits and keys were not brought up to date")

    async def _tell_arrivals(self) -> None:
        if self._arrivals_dir is not None:
            counts = dict(self.seeing.metrics.arrivals.values)
            try:
                await asyncio.to_thread(write_counts, self._arrivals_dir, counts)
            except InputError as error:
                log.warning("the autoscaler is not told of arrivals: %s", error)

    def _probe(self, replica: Replica) -> None:
        """One at a time: a slow no must not undo a later yes."""
        if replica.id not in self._probes:
            task = asyncio.create_task(self._asked_health(replica))
            self._probes[replica.id] = task
            task.add_done_callback(lambda _: self._probes.pop(replica.id))

    async def _asked_health(self, replica: Replica) -> None:
        healthy = False
        with contextlib.suppress(EngineGoneError, SilentEngineError):
            answer = await self.upstream.get(replica.url, b"/health", PROBE_TIMEOUT_S)
            healthy = answer.status == 200
            answer.close()
        if self._dispatcher is not None:
            self._dispatcher.probed(replica, healthy)
