"""Twelve hundred a minute, to the call and to the nanosecond."""

from __future__ import annotations

import random

import pytest

from massive_lab.gateway.limits import Limits, Wait


def test_the_limit_itself_passes_and_the_next_call_does_not() -> None:
    limits = Limits()
    assert [limits.take("desk", 100.0) for _ in range(1200)] == [None] * 1200
    wait = limits.take("desk", 100.0)
    assert wait == Wait(60_000_000_000, "token")
    assert wait.retry_after == 60


def test_a_place_is_free_one_period_after_it_was_taken_and_not_a_nanosecond_before() -> None:
    limits = Limits(per_token=1, total=10)
    assert limits.take("desk", 0.0) is None
    just_before = limits.take("desk", 59.999_999_999)
    assert just_before == Wait(1, "token")
    assert just_before.retry_after == 1
    assert limits.take("desk", 60.0) is None


@pytest.mark.parametrize(
    ("now", "retry_after"), [(0.0, 60), (0.5, 60), (1.0, 59), (58.999, 2), (59.0, 1), (59.999, 1)], ids=str
)
def test_retry_after_is_whole_seconds_rounded_up_and_never_nought(now: float, retry_after: int) -> None:
    limits = Limits(per_token=1)
    limits.take("desk", 0.0)
    wait = limits.take("desk", now)
    assert wait is not None
    assert wait.retry_after == retry_after
    assert limits.take("desk", now + retry_after) is None


def test_a_refused_call_does_not_count() -> None:
    limits = Limits(per_token=1)
    limits.take("desk", 0.0)
    for tenth in range(1, 600):
        assert limits.take("desk", tenth / 10) is not None
    assert limits.take("desk", 60.0) is None


def test_a_call_refused_in_total_does_not_count_for_its_token() -> None:
    limits = Limits(per_token=2, total=2)
    limits.take("one", 0.0)
    limits.take("two", 1.0)
    assert limits.take("three", 2.0) == Wait(58_000_000_000, "total")
    assert limits.used("three", 2.0) == 0
    assert limits.n_names == 2


def test_of_two_reached_limits_the_longer_one_is_said() -> None:
    limits = Limits(per_token=1, total=2)
    limits.take("one", 0.0)
    limits.take("two", 10.0)
    assert limits.take("two", 20.0) == Wait(50_000_000_000, "token")
    assert limits.take("one", 20.0) == Wait(40_000_000_000, "token")
    assert limits.take("three", 20.0) == Wait(40_000_000_000, "total")


def test_two_hundred_clients_of_four_tokens_get_exactly_the_total() -> None:
    limits, draw = Limits(per_token=400, total=1200), random.Random(7)
    clients = [f"token-{number % 4}" for number in range(200)]
    granted = dict.fromkeys(clients, 0)
    calls = [name for name in clients for _ in range(20)]
    draw.shuffle(calls)
    for number, name in enumerate(calls):
        granted[name] += limits.take(name, number / 4000 * 59) is None
    assert sum(granted.values()) == 1200
    assert max(granted.values()) <= 400


def test_two_hundred_clients_of_one_token_get_exactly_its_limit_in_every_window() -> None:
    limits = Limits()
    passed = [tick / 100 for tick in range(12_000) for _ in range(2) if limits.take("desk", tick / 100) is None]
    assert sum(at < 60 for at in passed) == 1200
    assert sum(60 <= at < 120 for at in passed) == 1200


@pytest.mark.parametrize(
    "spelling", ["DESK", "Desk", "\uff24\uff25\uff33\uff2b", "de\u017fk"], ids=["upper", "title", "wide", "long-s"]
)
def test_no_other_spelling_of_a_name_has_a_limit_of_its_own(spelling: str) -> None:
    limits = Limits(per_token=1)
    limits.take("desk", 0.0)
    assert limits.take(spelling, 1.0) is not None


def test_a_names_own_limit_may_be_lower_or_higher() -> None:
    limits = Limits(per_token=2)
    assert [limits.take("few", 0.0, limit=1) is None for _ in range(2)] == [True, False]
    assert [limits.take("many", 0.0, limit=4) is None for _ in range(5)] == [True] * 4 + [False]


def test_a_lowered_limit_waits_until_enough_calls_have_fallen_out() -> None:
    limits = Limits(per_token=10)
    for second in range(5):
        limits.take("desk", float(second))
    wait = limits.take("desk", 5.0, limit=2)
    assert wait == Wait(58_000_000_000, "token")
    assert limits.take("desk", 62.999, limit=2) is not None
    assert limits.take("desk", 63.0, limit=2) is None


def test_a_clock_that_goes_back_gives_nothing_away() -> None:
    limits = Limits(per_token=1)
    limits.take("desk", 1000.0)
    assert limits.take("desk", 10.0) == Wait(60_000_000_000, "token")
    assert limits.take("desk", 1059.0) == Wait(1_000_000_000, "token")


def test_a_clock_may_begin_below_nought() -> None:
    limits = Limits(per_token=1)
    assert limits.take("desk", -100.0) is None
    assert limits.take("desk", -40.5) is not None
    assert limits.take("desk", -40.0) is None


def test_a_hundred_thousand_names_leave_nothing_behind() -> None:
    limits = Limits(per_token=5, total=100)
    for number in range(100_000):
        limits.take(f"name-{number}", number / 1000)
        assert limits.n_names <= 100
    assert sum(map(len, limits._names.values())) == len(limits._all) <= 100
    limits.take("last", 1000.0)
    assert (limits.n_names, len(limits._all)) == (1, 1)


@pytest.mark.parametrize("bad", [(0, 1, 60.0), (1, 0, 60.0), (1, 1, 0.0)], ids=str)
def test_limits_are_positive(bad: tuple[int, int, float]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Limits(bad[0], bad[1], period_s=bad[2])
    with pytest.raises(ValueError, match="at least 1"):
        Limits().take("desk", 0.0, limit=0)
