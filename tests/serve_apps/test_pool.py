"""A plan becomes engine settings: cores divided, KV cache sized, one entry per group."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_apps.pool import divide_cores, engine_settings
from tests import builders
from tests.plan_builders import group, plan


@given(st.integers(1, 32), st.integers(2, 32))
def test_cores_are_disjoint_and_even_while_there_are_enough(cores: int, replicas: int) -> None:
    shares = divide_cores(range(cores), replicas)
    assert len(shares) == replicas
    assert all(shares)
    if replicas <= cores:
        assert sorted(c for s in shares for c in s) == list(range(cores))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_one_engine_alone_is_left_to_choose_its_cores() -> None:
    assert divide_cores([0, 1], 1) == [()]


def test_every_group_gets_settings_and_replicas_get_different_cores() -> None:
    p = plan((group("a", replicas=1), group("b", model="m2", replicas=1), group("g", gpu="L4")))
    settings = engine_settings(p, {"m1": "/w1", "m2": "/w2"}, "/logs", [0, 1])
    assert [s.cpu_cores for s in settings.values()] == [((0,),), ((1,),), ()]
    assert [s.weights for s in settings.values()] == ["/w1", "/w2", "/w1"]
    assert settings["b"].log_dir == "/logs/b"
    assert settings["a"].on_cpu
    assert not settings["g"].on_cpu


def version(replicas: int = 1, usd_per_hour: float = 0.1, **kwargs: Any) -> str:
    p = plan((group("a", replicas=replicas, **kwargs),))
    priced = {name: builders.gpu(name, usd_per_hour) for name in p.gpus if name != "cpu"}
    p = p.model_copy(update={"gpus": {**p.gpus, **priced}})
    return engine_settings(p, {"m1": "/w", "m2": "/w"}, "/logs", [0, 1, 2])["a"].version


def test_engines_outlive_a_change_that_they_do_not_see() -> None:
    assert version(replicas=1) == version(replicas=3)
    assert version(gpu="L4", usd_per_hour=1.0) == version(gpu="L4", usd_per_hour=2.0)


def test_engines_are_replaced_for_a_change_that_they_see() -> None:
    assert len({version(), version(max_num_seqs=9), version(model="m2"), version(gpu="L4")}) == 4


@pytest.mark.parametrize(("seqs", "gib"), [(1, 1), (1000, 1)])
def test_kv_cache_never_exceeds_what_the_profile_promises(seqs: int, gib: int) -> None:
    p = plan((group("a", max_num_seqs=seqs),))
    assert engine_settings(p, {"m1": "/w"}, "/l", [])["a"].kv_cache_gib == gib
