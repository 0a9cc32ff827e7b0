from __future__ import annotations

import pytest

from massive_lab.transports.retry import RetryBudget, RetryPolicy, parse_retry_after

AGAIN = [408, 429, 499, 500, 502, 503, 504, 507, 520, 522, 530, 599]
NEVER = [*(status for status in range(400, 500) if status not in {408, 429, 499}), 501, 505, 301, 302, 304, 200, 204]


@pytest.mark.parametrize("status", [None, *AGAIN])
def test_what_is_repeated(status: int | None) -> None:
    assert RetryPolicy().delay(1, status=status) == 0.125


@pytest.mark.parametrize("status", NEVER)
def test_what_is_not_also_when_the_server_names_a_time(status: int) -> None:
    assert RetryPolicy().delay(1, status=status) is None
    assert RetryPolicy().delay(1, status=status, retry_after_s=1) is None


def test_waits_double_up_to_the_cap_and_end_with_the_tries() -> None:
    policy = RetryPolicy(max_attempts=8)
    assert [policy.delay(n, status=503) for n in range(1, 9)] == [0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 4.0, None]
    assert policy.delay(1, status=503, chance=0.5) == 0.1875


def test_one_try_is_one_try() -> None:
    assert RetryPolicy(max_attempts=1).delay(1, status=503, retry_after_s=0) is None


def test_the_servers_wish_is_obeyed_up_to_the_bound() -> None:
    policy = RetryPolicy()
    for wish in (0, 0.5, 3, 70):
        assert policy.delay(1, status=429, retry_after_s=wish, chance=0.9) == wish
    assert policy.delay(1, status=429, retry_after_s=70.001) is None
    assert policy.delay(1, status=503, retry_after_s=float("inf")) is None


def test_very_many_tries_do_not_overflow() -> None:
    assert RetryPolicy(max_attempts=100_000).delay(99_999, status=503) == 4.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        (" 7 ", 7.0),
        ("0", 0.0),
        ("1.5", 1.5),
        ("Thu, 01 Jan 1970 00:16:49 GMT", 9.0),
        ("Thursday, 01-Jan-70 00:16:49 GMT", 9.0),
        ("Thu, 01 Jan 1970 00:16:49", 9.0),
        ("Thu, 01 Jan 1970 01:16:49 +0100", 9.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),  # past
        (None, None),
        ("", None),
        (" ", None),
        ("soon", None),
        ("-1", None),
        ("+1", None),
        ("1e3", None),
        (".", None),
        ("1.2.3", None),
        ("nan", None),
        ("inf", None),
        ("7, 8", None),
        ("\u0667", None),
        ("\u00b2", None),
        ("Thu, 32 Jan 1970 00:00:09 GMT", None),
        ("Thu, 01 Jan 99999999 00:00:09 GMT", None),
        ("Thu, 01 Jan 1970 99:00:09 GMT", None),
        ("Thu, 01 Jan 1970 00:00:09 +9999999999", None),
    ],
)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, 1_000 * 10**9) == seconds


def test_a_budget_has_a_reserve_and_earns_by_the_request() -> None:
    budget = RetryBudget(reserve=2, ratio=0.25)
    assert [budget.spend() for _ in range(3)] == [True, True, False]
    for _ in range(3):
        budget.earn()
        assert not budget.spend()
    budget.earn()
    assert [budget.spend(), budget.spend()] == [True, False]


def test_a_budget_does_not_grow_beyond_its_reserve() -> None:
    budget = RetryBudget(reserve=2, ratio=1)
    for _ in range(100):
        budget.earn()
    assert [budget.spend() for _ in range(3)] == [True, True, False]
