"""A track of bars against the batch on the bars as they stand."""

from __future__ import annotations

import random

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from massive_lab.errors import FrameInvariantError, InvalidRequest
from massive_lab.indicators import apply
from massive_lab.indicators.track import Track

SPECS = ["ema_3", "sma_4", "rsi_3", "atr_3", "macd_3_5_2", "ema_3@tradingview"]


def batch(bars: dict[int, tuple[float, float, float]], specs: list[str]) -> dict[str, float | None]:
    rows = [(*bars[start],) for start in sorted(bars)]
    frame = pl.DataFrame(rows, schema={"high": pl.Float64, "low": pl.Float64, "close": pl.Float64}, orient="row")
    made = apply(frame, specs)
    return made.drop("high", "low", "close").row(-1, named=True)


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 60))
def test_at_every_moment_as_the_batch(seed, n):
    rng = random.Random(seed)
    track, bars = Track(SPECS), {}
    for i in range(n):
        kind = rng.random()
        start = i if kind < 0.6 or not bars else max(bars) if kind < 0.8 else rng.randrange(0, i + 1)
        low = rng.choice([1.0, 1.5, rng.uniform(1, 2)])
        bar = (low + rng.random(), low, low + rng.random() / 2)
        bars[start] = bar
        track.put(start, *bar)
        assert track.values() == batch(bars, SPECS)
        assert (len(track), track.last_start) == (len(bars), max(bars))


def test_corrections_far_back_over_many_blocks():
    rng = random.Random(5)
    specs = ["ema_20", "rsi_14", "atr_14", "macd_12_26_9"]
    track, bars = Track(specs), {}
    for start in range(0, 3_000, 2):
        bars[start] = (101.0 + rng.random(), 99.0, 100 + rng.random())
        track.put(start, *bars[start])
    for start in (2, 511, 512, 1_025, 2_998, 0, 1_999):
        bars[start] = (104.0 + rng.random(), 99.0, 100 + rng.random())
        track.put(start, *bars[start])
        assert track.values() == batch(bars, specs)


def test_what_is_no_longer_kept_is_counted_and_not_guessed():
    track, bars = Track(["ema_5"], max_bars=300), {}
    for start in range(1_000):
        bars[start] = (1.0, 1.0, float(start % 7))
        track.put(start, *bars[start])
    assert len(track) < 300 + 256
    track.put(3, 1.0, 1.0, 99.0)
    assert track.n_ignored == 1
    assert track.values() == batch(bars, ["ema_5"])
    bars[990] = (1.0, 1.0, 5.5)
    track.put(990, *bars[990])
    assert track.values() == batch(bars, ["ema_5"])


def test_what_it_refuses():
    with pytest.raises(InvalidRequest, match="'session_vwap' is not known one bar at a time"):
        Track(["session_vwap"])
    with pytest.raises(InvalidRequest, match="Give a list"):
        Track("ema_20")
    track = Track(["ema_1"])
    track.put(0, 1.0, 1.0, 1.0)
    with pytest.raises(FrameInvariantError):
        track.put(1, 1.0, 1.0, float("nan"))
    assert (len(track), track.values()) == (1, {"ema_1": 1.0})
