from __future__ import annotations

import datetime as dt

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from massive_lab.sandbox.market.path import make_path

DAY = dt.date(2025, 6, 2)
cents = st.integers(100, 100_000)


@given(cents, cents, cents, cents, st.floats(-1, 1), st.integers(0, 5))
def test_it_opens_turns_and_closes_where_the_day_did(a: int, b: int, c: int, d: int, loading: float, seed: int) -> None:
    low, *middle, high = sorted((a, b, c, d))
    o, h, lo, c_ = middle[0] / 100, high / 100, low / 100, middle[1] / 100
    path = make_path(seed, "X", DAY, (0, 23_400 * 10**9), (o, h, lo, c_), loading)
    assert path.values[0] == o
    assert path.values[-1] == c_
    assert path.values.max() == h
    assert path.values.min() == lo
    assert path.values[path.high_at] == h
    assert path.values[path.low_at] == lo


@given(cents, cents)
def test_days_that_open_or_close_at_an_extreme(a: int, b: int) -> None:
    low, high = min(a, b) / 100, max(a, b) / 100
    for o, c in ((low, high), (high, low), (low, low), (high, high)):
        path = make_path(1, "X", DAY, (0, 23_400 * 10**9), (o, high, low, c), 0.5)
        assert (path.values[0], path.values[-1]) == (o, c)
        assert (path.values.min(), path.values.max()) == (low, high)


def test_symbols_share_the_days_factor() -> None:
    def moves(symbol: str, loading: float) -> np.ndarray:
        path = make_path(7, symbol, DAY, (0, 23_400 * 10**9), (100, 102, 99, 101), loading)
        return np.diff(path.values[::12])

    assert np.corrcoef(moves("A", 0.9), moves("B", 0.9))[0, 1] > 0.5
    assert abs(np.corrcoef(moves("A", 0.0), moves("B", 0.0))[0, 1]) < 0.2


def test_outside_the_session_it_stands_still() -> None:
    path = make_path(7, "A", DAY, (0, 23_400 * 10**9), (100, 102, 99, 101), 0.5)
    assert path.at(np.array([-(10**9), 10**15])).tolist() == [100, 101]
