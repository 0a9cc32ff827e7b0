"""Replay: event order, every bar once, never before its close."""

from __future__ import annotations

import itertools

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from massive_lab.errors import FrameInvariantError
from massive_lab.frames.build import build, empty
from massive_lab.frames.convert import to_kind
from massive_lab.frames.replay import Bar, replay

MINUTE = 60 * 10**9


def bars(slots: dict[str, list[int]]) -> pl.DataFrame:
    rows = [(symbol, slot) for symbol in sorted(slots) for slot in sorted(slots[symbol])]
    ts = [slot * MINUTE for _, slot in rows]
    return build(
        "bars",
        {"symbol": [s for s, _ in rows], "ts_event": ts, "ts_close": [t + MINUTE for t in ts], "open": 1.0, "high": 2.0,
         "low": 1.0, "close": 1.5, "volume": 3.0},
        len(rows),
    )  # fmt: skip


@given(st.dictionaries(st.sampled_from("ABCD"), st.lists(st.integers(0, 60), unique=True, max_size=20), max_size=4))
def test_every_bar_once_in_the_order_of_its_close(slots: dict[str, list[int]]) -> None:
    frame = bars(slots)
    out = list(replay(frame))
    keys = [(bar.ts_close, bar.symbol) for bar in out]
    assert keys == sorted(keys)
    assert (
        sorted((bar.symbol, bar.ts_event) for bar in out)
        == frame.select("symbol", pl.col("ts_event").to_physical()).rows()
    )
    # What a strategy has seen when a bar arrives was known by then.
    for before, after in itertools.pairwise(out):
        assert before.ts_close <= after.ts_close


def test_bars_are_light_rows_with_times() -> None:
    bar = next(replay(bars({"A": [3]})))
    assert bar == Bar("A", 3 * MINUTE, 4 * MINUTE, 1.0, 2.0, 1.0, 1.5, 3.0, None, None)
    assert (bar.opened_at.isoformat(), bar.closed_at.isoformat()) == (
        "1970-01-01T00:03:00+00:00",
        "1970-01-01T00:04:00+00:00",
    )


def test_pandas_lazy_and_empty() -> None:
    frame = bars({"A": [1, 2], "B": [1]})
    expected = list(replay(frame))
    assert list(replay(frame.lazy())) == expected
    assert list(replay(to_kind(frame, "pandas"))) == expected
    assert list(replay(empty("bars"))) == []


def test_a_broken_frame_is_refused_before_the_first_bar() -> None:
    with pytest.raises(FrameInvariantError):
        replay(bars({"A": [1, 2]}).reverse())
