"""Resampling: the grid, the sums, and the law that two steps equal one."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from massive_lab.errors import FrameInvariantError, InvalidRequest
from massive_lab.frames.bars import resample
from massive_lab.frames.build import build, empty
from massive_lab.frames.check import check
from massive_lab.frames.convert import to_kind
from massive_lab.schema.session import new_york_ns, sessions

MINUTE = 60 * 10**9


def minutes(
    first: dt.date = dt.date(2025, 6, 2), n_days: int = 2, seed: int = 1, keep: float = 0.9, index: bool = False
) -> pl.DataFrame:
    """Minute bars with holes, extended hours included."""
    rng = np.random.default_rng(seed)
    parts = []
    for symbol in ("I:SPX", "I:VIX") if index else ("AAPL", "MSFT"):
        days = sessions(first, first + dt.timedelta(days=10))[:n_days]
        ts = np.concatenate([new_york_ns(day, 4) + MINUTE * np.arange(16 * 60) for day in days])
        ts = ts[rng.random(len(ts)) < keep]
        close = 100 * np.exp(np.cumsum(rng.normal(0, 0.001, len(ts))))
        volume = rng.integers(0, 1000, len(ts)).astype(float)
        extra = {} if index else {"volume": volume, "vwap": close, "trade_count": rng.integers(0, 50, len(ts))}
        parts.append(
            build(
                "bars",
                {
                    "symbol": symbol,
                    "ts_event": ts,
                    "ts_close": ts + MINUTE,
                    "open": close * 1.0005,
                    "high": close * 1.001,
                    "low": close * 0.999,
                    "close": close,
                    **extra,
                },
                len(ts),
            )
        )
    return pl.concat(parts)


def starts(frame: pl.DataFrame, zone: str = "America/New_York") -> list[str]:
    return frame["ts_event"].unique().sort().dt.convert_time_zone(zone).dt.strftime("%a %Y-%m-%d %H:%M").to_list()


@given(
    seed=st.integers(0, 2**16),
    steps=st.sampled_from([("5m", "15m"), ("15m", "1h"), ("1h", "4h"), ("30m", "1d"), ("1h", "1d"), ("2m", "6h")]),
    index=st.booleans(),
)
def test_two_steps_equal_one(seed: int, steps: tuple[str, str], *, index: bool) -> None:
    frame = minutes(seed=seed, n_days=2, keep=0.3, index=index)
    via, direct = resample(resample(frame, steps[0]), steps[1]), resample(frame, steps[1])
    check(direct)
    assert via.drop("vwap").equals(direct.drop("vwap"))  # volumes are whole numbers: their sums are exact
    assert via["vwap"].is_null().equals(direct["vwap"].is_null())
    assert ((via["vwap"] - direct["vwap"]).abs().fill_null(0.0) < 1e-9).all()


@given(seed=st.integers(0, 2**16), timeframe=st.sampled_from(["5m", "1h", "4h", "1d", "1w", "1mo"]))
def test_nothing_is_lost_and_nothing_made_up(seed: int, timeframe: str) -> None:
    frame = minutes(seed=seed, n_days=3, keep=0.2)
    made = resample(frame, timeframe)
    for symbol in ("AAPL", "MSFT"):
        fine, coarse = (part.filter(pl.col("symbol") == symbol) for part in (frame, made))
        assert coarse["volume"].sum() == fine["volume"].sum()
        assert coarse["trade_count"].sum() == fine["trade_count"].sum()
        assert coarse["high"].max() == fine["high"].max()
        assert coarse["low"].min() == fine["low"].min()
        assert (coarse["open"][0], coarse["close"][-1]) == (fine["open"][0], fine["close"][-1])


def test_hours_start_at_the_top_of_the_hour_and_fours_at_midnight_in_new_york() -> None:
    frame = minutes(n_days=1, keep=1.0)
    assert starts(resample(frame, "1h"))[:2] == ["Mon 2025-06-02 04:00", "Mon 2025-06-02 05:00"]
    assert starts(resample(frame, "4h")) == [f"Mon 2025-06-02 {hour:02}:00" for hour in (4, 8, 12, 16)]
    winter = minutes(dt.date(2025, 1, 6), n_days=1, keep=1.0)
    assert starts(resample(winter, "4h")) == [f"Mon 2025-01-06 {hour:02}:00" for hour in (4, 8, 12, 16)]


def test_calendar_bars_follow_new_york_dates_over_daylight_saving() -> None:
    frame = minutes(dt.date(2025, 3, 5), n_days=5, keep=0.1)  # Wednesday to Tuesday; clocks change on the Sunday
    days = resample(frame, "1d")
    assert starts(days)[0] == "Wed 2025-03-05 00:00"
    assert starts(days)[-1] == "Tue 2025-03-11 00:00"
    assert days["ts_event"].dt.hour().unique().sort().to_list() == [4, 5]
    weeks = resample(frame, "1w")
    assert starts(weeks) == ["Sun 2025-03-02 00:00", "Sun 2025-03-09 00:00"]
    assert resample(days, "1w").drop("vwap").equals(weeks.drop("vwap"))
    hours = (weeks["ts_close"] - weeks["ts_event"]).dt.total_hours().unique().sort().to_list()
    assert hours == [167, 168]
    assert starts(resample(frame, "1mo")) == ["Sat 2025-03-01 00:00"]
    assert starts(resample(frame, "1q")) == starts(resample(frame, "1y")) == ["Wed 2025-01-01 00:00"]


def test_a_sum_is_null_when_a_part_is_unknown() -> None:
    frame = minutes(n_days=1, keep=1.0).head(10)
    holed = frame.with_columns(
        volume=pl.when(pl.int_range(pl.len()) == 1).then(None).otherwise(pl.col("volume")),
        vwap=pl.when(pl.int_range(pl.len()) == 7).then(None).otherwise(pl.col("vwap")),
    ).with_columns(volume=pl.when(pl.int_range(pl.len()) == 7).then(5.0).otherwise(pl.col("volume")))
    made = resample(holed, "5m")
    assert made["volume"].is_null().to_list() == [True, False]
    assert made["vwap"].is_null().to_list() == [True, True]
    idle = resample(frame.with_columns(volume=pl.lit(0.0)), "5m")
    assert (idle["volume"].to_list(), idle["vwap"].to_list()) == ([0.0, 0.0], [None, None])


def test_kinds_and_empty_frames() -> None:
    frame = minutes(n_days=1, keep=0.1)
    out = resample(to_kind(frame, "pandas"), "1h")
    assert isinstance(out, pd.DataFrame)
    assert out["volume"].sum() == frame["volume"].sum()
    assert resample(empty("bars"), "1h").equals(empty("bars"))
    assert resample(frame, "1m").drop("vwap").equals(frame.drop("vwap"))


@pytest.mark.parametrize("timeframe", ["7m", "5h", "25h", "2d", "2w", "5mo", "2y", "3q"])
def test_timeframes_without_a_fixed_grid_are_refused(timeframe: str) -> None:
    with pytest.raises(InvalidRequest, match="no fixed grid"):
        resample(minutes(n_days=1, keep=0.05), timeframe)


def test_finer_or_straddling_bars_are_refused() -> None:
    fives = resample(minutes(n_days=1, keep=0.5), "5m")
    for timeframe in ("1m", "3m", "2m"):
        with pytest.raises(InvalidRequest, match="does not fit"):
            resample(fives, timeframe)
    weeks = resample(minutes(dt.date(2025, 6, 30), n_days=2, keep=0.1), "1w")
    with pytest.raises(InvalidRequest, match="does not fit"):
        resample(weeks, "1mo")
    with pytest.raises(FrameInvariantError):
        resample(fives.reverse(), "1h")
