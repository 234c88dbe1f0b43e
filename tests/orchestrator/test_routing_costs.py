"""Costs of answers: the table's dollars first, then what the user gives, then parameters."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.routing_costs import active_parameters, costs_of, plan_rates
from profiler.errors import InputError
from profiler.rates import max_rates
from tests import plan_builders
from tests.serve_apps.router.evaluation.pools import outcomes

PRICES = {"small": (1.0, 2.0), "large": (10.0, 20.0)}


def test_dollars_of_the_table_win_over_prices():
    paid = outcomes(usd=np.tile([0.25, 0.5], (120, 1)))
    found = costs_of(paid, PRICES)
    assert found.from_table and (found.spent(paid) == [0.25, 0.5]).all()
    # 5 tokens in and 10 out of every answer: least squares has one way to explain a quarter.
    price = found.price(("small",), np.full(1, 5.0), np.full((1, 1), 10.0))
    assert price[0, 0] == pytest.approx(0.25)


def test_prices_are_per_million_tokens():
    table = outcomes()
    found = costs_of(table, PRICES)
    assert found.unit == "USD"
    assert found.spent(table)[0].tolist() == pytest.approx([25e-6, 250e-6])


def test_a_model_not_run_costs_nothing_known():
    table = outcomes()
    table.score[3, 1] = np.nan
    spent = costs_of(table, PRICES).spent(table)
    assert np.isnan(spent[3, 1]) and np.isfinite(spent).sum() == spent.size - 1


def test_two_models_without_any_price_count_strong_calls():
    table = outcomes()
    found = costs_of(table)
    assert found.unit == "strong calls" and found.spent(table)[0].tolist() == [0, 1]


def test_more_models_without_a_price_are_refused():
    wide = outcomes(
        models=("a", "b", "c"),
        **{n: np.ones((120, 3)) for n in ("score", "output_tokens", "input_tokens")},
        usd=np.full((120, 3), np.nan),
        answer=None,
    )
    with pytest.raises(InputError, match="a, b, c cost; give --price"):
        costs_of(wide)


def test_unknown_lengths_are_told():
    sized = outcomes(models=("x-1b", "x-8b"), output_tokens=np.full((120, 2), np.nan))
    found = costs_of(sized)
    assert found.unit == "relative" and "taken as 256 tokens" in found.source
    assert found.spent(sized)[0].tolist() == [256, 8 * 256]


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("gemma-2-9b-it", 9e9),
        ("org/mine-v2.5-0.5B", 0.5e9),
        ("llama3-chatqa-1.5-8b", 8e9),
        ("mine-8x7B", None),
        ("gpt-4o", None),
        ("a-7b-b-13b", None),
    ],
)
def test_sizes_are_read_from_names_that_have_one(name, size):
    assert active_parameters(name) == size


def test_a_plan_prices_tokens_as_its_load_costs():
    group = plan_builders.group("g", "m")
    plan = plan_builders.plan((group,), routes=(plan_builders.route({"g": 1.0}),))
    per_input, per_output, _ = plan_rates(plan, ["m"])["m"]
    size = plan.routes[0].bucket
    rate = max_rates(
        group.profile, np.array([size.input_tokens]), np.array([size.output_tokens]), plan.slo
    ).rate_rps[0]
    rent = group.usd_per_hour / plan.headroom / 3600 / rate
    assert size.input_tokens * per_input + size.output_tokens * per_output == pytest.approx(rent)
