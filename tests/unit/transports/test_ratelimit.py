from __future__ import annotations

import pytest

from massive_lab.transports.ratelimit import TokenBucket


def test_the_first_calls_go_at_once_and_the_next_waits_for_the_oldest() -> None:
    bucket = TokenBucket(5, 60.0)
    assert [bucket.reserve(float(n)) for n in range(5)] == [0.0] * 5
    assert [bucket.reserve(5.0) for _ in range(7)] == [55.0, 56.0, 57.0, 58.0, 59.0, 115.0, 116.0]


def test_after_a_rest_all_is_free_but_no_more_than_all() -> None:
    bucket = TokenBucket(2, 60.0)
    for _ in range(4):
        bucket.reserve(0.0)
    assert [bucket.reserve(1_000.0) for _ in range(3)] == [0.0, 0.0, 60.0]


def test_a_slot_is_free_exactly_one_period_after_it_was_taken() -> None:
    bucket = TokenBucket(1, 60.0)
    assert bucket.reserve(0.0) == 0.0
    assert bucket.reserve(60.0) == 0.0
    assert bucket.reserve(119.5) == 0.5


@pytest.mark.parametrize(("capacity", "period_s"), [(0, 60.0), (-1, 60.0), (5, 0.0), (5, -1.0)])
def test_a_bucket_that_lets_nothing_through_is_refused(capacity: int, period_s: float) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        TokenBucket(capacity, period_s)
