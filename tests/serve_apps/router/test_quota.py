"""A quota deals turns so that no count strays a full turn from its share."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_apps.router.quota import Quota

weights = st.dictionaries(
    st.text("abcdefgh", min_size=1, max_size=2),
    st.one_of(st.just(0.0), st.floats(0.001, 1000)),
    min_size=1,
    max_size=9,
).filter(lambda w: any(w.values()))


@given(weights, st.integers(1, 400))
def test_every_prefix_is_within_one_turn_of_the_shares(w: dict[str, float], turns: int) -> None:
    quota = Quota(w)
    total = sum(w.values())
    served = dict.fromkeys(w, 0)
    for n in range(1, turns + 1):
        served[quota.next()] += 1
        for name, weight in w.items():
            assert abs(served[name] - n * weight / total) < 1


def test_many_small_names_do_not_starve_behind_a_large_one() -> None:
    quota = Quota({"big": 50, **{f"s{i}": 1 for i in range(50)}})
    dealt = [quota.next() for _ in range(100)]
    assert dealt.count("big") == 50
    assert all(dealt.count(f"s{i}") == 1 for i in range(50))


def test_names_without_weight_get_no_turn() -> None:
    quota = Quota({"a": 0, "b": 2})
    assert {quota.next() for _ in range(20)} == {"b"}


def test_no_weight_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="positive weight"):
        Quota({"a": 0.0})
