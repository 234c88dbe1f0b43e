"""The guard admits holders of keys, inside their limits, and says no in OpenAI's words."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from placement.plan import AUTO
from serve_apps.api_error import ApiError
from serve_apps.guard import keys_file
from serve_apps.guard.caller import ANONYMOUS
from serve_apps.guard.guard import Guard
from serve_apps.guard.keys import id_of, new_key
from serve_apps.guard.limits import MINUTE_S
from serve_apps.guard.peer import Peer
from serve_apps.guard.prices import TokenPrice
from serve_apps.guard.settings import GuardSettings
from tests.serve_apps.guard.guards import NOON_S, House, Record, bearer

HERE = Peer("127.0.0.1")
PRICES = {"m1": TokenPrice(input_usd=1.0, output_usd=2.0)}


def refused(call: Any, *args: Any) -> ApiError:
    with pytest.raises(ApiError) as error:
        call(*args)
    return error.value


def test_without_a_keys_file_everybody_is_anonymous() -> None:
    guard = Guard()
    caller = guard.admit([])
    assert caller == ANONYMOUS
    assert not guard.required
    assert guard.reserve(caller, 10**9, None) == 0
    guard.charge(caller, Record())
    guard.allow(caller, "any")
    guard.sync()
    guard.close()


def test_who_names_no_deadline_has_the_keys_or_else_the_services(house: House) -> None:
    own, none = house.key("a", default_deadline_s=2.0), house.key("b")
    guard = house.guard(default_deadline_s=7.0)
    found = [guard.admit(bearer(key)).default_deadline_s for key in (own, none)]
    assert found == [2.0, 7.0]
    assert Guard(GuardSettings(default_deadline_s=7.0)).admit([]).default_deadline_s == 7.0


def test_both_ways_of_sending_a_key_are_known(house: House) -> None:
    key = house.key("acme")
    guard = house.guard()
    assert guard.admit(bearer(key)).tenant == "acme"
    assert guard.admit([(b"x-api-key", key.encode())]).tenant == "acme"
    assert guard.admit([(b"authorization", b"bearer  " + key.encode())]).tenant == "acme"


def test_no_key_an_unknown_one_and_a_wrong_one_get_the_same_answer(house: House) -> None:
    key = house.key()
    guard = house.guard()
    wrong = [
        [],
        bearer(new_key(id_of(key))),
        bearer(new_key("zzzzzzzzzz")),
        bearer("sk-1234"),
        bearer(""),
        [(b"authorization", b"Basic " + key.encode())],
        bearer(key, (b"x-api-key", key.encode())),
        bearer(key, (b"authorization", b"Bearer x")),
    ]
    answers = [refused(guard.admit, headers) for headers in wrong]
    assert {(e.status, str(e), str(e.headers)) for e in answers} == {
        (answers[0].status, str(answers[0]), str(answers[0].headers))
    }
    assert answers[0].status == 401
    assert answers[0].body["error"]["code"] == "invalid_api_key"


def test_the_holder_of_a_dead_key_is_told_so(house: House) -> None:
    expires = dt.datetime.fromtimestamp(NOON_S + 60, dt.UTC)
    short, gone = house.key(expires=expires), house.key()
    keys_file.revoke(house.path, id_of(gone))
    guard = house.guard()
    guard.admit(bearer(short))
    house.clock.passed_s += 60
    assert "expired" in str(refused(guard.admit, bearer(short)))
    assert "revoked" in str(refused(guard.admit, bearer(gone)))


def test_requests_per_minute(house: House) -> None:
    key = house.key(requests_per_minute=2)
    guard = house.guard()
    for _ in range(2):
        guard.admit(bearer(key))
    error = refused(guard.admit, bearer(key))
    assert error.status == 429
    assert error.headers["retry-after"] == "30"
    assert error.body["error"]["code"] == "rate_limit_exceeded"
    assert error.body["error"]["type"] == "requests"
    house.clock.passed_s += 29
    refused(guard.admit, bearer(key))
    house.clock.passed_s += 1
    guard.admit(bearer(key))


def test_limits_of_one_key_are_not_anothers(house: House) -> None:
    one, other = house.key(requests_per_minute=1), house.key(requests_per_minute=1)
    guard = house.guard()
    guard.admit(bearer(one))
    refused(guard.admit, bearer(one))
    guard.admit(bearer(other))


def test_tokens_are_estimated_first_and_corrected_after(house: House) -> None:
    key = house.key(tokens_per_minute=1000)
    guard = house.guard()
    caller = guard.admit(bearer(key))
    held = guard.reserve(caller, 100, 500)
    assert held == 100 + 256  # nothing is known of this key's answers yet
    guard.charge(caller, Record(input_tokens=100, output_tokens=900), held)
    error = refused(guard.reserve, caller, 10, 10)
    assert error.body["error"]["type"] == "tokens"
    assert error.headers["retry-after"] == "2"  # 20 tokens at 1000 a minute, rounded up
    house.clock.passed_s += 2
    assert guard.reserve(caller, 10, 10) == 20


def test_each_answer_that_is_asked_for_is_set_aside(house: House) -> None:
    key = house.key(tokens_per_minute=1000)
    guard = house.guard()
    caller = guard.admit(bearer(key))
    held = guard.reserve(caller, 100, 200, 4)
    assert held == 100 + 4 * 200
    assert refused(guard.reserve, caller, 100, 200, 4).body["error"]["type"] == "tokens"
    guard.charge(caller, Record(input_tokens=100, output_tokens=800), held, 4)
    house.clock.passed_s += MINUTE_S
    mean = 256 + 0.05 * (200 - 256)  # what is learned is the length of one answer
    assert guard.reserve(caller, 0, None, 2) == round(2 * mean)


def test_a_client_that_leaves_pays_for_what_was_set_aside(house: House) -> None:
    key = house.key(tokens_per_minute=1000)
    guard = house.guard()
    caller = guard.admit(bearer(key))
    held = guard.reserve(caller, 500, 500)
    guard.charge(caller, Record(input_tokens=500, output_tokens=None), held)
    error = refused(guard.reserve, caller, 500, 0)
    assert float(error.headers["retry-after"]) == pytest.approx((500 + held - 1000) * 0.06, abs=1)


def test_what_never_ran_costs_nothing(house: House) -> None:
    key = house.key(tokens_per_minute=400, budget_usd_per_day=1.0)
    guard = house.guard(prices=PRICES)
    caller = guard.admit(bearer(key))
    for _ in range(50):
        held = guard.reserve(caller, 300, 100)
        guard.charge(caller, Record(input_tokens=300, dispatched_s=None), held)


def test_more_than_a_minutes_worth_passes_alone_and_is_paid_for(house: House) -> None:
    key = house.key(tokens_per_minute=100)
    guard = house.guard()
    caller = guard.admit(bearer(key))
    assert guard.reserve(caller, 1000, 0) == 1000
    refused(guard.reserve, caller, 1, 0)
    house.clock.passed_s += 9 * MINUTE_S
    refused(guard.reserve, caller, 1, 0)
    house.clock.passed_s += 1.0
    guard.reserve(caller, 1, 0)


def test_a_spent_budget_is_insufficient_quota_until_midnight(house: House) -> None:
    key = house.key(budget_usd_per_day=2.0)
    guard = house.guard(prices=PRICES)
    caller = guard.admit(bearer(key))
    held = guard.reserve(caller, 10, 10)
    guard.charge(caller, Record(input_tokens=10**6, output_tokens=500_000), held)
    error = refused(guard.reserve, caller, 1, 1)
    assert error.status == 429
    assert error.body["error"]["code"] == "insufficient_quota"
    assert error.headers["retry-after"] == str(12 * 3600)
    house.clock.passed_s += 12 * 3600
    guard.reserve(caller, 1, 1)


def test_requests_under_way_hold_part_of_the_budget(house: House) -> None:
    key = house.key(budget_usd_per_month=1.0)
    guard = house.guard(prices=PRICES)
    caller = guard.admit(bearer(key))
    held = guard.reserve(caller, 100, 100)
    guard.charge(caller, Record(input_tokens=100_000, output_tokens=100_000), held)  # $0.30
    taken = 0
    with pytest.raises(ApiError) as error:
        for taken in range(100):  # noqa: B007
            guard.reserve(caller, 100_000, 0)  # about $0.15 each by what this key paid so far
    assert taken == 4
    assert "month" in str(error.value)


def test_a_price_comes_from_the_operator_then_the_plan_then_the_router(house: House) -> None:
    key = house.key(budget_usd_per_day=100.0)
    guard = house.guard(prices=PRICES)
    dear = TokenPrice(input_usd=50, output_usd=50)
    guard.price({"m1": dear, "m2": dear})
    caller = guard.admit(bearer(key))

    def spend(model: str, **fields: Any) -> None:
        guard.charge(caller, Record(model=model, input_tokens=10**6, output_tokens=0, **fields), 0)

    spend("m1")  # $1, not the plan's $50
    spend("m3", predicted_cost_usd=1.0)
    spend("m3")  # nothing is known of its price
    spend("m2")
    guard.reserve(caller, 1, 0)
    spend("m2")
    assert refused(guard.reserve, caller, 1, 0).body["error"]["code"] == "insufficient_quota"


def test_models_off_the_list_are_403_and_not_shown(house: House) -> None:
    key = house.key(models=("m1", AUTO))
    guard = house.guard()
    caller = guard.admit(bearer(key))
    for name in ("m1", "auto", "auto:cost", "auto:quality=0.9"):
        guard.allow(caller, name)
    error = refused(guard.allow, caller, "m2")
    assert (error.status, error.body["error"]["param"]) == (403, "model")
    assert guard.visible(caller, ["m1", "m2", AUTO]) == ["m1", AUTO]


def test_admin_calls_need_a_key_of_their_own(house: House) -> None:
    user, admin = house.key(), house.key(admin=True)
    guard = house.guard()
    guard.admin(bearer(admin))
    assert refused(guard.admin, bearer(user)).status == 403
    assert refused(guard.admin, []).status == 401
    assert refused(guard.admin, [(b"host", b"localhost")], HERE).status == 401
    assert refused(guard.admit, bearer(admin)).status == 403


@pytest.mark.parametrize(
    "header", [(b"origin", b"https://evil.example"), (b"referer", b"https://evil.example/x")]
)
def test_admin_calls_from_another_sites_page_are_refused(
    house: House, header: tuple[bytes, bytes]
) -> None:
    admin = house.key(admin=True)
    guard = house.guard()
    assert refused(guard.admin, bearer(admin, header)).status == 403
    assert refused(Guard().admin, [(b"host", b"localhost"), header], HERE).status == 403


def test_metrics_are_the_operators_unless_opened(house: House) -> None:
    user, admin = house.key(), house.key(admin=True)
    guard = house.guard()
    guard.scrape(bearer(admin))
    assert refused(guard.scrape, bearer(user)).status == 403
    opened = house.guard(open_metrics=True)
    opened.scrape([])
    assert refused(opened.scrape, [(b"origin", b"https://evil.example")]).status == 403


def test_without_keys_only_this_machine_is_an_operator() -> None:
    guard = Guard()
    guard.admin([(b"host", b"localhost:8000")], HERE)
    assert refused(guard.admin, [(b"host", b"localhost:8000")], Peer("10.0.0.9")).status == 403
    assert refused(guard.admin, [(b"host", b"localhost:8000")]).status == 403


def test_without_keys_a_proxy_of_another_user_is_no_operator() -> None:
    """It passes on what strangers ask, with whatever name of a host they choose."""
    guard = Guard(own_user=lambda peer: peer.port != 81)
    headers = [(b"host", b"localhost:8000")]
    guard.admin(headers, Peer("127.0.0.1", 80))
    error = refused(guard.admin, headers, Peer("127.0.0.1", 81))
    assert error.status == 403
    assert "guard.keys" in str(error)


def test_without_keys_a_page_must_not_use_this_machines_models() -> None:
    rebound = [(b"host", b"evil.example"), (b"origin", b"http://evil.example")]
    own = [(b"host", b"localhost:8000"), (b"origin", b"http://localhost:8000")]
    assert refused(Guard().admit, rebound).status == 403
    assert Guard().admit(own) == ANONYMOUS
    assert Guard(GuardSettings(allow_anonymous=True)).admit(rebound) == ANONYMOUS
    assert refused(Guard().admit, [(b"sec-fetch-site", b"cross-site")]).status == 403
    form = [(b"content-type", b"text/plain")]
    assert refused(Guard().admit, form).status == 415


def test_a_body_goes_through_screen_and_checks() -> None:
    guard = Guard()
    fields = guard.read(b'{"model": "m1", "prompt": "hi", "api_base": "http://x"}')
    assert guard.clean(fields) == ("api_base",)
    assert refused(guard.read, b"[" * 100).status == 400
