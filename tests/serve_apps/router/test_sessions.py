"""A session's last turn is remembered, for as many sessions as there is room."""

from serve_apps.router.sessions import LastTurn, Sessions


def test_a_continued_prompt_is_cached_as_far_as_it_goes() -> None:
    sessions = Sessions()
    sessions.remember("s", LastTurn("a", 100, 150.0))
    assert sessions.cached("s", 120) == ("a", 120)
    assert sessions.cached("s", 400) == ("a", 150.0)
    assert sessions.cached("s", 50) is None
    assert sessions.cached("t", 120) is None
    assert sessions.cached(None, 120) is None


def test_the_oldest_is_forgotten() -> None:
    sessions = Sessions(most=2)
    for name in ("a", "b", "a", "c"):
        sessions.remember(name, LastTurn("g", 1, 1.0))
    assert [name for name in "abc" if sessions.cached(name, 5)] == ["a", "c"]
    assert len(sessions) == 2
