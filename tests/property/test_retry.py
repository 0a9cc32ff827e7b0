"""Laws of trying again."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from massive_lab.transports.retry import RetryBudget, RetryPolicy, parse_retry_after

statuses = st.one_of(st.none(), st.integers(100, 599))
chances = st.floats(0, 1, exclude_max=True)
policies = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 50),
    base_s=st.floats(0.001, 10),
    cap_s=st.floats(0.001, 100),
    max_retry_after_s=st.floats(0, 1000),
)


@given(policies, statuses, st.one_of(st.none(), st.floats(0, 1e9)), chances)
def test_a_call_ends_after_its_tries(
    policy: RetryPolicy, status: int | None, wish: float | None, chance: float
) -> None:
    attempt = 1
    while policy.delay(attempt, status=status, retry_after_s=wish, chance=chance) is not None:
        attempt += 1
        assert attempt <= policy.max_attempts


@given(policies, st.integers(1, 60), statuses, st.one_of(st.none(), st.floats(0, 1e9)), chances)
def test_a_wait_is_bounded_and_never_shorter_than_asked(
    policy: RetryPolicy, attempt: int, status: int | None, wish: float | None, chance: float
) -> None:
    wait = policy.delay(attempt, status=status, retry_after_s=wish, chance=chance)
    if wait is None:
        return
    assert math.isfinite(wait)
    if wish is not None:
        assert wait == wish <= policy.max_retry_after_s
    else:
        ceiling = min(policy.cap_s, policy.base_s * 2 ** (attempt - 1))
        assert ceiling / 2 <= wait <= ceiling


@given(policies, st.integers(1, 60), st.integers(400, 498).filter(lambda status: status not in {408, 429}), chances)
def test_a_verdict_on_the_request_is_final(policy: RetryPolicy, attempt: int, status: int, chance: float) -> None:
    assert policy.delay(attempt, status=status, retry_after_s=0, chance=chance) is None


@given(policies, chances, st.integers(1, 49))
def test_waits_never_shrink_with_the_tries(policy: RetryPolicy, chance: float, attempt: int) -> None:
    waits = [policy.delay(n, status=503, chance=chance) for n in (attempt, attempt + 1)]
    if None not in waits:
        assert waits[0] <= waits[1]


@given(st.lists(st.booleans(), max_size=300), st.integers(0, 10), st.floats(0, 1))
def test_retries_are_at_most_the_reserve_and_a_share_of_the_requests(
    steps: list[bool], reserve: int, ratio: float
) -> None:
    budget = RetryBudget(reserve=reserve, ratio=ratio)
    earned = spent = 0
    for is_request in steps:
        if is_request:
            budget.earn()
            earned += 1
        else:
            spent += budget.spend()
        assert spent <= reserve + ratio * earned + 1e-9


@given(st.one_of(st.text(), st.text("0123456789.,: +-GMTJanFebThu", max_size=40)), st.integers(0, 2**62))
def test_any_header_is_a_wait_or_nothing(value: str, now_ns: int) -> None:
    wait = parse_retry_after(value, now_ns)
    assert wait is None or wait >= 0
