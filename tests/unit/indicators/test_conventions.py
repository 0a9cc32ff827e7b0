"""Every convention against a source outside this project."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import talib
from talipp import indicators as outside
from talipp.ohlcv import OHLCV

from massive_lab import indicators as ind
from massive_lab.errors import InvalidRequest
from massive_lab.indicators.__main__ import table
from massive_lab.sandbox.rest import indicators as server

N = 400
RNG = np.random.default_rng(11)
CLOSE = 100 * np.exp(np.cumsum(RNG.normal(0, 0.01, N)))
BARS = pl.DataFrame({"high": CLOSE * 1.01, "low": CLOSE * 0.985, "close": CLOSE})


def made(text: str, frame: pl.DataFrame = BARS) -> list[np.ndarray[Any, Any]]:
    return [column.to_numpy() for column in ind.apply(frame, [text]).drop(frame.columns).iter_columns()]


def assert_near(ours: np.ndarray[Any, Any], theirs: Any, first: int) -> None:
    """Equal to rounding, and no value before `first`."""
    theirs = np.array([np.nan if value is None else value for value in theirs], dtype=float)
    assert np.isnan(ours[:first]).all()
    assert not np.isnan(ours[first:]).any()
    np.testing.assert_allclose(ours[first:], theirs[first:], rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("n", [1, 2, 20])
def test_ema_of_tradingview_is_that_of_pandas_without_adjustment(n: int) -> None:
    (ours,) = made(f"ema_{n}@tradingview")
    assert ours[0] == CLOSE[0]
    assert_near(ours, pd.Series(CLOSE).ewm(span=n, adjust=False).mean(), 0)


def test_ema_of_stockcharts_and_of_the_vendor_is_seeded_with_a_mean() -> None:
    (talib_own,) = made("ema_20")
    for convention in ("stockcharts", "massive"):
        (ours,) = made(f"ema_20@{convention}")
        np.testing.assert_array_equal(ours, talib_own)
    assert_near(talib_own, outside.EMA(20, input_values=CLOSE.tolist()), 19)
    assert_near(talib_own, server.ema_series(CLOSE, 20), 19)


def test_rsi_is_one_number_in_every_convention_where_prices_move() -> None:
    (talib_own,) = made("rsi_14")
    for convention in ("stockcharts", "tradingview", "massive"):
        (ours,) = made(f"rsi_14@{convention}")
        np.testing.assert_array_equal(ours, talib_own)
    assert_near(talib_own, outside.RSI(14, input_values=CLOSE.tolist()), 14)
    assert_near(talib_own, server.rsi_series(CLOSE, 14), 14)


@pytest.mark.parametrize(
    ("convention", "flat"), [("talib", 0.0), ("stockcharts", 100.0), ("tradingview", 100.0), ("massive", 50.0)]
)
def test_rsi_of_a_series_that_never_moves_is_what_the_convention_says(convention: Any, flat: float) -> None:
    still = pl.DataFrame({"close": [5.0] * 6 + [4.0, 4.0]})
    (ours,) = made(f"rsi_3@{convention}", still)
    assert ours[3:].tolist() == [flat] * 3 + [0.0, 0.0]
    stream = ind.RSI(3, convention)
    assert [stream.update(value) for value in still["close"]][3:] == ours[3:].tolist()
    (server_own,) = [server.rsi_series(still["close"].to_numpy(), 3)[3:]]
    assert convention != "massive" or server_own.tolist() == ours[3:].tolist()


@pytest.mark.parametrize("convention", ["stockcharts", "tradingview"])
@pytest.mark.parametrize("n", [2, 14])
def test_atr_that_counts_the_first_bar(convention: Any, n: int) -> None:
    (ours,) = made(f"atr_{n}@{convention}")
    candles = [OHLCV(c, h, low, c, 1.0) for h, low, c in BARS.iter_rows()]
    assert_near(ours, outside.ATR(n, input_values=candles), n - 1)
    # Pandas: Wilder's average seeded by hand.
    high, low, close = (BARS[name].to_numpy() for name in ("high", "low", "close"))
    width = np.maximum(high, np.r_[high[0], close[:-1]]) - np.minimum(low, np.r_[low[0], close[:-1]])
    seeded = pd.Series(np.r_[width[:n].mean(), width[n:]]).ewm(alpha=1 / n, adjust=False).mean()
    assert_near(ours, np.r_[[np.nan] * (n - 1), seeded], n - 1)
    assert np.isnan(made(f"atr_{n}")[0][n - 1])


def test_atr_starts_where_the_worksheet_starts() -> None:
    """0.5 * 13 and 1.0: the mean of fourteen widths, of which the first has no close before it."""
    bars = pl.DataFrame({"high": [10.5] * 14 + [11.0], "low": [10.0] * 15, "close": [10.25] * 15})
    assert made("atr_14@stockcharts", bars)[0][13:].tolist() == [0.5, 0.5357142857142857]
    assert made("atr_14", bars)[0][13:].tolist()[1] == pytest.approx((0.5 * 13 + 1.0) / 14)


def test_macd_of_stockcharts_seeds_each_average_on_its_own() -> None:
    line, signal, histogram = made("macd_12_26_9@stockcharts")
    theirs = list(outside.MACD(12, 26, 9, input_values=CLOSE.tolist()))
    for position, (ours, name) in enumerate(((line, "macd"), (signal, "signal"), (histogram, "histogram"))):
        assert_near(ours, [None if value is None else getattr(value, name) for value in theirs], 33)
        assert np.abs(ours[33:40] - made("macd_12_26_9")[position][33:40]).max() > 1e-6  # TA-Lib aligns the seeds


def test_macd_of_tradingview_is_that_of_pandas_without_adjustment() -> None:
    line, signal, histogram = made("macd_12_26_9@tradingview")
    series = pd.Series(CLOSE)
    expected = series.ewm(span=12, adjust=False).mean() - series.ewm(span=26, adjust=False).mean()
    smoothed = expected.ewm(span=9, adjust=False).mean()
    assert_near(line, expected, 0)
    assert_near(signal, smoothed, 0)
    assert_near(histogram, expected - smoothed, 0)


@pytest.mark.parametrize("periods", [(12, 26, 9), (3, 7, 1), (2, 100, 50)])
def test_macd_of_the_vendor_smooths_the_line_filled_with_zeros(periods: tuple[int, int, int]) -> None:
    line, signal, histogram = made("macd_{}_{}_{}@massive".format(*periods))
    expected, smoothed = server.macd_series(CLOSE, *periods)
    first = periods[1] - 1
    assert_near(line, expected, first)
    assert_near(signal, np.where(np.isnan(expected), np.nan, smoothed), first)
    assert_near(histogram, expected - smoothed, first)


@pytest.mark.parametrize("text", ["ema_20", "atr_14", "macd_12_26_9"])
def test_conventions_converge(text: str) -> None:
    reference = made(text)
    for convention in ("stockcharts", "tradingview"):
        for ours, own in zip(made(f"{text}@{convention}"), reference, strict=True):
            assert np.abs(ours[40] - own[40]) < 2
            assert np.abs(ours[-1] - own[-1]) < 1e-8


def test_names_carry_the_convention() -> None:
    specs = ["ema_5", "ema_5@talib", "ema_5@tradingview", "macd@massive", "rsi@stockcharts"]
    assert ind.apply(BARS, specs).columns[3:] == [
        "ema_5", "ema_5@tradingview", "macd_12_26_9@massive", "macd_signal_12_26_9@massive",
        "macd_hist_12_26_9@massive", "rsi_14@stockcharts",
    ]  # fmt: skip
    expressions = (
        ind.ema(period=5, convention="tradingview", by=None), ind.rsi(convention="massive", by=None),
        ind.atr(convention="stockcharts", by=None), *ind.macd(convention="massive", by=None),
    )  # fmt: skip
    by_name = ind.apply(BARS, ["ema_5@tradingview", "rsi_14@massive", "atr_14@stockcharts", "macd_12_26_9@massive"])
    assert BARS.select(*expressions).equals(by_name.drop(BARS.columns))
    frame = BARS.to_pandas()
    np.testing.assert_array_equal(
        ind.apply(frame, ["ema_5@tradingview"])["ema_5@tradingview"], made("ema_5@tradingview")[0]
    )


@pytest.mark.parametrize("text", ["ema_5@", "ema_5@wilder", "@talib", "sma_5@tradingview", "session_vwap@massive",
                                  "atr_14@massive", "ema_5@talib@talib", "ema_5@TALIB"])  # fmt: skip
def test_unknown_conventions_are_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        ind.parse_spec(text)


def test_unknown_conventions_of_objects_are_refused() -> None:
    for call in (
        lambda: ind.EMA(5, "ewm"), lambda: ind.RSI(5, ""), lambda: ind.ATR(5, "massive"), lambda: ind.MACD(convention="x"),
        lambda: ind.ema(period=3, convention="x"), lambda: ind.atr(convention="massive"),
    ):  # fmt: skip
        with pytest.raises(InvalidRequest, match="convention"):
            call()  # type: ignore[no-untyped-call]


def test_short_histories_give_nothing_and_fail_nowhere() -> None:
    for n in (0, 1, 2, 25, 26, 33):
        for text in ("ema_30", "rsi_40", "atr_40", "macd_12_26_9"):
            for convention in ("talib", "stockcharts", "tradingview"):
                for column in ind.apply(BARS.head(n), [f"{text}@{convention}"]).iter_columns():
                    assert len(column) == n
    assert ind.apply(BARS.head(25), ["macd@massive"]).drop(BARS.columns).null_count().row(0) == (25, 25, 25)


def test_talib_itself_bit_for_bit() -> None:
    high, low, close = (BARS[name].to_numpy() for name in ("high", "low", "close"))
    np.testing.assert_array_equal(made("ema_20")[0], talib.EMA(close, 20))
    np.testing.assert_array_equal(made("sma_20")[0], talib.SMA(close, 20))
    np.testing.assert_array_equal(made("rsi_14")[0], talib.RSI(close, 14))
    np.testing.assert_array_equal(made("atr_14")[0], talib.ATR(high, low, close, 14))
    for ours, theirs in zip(made("macd_12_26_9"), talib.MACD(close, 12, 26, 9), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_table_in_the_documentation_is_what_the_command_prints() -> None:
    page = (Path(__file__).parents[3] / "docs" / "indicators.md").read_text(encoding="utf-8")
    assert table() in page
    assert len(table().splitlines()) == 21
