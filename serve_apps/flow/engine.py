"""One engine replica as the dispatcher knows it: what is in flight, and how well it does.

Everything is known here without asking the engine. Context grows by one token a step for each
sequence that decodes, so all of it follows from one count of steps (`ticks`) a replica:
context = sum of prompts + n * ticks - sum of the ticks at which each began.
"""

from __future__ import annotations

import math
from collections import deque

from serve_apps.flow.law import MOST_PREFILL, Law
from serve_apps.flow.nouns import Lease, Replica, Task
from serve_apps.flow.settings import FlowSettings

PREFILL_MEMORY_S = 2.0
"""Over about so long the share of time that prompts take is averaged."""
SPREAD = 2.0
"""Standard deviations of the number of prompts that an answer meets, by which TPOT is judged."""
LEAST_RATIO, MOST_RATIO = 0.25, 8.0
LAG_SCALE_S = 0.1
"""Of an error in the prediction of so much work, half is put down to the work."""
SUDDEN, UNEXPLAINED, SLOW = 1.5, 2.0, 1.2
"""An answer so many times slower than those of late tells of an engine that is slower, if that is
not for the prompts that came meanwhile: it took longer by so many times what they take. An engine
is then called slow while its pace is worse than the last."""
MOST_LAG_S = 5.0
MOST_HELD = 2.0
"""A pace worse than the profile's by more than this holds no more prompts back: nobody knows
whether they are what takes so long."""
FORGIVEN_S = 5.0
"""A failure so long ago is no reason any more to go elsewhere."""
LEAST_TICK_S = 1e-6
FEWEST_TOKENS = 8
"""Shorter answers say nothing of the time per token."""


class Engine:
    """A replica's work in flight and pace; see `Health` for whether it may be used."""

    __slots__ = (
        "_blind_s",
        "_decode_per_s",
        "_known_s",
        "_kv_tokens",
        "_law",
        "_prefill_per_s",
        "_prefilled",
        "_settings",
        "_tick_s",
        "_unseen",
        "backlog_tokens",
        "completions",
        "decoding",
        "ejected",
        "failed_s",
        "failures",
        "gone",
        "in_flight",
        "lag_s",
        "last_byte_s",
        "pending",
        "probe_after_s",
        "probe_interval_s",
        "replica",
        "reserved_tokens",
        "slow",
        "ticks",
        "tpot_ratio",
        "ttft_ratio",
        "warm",
    )

    def __init__(self, replica: Replica, law: Law, settings: FlowSettings, now: float) -> None:
        self.replica = replica
        self._law = law
        self._settings = settings
        self.in_flight = 0
        self.decoding = 0
        self.completions = 0
        self.backlog_tokens = 0.0
        """Prompt tokens of requests that have no first byte yet."""
        self.reserved_tokens = 0.0
        """KV cache set aside for what is in flight."""
        self.ticks = 0.0
        self.ttft_ratio = self.tpot_ratio = 1.0
        """Actual over predicted, as seen of late."""
        self.lag_s = 0.0
        """What first tokens take besides, whatever the work."""
        self.pending: dict[Lease, float] = {}
        """Leases without a first byte, oldest first, and when each is overdue."""
        self._unseen: deque[tuple[float, Lease]] = deque()
        """Leases whose first token nobody sees, and when it is expected."""
        self.last_byte_s = now
        self.ejected = self.gone = self.slow = False
        self.failures = 0
        self.failed_s = now
        self._blind_s = -math.inf
        """Until when nobody here looked; what was under way then tells nothing of its pace."""
        self.warm: int | None = None
        self.probe_after_s = math.inf
        self.probe_interval_s = settings.probe_s
        self._known_s = now
        self._prefilled = 0.0
        self._kv_tokens = self._prefill_per_s = self._decode_per_s = 0.0
        self._tick_s = law.base_s

    def adopt(self, law: Law) -> None:
        """Reckon by another profile from now on."""
        self._law = law

    # -- predictions

    def context_tokens(self, now: float) -> float:
        """Tokens that the sequences which decode attend to, by now."""
        return self._kv_tokens + self._decode_per_s * (now - self._known_s)

    def ttft_s(self, prefill_tokens: float, now: float) -> float:
        """To the first token of a request with so many tokens to prefill, sent now."""
        work_s = self.work_s(prefill_tokens, now)
        return self._law.overhead_s + self.lag_s + self.ttft_ratio * work_s

    def work_s(self, prefill_tokens: float, now: float) -> float:
        """The same by the law alone: the step under way, the prompts here and its own."""
        law, decoding = self._law, self.decoding
        kv = self._kv_tokens + self._decode_per_s * (now - self._known_s)
        step_s = law.step_s(decoding, kv)
        tokens = self.backlog_tokens + prefill_tokens
        room = law.budget - decoding
        steps = -(-tokens // (room if room > 1 else 1)) + (0.5 if self.in_flight else 0.0)
        return steps * step_s + law.per_prefill_s * tokens

    def tpot_s(self, prefill_tokens: float, now: float) -> float:
        """Per output token of a request, with one more of this size in flight."""
        law = self._law
        kv = self._kv_tokens + self._decode_per_s * (now - self._known_s)
        step_s = law.step_s(self.in_flight + 1, kv + self.backlog_tokens + prefill_tokens)
        busy = law.per_prefill_s * self._prefill_per_s
        return self.tpot_ratio * step_s / (1.0 - (busy if busy < MOST_PREFILL else MOST_PREFILL))

    def cost_s(
        self,
        prefill_tokens: float,
        output_tokens: float,
        tpot_limit_s: float,
        backlog_s: float,
        now: float,
    ) -> float:
        """Until one more request of this size is answered in full; infinite without room for it.

        There is none above the engine's own limits, nor where all would miss ``tpot_limit_s`` by
        it, nor while the prompts it holds take longer than ``backlog_s``. An idle engine has room.
        The sum of `ttft_s` and `tpot_s`, written out: this is asked of every replica each time.
        """
        law, count, backlog = self._law, self.in_flight, self.backlog_tokens
        per_prefill_s = law.per_prefill_s
        if count:
            if count >= (law.max_seqs if self.warm is None else min(law.max_seqs, self.warm)):
                return math.inf
            needed = prefill_tokens + self._settings.kv_growth * output_tokens
            if self.reserved_tokens + needed > law.kv_tokens:
                return math.inf
            pace = self.ttft_ratio if self.ttft_ratio < MOST_HELD else MOST_HELD
            if per_prefill_s * backlog * pace > backlog_s:
                return math.inf
        tokens = backlog + prefill_tokens
        kv = self._kv_tokens + self._decode_per_s * (now - self._known_s)
        busy = per_prefill_s * self._prefill_per_s
        left = 1.0 - busy if busy < MOST_PREFILL else 1.0 - MOST_PREFILL
        step_s = law.base_s + law.per_sequence_s * (count + 1) + law.per_kv_s * (kv + tokens)
        if law.extra_s:
            step_s += law.extra_s[min(count + 1, len(law.extra_s) - 1)]
        tpot_s = self.tpot_ratio * step_s / left
        if count and busy > 0.0:
            # Of the prompts that come while an answer is written some answers meet more.
            met = self._prefill_per_s * output_tokens * tpot_s / prefill_tokens
            most = busy * (1.0 + (SPREAD / math.sqrt(met) if met > 1.0 else SPREAD))
            most = most if most < MOST_PREFILL else MOST_PREFILL
            if self.tpot_ratio * step_s / (1.0 - most) > tpot_limit_s:
                return math.inf
        steps = -(-tokens // (law.budget - self.decoding or 1)) + (0.5 if count else 0.0)
        ttft_s = self.lag_s + self.ttft_ratio * (steps * step_s + per_prefill_s * tokens)
        return ttft_s + output_tokens * tpot_s

    # -- what happens

    def take(self, lease: Lease, now: float) -> None:
        """A request is sent here."""
        self.settle(now)
        task = lease.task
        lease.work_s = self.work_s(lease.prefill_tokens, now)
        lease.predicted_ttft_s = self._law.overhead_s + self.lag_s + self.ttft_ratio * lease.work_s
        lease.predicted_tpot_s = self.tpot_s(lease.prefill_tokens, now)
        lease.reserved_tokens = (
            task.asked.input_tokens + self._settings.kv_growth * task.output_tokens
        )
        alone = self.in_flight == 0
        self.in_flight += 1
        self.backlog_tokens += lease.prefill_tokens
        self.reserved_tokens += lease.reserved_tokens
        memory = 0.0 if alone else math.exp(-(now - self._known_s) / PREFILL_MEMORY_S)
        self._prefill_per_s = self._prefill_per_s * memory + lease.prefill_tokens / PREFILL_MEMORY_S
        ttft_s = answer_s = lease.predicted_ttft_s
        if not task.asked.stream:
            self._unseen.append((now + ttft_s, lease))
            answer_s += lease.predicted_tpot_s * longest_answer(task)
        lease.overdue_s = max(self._settings.least_silence_s, self._settings.silence * answer_s)
        self.pending[lease] = now + lease.overdue_s
        self._note(now)

    def begin(self, lease: Lease, now: float) -> None:
        """Its first byte came: the prompt is done, the answer goes on."""
        self.last_byte_s = now
        self.settle(now)
        self.pending.pop(lease, None)
        self._judge(lease, now)
        self._decode(lease)
        self._note(now)

    def release(self, lease: Lease, now: float, output_tokens: int | None) -> None:
        """A request is no longer here; ``output_tokens`` where it ended well and they are known."""
        self.settle(now)
        self.in_flight -= 1
        self.pending.pop(lease, None)
        self.reserved_tokens -= lease.reserved_tokens
        if lease.decodes:
            self.decoding -= 1
            self._kv_tokens -= lease.task.asked.input_tokens + self.ticks - lease.start_tick
            judged = lease.dispatched_s > self._blind_s
            if judged and output_tokens is not None and output_tokens >= FEWEST_TOKENS:
                self._learn_pace(lease, now, output_tokens)
        else:
            self.backlog_tokens -= lease.prefill_tokens
        if self.in_flight == 0:  # rounding must not add up
            self.backlog_tokens = self.reserved_tokens = self._kv_tokens = 0.0
            self._unseen.clear()
        self._note(now)

    def settle(self, now: float) -> None:
        """Let time pass: sequences grow, and prompts whose end nobody sees are taken to be done."""
        elapsed_s = now - self._known_s
        if elapsed_s > 0:
            self.ticks += elapsed_s / self._tick_s
            self._kv_tokens += self._decode_per_s * elapsed_s
            self._prefill_per_s *= math.exp(-elapsed_s / PREFILL_MEMORY_S)
            self._known_s = now
        if self._unseen and self._unseen[0][0] <= now:
            while self._unseen and self._unseen[0][0] <= now:
                lease = self._unseen.popleft()[1]
                if not lease.ended:
                    self._decode(lease)
            self._note(now)

    def catch_up(self, now: float) -> None:
        """`settle`, where a prompt whose end nobody sees is taken to be done by now."""
        if self._unseen and self._unseen[0][0] <= now:
            self.settle(now)

    def relax(self, elapsed_s: float, now: float) -> None:
        """Forget a little of its pace and failures while it has no work, else it gets none."""
        if self.in_flight == 0:
            if self.failures and now - self.failed_s > FORGIVEN_S:
                self.failures = 0
            idle_s = min(elapsed_s, now - self._known_s)
            left = 0.5 ** (idle_s / self._settings.idle_half_life_s)
            self.ttft_ratio = 1.0 + (self.ttft_ratio - 1.0) * left
            self.lag_s *= left
            self.tpot_ratio = 1.0 + (self.tpot_ratio - 1.0) * left

    def overdue_s(self, now: float) -> float:
        """By how much the oldest request without a byte has taken longer than predicted.

        Who is late will be later still: it may hang, long before that is sure.
        """
        for lease, overdue_s in self.pending.items():
            expected_s = overdue_s - lease.overdue_s * (1.0 - 1.0 / self._settings.silence)
            return now - expected_s if now > expected_s else 0.0
        return 0.0

    # -- health

    def failed(self, now: float) -> None:
        """A request failed, and not by its own fault."""
        self.failures += 1
        self.failed_s = now

    def excuse(self, seconds: float, now: float) -> None:
        """Nobody here looked for so long, until now: it may have answered all the while."""
        self._blind_s = now
        for lease in self.pending:
            self.pending[lease] += seconds

    def hangs(self, now: float) -> bool:
        """Whether it has had work and sent no byte for far longer than predicted."""
        for lease, overdue_s in self.pending.items():
            return now > overdue_s and now - self.last_byte_s > lease.overdue_s
        return False

    @property
    def state(self) -> str:
        """``open``, ``warming`` or ``ejected``; suspicion depends on the time, see `hangs`."""
        if self.ejected:
            return "ejected"
        return "open" if self.warm is None else "warming"

    def went_well(self, now: float) -> None:
        """An answer came, be it the client's fault."""
        self.last_byte_s = now
        self.failures = 0
        if self.warm is not None:
            self.warm *= 2
            if self.warm > self._law.max_seqs:
                self.warm = None
                self.probe_interval_s = self._settings.probe_s

    def eject(self, probe_at_s: float) -> None:
        """Give it nothing until a probe says that it is well."""
        if not self.ejected:
            self.ejected = True
            self.probe_after_s = probe_at_s

    def recover(self) -> None:
        """A probe went well: start slowly, and fall at the first failure."""
        self.ejected = False
        self.failures = 0
        self.probe_after_s = math.inf
        self.warm = 1

    # -- inside

    def _decode(self, lease: Lease) -> None:
        if lease.decodes:
            return
        lease.decodes, lease.decodes_s = True, self._known_s
        lease.start_tick = self.ticks
        self._prefilled += lease.prefill_tokens
        lease.prefilled_before = self._prefilled
        self.backlog_tokens -= lease.prefill_tokens
        self.decoding += 1
        self._kv_tokens += lease.task.asked.input_tokens

    def _judge(self, lease: Lease, now: float) -> None:
        """Learn from a time to first token, by normalised least mean squares in (1, work).

        Who is late by little work is late for another reason: a host that is busy, a network.
        """
        if not lease.task.asked.stream or lease.dispatched_s <= self._blind_s:
            return
        work_s = lease.work_s
        took_s = now - lease.dispatched_s - self._law.overhead_s
        error_s = took_s - self.lag_s - self.ttft_ratio * work_s
        step = self._settings.smoothing * error_s / (LAG_SCALE_S**2 + work_s**2)
        self.lag_s = min(max(self.lag_s + step * LAG_SCALE_S**2, 0.0), MOST_LAG_S)
        self.ttft_ratio = min(max(self.ttft_ratio + step * work_s, LEAST_RATIO), MOST_RATIO)

    def _note(self, now: float) -> None:
        """Work out the pace of a step, which holds until the next thing happens."""
        self._known_s = now
        law, decoding = self._law, self.decoding
        busy = law.per_prefill_s * self._prefill_per_s
        step_s = law.step_s(decoding or 1, self._kv_tokens)
        left = 1.0 - busy if busy < MOST_PREFILL else 1.0 - MOST_PREFILL
        tick_s = self.tpot_ratio * step_s / left
        self._tick_s = tick_s = tick_s if tick_s > LEAST_TICK_S else LEAST_TICK_S
        self._decode_per_s = decoding / tick_s

    def _learn_pace(self, lease: Lease, now: float, output_tokens: int) -> None:
        """From an answer: of which length, and how many steps there should have been."""
        ratio = self.tpot_ratio
        times = (self.ticks - lease.start_tick) / (output_tokens - 1)
        sudden = False
        if times > SUDDEN:
            excess_s = (now - lease.decodes_s) * (1.0 - 1.0 / times)
            stalls_s = self._law.per_prefill_s * (self._prefilled - lease.prefilled_before)
            sudden = excess_s > UNEXPLAINED * stalls_s
        weight = self._settings.alarm if sudden else self._settings.smoothing
        seen = min(max(ratio * times, LEAST_RATIO), MOST_RATIO)
        self.tpot_ratio = ratio + weight * (seen - ratio)
        self.slow = (sudden or self.slow) and self.tpot_ratio > SLOW


def longest_answer(task: Task) -> float:
    """Tokens that an answer may well have: its limit, or several times what is expected."""
    several = 4.0 * task.output_tokens
    limit = task.asked.max_output_tokens
    return several if limit is None else min(several, max(limit, 1))
