"""Limits hold across restarts and ingresses, and in the long run exactly."""

from __future__ import annotations

import gc
import stat
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.errors import InputError
from serve_apps.api_error import ApiError
from serve_apps.guard.guard import Guard
from serve_apps.guard.limits import Bucket, Totals, day_of, until_next
from serve_apps.guard.meters import Meters
from serve_apps.guard.prices import TokenPrice
from serve_apps.guard.usage import Kept, UsageFiles
from tests.serve_apps.guard.guards import NOON_S, House, Record, bearer

PRICES = {"m1": TokenPrice(input_usd=1.0, output_usd=1.0)}


def admitted(guard: Guard, key: str, tries: int = 100) -> int:
    count = 0
    for _ in range(tries):
        try:
            guard.admit(bearer(key))
        except ApiError:
            continue
        count += 1
    return count


def spend(guard: Guard, key: str, usd: float) -> None:
    caller = guard.admit(bearer(key))
    held = guard.reserve(caller, 1, 1)
    guard.charge(caller, Record(input_tokens=int(usd * 1e6), output_tokens=0), held)


@settings(max_examples=50)
@given(
    st.integers(1, 100),
    st.lists(st.tuples(st.floats(0, 100), st.floats(0, 300)), min_size=1, max_size=30),
)
def test_a_bucket_gives_a_minutes_worth_and_then_its_rate(
    per_minute: int, asked: list[tuple[float, float]]
) -> None:
    now, taken, bucket = 0.0, 0.0, Bucket(per_minute, 0.0)
    for pause_s, amount in asked:
        now += pause_s
        if bucket.wait_s(amount, now) == 0:
            bucket.take(amount)
            taken += amount
    largest = max(amount for _, amount in asked)
    assert taken <= per_minute * (1 + now / 60) + largest + 1e-6


@settings(max_examples=50)
@given(st.integers(1, 1000), st.floats(0.1, 2000), st.floats(0, 2000))
def test_the_wait_it_names_is_enough_and_no_less_is(
    per_minute: int, debt: float, amount: float
) -> None:
    bucket = Bucket(per_minute, 0.0)
    bucket.take(debt)
    wait_s = bucket.wait_s(amount, 0.0)
    if wait_s > 0.01:
        assert bucket.wait_s(amount, wait_s * 0.99) > 0
    assert bucket.wait_s(amount, wait_s + 1e-6) == pytest.approx(0.0, abs=1e-6)


def test_a_restart_forgets_no_request_and_no_cent(house: House) -> None:
    key = house.key(requests_per_minute=10, budget_usd_per_day=1.0)
    usage = str(house.directory / "usage")
    guard = house.guard(usage=usage, prices=PRICES)
    spend(guard, key, 0.9)
    assert admitted(guard, key, 4) == 4
    guard.close()
    again = house.guard(usage=usage, prices=PRICES)
    assert admitted(again, key) == 5
    house.clock.passed_s += 6
    spend(again, key, 0.2)
    again.close()
    house.clock.passed_s += 60
    third = house.guard(usage=usage, prices=PRICES)
    with pytest.raises(ApiError, match="budget of the day"):
        spend(third, key, 0.0)
    third.close()


def test_time_away_refills_what_a_restart_remembers(house: House) -> None:
    key = house.key(requests_per_minute=10)
    usage = str(house.directory / "usage")
    guard = house.guard(usage=usage)
    assert admitted(guard, key) == 10
    guard.close()
    house.clock.passed_s += 30
    again = house.guard(usage=usage)
    assert admitted(again, key) == 5
    again.close()


def test_a_kill_loses_only_what_was_not_yet_written(house: House) -> None:
    key = house.key(budget_usd_per_day=1.0)
    usage = house.directory / "usage"
    guard = house.guard(usage=str(usage), prices=PRICES)
    spend(guard, key, 1.0)
    guard.sync()  # and never closed: another takes a file of its own, and reads this one
    other = house.guard(usage=str(usage), prices=PRICES)
    with pytest.raises(ApiError, match="budget"):
        spend(other, key, 0.1)
    assert stat.S_IMODE((usage / "usage-0.json").stat().st_mode) == 0o600
    guard.close()
    other.close()


def test_ingresses_share_a_rate_up_to_one_bucket_each(house: House) -> None:
    key = house.key(requests_per_minute=10)
    usage = str(house.directory / "usage")
    both = [house.guard(usage=usage) for _ in range(2)]
    first = sum(admitted(g, key) for g in both)
    assert first == 20  # the stated bound: n - 1 buckets too much before they know
    later = 0
    for _ in range(600):  # ten minutes
        house.clock.passed_s += 1
        for guard in both:
            later += admitted(guard, key, 1)
            guard.sync()
    assert first + later == pytest.approx(10 * (1 + 10), abs=3)
    for guard in both:
        guard.close()


def test_who_stands_by_does_not_grow_with_what_others_use(tmp_path: Path) -> None:
    busy, idle = UsageFiles(tmp_path), Meters(tmp_path)

    def grown(first: int, last: int) -> int:
        for used in range(first, last):
            busy.write({f"key{i}": Kept(Totals(requests=used, tokens=used)) for i in range(200)})
            idle.sync()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = grown(1000, 1002)
        assert grown(1002, 1012) - before < 50_000
    finally:
        tracemalloc.stop()
        idle.close()
        busy.close()


def test_ingresses_share_a_budget(house: House) -> None:
    key = house.key(budget_usd_per_day=1.0)
    usage = str(house.directory / "usage")
    one, other = (house.guard(usage=usage, prices=PRICES) for _ in range(2))
    spend(one, key, 0.6)
    spend(other, key, 0.5)
    for guard in (one, other, one):
        guard.sync()
    for guard in (one, other):
        with pytest.raises(ApiError, match="budget"):
            spend(guard, key, 0.0)
        guard.close()


def test_without_a_directory_each_gives_out_its_share(house: House) -> None:
    key = house.key(requests_per_minute=10, budget_usd_per_day=1.0)
    guard = house.guard(ingresses=5, prices=PRICES)
    spend(guard, key, 0.21)
    with pytest.raises(ApiError, match="budget"):
        spend(guard, key, 0.0)
    assert admitted(guard, key) == 0


def test_a_changed_limit_keeps_what_was_used(house: House) -> None:
    key = house.key(requests_per_minute=10)
    guard = house.guard()
    assert admitted(guard, key, 6) == 6
    text = house.path.read_text()
    house.path.write_text(text.replace("requests_per_minute: 10", "requests_per_minute: 8"))
    house.clock.passed_s += 1.5
    guard.sync()
    assert admitted(guard, key) == 2


def test_a_spoilt_usage_file_is_left_out_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = UsageFiles(tmp_path)
    for name, text in (("usage-7.json", "{"), ("usage-8.json", '{"keys": {"a": 1}}')):
        (tmp_path / name).write_text(text)
    assert [lines for _, lines in files.others()] == [{}, {}]
    assert "not a usage file" in caplog.text
    files.close()


def test_a_file_written_is_read_as_it_was(tmp_path: Path) -> None:
    files = UsageFiles(tmp_path)
    kept = {"k": Kept(Totals(3, 500, "2026-01-01", 0.5, "2026-01", 1.5), 2.0, 100.0, NOON_S)}
    files.write(kept)
    assert files.mine() == kept
    other = UsageFiles(tmp_path)
    assert dict(other.others()) == {"usage-0.json": kept}
    other.close()
    files.close()


def test_a_place_that_cannot_be_used_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot keep usage here"):
        UsageFiles(tmp_path / "file" / "usage")


def test_days_and_months_end_in_utc() -> None:
    assert day_of(NOON_S) == "2026-01-01"
    assert until_next("day", NOON_S) == 12 * 3600
    assert until_next("month", NOON_S) == 30.5 * 86400
