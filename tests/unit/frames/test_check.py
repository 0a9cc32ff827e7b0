"""Every rule of the check: a frame that holds it, and one that breaks exactly it."""

from __future__ import annotations

import datetime as dt
from typing import Any

import polars as pl
import pytest

from massive_lab.errors import FrameInvariantError, InvalidRequest
from massive_lab.frames.build import build, empty
from massive_lab.frames.check import check
from massive_lab.frames.convert import to_kind
from massive_lab.schema.columns import SCHEMAS
from massive_lab.schema.session import new_york_ns

MINUTE = 60 * 10**9
OPEN = new_york_ns(dt.date(2025, 6, 2), 9, 30)


def bars(n: int = 4, step: int = MINUTE, symbols: tuple[str, ...] = ("AAPL", "MSFT")) -> pl.DataFrame:
    ts = [OPEN - OPEN % min(step, 3600 * 10**9) + step * i for i in range(n)] * len(symbols)
    return build(
        "bars",
        {
            "symbol": [s for s in symbols for _ in range(n)],
            "ts_event": ts,
            "ts_close": [t + step for t in ts],
            "open": 10.0,
            "high": 11.0,
            "low": 9.0,
            "close": 10.5,
            "volume": 100.0,
            "vwap": 10.2,
            "trade_count": 7,
        },
        len(ts),
    )


def broken(frame: pl.DataFrame, row: int, **values: Any) -> pl.DataFrame:
    here = pl.int_range(pl.len()) == row
    return frame.with_columns(
        pl.when(here).then(pl.lit(value, dtype=frame.schema[name])).otherwise(pl.col(name)).alias(name)
        for name, value in values.items()
    )


def rule_of(frame: Any, table: str = "bars") -> FrameInvariantError:
    with pytest.raises(FrameInvariantError) as caught:
        check(frame, table)
    return caught.value


def test_good_frames_pass_in_every_kind() -> None:
    frame = bars()
    check(frame)
    check(frame.lazy())
    check(frame.with_columns(ema_20=pl.lit(float("nan"))))  # columns of the user are the user's
    check(to_kind(frame, "pandas"))
    check(to_kind(frame, "pandas").set_index(["symbol", "ts_event"]))
    check(bars(n=3, step=15 * MINUTE))
    check(bars(n=3, step=60 * MINUTE))
    check(bars(n=3, step=5 * 10**9))


@pytest.mark.parametrize("table", sorted(SCHEMAS))
def test_empty_frames_of_every_table_pass(table: str) -> None:
    check(empty(table), table)


@pytest.mark.parametrize(
    ("rule", "change"),
    [
        ("null", {"close": None}),
        ("null", {"symbol": None}),
        ("finite", {"vwap": float("nan")}),
        ("finite", {"high": float("inf")}),
        ("sorted", {"symbol": "AAA"}),
        ("interval", {"ts_close": dt.datetime.fromtimestamp(OPEN / 1e9, dt.UTC)}),
        ("ohlc", {"open": 11.5}),
        ("ohlc", {"close": 8.5}),
        ("ohlc", {"high": 8.0}),
        ("price", {"low": 0.0, "open": 1.0, "close": 1.0}),
        ("price", {"low": -1.0}),
        ("volume", {"volume": -1.0}),
        ("volume", {"trade_count": -1}),
        ("vwap", {"vwap": 11.2}),
        ("vwap", {"vwap": 8.9}),
    ],
)
def test_each_broken_row_is_found_and_shown(rule: str, change: dict[str, Any]) -> None:
    error = rule_of(broken(bars(), 2, **change))
    assert error.rule == rule
    assert error.rows["row"].to_list() == [2]
    assert error.rows.columns[1:] == bars().columns


def test_order_and_repeats() -> None:
    frame = bars()
    assert rule_of(frame.reverse()).rule == "sorted"
    assert rule_of(frame.sort("ts_event")).rule == "sorted"
    repeated = rule_of(pl.concat([frame.head(1), frame]))
    assert (repeated.rule, repeated.rows["row"].to_list()) == ("unique", [1])


def test_grid_and_overlap() -> None:
    frame = bars()
    shifted = frame.with_columns(pl.col("ts_event", "ts_close").dt.offset_by("1s"))
    assert rule_of(shifted).rule == "grid"
    mixed = pl.concat([frame.head(4), bars(symbols=("ZZ",), step=5 * MINUTE)])
    assert rule_of(mixed).rule == "grid"
    daily = frame.head(1).with_columns(pl.col("ts_close").dt.offset_by("1d"))
    assert rule_of(daily).rule == "grid"
    midnight = daily.with_columns(
        ts_event=pl.lit(new_york_ns(dt.date(2025, 3, 9))).cast(pl.Datetime("ns", "UTC")),
        ts_close=pl.lit(new_york_ns(dt.date(2025, 3, 10))).cast(pl.Datetime("ns", "UTC")),
    )
    check(midnight)  # a day of 23 hours
    weeks = pl.concat([midnight.with_columns(pl.col("ts_close").dt.offset_by("6d"))] * 2)
    clock = pl.col("ts_event").to_physical() + pl.int_range(2) * 23 * 60 * MINUTE
    weeks = weeks.with_columns(ts_event=clock.cast(pl.Datetime("ns", "UTC")))
    assert rule_of(weeks).rule == "overlap"


def test_indices_may_be_zero_and_have_no_volume() -> None:
    frame = bars(symbols=("I:SPX",)).with_columns(
        low=pl.lit(0.0), volume=pl.lit(None, dtype=pl.Float64), vwap=pl.lit(None, dtype=pl.Float64)
    )
    check(frame)


def test_columns_are_named_when_missing_or_of_another_type() -> None:
    error = rule_of(bars().drop("vwap").with_columns(pl.col("volume").cast(pl.Int64)))
    assert error.rule == "columns"
    assert "vwap" in str(error)
    assert "volume is Int64" in str(error)


def test_rows_without_a_whole_key_are_not_called_repeats() -> None:
    trades = build("trades", {"symbol": "A", "ts_sip": [1, 1, 1], "price": 1.0, "size": 1.0})
    check(trades, "trades")
    numbered = trades.with_columns(sequence=pl.Series([None, 4, 4], dtype=pl.Int64))
    assert rule_of(numbered, "trades").rule == "unique"


def test_only_frames_and_known_tables() -> None:
    with pytest.raises(InvalidRequest, match="not list"):
        check([1, 2])  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match="no table 'candles'"):
        check(bars(), "candles")
