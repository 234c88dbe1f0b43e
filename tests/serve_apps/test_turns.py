"""One process of a machine listens at a port; another takes over when it is gone."""

from __future__ import annotations

import asyncio

from profiler.engine import free_port
from serve_apps.turns import Turn


async def test_a_place_is_given_to_one_and_then_to_the_next() -> None:
    port = free_port()
    first, second = Turn(port, 1), Turn(port, 1)
    await first.take()
    assert not second.try_take()
    waiting = asyncio.create_task(second.take())
    await asyncio.sleep(0)
    assert not waiting.done()
    first.give_up()
    await asyncio.wait_for(waiting, 20)
    second.give_up()


def test_there_are_as_many_places_as_are_to_listen() -> None:
    port = free_port()
    turns = [Turn(port, 2) for _ in range(3)]
    assert [t.try_take() for t in turns] == [True, True, False]
    for turn in turns:
        turn.give_up()
