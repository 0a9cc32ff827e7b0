from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from massive_lab.sandbox.market.cache import ByteCache


@given(st.lists(st.integers(0, 9), max_size=60))
def test_it_answers_what_was_made_and_stays_within_its_bytes(keys: list[int]) -> None:
    cache: ByteCache[bytes] = ByteCache(100, len)
    for key in keys:
        assert cache.get(key, lambda key=key: bytes([key]) * 30) == bytes([key]) * 30
        assert cache.n_bytes == 30 * len(cache) <= 100


def test_what_was_used_last_stays() -> None:
    cache: ByteCache[bytes] = ByteCache(60, len)
    made: list[str] = []

    def ask(key: str) -> None:
        cache.get(key, lambda: made.append(key) or b"x" * 30)  # type: ignore[func-returns-value]

    for key in ("a", "b", "a", "c", "a", "b"):
        ask(key)
    assert made == ["a", "b", "c", "b"]


def test_one_value_larger_than_the_bound_is_still_answered() -> None:
    cache: ByteCache[bytes] = ByteCache(10, len)
    assert cache.get("a", lambda: b"y" * 50) == b"y" * 50
    assert len(cache) == 1
