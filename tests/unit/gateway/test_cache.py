"""The small cache, against a plain model; and what may go into it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from massive_lab.gateway.cache import Cache, lifetime_s

STEPS = st.lists(
    st.tuples(
        st.sampled_from("abcdef"),
        st.integers(0, 12),
        st.sampled_from([0.0, 1.0, 5.0]),
        st.sampled_from([0.0, 0.5, 1.0]),
    ),
    max_size=60,
)


@given(STEPS)
def test_it_gives_back_what_is_young_and_never_holds_more_than_it_may(
    steps: list[tuple[str, int, float, float]],
) -> None:
    cache: Cache[int] = Cache(max_bytes=20, max_entry_bytes=8)
    model: dict[str, tuple[int, int, float]] = {}  # the last used at the end
    now = 0.0
    for number, (key, size, ttl, passed) in enumerate(steps):
        now += passed
        if size > 8:  # a look
            expected = model.pop(key, None)
            if expected is not None and now < expected[2]:
                model[key] = expected
                assert cache.get(key, now) == expected[0]
            else:
                assert cache.get(key, now) is None
            continue
        cache.put(key, number, size, ttl_s=ttl, now_s=now)
        model.pop(key, None)
        if ttl > 0:
            model[key] = number, size, now + ttl
            while sum(each[1] for each in model.values()) > 20:
                del model[next(iter(model))]
        assert cache.n_bytes == sum(each[1] for each in model.values()) <= 20
        assert len(cache) == len(model)


@pytest.mark.parametrize(
    ("endpoint", "status", "control", "expected"),
    [
        ("trades", 200, "", 0.0),
        ("aggs_range", 200, "max-age=60", 0.0),
        ("aggs_range", 200, "public, max-age=60", 60.0),
        ("aggs_range", 200, "max-age=60, immutable", 60.0),
        ("aggs_range", 200, "s-maxage=30, max-age=60", 30.0),
        ("aggs_range", 200, "public, max-age=99999999", 86_400.0),
        ("aggs_range", 200, "public, no-cache, max-age=60", 0.0),
        ("aggs_range", 200, "public", 0.0),
        ("aggs_range", 200, 'public, max-age="60"', 60.0),
        ("aggs_range", 200, "public, max-age=-5", 0.0),
        ("aggs_range", 200, "public, max-age=٥", 0.0),
        ("aggs_range", 404, "public, max-age=60", 0.0),
        ("exchanges", 200, "", 900.0),
        ("exchanges", 500, "", 0.0),
        ("exchanges", 200, "private", 0.0),
        ("market_status", 200, "", 0.0),
    ],
)
def test_what_may_be_kept(endpoint: str, status: int, control: str, expected: float) -> None:
    assert lifetime_s(endpoint, status, {"cache-control": control} if control else {}) == expected
