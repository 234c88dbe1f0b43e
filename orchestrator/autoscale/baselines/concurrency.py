"""Rules that hold requests per replica at a target: Ray Serve's, and Knative's KPA."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping

from orchestrator.simulation.events import GroupState, Observation


def ongoing(group: GroupState) -> int:
    """Requests in a group's replicas and waiting for them."""
    return group.in_flight + group.queued


class RayServe:
    """Ray Serve's default policy (ray/serve/autoscaling_policy.py, 2.x).

    Ongoing requests, averaged over ``look_back_s``, over the target are the replicas wanted. It
    moves up when that has been above the current number for ``up_s``, down when below for
    ``down_s``. ``target`` is by group; the default is 2. At least one replica stays.
    """

    def __init__(
        self,
        target: Mapping[str, float],
        *,
        look_back_s: float = 30.0,
        up_s: float = 30.0,
        down_s: float = 600.0,
    ) -> None:
        self._target = target
        self._look_back_s, self._up_s, self._down_s = look_back_s, up_s, down_s
        self._seen: dict[str, deque[tuple[float, int]]] = {n: deque() for n in target}
        self._since: dict[str, tuple[int, float]] = {}  # direction, from when

    def __call__(self, seen: Observation) -> dict[str, int]:
        """Replicas of each group that has a target."""
        return {n: self._wanted(n, seen.groups[n], seen.time_s) for n in self._target}

    def _wanted(self, name: str, group: GroupState, time_s: float) -> int:
        samples = self._seen[name]
        samples.append((time_s, ongoing(group)))
        while samples[0][0] < time_s - self._look_back_s:
            samples.popleft()
        mean = sum(n for _, n in samples) / len(samples)
        now = group.staying
        wanted = max(1, math.ceil(mean / self._target[name] - 1e-9))
        direction = (wanted > now) - (wanted < now)
        if direction != self._since.get(name, (0, 0.0))[0]:
            self._since[name] = (direction, time_s)
        delay_s = self._up_s if direction > 0 else self._down_s
        if direction and time_s - self._since[name][1] >= delay_s:
            self._since[name] = (0, time_s)
            return wanted
        return max(now, 1)


class Knative:
    """Knative's KPA (knative.dev/serving, pkg/autoscaler/scaling/autoscaler.go).

    Concurrency over its target, averaged over a stable window of 60 s and a panic window of 6 s.
    Where the panic window asks for twice what is ready, it panics: the larger of the two windows,
    and never down, until it has not been so for a stable window. Up at most a thousandfold, down
    at most by half at a time. ``target`` is by group, the utilisation wanted included.
    """

    def __init__(
        self,
        target: Mapping[str, float],
        *,
        stable_s: float = 60.0,
        panic_s: float = 6.0,
        panic_at: float = 2.0,
        most_up: float = 1000.0,
        most_down: float = 2.0,
    ) -> None:
        self._target = target
        self._stable_s, self._panic_s, self._panic_at = stable_s, panic_s, panic_at
        self._most_up, self._most_down = most_up, most_down
        self._seen: dict[str, deque[tuple[float, int]]] = {n: deque() for n in target}
        self._panicking: dict[str, float] = {}
        self._most: dict[str, int] = {}

    def __call__(self, seen: Observation) -> dict[str, int]:
        """Replicas of each group that has a target."""
        return {n: self._wanted(n, seen.groups[n], seen.time_s) for n in self._target}

    def _wanted(self, name: str, group: GroupState, time_s: float) -> int:
        samples, target = self._seen[name], self._target[name]
        samples.append((time_s, ongoing(group)))
        while samples[0][0] <= time_s - self._stable_s:
            samples.popleft()
        stable = sum(n for _, n in samples) / len(samples)
        recent = [n for at_s, n in samples if at_s > time_s - self._panic_s]
        panic = sum(recent) / len(recent)
        ready = max(group.ready, 1)
        up, down = math.ceil(self._most_up * ready), math.floor(ready / self._most_down)
        by_stable = min(max(math.ceil(stable / target - 1e-9), down), up)
        by_panic = min(max(math.ceil(panic / target - 1e-9), down), up)
        if by_panic / ready >= self._panic_at:
            self._panicking[name] = time_s
        elif time_s - self._panicking.get(name, -math.inf) >= self._stable_s:
            self._panicking.pop(name, None)
            self._most.pop(name, None)
        if name in self._panicking:
            wanted = max(by_stable, by_panic, self._most.get(name, 0))
            self._most[name] = wanted
            return max(wanted, 1)
        return max(by_stable, 1)
