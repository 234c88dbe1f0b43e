"""A pod's trouble is its own: what went with its node is nobody's fault."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.deploy.kube.pods import trouble


def pod(exit_code: int, meta: dict[str, Any] | None = None, **status: Any) -> dict[str, Any]:
    ended = {"exitCode": exit_code, "reason": "Error"}
    container = {"name": "ray", "state": {"terminated": ended}}
    return {
        "metadata": {
            "name": "p",
            "labels": {"llm-orchestrator/worker-group": "l4"},
            **(meta or {}),
        },
        "status": {"phase": "Failed", "containerStatuses": [container], **status},
    }


def test_a_container_that_failed_is_told_with_its_exit_code() -> None:
    found = trouble(pod(1))
    assert found is not None
    assert (found.group, found.crashed, found.final) == ("l4", "ray", False)
    assert "exit code 1" in found.message


@pytest.mark.parametrize(
    "taken",
    [
        pod(0),
        pod(137, reason="NodeShutdown"),
        pod(137, reason="Evicted"),
        pod(143, {"deletionTimestamp": "2026-01-01T00:00:00Z"}),
    ],
)
def test_one_that_ended_well_or_was_taken_is_no_failure(taken: dict[str, Any]) -> None:
    assert trouble(taken) is None
