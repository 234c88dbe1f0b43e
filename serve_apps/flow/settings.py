"""The dispatcher's figures, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FlowSettings:
    """How patient, how suspicious and how careful the dispatcher is."""

    gateways: int = 1
    """Gateways that share these engines evenly, this one among them."""
    patience: float = 1.0
    """Deadline of who gives none: so many times the SLO's TTFT. Later answers are no goodput."""
    margin: float = 0.65
    """A request may queue if its predicted first byte lies within this share of its time: a wait
    is a sum of chances, and a promise kept on average only is kept half the time. Answers end in
    clumps, too: with 0.75 those at the end of one were late by a little, 2 to 7 in a hundred."""
    grace: float = 3.0
    """Who gave no deadline and was let wait is served late rather than refused late, up to so many
    times its time more: whether a request is served is said when it comes, and beyond this it is
    not the prediction that failed but an engine."""
    most_queued: int = 4096
    """Requests in the queue of a group, whatever their predicted wait: bounds memory."""
    exact_below: int = 17
    """Groups of fewer replicas are searched through; larger ones are sampled in twos."""
    backlog: float = 0.25
    """A replica gets no more prompts while those it holds take longer than this share of the
    TTFT limit: it is busy anyway, and who goes next is better decided here."""
    kv_growth: float = 0.6
    """Share of its expected answer for which a request's KV cache is set aside: answers in a
    batch are of different age, and few are at their longest at the same time."""
    smoothing: float = 0.1
    """Weight of a new observation in the ratio of actual to predicted latency."""
    failures: int = 3
    """Consecutive failures after which a replica is ejected; lost connections eject at once."""
    probe_s: float = 0.25
    """Between probes of an ejected replica, with a fifth of jitter either way."""
    slowest_probe_s: float = 0.8
    """Replicas that say they are well and fail all the same are probed less and less often, but
    never so seldom that a healed one stays out for a second."""
    silence: float = 8.0
    """A replica that has sent nothing for so many times what it was to take hangs."""
    least_silence_s: float = 0.5
    """Below this silence is never suspect: garbage collection, a page fault, a busy host."""
    attempts: int = 3
    """Engines that may fail under one request: it could be the request's doing."""
    retry_share: float = 0.15
    """Retries that each new request pays for; with `retry_start` at most 1.2 tries a request."""
    retry_start: float = 3.0
    retry_most: float = 30.0
    priority_step: float = 8.0
    """A tenant one priority up gets so many times the share: first, but not everything."""
    alarm: float = 0.3
    """The same where a replica is suddenly slower by half and more: until that is believed it is
    sent more than it can do in time, and a slow engine gives few answers to learn from."""
    idle_half_life_s: float = 20.0
    """What was learned of a replica's pace is forgotten so fast while it has no work."""
