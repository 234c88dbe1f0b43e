"""A plan becomes engine settings: cores divided, KV cache sized, one entry per group."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_apps.pool import EngineSettings, divide_cores, emulated_settings, engine_settings
from tests import builders
from tests.plan_builders import group, plan, route


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


def test_emulated_groups_keep_their_profiles_and_answer_as_long_as_planned() -> None:
    groups = (group("a", gpu="L4", replicas=3), group("b", model="m2"))
    routes = (
        route({"a": 1.0}, outputs=(0, 100), rate_rps=3.0),
        route({"a": 0.5, "b": 0.5}, outputs=(100, 500), rate_rps=2.0),
    )
    settings = emulated_settings(plan(groups, routes), "/logs")
    assert [s.replicas for s in settings.values()] == [3, 1]
    told = [s.emulated for s in settings.values() if s.emulated]
    assert [s.profile for s in told] == [g.profile for g in groups]
    assert [s.outputs.mean_tokens for s in told] == [(3 * 100 + 1 * 500) / 4, 500]
    assert not any(s.on_cpu for s in settings.values())


def test_an_emulated_engine_never_stands_for_a_real_one() -> None:
    p = plan((group("a"),))
    real, emulated = engine_settings(p, {"m1": ""}, "/l", [])["a"], emulated_settings(p, "/l")["a"]
    assert real.version != emulated.version
    with pytest.raises(ValueError, match="emulated"):
        EngineSettings.model_validate(real.model_dump() | {"engine": "emulated"})
