"""Finished requests and fleets with sensible defaults."""

from __future__ import annotations

from typing import Any

from serve_apps.seeing.record import Attempt, Candidate, Outcome, RequestRecord
from serve_apps.seeing.snapshot import GroupNow, ReplicaNow, ReplicaState, Snapshot

ARRIVED_S, ARRIVED_UNIX_S = 100.0, 1_700_000_000.0


def record(request_id: str = "req_1", **changed: Any) -> RequestRecord:
    """A stream that went well: 0.4 s to the first token, then 11 tokens in 0.1 s."""
    fields: dict[str, Any] = {
        "arrived_unix_s": ARRIVED_UNIX_S,
        "arrived_s": ARRIVED_S,
        "path": "/v1/chat/completions",
        "tenant": "team-a",
        "key_id": "k1",
        "model_asked": "auto",
        "stream": True,
        "model": "m1",
        "group": "a",
        "replica": "a#1",
        "reason": "quality 0.80 at $0.00021 beats m2",
        "outcome": Outcome.OK,
        "status": 200,
        "dispatched_s": ARRIVED_S + 0.1,
        "first_byte_s": ARRIVED_S + 0.4,
        "finished_s": ARRIVED_S + 0.5,
        "waited_s": 0.05,
        "input_tokens": 120,
        "output_tokens": 11,
        "predicted_ttft_s": 0.32,
        "predicted_tpot_s": 0.01,
        "predicted_output_tokens": 22.0,
        "predicted_quality": 0.8,
        "predicted_cost_usd": 0.00021,
        "attempts": 1,
        "router_s": 80e-6,
        "candidates": (
            Candidate("m1", 0.8, 0.00021, True),
            Candidate("m2", 0.9, float("inf"), False),
        ),
        "tried": [
            Attempt("a", "a#1", ARRIVED_S + 0.1, ARRIVED_S + 0.4, ARRIVED_S + 0.5, "ok", 200)
        ],
    }
    return RequestRecord(request_id, **(fields | changed))


def refused(request_id: str = "req_2", **changed: Any) -> RequestRecord:
    """A request that never reached an engine."""
    fields: dict[str, Any] = {
        "model": "",
        "group": "",
        "replica": "",
        "reason": "",
        "outcome": Outcome.OVERLOADED,
        "status": 429,
        "dispatched_s": None,
        "first_byte_s": None,
        "finished_s": ARRIVED_S + 0.01,
        "waited_s": 0.0,
        "output_tokens": None,
        "predicted_ttft_s": None,
        "predicted_tpot_s": None,
        "predicted_output_tokens": None,
        "predicted_quality": None,
        "predicted_cost_usd": None,
        "attempts": 0,
        "candidates": (),
        "tried": [],
    }
    return record(request_id, **(fields | changed))


def snapshot(**changed: Any) -> Snapshot:
    """Two groups: one has two replicas, of which one is ejected; the other waits for its one."""
    fields: dict[str, Any] = {
        "service": "chat",
        "plan_digest": "abc123",
        "router": "learned 1f3a",
        "groups": (
            GroupNow("a", "m1", "L4", 2, 0.8, 1.9, 0.9, 3),
            GroupNow("b", "m2", "H100", 1, 2.5, 2.5, 2.5, 0),
        ),
        "replicas": (
            ReplicaNow("a#1", "a", "http://10.0.0.7:8000", ReplicaState.READY, 4, 900),
            ReplicaNow("a#2", "a", "http://10.0.0.8:8000", ReplicaState.EJECTED, 1, 100),
            ReplicaNow("b#1", "b", "", ReplicaState.STARTING),
        ),
        "queued": 3,
        "oldest_queued_s": 0.7,
        "planned_usd_per_hour": 4.1,
        "budget_usd": 100.0,
        "ttft_slo_s": 1.0,
        "tpot_slo_s": 0.05,
        "attainment_slo": 0.95,
        "ingresses": ("10.0.0.2:9001", "10.0.0.3:9001"),
    }
    return Snapshot(**(fields | changed))
