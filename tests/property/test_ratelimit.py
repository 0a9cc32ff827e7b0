"""Laws of the call budget, on whole milliseconds so that sums are exact."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from massive_lab.transports.ratelimit import TokenBucket

steps = st.lists(st.integers(0, 3_000), min_size=1, max_size=150)
"""Milliseconds between one call and the next."""


def starts(bucket: TokenBucket, gaps: list[int]) -> tuple[list[float], list[float]]:
    """When each call came, and when it was let through; powers of two keep the floats exact."""
    now, came, went = 0.0, [], []
    for gap in gaps:
        now += gap / 1024
        came.append(now)
        went.append(now + bucket.reserve(now))
    return came, went


@given(st.integers(1, 8), st.integers(1, 5_000), steps)
def test_no_window_of_a_period_wherever_it_begins_holds_more_than_the_capacity(
    capacity: int, period: int, gaps: list[int]
) -> None:
    period_s = period / 1024
    _, went = starts(TokenBucket(capacity, period_s), gaps)
    # The windows that begin with a call hold the most.
    for begin in went:
        assert sum(begin <= at < begin + period_s for at in went) <= capacity


@given(st.integers(1, 8), st.integers(1, 5_000), steps)
def test_order_is_kept_and_nobody_goes_before_he_came(capacity: int, period: int, gaps: list[int]) -> None:
    came, went = starts(TokenBucket(capacity, period / 1024), gaps)
    assert went == sorted(went)
    assert all(at >= now for now, at in zip(came, went, strict=True))


@given(st.integers(1, 8), st.integers(1, 5_000), steps)
def test_nobody_waits_longer_than_the_window_demands(capacity: int, period: int, gaps: list[int]) -> None:
    period_s = period / 1024
    came, went = starts(TokenBucket(capacity, period_s), gaps)
    for n, (now, at) in enumerate(zip(came, went, strict=True)):
        if at > now:
            # Then the call `capacity` places before is exactly one period old.
            assert n >= capacity
            assert at == went[n - capacity] + period_s


@given(st.integers(1, 8), st.integers(1, 50))
def test_calls_that_come_at_once_wait_in_steps(capacity: int, n: int) -> None:
    bucket = TokenBucket(capacity, 60.0)
    assert [bucket.reserve(0.0) for _ in range(n)] == [60.0 * (k // capacity) for k in range(n)]
