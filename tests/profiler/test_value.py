"""Tokens per dollar: arithmetic of each cell, the best replica of a type, the winner of a size."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.capacity import Replica
from profiler.core import MeasuredRate
from profiler.value import Offer, Size, value_table
from tests.builders import profile, slo, step_time

SMALL, LARGE = Size(input_tokens=128, output_tokens=64), Size(input_tokens=4096, output_tokens=512)
FAST = step_time(base_s=0.004, per_prefill_token_s=1e-5)


def offer(gpu="A100", usd_per_hour=2.0, market="on_demand", **kwargs):
    return Offer(profile(gpu=gpu, **kwargs), market, usd_per_hour)


def test_a_cell_is_tokens_of_an_hour_over_its_price():
    (cell,) = value_table([offer(usd_per_hour=3.0)], slo(), [SMALL]).cells
    rate = Replica(profile(), np.array([128.0]), np.array([64.0])).max_rate_rps(slo())[0]
    assert cell.rate_rps == pytest.approx(rate)
    assert cell.tokens_per_usd == pytest.approx(rate * 192 * 3600 / 3.0)
    assert cell.usd_per_million_tokens == pytest.approx(1e6 / cell.tokens_per_usd)
    assert cell.basis == "roofline"


@given(st.floats(0.1, 100))
def test_halving_the_price_doubles_the_tokens(price):
    (dear,) = value_table([offer(usd_per_hour=price)], slo(), [SMALL]).cells
    (cheap,) = value_table([offer(usd_per_hour=price / 2)], slo(), [SMALL]).cells
    assert cheap.tokens_per_usd == pytest.approx(2 * dear.tokens_per_usd)


def test_the_best_replica_of_a_type_is_chosen_per_size():
    # The pair is dearer per token, but only it can hold the long request.
    one = offer(usd_per_hour=1.0, kv_capacity_tokens=3000, max_model_len=3000)
    two = offer(usd_per_hour=9.0, tensor_parallel=2, law=FAST)
    short, long = value_table([one, two], slo(ttft_s=10), [SMALL, LARGE]).cells
    assert (short.tensor_parallel, long.tensor_parallel) == (1, 2)


def test_an_estimate_does_not_beat_a_measurement_of_the_same_type():
    known = profile().model_copy(
        update={"provenance": profile().provenance.model_copy(update={"kind": "measured"})}
    )
    flattered = offer(usd_per_hour=2.0, tensor_parallel=2, law=FAST)
    (cell,) = value_table([Offer(known, "on_demand", 2.0), flattered], slo(), [SMALL]).cells
    assert (cell.tensor_parallel, cell.basis) == (1, "measured")


def test_a_measured_rate_is_named_as_such():
    at = MeasuredRate(input_tokens=128, output_tokens=64, rate_rps=7.0, slo=slo())
    known = profile().model_copy(update={"rates": (at,)})
    first, second = value_table([Offer(known, "on_demand", 1.0)], slo(), [SMALL, LARGE]).cells
    assert (first.basis, first.tokens_per_usd) == ("measured rate", pytest.approx(7 * 192 * 3600))
    assert second.basis == "roofline"


def test_what_cannot_be_served_says_why():
    table = value_table(
        [offer(max_model_len=1000), offer("L4", 0.5)],
        slo(ttft_s=10),
        [LARGE],
        {("llama-8b", "T4"): "does not fit: needs 16 GB"},
    )
    reasons = {c.gpu: c.reason for c in table.cells}
    assert "4608 tokens exceed the 1000" in reasons["A100"]
    assert reasons["T4"] == "does not fit: needs 16 GB"
    assert reasons["L4"] is None
    assert [w.gpu for w in table.winners] == ["L4"]
    assert table.winners[0].lead is None


def test_the_winner_leads_by_the_ratio_to_the_next():
    table = value_table([offer("A", 2.0), offer("B", 1.0), offer("C", 4.0)], slo(), [SMALL])
    (winner,) = table.winners
    assert (winner.gpu, winner.runner_up, winner.lead) == ("B", "A", pytest.approx(2.0))
    assert table.winner("llama-8b", "on_demand", SMALL) == winner
    assert table.gpus("llama-8b", "on_demand") == ["B", "A", "C"]


def test_no_winner_where_nothing_serves():
    assert value_table([offer(max_model_len=100)], slo(), [LARGE]).winners == ()


def test_markets_and_models_are_panels_of_their_own():
    table = value_table([offer(), offer(market="spot", usd_per_hour=1.0)], slo(), [SMALL])
    assert table.panels == [("llama-8b", "on_demand"), ("llama-8b", "spot")]
    demand, spot = table.cells
    assert spot.tokens_per_usd == pytest.approx(2 * demand.tokens_per_usd)
