"""The learned router does what the plan says, request by request, and loses none."""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from placement.explanation import Prices
from placement.limits import Limits, ReplicaBound
from placement.plan import Plan
from placement.planner import make_plan
from placement.problem import Option, RequestClass
from serve_apps.router.base import NoGroupLeftError, RouteRequest, UnknownModelError
from serve_apps.router.difficulty import bins_of
from serve_apps.router.learned import LearnedRouter
from serve_apps.router.loads import LoadGrid
from serve_apps.router.policies.preference import Preference
from tests import builders
from tests.plan_builders import group, plan, route
from tests.router_builders import artefact, planned_router, prompt

SMALL, BIG = "small", "big"
POOL = (SMALL, BIG)
BINS = 4
QUALITY_TARGET = 0.79


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def drawn(prompts: int, seed: int) -> Any:
    """Expected quality [prompts, models]: the harder, the more the big model is ahead."""
    rng = np.random.default_rng(seed)
    hard = rng.beta(2, 2, prompts)
    small = np.clip(0.98 - 0.75 * hard + 0.06 * rng.standard_normal(prompts), 0, 1)
    big = np.clip(0.99 - 0.25 * hard + 0.03 * rng.standard_normal(prompts), 0, 1)
    return np.column_stack([small, big])


@functools.cache
def planned(small_replicas: int = 0, rate_rps: float = 45.0) -> tuple[Plan, Any]:
    """A plan over two models and four difficulty bins, solved; and the artefact behind it.

    With replicas to spare for the small model, it is the quality asked for that sends requests
    to the big one, at a price lambda_Q; else it is the small one's capacity.
    """
    made = artefact(POOL, drawn(2000, 0))
    bins = bins_of(made.reference_estimates(), BINS)
    cheap, dear = builders.gpu("L4", 0.8), builders.gpu("H100", 6.0)
    options = (
        Option(builders.profile(SMALL, "L4"), "on_demand", 0.8),
        Option(builders.profile(BIG, "H100"), "on_demand", 6.0),
    )
    classes = tuple(
        RequestClass("auto", builders.bucket(1000, 256), rate_rps * share, difficulty=k)
        for k, share in enumerate(bins.share.tolist())
    )
    quality = bins.quality[:, [POOL.index(o.model) for o in options]]
    problem = builders.problem(
        classes,
        options,
        quality=quality,
        quality_target=QUALITY_TARGET,
        limits=Limits(replicas=(ReplicaBound(small_replicas, model=SMALL),)),
        gpus={"L4": cheap, "H100": dear},
        router=planned_router(POOL, bins.edges.tolist()),
    )
    return make_plan(problem, "pool"), made


def ask(*quality: float, **fields: Any) -> RouteRequest:
    return RouteRequest("auto", 1000, prompt=prompt(*quality), **fields)


def two_groups(worth: float = 0.0, **routes: float) -> Plan:
    """Group ``a`` hosts the small model, ``b`` the big one at five times its price."""
    groups = (
        group("a", SMALL),
        group("b", BIG).model_copy(update={"usd_per_hour": 0.5}),
    )
    made = plan(groups, (route(routes or {"a": 0.5, "b": 0.5}),))
    prices = Prices(quality={"auto": worth}, load={"a": 0.12, "b": 0.6})
    return made.model_copy(update={"prices": prices, "router": planned_router(POOL)})


def router(p: Plan, clock: Any = None, **settings: Any) -> LearnedRouter:
    assert p.router is not None
    p = p.model_copy(update={"router": p.router.model_copy(update=settings)})
    return LearnedRouter(p, artefact(POOL, drawn(400, 0)), clock=clock or Clock())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("small_replicas", [0, 12])
def test_the_realised_mix_is_the_plans(seed: int, small_replicas: int) -> None:
    """Chi-square over (class, group) cells against the plan's shares, at 5 standard errors."""
    p, made = planned(small_replicas)
    assert p.prices is not None
    assert (p.prices.quality["auto"] > 0) == (small_replicas > 0)
    split = [r for r in p.routes if len(r.shares) > 1]
    assert split, "the plan must leave a class to both models, else this shows little"
    clock = Clock()
    learned = LearnedRouter(p, made, clock=clock)
    rate = sum(r.rate_rps for r in p.routes)
    requests = 1500
    counts: Counter[tuple[str, str]] = Counter()
    rng = np.random.default_rng(seed)
    edges = p.router.edges if p.router else ()
    for quality in drawn(requests, 100 + seed).tolist():
        clock.now_s += rng.exponential(1 / rate)
        decision = learned.route(ask(*quality))
        hard = int(np.searchsorted(edges, 1 - np.mean(quality), side="right"))
        counts[str(hard), decision.group] += 1
    expected = {
        (str(r.difficulty), g): requests * r.rate_rps / rate * share
        for r in p.routes
        for g, share in r.shares.items()
    }
    assert counts.keys() <= expected.keys()
    # The bins' rates come from 2,000 prompts, so they are off themselves, by more than the draw.
    noise = {cell: e * (1 + requests / 2000) for cell, e in expected.items()}
    chi_square = sum((counts[cell] - e) ** 2 / noise[cell] for cell, e in expected.items())
    freedom = len(expected) - 1
    assert chi_square < freedom + 5 * np.sqrt(2 * freedom)
    for r in split:  # given how many came, each class is dealt more evenly than by chance
        came = sum(counts[str(r.difficulty), g] for g in r.shares)
        for g, share in r.shares.items():
            chance = np.sqrt(came * share * (1 - share))
            assert abs(counts[str(r.difficulty), g] - came * share) < max(2 * chance, 1.5)


def test_a_split_class_gives_the_big_model_to_those_who_gain_most() -> None:
    p, made = planned()
    learned = LearnedRouter(p, made, clock=Clock())
    assert p.router is not None
    divided = max(p.routes, key=lambda r: min(r.shares.values()) if len(r.shares) > 1 else 0.0)
    gains: dict[str, list[float]] = {SMALL: [], BIG: []}
    for quality in drawn(1500, 7).tolist():
        hard = int(np.searchsorted(p.router.edges, 1 - np.mean(quality), side="right"))
        if hard == divided.difficulty:
            gains[learned.route(ask(*quality)).model].append(quality[1] - quality[0])
    assert np.mean(gains[BIG]) > np.mean(gains[SMALL]) + 0.04


def test_the_quality_that_the_plan_promises_is_reached() -> None:
    p, made = planned()
    learned = LearnedRouter(p, made, clock=Clock())
    got = [
        quality[POOL.index(learned.route(ask(*quality)).model)]
        for quality in drawn(1500, 11).tolist()
    ]
    spread = float(np.std(got)) / np.sqrt(len(got))
    assert np.mean(got) > QUALITY_TARGET - 3 * spread


def test_other_prompts_than_expected_still_keep_the_shares() -> None:
    learned = router(two_groups(worth=1.0))
    rng = np.random.default_rng(3)
    chosen = Counter(
        learned.route(ask(x, x + 0.4 * y)).group for x, y in rng.random((600, 2)) * 0.6
    )
    assert abs(chosen["a"] - 300) < 45


def test_a_named_model_is_pinned() -> None:
    decision = router(two_groups()).route(replace(ask(0.9, 0.9), model=BIG))
    assert (decision.model, decision.group, decision.quality) == (BIG, "b", None)
    with pytest.raises(UnknownModelError):
        router(two_groups()).route(replace(ask(0.9, 0.9), model="other"))


@pytest.mark.parametrize(
    ("wish", "quality", "model"),
    [
        (Preference("cost"), (0.1, 0.9), SMALL),
        (Preference("quality", 1.0), (0.6, 0.7), BIG),
        (Preference("quality", 0.01), (0.6, 0.7), SMALL),
        (Preference("cost", 1e-9), (0.6, 0.9), SMALL),
        (Preference("cost", 1e6), (0.6, 0.7), BIG),
        (Preference("threshold", 0.3), (0.6, 0.7), SMALL),
        (Preference("threshold", 0.3), (0.2, 0.7), BIG),
    ],
)
def test_a_preference_goes_before_the_plans_shares(
    wish: Preference, quality: tuple[float, float], model: str
) -> None:
    decision = router(two_groups(worth=0.01)).route(ask(*quality, preference=wish))
    assert decision.model == model
    assert wish.kind in decision.reason
    assert decision.quality == quality[POOL.index(model)]


def test_a_preference_for_quality_is_kept_in_the_mean() -> None:
    learned = LearnedRouter(two_groups(worth=0.01), artefact(POOL, drawn(2000, 0)))
    prompts = drawn(1500, 21)
    got = [
        q[POOL.index(learned.route(ask(*q, preference=Preference("quality", 0.95))).model)]
        for q in prompts.tolist()
    ]
    best = prompts[:, 1].mean()
    assert 0.94 * best < np.mean(got) < 0.96 * best


def test_the_predicted_answer_picks_the_class() -> None:
    groups = (group("a", SMALL), group("b", BIG))
    routes = (
        route({"a": 1.0}, outputs=(0, 100)),
        route({"b": 1.0}, outputs=(100, 800)),
    )
    p = plan(groups, routes).model_copy(update={"router": planned_router(POOL)})
    learned = router(p)
    short = RouteRequest("auto", 1000, prompt=prompt(0.5, 0.5, output_tokens=40))
    long = RouteRequest("auto", 1000, prompt=prompt(0.5, 0.5, output_tokens=400))
    assert [learned.route(r).group for r in (short, long)] == ["a", "b"]
    assert learned.route(replace(long, max_output_tokens=50)).group == "a"


def test_more_load_than_a_group_can_take_moves_requests_that_lose_least() -> None:
    clock = Clock()
    learned = router(two_groups(worth=5.0, b=1.0), clock)
    alone_s = LoadGrid(two_groups().groups[0].profile, builders.slo())(1000, 256)
    quiet = Counter(learned.route(ask(0.85, 0.9)).model for _ in range(50))
    assert set(quiet) == {BIG}
    chosen: dict[str, Counter[str]] = {"little": Counter(), "much": Counter()}
    for _ in range(800):  # each kind could be served by itself, both together cannot
        clock.now_s += alone_s / 0.7
        chosen["little"][learned.route(ask(0.85, 0.9)).model] += 1
        chosen["much"][learned.route(ask(0.1, 0.9)).model] += 1
    assert chosen["little"][SMALL] > 10 * chosen["much"][SMALL]
    assert chosen["little"][SMALL] > 150
    clock.now_s += 600
    learned.route(ask(0.85, 0.9))
    clock.now_s += 60
    assert learned.route(ask(0.85, 0.9)).model == BIG


def test_a_session_stays_where_its_prefix_lies() -> None:
    groups = (group("a", SMALL), group("b", SMALL))
    p = plan(groups, (route({"a": 0.5, "b": 0.5}),))
    p = p.model_copy(update={"router": planned_router(POOL)})
    learned = router(p)
    first = learned.route(ask(0.5, 0.5, session="s")).group
    turns = [
        learned.route(replace(ask(0.5, 0.5, session="s"), input_tokens=1000 + 10 * i)).group
        for i in range(6)
    ]
    assert set(turns) == {first}
    strangers = {learned.route(ask(0.5, 0.5, session=f"t{i}")).group for i in range(6)}
    assert strangers == {"a", "b"}


@pytest.mark.parametrize("text", ["not numbers", "nan 0.5 100"])
def test_without_an_estimate_the_plans_shares_decide(text: str) -> None:
    learned = router(two_groups())
    request = RouteRequest("auto", 1000, prompt=replace(prompt(0.5, 0.5), text=text))
    chosen = Counter(learned.route(request).group for _ in range(10))
    assert chosen == {"a": 5, "b": 5}
    assert learned.route(request).reason.startswith("no estimate: ")
    assert learned.failures == 11


def test_a_request_without_text_goes_by_the_plans_shares() -> None:
    decision = router(two_groups()).route(RouteRequest("auto", 1000))
    assert decision.reason.startswith("no text to judge by; 50% of auto")
    assert decision.quality is None


def test_avoided_groups_are_not_chosen_and_do_not_count() -> None:
    learned = router(two_groups(worth=1.0))
    decision = learned.route(ask(0.2, 0.9), avoid={"b"})
    assert (decision.group, decision.others) == ("a", False)
    assert decision.reason.endswith("not b")
    with pytest.raises(NoGroupLeftError):
        learned.route(ask(0.2, 0.9), avoid={"a", "b"})


def test_a_size_outside_the_slo_falls_back_to_the_plan() -> None:
    request = replace(ask(0.5, 0.5), input_tokens=100_000)
    assert "no group left keeps the SLO" in router(two_groups()).route(request).reason


def test_a_bandit_learns_from_feedback() -> None:
    learned = router(two_groups(worth=30.0), policy="lin_ucb")
    assert learned.learns
    first = learned.route(ask(0.8, 0.81))
    assert first.reason.startswith("lin_ucb")
    for _ in range(60):
        decision = learned.route(ask(0.8, 0.81))
        assert decision.ask is not None
        learned.learn(decision.ask, decision.model, 1.0 if decision.model == BIG else 0.0)
    assert learned.route(ask(0.8, 0.81)).model == BIG
    other = router(two_groups(worth=30.0), policy="lin_ucb")
    other.take_over(learned)
    assert other.route(ask(0.8, 0.81)).model == BIG


def test_the_predicted_cost_is_the_plans_price_of_the_load() -> None:
    learned = router(two_groups(a=1.0))
    decision = learned.route(ask(0.5, 0.5))
    half = learned.route(replace(ask(0.5, 0.5), max_output_tokens=128))
    assert decision.cost_usd is not None
    assert half.cost_usd is not None
    assert 0 < half.cost_usd < decision.cost_usd


def test_what_feedback_taught_outlives_a_restart(tmp_path: Path) -> None:
    kept = tmp_path / "learned.npz"
    learned = router(two_groups(worth=30.0), policy="lin_ucb")
    for _ in range(300):
        first = learned.route(ask(0.85, 0.9))
        assert first.ask is not None
        learned.learn(first.ask, SMALL, 1.0)
        learned.learn(first.ask, BIG, 0.1)
    learned.remember(kept)
    restarted, other = (router(two_groups(worth=30.0), policy=p) for p in ("lin_ucb", "thompson"))
    assert restarted.recall(kept)
    assert restarted.route(ask(0.85, 0.9)).reason == learned.route(ask(0.85, 0.9)).reason
    assert not other.recall(kept)
    plain = router(two_groups(worth=30.0))
    plain.remember(tmp_path / "nothing.npz")
    assert not plain.recall(kept)
    assert not (tmp_path / "nothing.npz").exists()
