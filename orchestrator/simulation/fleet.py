"""The replicas of a simulated fleet: who starts, who takes requests, who leaves."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from orchestrator.simulation import kernel
from orchestrator.simulation.events import GroupState
from orchestrator.simulation.result import ReplicaUse
from orchestrator.simulation.state import Array, grown, new_state, set_up
from placement.plan import Plan


@dataclass(slots=True)
class Life:
    """One replica's course: asked for, ready, no longer taking requests, gone."""

    group: int
    started_s: float
    ready_s: float = math.inf
    left_s: float = math.inf
    ended_s: float = math.inf


class Fleet:
    """A plan's replicas, all ready at time 0, and those that come later.

    Replicas are numbered through all groups in the order in which they were started.
    """

    def __init__(self, plan: Plan, requests: Array, slots: Callable[[int], int]) -> None:
        self.groups = plan.groups
        self.names = tuple(g.name for g in plan.groups)
        self.slots = [slots(g.config.engine.max_num_seqs) for g in plan.groups]
        count = sum(g.replicas for g in plan.groups)
        self.state = new_state(requests, [g.profile for g in plan.groups], count)
        self.state.slots[:] = self.slots
        self.lives: list[Life] = []
        self._own: list[list[int]] = [[] for _ in plan.groups]  # that are not known to be gone
        for g, group in enumerate(plan.groups):
            for _ in range(group.replicas):
                self.make_ready(self.ask(g, 0.0), 0.0)

    def ask(self, group: int, at_s: float) -> int:
        """Ask for one more replica, and pay for it from now on; its number."""
        self.lives.append(Life(group, at_s))
        self._own[group].append(len(self.lives) - 1)
        if len(self.lives) > len(self.state.replicas):
            self.state = grown(self.state, 2 * len(self.state.replicas))
        return len(self.lives) - 1

    def make_ready(self, replica: int, at_s: float) -> None:
        """Let a replica take requests, unless it was given up meanwhile."""
        life = self.lives[replica]
        if life.ended_s < math.inf:
            return
        life.ready_s = at_s
        set_up(self.state, replica, self.groups[life.group].profile, at_s)
        self._set_members(life.group, [*self.members(life.group), replica])

    def members(self, group: int) -> list[int]:
        """The replicas of a group that take requests, ascending."""
        found: list[int] = self.state.members[group, : self.state.sizes[group]].tolist()
        return found

    def staying(self, group: int) -> list[int]:
        """The replicas of a group that start or take requests."""
        return [r for r in self._own[group] if _stays(self.lives[r])]

    def numbered(self, group: int, number: int) -> int | None:
        """The replica that was started as the group's so many-th; None without it."""
        own = [r for r, life in enumerate(self.lives) if life.group == group]
        return own[number] if number < len(own) else None

    def spared(self, group: int, at_s: float) -> int | None:
        """The replica whose leaving disturbs least; see `Event`."""
        staying = self.staying(group)
        starting = [r for r in staying if self.lives[r].ready_s == math.inf]
        if starting or not staying:
            return starting[-1] if starting else None
        return min(staying, key=lambda r: (self._in_flight(r, at_s), -r))

    def leave(self, replica: int, at_s: float) -> None:
        """Let a replica take no more requests; one that still starts is gone at once."""
        life = self.lives[replica]
        if not _stays(life):
            return
        life.left_s = at_s
        if life.ready_s == math.inf:
            life.ended_s = at_s
        else:
            self._set_members(life.group, [r for r in self.members(life.group) if r != replica])

    def kill(self, replica: int, at_s: float) -> list[int]:
        """End a replica now; the requests it had in flight, in order of arrival."""
        self.leave(replica, at_s)
        self.settle(at_s)
        life = self.lives[replica]
        if life.ended_s < math.inf:
            return []
        life.ended_s = at_s
        taken = np.empty(self._in_flight(replica, at_s), dtype=np.int64)
        kernel.kill(self.state, replica, at_s, taken)
        return sorted(taken.tolist())

    def settle(self, at_s: float) -> None:
        """Let those that left and have nothing more to do be gone, as of their last end."""
        for group, own in enumerate(self._own):
            for r in own:
                life = self.lives[r]
                if life.left_s < math.inf == life.ended_s and self._in_flight(r, at_s) == 0:
                    life.ended_s = max(life.left_s, float(self.state.replicas[r]["clock_s"]))
            self._own[group] = [r for r in own if self.lives[r].ended_s == math.inf]

    def observe(self, group: int, at_s: float, queued: int) -> GroupState:
        """The group at a time."""
        self.settle(at_s)
        alive = [r for r in self._own[group] if self.lives[r].ready_s < math.inf]
        in_flight, queues = np.zeros((2, len(alive)), dtype=np.int64)
        kernel.look(self.state, np.array(alive, dtype=np.int64), at_s, in_flight, queues)
        ready = self.members(group)
        waiting = dict(zip(alive, queues.tolist(), strict=True))
        rows = self.state.replicas[ready]
        kv_used = 1 - rows["free_blocks"] / np.maximum(rows["total_blocks"], 1)
        return GroupState(
            ready=len(ready),
            starting=len(self._own[group]) - len(alive),
            draining=len(alive) - len(ready),
            in_flight=int(in_flight.sum()),
            queued=queued,
            kv_used=tuple(kv_used.tolist()),
            waiting=tuple(waiting[r] for r in ready),
        )

    def close(self, end_s: float) -> tuple[ReplicaUse, ...]:
        """What became of every replica, when all is over."""
        self.settle(end_s)
        return tuple(
            ReplicaUse(
                group=self.names[life.group],
                started_s=life.started_s,
                ready_s=life.ready_s,
                ended_s=max(life.started_s, min(life.ended_s, end_s)),
                busy_s=float(self.state.replicas[r]["busy_s"]),
                steps=int(self.state.replicas[r]["tick"]),
            )
            for r, life in enumerate(self.lives)
        )

    def _in_flight(self, replica: int, at_s: float) -> int:
        if self.lives[replica].ready_s == math.inf:
            return 0
        kernel.advance(self.state, replica, at_s)
        return int(self.state.replicas[replica]["in_flight"])

    def _set_members(self, group: int, members: list[int]) -> None:
        self.state.members[group, : len(members)] = sorted(members)
        self.state.sizes[group] = len(members)


def _stays(life: Life) -> bool:
    return life.left_s == math.inf and life.ended_s == math.inf
