"""Frames of every kind in and out, names, nulls and refusals."""

from __future__ import annotations

import datetime as dt
import pickle
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from massive_lab import indicators as ind
from massive_lab.errors import FrameInvariantError, InvalidRequest
from massive_lab.schema.session import new_york_ns

MINUTE = 60 * 10**9
ALL = ["ema_20", "rsi_14", "atr_14", "macd_12_26_9", "session_vwap", "sma_50"]
COLUMNS = [
    "ema_20", "rsi_14", "atr_14", "macd_12_26_9", "macd_signal_12_26_9", "macd_hist_12_26_9", "session_vwap", "sma_50",
]  # fmt: skip


def minute_bars(symbols: tuple[str, ...] = ("AAPL", "MSFT"), n: int = 200, start: int = 9) -> pl.DataFrame:
    rng = np.random.default_rng(3)
    parts = []
    for symbol in symbols:
        close = 100 * np.exp(np.cumsum(rng.normal(0, 0.001, n)))
        ts = new_york_ns(dt.date(2025, 6, 2), start, 30) + MINUTE * np.arange(n)
        parts.append(
            pl.DataFrame(
                {
                    "symbol": [symbol] * n,
                    "ts_event": pl.Series(ts).cast(pl.Datetime("ns", "UTC")),
                    "high": close + 0.1,
                    "low": close - 0.1,
                    "close": close,
                    "volume": rng.integers(0, 500, n).astype(float),
                }
            )
        )
    return pl.concat(parts)


def test_apply_gives_back_the_kind_it_got() -> None:
    bars = minute_bars()
    eager = ind.apply(bars, ALL)
    assert eager.columns == bars.columns + COLUMNS
    assert set(eager.select(COLUMNS).dtypes) == {pl.Float64}
    lazy = ind.apply(bars.lazy(), ALL)
    assert isinstance(lazy, pl.LazyFrame)
    assert lazy.collect().equals(eager)
    assert lazy.collect(engine="streaming").equals(eager)
    frame = bars.to_pandas().set_index(np.arange(bars.height) * 2 + 5)
    before = frame.copy()
    out = ind.apply(frame, ALL)
    assert isinstance(out, pd.DataFrame)
    pd.testing.assert_index_equal(out.index, frame.index)
    pd.testing.assert_frame_equal(frame, before)
    for name in COLUMNS:
        assert pl.from_pandas(out[name], nan_to_null=True).to_list() == eager[name].to_list()


def test_pandas_keys_may_be_index_levels_and_the_order_is_kept() -> None:
    bars = minute_bars(n=60)
    frame = bars.sort("ts_event", "symbol").to_pandas().set_index(["ts_event", "symbol"])
    out = ind.apply(frame, ["ema_5", "session_vwap"])
    pd.testing.assert_index_equal(out.index, frame.index)
    expected = ind.apply(bars, ["ema_5", "session_vwap"]).sort("ts_event", "symbol")
    np.testing.assert_array_equal(out["ema_5"].to_numpy(), expected["ema_5"].to_numpy())
    np.testing.assert_array_equal(out["session_vwap"].to_numpy(), expected["session_vwap"].to_numpy())


def test_expressions_equal_apply_and_take_names_and_expressions() -> None:
    bars = minute_bars()
    expected = ind.apply(bars, ALL)
    made = bars.with_columns(
        ind.ema("close", period=20),
        ind.rsi("close", period=14),
        ind.atr(period=14),
        *ind.macd("close", fast=12, slow=26, signal=9),
        ind.session_vwap(anchor="regular"),
        ind.sma("close", period=50),
    )
    assert made.equals(expected)
    named = bars.lazy().select(ind.ema(pl.col("close").log(), period=3, name="x"), *ind.macd(name="m")).collect()
    assert named.columns == ["x", "m", "m_signal", "m_hist"]
    doubled = bars.with_columns(close=pl.col("close") * 2)
    assert doubled.select(ind.ema(period=5)).equals(bars.select(ind.ema(pl.col("close") * 2, period=5)))


def test_without_symbols_all_rows_are_one_series() -> None:
    one = minute_bars(("AAPL",))
    assert ind.apply(one.drop("symbol"), ALL).equals(ind.apply(one, ALL).drop("symbol"))
    assert one.drop("symbol").select(ind.rsi(by=None)).equals(one.select(ind.rsi()))


@pytest.mark.parametrize("n", [0, 1])
def test_empty_and_single_row_frames_have_the_full_schema(n: int) -> None:
    out = ind.apply(minute_bars(("AAPL",)).head(n), ALL)
    assert out.columns[-len(COLUMNS) :] == COLUMNS
    assert out.height == n
    assert set(out.select(COLUMNS).dtypes) == {pl.Float64}


def test_nulls_are_skipped_and_stay_null() -> None:
    frame = pl.DataFrame({"close": [1.0, None, 2.0, 3.0, None, 4.0]})
    assert ind.apply(frame, ["sma_2"])["sma_2"].to_list() == [None, None, 1.5, 2.5, None, 3.5]
    nothing = pl.DataFrame({"symbol": ["A", "A", "B"], "close": [None, None, 2.0]})
    assert ind.apply(nothing, ["ema_1"])["ema_1"].to_list() == [None, None, 2.0]


@pytest.mark.parametrize("dtype", [pl.Int64, pl.Float32, pl.Decimal(10, 2), pl.UInt8])
def test_other_numbers_are_read_as_float64(dtype: Any) -> None:
    frame = pl.DataFrame({"close": pl.Series([1, 2, 4]).cast(dtype)})
    assert ind.apply(frame, ["sma_2"])["sma_2"].to_list() == [None, 1.5, 3.0]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_nan_and_infinity_are_refused_with_their_rows(bad: float) -> None:
    frame = pl.DataFrame({"symbol": ["A"] * 3, "close": [1.0, bad, 2.0]})

    def expression() -> object:
        return frame.with_columns(ind.ema(period=2))

    def lazy() -> object:
        return frame.lazy().with_columns(ind.ema(period=2)).collect()

    for call in (lambda: ind.apply(frame, ["ema_2"]), expression, lazy):
        with pytest.raises(FrameInvariantError) as caught:
            call()
        assert caught.value.rule == "finite"
        assert caught.value.rows["row"].to_list() == [1]
        assert caught.value.rows["symbol"].to_list() == ["A"]
        again = pickle.loads(pickle.dumps(caught.value))
        assert (type(again), again.rule) == (FrameInvariantError, "finite")


def test_a_sum_beyond_the_largest_float_is_no_reason_to_refuse() -> None:
    assert ind.apply(pl.DataFrame({"close": [1.7e308, 1.7e308]}), ["sma_1"])["sma_1"].to_list() == [1.7e308, 1.7e308]


def test_the_caller_hears_what_is_wrong_with_the_frame() -> None:
    bars = minute_bars(n=5)
    cases: list[tuple[Any, list[str], str]] = [
        (bars.drop("high"), ["atr_2"], "columns"),
        (bars.with_columns(close=pl.lit("x")), ["ema_2"], "dtype"),
        (bars.reverse(), ["ema_2"], "sorted"),
        (pl.concat([bars, bars]).sort("symbol"), ["session_vwap"], "sorted"),
        (bars.with_columns(pl.col("ts_event").dt.replace_time_zone(None)), ["session_vwap"], "dtype"),
        (bars.with_columns(volume=pl.lit(None, dtype=pl.Float64)), ["session_vwap"], "volume"),
        (bars.with_columns(volume=-pl.col("volume") - 1), ["session_vwap"], "volume"),
        (bars.with_columns(pl.col("ts_event").dt.offset_by("14h")), ["session_vwap"], "intraday"),
    ]
    for frame, specs, rule in cases:
        with pytest.raises(FrameInvariantError) as caught:
            ind.apply(frame, specs)
        assert caught.value.rule == rule


def test_an_index_among_stocks_is_named_when_a_vwap_is_asked() -> None:
    bars = minute_bars(("I:SPX", "SPY"), n=5).with_columns(
        volume=pl.when(pl.col("symbol") == "SPY").then(pl.col("volume"))
    )
    with pytest.raises(FrameInvariantError, match="I:SPX has none"):
        ind.apply(bars, ["session_vwap"])


@pytest.mark.parametrize(
    "text", ["", "ema", "ema_", "ema20", "EMA_20", "ema_20_3", "macd_12_26", "ema_0", "rsi_1", "macd_26_12_9",
             "ema_100001", "supertrend_10", "session_vwap_3", "session_vwap_weekly", "macd_signal_12_26_9"],
)  # fmt: skip
def test_unknown_texts_are_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        ind.parse_spec(text)


def test_bad_arguments_are_refused() -> None:
    bars = minute_bars(n=3)
    with pytest.raises(InvalidRequest, match="Pass a list"):
        ind.apply(bars, "ema_20")
    with pytest.raises(InvalidRequest, match="not dict"):
        ind.apply({}, ["ema_20"])  # type: ignore[call-overload]
    for bad in (0, -1, 2.5, True, "14", None):
        with pytest.raises(InvalidRequest):
            ind.ema(period=bad)  # type: ignore[arg-type]
        with pytest.raises(InvalidRequest):
            ind.EMA(bad)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest):
        ind.session_vwap(anchor="weekly")  # type: ignore[arg-type]
    assert ind.apply(bars, []).equals(bars)


@pytest.mark.parametrize("specs", [["session_vwap"], ["ema_2"]])
def test_disorder_is_named_with_rule_rows_and_symbol(specs: list[str]) -> None:
    bars = minute_bars(n=6)
    swapped = bars.with_row_index().with_columns(
        index=pl.when(pl.col("index") == 7).then(9.5).otherwise(pl.col("index"))
    )
    repeated = pl.concat([bars.head(3), bars.slice(2)])
    for frame, symbol, row in ((swapped.sort("index").drop("index"), "MSFT", 9), (repeated, "AAPL", 3)):
        for shaped in (frame, frame.to_pandas()):
            with pytest.raises(FrameInvariantError, match="1 of") as caught:
                ind.apply(shaped, specs)
            assert caught.value.rule == "sorted"
            assert caught.value.rows["row"].to_list() == [row]
            assert caught.value.rows["symbol"].to_list() == [symbol]
            assert caught.value.rows["ts_event"].to_list() == [frame["ts_event"][row]]


def test_two_symbols_in_a_frame_without_symbol_are_seen_by_their_times() -> None:
    both = minute_bars(n=6).drop("symbol")
    with pytest.raises(FrameInvariantError, match="needs a symbol column") as caught:
        ind.apply(both, ["ema_2"])
    assert caught.value.rows["row"].to_list() == [6]


def test_an_expression_needs_the_column_that_names_the_symbol() -> None:
    bars = minute_bars(("AAPL",), n=5).drop("symbol")
    with pytest.raises(pl.exceptions.ColumnNotFoundError, match="symbol"):
        bars.with_columns(ind.ema(period=2))
    renamed = bars.with_columns(ticker=pl.lit("AAPL"))
    assert renamed.select(ind.ema(period=2, by="ticker")).equals(bars.select(ind.ema(period=2, by=None)))


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo"])
@pytest.mark.parametrize("unit", ["ns", "us", "ms"])
def test_times_of_any_zone_and_unit_are_the_same_moments(zone: str, unit: Any) -> None:
    bars = minute_bars()
    other = bars.with_columns(pl.col("ts_event").dt.convert_time_zone(zone).dt.cast_time_unit(unit))
    assert ind.apply(other, ALL).select(COLUMNS).equals(ind.apply(bars, ALL).select(COLUMNS))


def test_an_indicator_named_twice_is_made_once() -> None:
    out = ind.apply(minute_bars(n=20), ["rsi", "rsi_14", "ema_3", "ema_3@talib"])
    assert out.columns[-2:] == ["rsi_14", "ema_3"]


def test_the_package_exports_functions_not_modules() -> None:
    for name in ind.__all__:
        assert callable(getattr(ind, name)), name


@pytest.mark.parametrize("n", [30, 700])
def test_symbols_together_equal_symbols_alone(n: int) -> None:
    bars = minute_bars(("AAPL", "MSFT", "SPY"), n=n)
    together = ind.apply(bars, ALL)
    alone = pl.concat([ind.apply(part, ALL) for part in bars.partition_by("symbol")])
    assert together.equals(alone)
    mixed = bars.sort("ts_event", "symbol")
    assert ind.apply(mixed, ALL).sort("symbol", "ts_event").equals(alone)
    assert mixed.with_columns(ind.session_vwap())["session_vwap"].equals(ind.apply(mixed, ALL)["session_vwap"])
