"""What Serve tells of one group is passed on as all replicas of all groups, when it changed."""

from __future__ import annotations

from serve_apps.board import Board
from serve_apps.flow.nouns import Replica


def test_news_of_a_group_come_with_all_others() -> None:
    board, told = Board(), []
    board.post("a", [Replica("1", "a", "http://x")])
    board.subscribe(told.append)
    board.post("b", [Replica("2", "b", "http://y")])
    board.post("b", [Replica("2", "b", "http://y")])
    board.remove("a")
    assert [[r.id for r in replicas] for replicas in told] == [["1"], ["1", "2"], ["2"]]
