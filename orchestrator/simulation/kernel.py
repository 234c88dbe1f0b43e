"""The compiled engine: `profiler.emulated.replica`'s scheduler, from event to event.

While nobody arrives, ends or is short of KV blocks, a replica only decodes: k steps of n requests
with S tokens of context take ``k (a + c n + d S) + d n k (k - 1) / 2`` seconds, so they are planned
as one and committed when time has passed their end. An arrival shortens them to the step that is
under way. Steps that prefill or preempt are planned one by one. A request costs O(log n) then,
whatever its length.

Every running request decodes in every step, except the newest while its prompt is cut: a step's
budget is handed out in order of admission and a cut prompt takes the rest, so nobody is admitted
behind it and there are never more running requests than tokens in the budget. So a replica
counts ticks (steps), and a decoding request is known by two numbers that do not change with time:
the tick at which it ends, and the ticks at which it needs a block (modulo the block's tokens).

All functions work on the arrays of `orchestrator.simulation.state.State` in place.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from orchestrator.simulation.state import NONE, Array, State
from profiler.compiled import compiled, inner

# What `serve` and `offer` answer.
SENT, NO_REPLICA, FULL = 0, 1, 2
# Outcomes; see `orchestrator.simulation.result.Outcome`.
PENDING, OK, REJECTED, OVERLOADED, UNAVAILABLE = 0, 1, 2, 3, 4


@compiled
def serve(state: State, first: int, last: int, until_s: float) -> tuple[int, int]:
    """Send requests ``first..last - 1`` that arrive before a time, each to its group if any.

    Returns the request at which it stopped, and why: SENT, or what `offer` said of it.
    """
    for i in range(first, last):
        at_s = state.requests[i].arrival_s
        if at_s >= until_s:
            return i, SENT
        if state.requests[i].group == NONE:
            continue
        answer = offer(state, i, state.requests[i].group, at_s)
        if answer != SENT:
            return i, answer
    return last, SENT


@compiled
def offer(state: State, i: int, group: int, at_s: float) -> int:
    """Send a request to the replica of a group with the fewest in flight, the first at a tie.

    SENT, also when the engine rejects it because it could never hold it; NO_REPLICA where the
    group has none that takes requests; FULL where none of them has a free slot.
    """
    chosen, fewest = NONE, state.slots[group]
    for m in range(state.sizes[group]):
        r = state.members[group, m]
        replica = state.replicas[r]
        if replica.next_s <= at_s:
            advance(state, r, at_s)
        if replica.in_flight < fewest:
            chosen, fewest = r, replica.in_flight
    if chosen == NONE:
        return FULL if state.sizes[group] > 0 else NO_REPLICA
    request, replica = state.requests[i], state.replicas[chosen]
    request.group = group
    tokens = request.input + request.output
    if tokens > replica.max_model_len or _blocks(replica, tokens) > replica.total_blocks:
        request.outcome = REJECTED
    else:
        _submit(state, replica, chosen, i, at_s)
    return SENT


@compiled
def advance(state: State, r: int, until_s: float) -> None:
    """Commit all that ends by a time, and plan the steps that start before it."""
    replica = state.replicas[r]
    while replica.in_flight > 0 and replica.next_s <= until_s:
        if replica.planned > 0:
            _commit(state, replica, r)
        elif replica.clock_s < until_s:
            _plan(state, replica, r)
        else:  # whoever arrives at this very moment still takes part in the next step
            return


@compiled
def advance_all(state: State, replicas: int, until_s: float) -> None:
    """`advance` the first so many replicas."""
    for r in range(replicas):
        advance(state, r, until_s)


@compiled
def next_room(state: State, group: int, slots: int, until_s: float) -> float:
    """When a request of a full group ends, no later than a time; infinite when none does.

    Commits all that ends before, so nothing may be sent to the group until then.
    """
    while True:
        soonest, at_s = NONE, until_s
        for m in range(state.sizes[group]):
            r = state.members[group, m]
            replica = state.replicas[r]
            if replica.in_flight > 0:
                if replica.planned == 0:
                    _plan(state, replica, r)
                if replica.next_s <= at_s:
                    soonest, at_s = r, replica.next_s
        if soonest == NONE:
            return np.inf
        replica = state.replicas[soonest]
        _commit(state, replica, soonest)
        if replica.in_flight < slots:
            return at_s


@compiled
def submit(state: State, i: int, r: int, at_s: float) -> int:
    """Send a request to this replica; SENT, or REJECTED because its engine could never hold it."""
    advance(state, r, at_s)
    request, replica = state.requests[i], state.replicas[r]
    tokens = request.input + request.output
    if tokens > replica.max_model_len or _blocks(replica, tokens) > replica.total_blocks:
        request.outcome = REJECTED
        return REJECTED
    _submit(state, replica, r, i, at_s)
    return SENT


@compiled
def next_news(
    state: State, replicas: int, until_s: float, begun: Array, ended: Array
) -> tuple[float, int, int]:
    """When the next request gets its first token or ends, no later than a time; else infinite.

    Those that do then on that replica go to ``begun`` and ``ended``, both with room for the
    largest batch; returns how many. Commits all that happens before on every replica, so nothing
    may be sent for an earlier time.
    """
    while True:
        soonest, at_s = NONE, until_s
        for r in range(replicas):
            replica = state.replicas[r]
            if replica.in_flight > 0:
                if replica.planned == 0 and replica.clock_s < until_s:
                    _plan(state, replica, r)
                if replica.planned > 0 and replica.next_s <= at_s:
                    soonest, at_s = r, replica.next_s
        if soonest == NONE:
            return np.inf, 0, 0
        begins, ends = _due(state, state.replicas[soonest], soonest, begun, ended)
        _commit(state, state.replicas[soonest], soonest)
        told = 0
        for k in range(begins):
            i = begun[k]
            if state.requests[i].first_token_s < np.inf:
                begun[told] = i
                told += 1
                if state.requests[i].finish_s < np.inf:
                    ended[ends] = i
                    ends += 1
        if told + ends > 0:
            return at_s, told, ends


@compiled
def waiting(state: State, r: int) -> int:
    """Requests in a replica's own queue, which have been advanced to the time asked of."""
    count = 0
    i = state.replicas[r].first_waiting
    while i != NONE:
        count += 1
        i = state.requests[i].next
    return count


@compiled
def look(state: State, rows: Array, at_s: float, in_flight: Array, queued: Array) -> None:
    """How many requests each of these replicas has at a time, and how many in its own queue."""
    for k in range(len(rows)):
        advance(state, rows[k], at_s)
        in_flight[k] = state.replicas[rows[k]].in_flight
        queued[k] = waiting(state, rows[k])


@compiled
def serve_balanced(
    state: State, first: int, last: int, until_s: float, classes: Array, bias: Array, width: Array
) -> int:
    """Send requests ``first..last - 1`` that arrive before a time, each where it disturbs least.

    Of the groups with a free slot, that with the least (requests in flight + 1) / (replicas x
    ``width[group]``) + ``bias[class, group]``; an infinite bias rules a group out. Who finds no
    free slot is turned away at once. Returns the request at which it stopped.
    """
    groups = len(width)
    for i in range(first, last):
        at_s = state.requests[i].arrival_s
        if at_s >= until_s:
            return i
        best, least, any_replica = NONE, np.inf, False
        for g in range(groups):
            cost = bias[classes[i], g]
            if state.sizes[g] == 0 or cost == np.inf:
                continue
            any_replica = True
            in_flight, fewest = 0, np.iinfo(np.int64).max
            for m in range(state.sizes[g]):
                replica = state.replicas[state.members[g, m]]
                if replica.next_s <= at_s:
                    advance(state, state.members[g, m], at_s)
                in_flight += replica.in_flight
                fewest = min(fewest, replica.in_flight)
            if fewest < state.slots[g]:
                cost += (in_flight + 1) / (state.sizes[g] * width[g])
                if cost < least:
                    best, least = g, cost
        if best == NONE:
            state.requests[i].outcome = OVERLOADED if any_replica else UNAVAILABLE
        else:
            offer(state, i, best, at_s)
    return last


@compiled
def kill(state: State, r: int, at_s: float, taken: Array) -> None:
    """Take all requests in flight from a replica; their indices go to ``taken``, unordered.

    The replica has been advanced to that time, and ``taken`` has its number in flight.
    """
    replica = state.replicas[r]
    if replica.planned > 0:
        replica.busy_s += max(0.0, at_s - replica.clock_s)
    count = 0
    for head in (replica.oldest, replica.first_waiting):
        i = head
        while i != NONE:
            taken[count] = i
            count += 1
            i = state.requests[i].next
    replica.in_flight = 0
    replica.next_s = np.inf


@inner
def _due(state: State, replica: Any, r: int, begun: Array, ended: Array) -> tuple[int, int]:
    """Who may get a first token, and who ends, with the steps planned."""
    begins, ends, tick = 0, 0, replica.tick + replica.planned
    for k in range(replica.decodes):
        if state.finish_ticks[r, k] == tick:
            ended[ends] = state.finishing[r, k]
            ends += 1
    i = replica.fresh if replica.mixed == 1 else NONE
    while i != NONE:
        if state.requests[i].first_token_s == np.inf:
            begun[begins] = i
            begins += 1
        i = state.requests[i].next
    return begins, ends


@inner
def _submit(state: State, replica: Any, r: int, i: int, at_s: float) -> None:
    request = state.requests[i]
    request.replica = r
    if replica.in_flight == 0:
        replica.clock_s = max(replica.clock_s, at_s)
        replica.next_s = replica.clock_s
    elif replica.planned > 1 and replica.first_waiting == NONE:
        # Behind others that wait, which only an end or a preemption lets in, it changes nothing.
        steps = _steps_before(state, replica, r, at_s)
        replica.planned = steps
        replica.next_s = _end_s(state, replica, r, steps)
    request.previous, request.next = replica.last_waiting, NONE
    if replica.last_waiting == NONE:
        replica.first_waiting = i
    else:
        state.requests[replica.last_waiting].next = i
    replica.last_waiting = i
    replica.in_flight += 1


@inner
def _end_s(state: State, replica: Any, r: int, steps: int) -> float:
    """When so many decode steps from the clock on would end."""
    step_s = state.batch_s[r, replica.decodes] + replica.per_kv_token_s * replica.kv_tokens
    growth_s = replica.per_kv_token_s * replica.decodes
    return float(replica.clock_s + steps * step_s + growth_s * (0.5 * steps * (steps - 1)))


@inner
def _steps_before(state: State, replica: Any, r: int, at_s: float) -> int:
    """How many of the steps planned start before a time (which lies between their ends)."""
    half_s = 0.5 * replica.per_kv_token_s * replica.decodes
    step_s = _end_s(state, replica, r, 1) - replica.clock_s - half_s
    passed_s = at_s - replica.clock_s
    root = step_s + np.sqrt(step_s * step_s + 4.0 * half_s * passed_s)
    steps = min(max(int(np.ceil(2.0 * passed_s / root)), 1), replica.planned)
    while steps > 1 and _end_s(state, replica, r, steps - 1) >= at_s:  # the root's rounding
        steps -= 1
    while steps < replica.planned and _end_s(state, replica, r, steps) < at_s:
        steps += 1
    return int(steps)


@inner
def _plan(state: State, replica: Any, r: int) -> None:
    """Decide on the next steps: as many decode steps as are alike, or one of another kind."""
    needed = state.phases[r, replica.tick % replica.block_tokens]
    if replica.partial == NONE and not _admits(state, replica, needed):
        steps = _steps_with_room(state, replica, r)
        if steps > 0:
            replica.planned = steps
            replica.mixed = 0
            replica.next_s = _end_s(state, replica, r, steps)
            return
    _plan_mixed(state, replica, r, needed)


@inner
def _admits(state: State, replica: Any, needed: int) -> bool:
    """Whether the first that waits gets in once those that decode have taken their blocks."""
    i = replica.first_waiting
    if i == NONE or replica.decodes >= min(replica.max_seqs, replica.max_tokens):
        return False
    request = state.requests[i]
    tokens = request.input + request.generated
    return bool(_blocks(replica, tokens) <= replica.free_blocks - needed)


@inner
def _steps_with_room(state: State, replica: Any, r: int) -> int:
    """Decode steps until a request ends, or the blocks no longer suffice for the next."""
    longest = state.finish_ticks[r, 0] - replica.tick
    cycle, n, free = replica.block_tokens, replica.decodes, replica.free_blocks
    if n * (longest // cycle + 1) <= free:
        return int(longest)
    cycles = min(longest // cycle, free // n)  # in each, every request takes one block
    free -= cycles * n
    steps = cycles * cycle
    while steps < longest:
        free -= state.phases[r, (replica.tick + steps) % cycle]
        if free < 0:
            break
        steps += 1
    return int(steps)


@inner
def _plan_mixed(state: State, replica: Any, r: int, needed: int) -> None:
    """Plan one step with all the scheduler's rules, as the oracle's ``Replica._schedule``."""
    preempted = False
    if needed <= replica.free_blocks:
        replica.free_blocks -= needed
    else:
        preempted = True
        _grow_or_preempt(state, replica, r)
    budget = replica.max_tokens - replica.decodes
    prefill, alone, alone_kv = 0, 0, 0  # `alone`: last tokens of recomputed requests are decodes
    replica.fresh = replica.partial
    if replica.partial != NONE:
        request = state.requests[replica.partial]
        left = request.input + request.generated - request.computed
        tokens = min(left, budget)
        if _take(replica, request.computed, tokens):
            if tokens == 1 and left == 1 and request.generated > 0:
                alone, alone_kv = 1, request.input + request.generated
            else:
                prefill = tokens
            request.computed += tokens
            budget -= tokens
        else:
            preempted = True
            _preempt_newest(state, replica, r)
    running = replica.decodes + (1 if replica.partial != NONE else 0)
    while budget > 0 and not preempted and running < replica.max_seqs:
        i = replica.first_waiting
        if i == NONE:
            break
        request = state.requests[i]
        total = request.input + request.generated
        if _blocks(replica, total) > replica.free_blocks:
            break
        tokens = min(total - request.hit, budget)
        _take(replica, 0, request.hit + tokens)
        request.computed = request.hit + tokens
        _let_in(state, replica, i)
        running += 1
        prefill += tokens
        budget -= tokens
    replica.planned = 1
    replica.mixed = 1
    replica.next_s = (
        replica.clock_s
        + state.batch_s[r, replica.decodes + alone]
        + replica.per_prefill_token_s * prefill
        + replica.per_kv_token_s * (replica.kv_tokens + alone_kv)
    )


@inner
def _take(replica: Any, computed: int, tokens: int) -> bool:
    """Take the blocks that so many more tokens need, if there are as many."""
    needed = _blocks(replica, computed + tokens) - _blocks(replica, computed)
    if needed > replica.free_blocks:
        return False
    replica.free_blocks -= needed
    return True


@inner
def _let_in(state: State, replica: Any, i: int) -> None:
    """Move the first that waits to the end of those that run."""
    request = state.requests[i]
    replica.first_waiting = request.next
    if request.next == NONE:
        replica.last_waiting = NONE
    else:
        state.requests[request.next].previous = NONE
    request.previous, request.next = replica.newest, NONE
    if replica.newest == NONE:
        replica.oldest = i
    else:
        state.requests[replica.newest].next = i
    replica.newest = i
    if replica.fresh == NONE:
        replica.fresh = i


@inner
def _grow_or_preempt(state: State, replica: Any, r: int) -> None:
    """Give a block to each decoding request that needs one, oldest first, evicting the newest."""
    i = replica.oldest
    while i not in (NONE, replica.partial):
        request = state.requests[i]
        if (_tokens(replica, request) - 1) % replica.block_tokens == 0:
            victim = NONE
            while replica.free_blocks == 0 and victim != i:
                victim = replica.newest
                _preempt_newest(state, replica, r)
            if victim == i:
                return
            replica.free_blocks -= 1
        i = request.next


@inner
def _preempt_newest(state: State, replica: Any, r: int) -> None:
    i = replica.newest
    request = state.requests[i]
    if i == replica.partial:
        replica.free_blocks += _blocks(replica, request.computed)
        replica.partial = replica.fresh = NONE
    else:
        tokens = _tokens(replica, request)
        request.generated = tokens - request.input
        replica.free_blocks += _blocks(replica, tokens - 1)
        _heap_remove(state, r, replica.decodes, i)
        _stop_decoding(state, replica, r, tokens)
        request.finish_tick = NONE
    request.computed = 0
    request.preemptions += 1
    _unlink(state, replica, i)
    request.previous, request.next = NONE, replica.first_waiting
    if replica.first_waiting == NONE:
        replica.last_waiting = i
    else:
        state.requests[replica.first_waiting].previous = i
    replica.first_waiting = i


@inner
def _commit(state: State, replica: Any, r: int) -> None:
    """Let the steps planned have happened."""
    steps = replica.planned
    replica.busy_s += replica.next_s - replica.clock_s
    replica.clock_s = replica.next_s
    replica.planned = 0
    if replica.mixed == 0:
        cycle = replica.block_tokens
        replica.free_blocks -= steps // cycle * replica.decodes
        for step in range(steps - steps % cycle, steps):
            replica.free_blocks -= state.phases[r, (replica.tick + step) % cycle]
    replica.tick += steps
    replica.kv_tokens += steps * replica.decodes
    while replica.decodes > 0 and state.finish_ticks[r, 0] == replica.tick:
        i = state.finishing[r, 0]
        _heap_remove(state, r, replica.decodes, i)
        request = state.requests[i]
        tokens = request.input + request.output
        _stop_decoding(state, replica, r, tokens)
        _finish(state, replica, i, tokens - 1)
    if replica.mixed == 1:
        _commit_prefills(state, replica, r)
    if replica.in_flight == 0:
        replica.next_s = np.inf


@inner
def _commit_prefills(state: State, replica: Any, r: int) -> None:
    i = replica.fresh
    replica.fresh = replica.partial = NONE
    while i != NONE:
        request = state.requests[i]
        following = request.next
        if request.computed < request.input + request.generated:
            replica.partial = i
        else:
            request.generated += 1
            if request.generated == 1:
                request.first_token_s = replica.clock_s
            if request.generated == request.output:
                _finish(state, replica, i, request.computed)
            else:
                _start_decoding(state, replica, r, i)
        i = following


@inner
def _start_decoding(state: State, replica: Any, r: int, i: int) -> None:
    request = state.requests[i]
    request.finish_tick = replica.tick + request.output - request.generated
    _heap_push(state, r, replica.decodes, request.finish_tick, i)
    replica.decodes += 1
    replica.kv_tokens += request.input + request.generated
    state.phases[r, (replica.tick - request.computed) % replica.block_tokens] += 1


@inner
def _stop_decoding(state: State, replica: Any, r: int, tokens: int) -> None:
    """Forget a decoding request of so many tokens, the last of them not computed yet."""
    replica.decodes -= 1
    replica.kv_tokens -= tokens
    state.phases[r, (replica.tick - (tokens - 1)) % replica.block_tokens] -= 1


@inner
def _finish(state: State, replica: Any, i: int, computed: int) -> None:
    request = state.requests[i]
    request.finish_s = replica.clock_s
    request.outcome = OK
    replica.free_blocks += _blocks(replica, computed)
    replica.in_flight -= 1
    _unlink(state, replica, i)


@inner
def _unlink(state: State, replica: Any, i: int) -> None:
    """Take a request out of the list of those that run."""
    before, after = state.requests[i].previous, state.requests[i].next
    if before == NONE:
        replica.oldest = after
    else:
        state.requests[before].next = after
    if after == NONE:
        replica.newest = before
    else:
        state.requests[after].previous = before


@inner
def _tokens(replica: Any, request: Any) -> int:
    """Prompt and answer so far of a request that decodes."""
    return int(request.input + request.output - (request.finish_tick - replica.tick))


@inner
def _heap_push(state: State, r: int, size: int, tick: int, i: int) -> None:
    ticks, ids = state.finish_ticks[r], state.finishing[r]
    at = size
    while at > 0:
        parent = (at - 1) // 2
        if ticks[parent] <= tick:
            break
        ticks[at], ids[at] = ticks[parent], ids[parent]
        at = parent
    ticks[at], ids[at] = tick, i


@inner
def _heap_remove(state: State, r: int, size: int, i: int) -> None:
    """Take out a request; looking for it costs as much as it lies deep, nothing at the top."""
    ticks, ids = state.finish_ticks[r], state.finishing[r]
    at = 0
    while ids[at] != i:
        at += 1
    size -= 1
    tick, last = ticks[size], ids[size]
    while at > 0 and ticks[(at - 1) // 2] > tick:
        parent = (at - 1) // 2
        ticks[at], ids[at] = ticks[parent], ids[parent]
        at = parent
    while 2 * at + 1 < size:
        child = 2 * at + 1
        if child + 1 < size and ticks[child + 1] < ticks[child]:
            child += 1
        if ticks[child] >= tick:
            break
        ticks[at], ids[at] = ticks[child], ids[child]
        at = child
    ticks[at], ids[at] = tick, last


@inner
def _blocks(replica: Any, tokens: int) -> int:
    return int((tokens + replica.block_tokens - 1) // replica.block_tokens)
