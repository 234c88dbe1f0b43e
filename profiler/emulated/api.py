"""The pages of an emulated engine: OpenAI's, vLLM's, and its own for faults and state."""

from __future__ import annotations

import asyncio
import hmac
import json
import os
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

from pydantic import Field, ValidationError

from profiler.core import Noun
from profiler.emulated.answer import Answer, Label, Piece
from profiler.emulated.asked import Reader, Refusal
from profiler.emulated.faults import Fault, Strikes
from profiler.emulated.http import JSON, TEXT, Exchange
from profiler.emulated.metrics import (
    E2E_BUCKETS_S,
    TPOT_BUCKETS_S,
    TTFT_BUCKETS_S,
    Histogram,
    exposition,
)
from profiler.emulated.pacer import Clock, Pacer
from profiler.emulated.replica import Request
from profiler.emulated.settings import Settings

VERSION = "0.0.0+emulated"
ADMIN = "/emulated/"
DANGEROUS = (
    "/invocations", "/pooling", "/score", "/tokenize", "/sleep", "/collective_rpc",
    "/v1/load_lora_adapter", "/v1/unload_lora_adapter",
)  # fmt: skip
"""What vLLM offers beside answers, and no gateway should pass on. Answered, so that a test sees a
gateway that does."""
WAIT_S = 30.0


class State(Noun):
    """What an engine is doing, and has done."""

    emulated: bool = True
    model: str
    fingerprint: str
    in_flight: int = Field(description="HTTP requests that wait for an answer or the rest of it")
    running: int = Field(description="requests in the batch")
    waiting: int = Field(description="requests in the engine's queue")
    seen: int
    finished: int
    aborted: int = Field(description="clients that left, answers cut by a fault")
    refused: int = Field(description="malformed, too long, or for another model")
    struck: int = Field(description="requests that the present fault struck")
    peak_in_flight: int
    prompt_tokens: int
    generation_tokens: int
    steps: int
    late_steps: int = Field(description="steps whose end was seen more than 10 ms late")
    lateness_mean_s: float
    lateness_max_s: float
    fault: Fault | None


class Api:
    """One engine's pages, and the engine behind them."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        *,
        die: Callable[[], None],
        listen: Callable[..., None],
        key: str = "",
    ) -> None:
        """``die`` ends the server at once; ``listen(bool)`` opens and closes its port."""
        self._settings = settings
        self._clock = clock
        self._die = die
        self._listen = listen
        self._key = f"Bearer {key}".encode() if key else b""
        self._model = settings.profile.config.model
        self._fingerprint = settings.fingerprint
        self._pacer = Pacer(
            settings.profile, clock, self._token, speed=settings.speed, on_step=self._stepped
        )
        self._longest = self._pacer.replica.longest_tokens
        self._reader = Reader(self._model, self._longest, settings.outputs)
        self._open: set[Answer] = set()
        self._held: list[Exchange] = []
        self._watchers: list[tuple[Callable[[State], bool], asyncio.Future[State]]] = []
        self._strikes = Strikes(None)
        self._expiry: Any = None
        self._die_at_tokens: int | None = None
        self._seen = self._refused = self._peak = self._preemptions = 0
        self._prompt_tokens = self._tokens = 0
        self._ends = {"stop": 0, "length": 0, "abort": 0}
        self._ttft = Histogram(TTFT_BUCKETS_S)
        self._tpot = Histogram(TPOT_BUCKETS_S)
        self._e2e = Histogram(E2E_BUCKETS_S)
        if settings.fault is not None:
            self.set_fault(settings.fault)

    def handle(self, exchange: Exchange) -> None:
        """Answer one request, now or in time."""
        if self._pacer.frozen and not exchange.path.startswith(ADMIN):
            self._hold(exchange)
            return
        if self._key and exchange.path.startswith("/v1"):
            shown = exchange.headers.get(b"authorization", b"")
            if not hmac.compare_digest(shown, self._key):
                exchange.respond(401, b'{"error":"Unauthorized"}')
                return
        try:
            self._route(exchange)
        except Refusal as refusal:
            self._refused += 1
            exchange.respond(refusal.status, refusal.body)

    def state(self) -> State:
        """The engine now."""
        late, replica = self._pacer.lateness, self._pacer.replica
        return State(
            model=self._model,
            fingerprint=self._fingerprint,
            in_flight=len(self._open) + len(self._held),
            running=replica.running,
            waiting=replica.waiting,
            seen=self._seen,
            finished=self._ends["stop"] + self._ends["length"],
            aborted=self._ends["abort"],
            refused=self._refused,
            struck=self._strikes.struck,
            peak_in_flight=self._peak,
            prompt_tokens=self._prompt_tokens,
            generation_tokens=self._tokens,
            steps=late.steps,
            late_steps=late.late_steps,
            lateness_mean_s=late.sum_s / max(1, late.steps),
            lateness_max_s=late.max_s,
            fault=self._strikes.fault,
        )

    async def until(self, holds: Callable[[State], bool], timeout_s: float = WAIT_S) -> State:
        """The state as soon as it is so; looked at whenever a request or a step comes or ends.

        Raises:
            TimeoutError: it is not so within ``timeout_s``.
        """
        state = self.state()
        if holds(state):
            return state
        future: asyncio.Future[State] = asyncio.get_running_loop().create_future()
        watcher = (holds, future)
        self._watchers.append(watcher)
        try:
            return await asyncio.wait_for(future, timeout_s)
        finally:
            self._watchers.remove(watcher)

    def set_fault(self, fault: Fault) -> None:
        """Show a fault, in the place of the one before."""
        self.clear_fault()
        self._strikes = Strikes(fault, self._settings.seed)
        if fault.for_s is not None:
            self._expiry = self._clock.call_at(self._clock.time() + fault.for_s, self.clear_fault)
        if fault.kind == "slow":
            self._pacer.slowdown = fault.factor
        elif fault.kind == "freeze":
            self._pacer.freeze()
        elif fault.kind == "refuse":
            self._listen(False)
        elif fault.kind == "die":
            self._die_at_tokens = self._tokens + fault.after_tokens
            if fault.after_tokens == 0:
                self._die()

    def clear_fault(self) -> None:
        """Be well again. Requests that a fault has struck stay struck."""
        fault, self._strikes = self._strikes.fault, Strikes(None)
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        self._pacer.slowdown = 1.0
        self._die_at_tokens = None
        if fault is not None and fault.kind == "refuse":
            self._listen(True)
        if self._pacer.frozen:
            self._pacer.thaw()
            held, self._held = self._held, []
            for exchange in held:
                exchange.on_gone = None
                self.handle(exchange)
        self._notify()

    def close(self) -> None:
        """Take no further step."""
        self._pacer.close()
        if self._expiry is not None:
            self._expiry.cancel()

    def _route(self, exchange: Exchange) -> None:
        match exchange.method, exchange.path:
            case "POST", "/v1/chat/completions":
                self._complete(exchange, chat=True)
            case "POST", "/v1/completions":
                self._complete(exchange, chat=False)
            case "GET", "/v1/models":
                exchange.respond(200, self._models())
            case "GET", "/health" | "/ping":
                exchange.respond(200)
            case "GET", "/version":
                exchange.respond(200, json.dumps({"version": VERSION}).encode())
            case "GET", "/metrics":
                exchange.respond(200, self._metrics().encode(), TEXT)
            case "GET", "/emulated/state":
                self._tell_state(exchange)
            case "POST", "/emulated/fault":
                self._admit_fault(exchange)
            case "DELETE", "/emulated/fault":
                self.clear_fault()
                exchange.respond(200, b"{}")
            case "POST", path if path in DANGEROUS:
                exchange.respond(200, b'{"emulated":true}')
            case _:
                exchange.respond(404, b'{"detail":"Not Found"}')

    def _complete(self, exchange: Exchange, *, chat: bool) -> None:
        self._seen += 1
        asked = self._reader.read(exchange.body, chat=chat)
        prefix = "chatcmpl-" if chat else "cmpl-"
        given = exchange.headers.get(b"x-request-id", b"").decode("latin-1")
        label = Label(prefix + (given or os.urandom(16).hex()), self._model, self._fingerprint)
        answer = Answer(exchange, asked, label, self._strikes.next(), self._ended)
        self._open.add(answer)
        self._peak = max(self._peak, len(self._open))
        answer.begin()
        if answer.waits:
            self._prompt_tokens += asked.prompt_tokens
            for piece in answer.pieces:
                self._pacer.submit(piece)
        self._notify()

    def _token(self, request: Request) -> None:
        assert isinstance(request, Piece)
        self._tokens += 1
        if self._die_at_tokens is not None and self._tokens >= self._die_at_tokens:
            self._die_at_tokens = None
            self._die()
            return
        request.answer.token(request)

    def _stepped(self) -> None:
        if self._watchers:
            self._notify()

    def _ended(self, answer: Answer) -> None:
        for piece in answer.pieces:
            if piece.told < piece.output_tokens:
                self._pacer.cancel(piece)
        if answer.hung or answer not in self._open:
            return
        self._open.discard(answer)
        for piece in answer.pieces:
            self._ends[piece.finish_reason if answer.complete else "abort"] += 1
            self._preemptions += piece.preemptions
            if answer.complete:
                self._observe(piece)
        self._notify()

    def _observe(self, piece: Piece) -> None:
        overhead_s = self._settings.profile.request_overhead_s
        self._ttft.observe(piece.first_token_s - piece.arrival_s + overhead_s)
        self._e2e.observe(piece.finish_s - piece.arrival_s + overhead_s)
        if piece.output_tokens > 1:
            decoding_s = piece.finish_s - piece.first_token_s
            self._tpot.observe(decoding_s / (piece.output_tokens - 1))

    def _notify(self) -> None:
        if self._watchers:
            state = self.state()
            for holds, future in self._watchers:
                if not future.done() and holds(state):
                    future.set_result(state)

    def _hold(self, exchange: Exchange) -> None:
        self._held.append(exchange)
        self._notify()
        exchange.on_gone = lambda: self._held.remove(exchange)

    def _admit_fault(self, exchange: Exchange) -> None:
        try:
            fault = Fault.model_validate_json(exchange.body)
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False, include_input=False)
            raise Refusal(400, f"not a fault: {found}") from None
        if fault.kind == "refuse" and fault.for_s is None:
            raise Refusal(
                400, "refuse: expected for_s, since nobody could reach this page to end it"
            )
        exchange.respond(200, fault.model_dump_json().encode())
        self.set_fault(fault)

    def _tell_state(self, exchange: Exchange) -> None:
        """Now, or as soon as the counters named in the query have the values given."""
        wanted = {key: values[-1] for key, values in parse_qs(exchange.query).items()}
        try:
            timeout_s = float(wanted.pop("timeout_s", WAIT_S))
            values = {key: int(value) for key, value in wanted.items()}
        except ValueError:
            raise Refusal(400, "expected whole numbers, such as ?in_flight=0") from None
        if unknown := set(values) - set(State.model_fields):
            raise Refusal(400, f"no counter is named {sorted(unknown)}")

        def holds(state: State) -> bool:
            return all(getattr(state, key) == value for key, value in values.items())

        task = asyncio.ensure_future(self.until(holds, timeout_s))
        exchange.on_gone = task.cancel  # type: ignore[assignment]  # its result is of no use

        def told(done: asyncio.Future[State]) -> None:
            if done.cancelled():
                return
            late = done.exception() is not None
            state = self.state() if late else done.result()
            exchange.respond(504 if late else 200, state.model_dump_json().encode(), JSON)

        task.add_done_callback(told)

    def _models(self) -> bytes:
        card = {
            "id": self._model,
            "object": "model",
            "created": 0,
            "owned_by": "emulated",
            "root": self._model,
            "max_model_len": self._longest,
            "emulated": True,
            "profile": self._fingerprint,
        }
        return json.dumps({"object": "list", "data": [card]}).encode()

    def _metrics(self) -> str:
        state, profile = self.state(), self._settings.profile
        return exposition(
            self._model,
            gauges={
                "vllm:num_requests_running": state.running,
                "vllm:num_requests_waiting": state.waiting,
                "vllm:kv_cache_usage_perc": self._pacer.replica.kv_usage,
                "emulated:step_lateness_seconds_max": state.lateness_max_s,
                "emulated:step_lateness_seconds_mean": state.lateness_mean_s,
            },
            counters={
                "vllm:prompt_tokens_total": state.prompt_tokens,
                "vllm:generation_tokens_total": state.generation_tokens,
                "vllm:num_preemptions_total": self._preemptions,
                "emulated:steps_total": state.steps,
                "emulated:late_steps_total": state.late_steps,
            },
            finished=self._ends,
            histograms={
                "vllm:time_to_first_token_seconds": self._ttft,
                "vllm:request_time_per_output_token_seconds": self._tpot,
                "vllm:e2e_request_latency_seconds": self._e2e,
            },
            cache={
                "block_size": profile.kv_block_tokens,
                "num_gpu_blocks": profile.kv_capacity_tokens // profile.kv_block_tokens,
                "kv_cache_size_tokens": profile.kv_capacity_tokens,
            },
        )
