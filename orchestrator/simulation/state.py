"""What a simulated fleet remembers, as flat arrays that compiled code can work on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from profiler.core import Profile

Array = NDArray[Any]
NONE = -1
"""No request, no replica: the end of a list."""

REQUEST = np.dtype(
    [
        ("arrival_s", "f8"),
        ("first_token_s", "f8"),
        ("finish_s", "f8"),
        ("input", "i8"),
        ("output", "i8"),
        ("hit", "i8"),  # prompt tokens that a prefix cache holds
        ("generated", "i8"),  # kept up to date while it does not decode
        ("computed", "i8"),  # the same; 0 while it waits
        ("finish_tick", "i8"),  # its replica's tick after its last step, while it decodes
        ("previous", "i8"),
        ("next", "i8"),  # neighbours in the list it is in: running or waiting
        ("group", "i8"),
        ("replica", "i8"),
        ("preemptions", "i8"),
        ("losses", "i8"),  # replicas that died under it
        ("outcome", "i8"),
    ]
)
REPLICA = np.dtype(
    [
        ("clock_s", "f8"),  # start of the steps planned, or of the next one
        ("next_s", "f8"),  # end of the steps planned; the clock when none are, with work to do
        ("per_prefill_token_s", "f8"),
        ("per_kv_token_s", "f8"),
        ("busy_s", "f8"),
        ("max_tokens", "i8"),  # of a step
        ("max_seqs", "i8"),
        ("max_model_len", "i8"),
        ("block_tokens", "i8"),
        ("total_blocks", "i8"),
        ("free_blocks", "i8"),
        ("tick", "i8"),  # steps taken; every decoding request takes one token in each
        ("decodes", "i8"),  # requests that decode
        ("kv_tokens", "i8"),  # that they attend to in the next step
        ("planned", "i8"),  # steps planned, all alike but for their growing contexts
        ("mixed", "i8"),  # the step planned is one that also prefills or preempts
        ("partial", "i8"),  # the request whose prompt is cut; always the newest
        ("fresh", "i8"),  # the first of those that prefill in the step planned, to the newest
        ("oldest", "i8"),
        ("newest", "i8"),  # ends of the list of running requests, in order of admission
        ("first_waiting", "i8"),
        ("last_waiting", "i8"),
        ("in_flight", "i8"),  # waiting or running
    ]
)


class State(NamedTuple):
    """All requests and replicas, and which replicas take requests.

    ``finish_ticks`` and ``finishing`` are one heap a replica, ``[replicas, max_seqs]``: when which
    decoding request ends. ``phases[r, p]`` counts the decoding requests of replica r that need
    a block in every step whose tick is p modulo the tokens of a block. ``batch_s[r, n]`` is what a
    step of replica r with n decoding requests takes before any token counts. ``members[g]`` are the
    replicas of group g that take requests, the first ``sizes[g]`` of the row, ascending;
    ``slots[g]`` is how many requests each of them holds at most, 0 while the group is closed.
    """

    requests: Array
    replicas: Array
    finish_ticks: Array
    finishing: Array
    phases: Array
    batch_s: Array
    members: Array
    sizes: Array
    slots: Array


def new_requests(arrival_s: Array, inputs: Array, outputs: Array, hits: Array | None) -> Array:
    """Requests of which nothing is done yet."""
    requests = np.zeros(len(arrival_s), dtype=REQUEST)
    requests["arrival_s"] = arrival_s
    requests["first_token_s"] = requests["finish_s"] = np.inf
    requests["input"] = inputs
    requests["output"] = outputs
    if hits is not None:  # the last token of a prompt is always computed: its logits are needed
        requests["hit"] = np.clip(hits, 0, inputs - 1)
    for name in ("finish_tick", "previous", "next", "group", "replica"):
        requests[name] = NONE
    return requests


def new_state(requests: Array, profiles: Sequence[Profile], replicas: int) -> State:
    """A state with room for so many replicas, none of which is there yet; one profile a group."""
    seqs = max(min(_limits(p)) for p in profiles)
    groups = len(profiles)
    return State(
        requests=requests,
        replicas=np.zeros(replicas, dtype=REPLICA),
        finish_ticks=np.zeros((replicas, seqs), dtype=np.int64),
        finishing=np.zeros((replicas, seqs), dtype=np.int64),
        phases=np.zeros((replicas, max(p.kv_block_tokens for p in profiles)), dtype=np.int64),
        batch_s=np.zeros((replicas, seqs + 1)),
        members=np.full((groups, replicas), NONE, dtype=np.int64),
        sizes=np.zeros(groups, dtype=np.int64),
        slots=np.full(groups, np.iinfo(np.int64).max, dtype=np.int64),
    )


def grown(state: State, replicas: int) -> State:
    """The same state with room for more replicas."""

    def wider(array: Array, axis: int) -> Array:
        more = list(array.shape)
        more[axis] = replicas - array.shape[axis]
        return np.concatenate([array, np.zeros(more, dtype=array.dtype)], axis=axis)

    return state._replace(
        replicas=wider(state.replicas, 0),
        finish_ticks=wider(state.finish_ticks, 0),
        finishing=wider(state.finishing, 0),
        phases=wider(state.phases, 0),
        batch_s=wider(state.batch_s, 0),
        members=wider(state.members, 1),
    )


def set_up(state: State, replica: int, profile: Profile, ready_s: float) -> None:
    """Make a replica an idle engine of this profile."""
    law, (max_tokens, max_seqs) = profile.step_time, _limits(profile)
    blocks = profile.kv_capacity_tokens // profile.kv_block_tokens
    row = state.replicas[replica]
    row["clock_s"], row["next_s"] = ready_s, np.inf
    row["per_prefill_token_s"] = law.per_prefill_token_s
    row["per_kv_token_s"] = law.per_kv_token_s
    state.batch_s[replica] = [law(0, n, 0) for n in range(state.batch_s.shape[1])]
    row["max_tokens"], row["max_seqs"] = max_tokens, max_seqs
    row["max_model_len"] = profile.max_model_len
    row["block_tokens"] = profile.kv_block_tokens
    row["total_blocks"] = row["free_blocks"] = blocks
    for name in ("partial", "fresh", "oldest", "newest", "first_waiting", "last_waiting"):
        row[name] = NONE


def _limits(profile: Profile) -> tuple[int, int]:
    engine = profile.config.engine
    return engine.max_num_batched_tokens, engine.max_num_seqs
