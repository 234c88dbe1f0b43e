"""Our ranking of A10G and A100 under Melange's setting has the order that Melange measured."""

import sys

import pytest

from benchmarks import value


def test_a10g_is_ahead_for_small_requests_and_a100_for_large_ones():
    then = value.profiles(host_s=value.host_s_per_sequence())
    found = value.leads("of the time", then, 0.12)
    sys.stdout.write(
        f"A10G / A100 {found.small:.2f} at {found.small_size}, published up to 2.6\n"
        f"A100 / A10G {found.large:.2f} at {found.large_size}, published up to 1.5\n"
    )
    assert found.small > 1
    assert found.large > 1
    small, large = found.small_size, found.large_size
    assert small.input_tokens + small.output_tokens < large.input_tokens + large.output_tokens


@pytest.mark.parametrize("tpot_s", value.TPOT_S)
def test_tighter_limits_never_help_the_slower_card(tpot_s):
    then = value.profiles(host_s=value.host_s_per_sequence())
    assert value.leads("", then, tpot_s).small <= value.leads("", then, 0.12).small + 1e-9
