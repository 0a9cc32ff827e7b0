"""The indicators against other libraries: TA-Lib bit for bit, pandas-ta-classic and talipp to their known differences."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pytest
import talib
from talipp import indicators as talipp
from talipp.ohlcv import OHLCV

from massive_lab import indicators as ind
from massive_lab.indicators.pandas_ta import from_pandas_ta

N = 2000
Array = np.ndarray[Any, np.dtype[np.float64]]


def make_bars(seed: int, n: int = N, *, flat: float = 0.0, scale: float = 100.0) -> pl.DataFrame:
    """A random walk; a share of its bars repeats the last price."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(0, 0.01, n) * (rng.random(n) >= flat)
    close = scale * np.exp(np.cumsum(steps))
    spread = np.abs(rng.normal(0, 0.005, n)) * close
    minutes = pl.int_range(0, n, eager=True) * 60 * 10**9
    return pl.DataFrame(
        {
            "ts_event": minutes.cast(pl.Datetime("ns", "UTC")),
            "high": close + spread,
            "low": close - spread,
            "close": close,
        }
    )


@pytest.fixture(scope="module")
def bars() -> pl.DataFrame:
    return make_bars(1)


def column(made: pl.DataFrame, name: str) -> Array:
    return made[name].to_numpy()  # null is NaN


def assert_known(ours: Array, theirs: Array, first: int, early: float, late: float, *, tight: bool) -> None:
    """Both have values from row `first`; they differ at most by `early` up to row 300 and by `late` after it.

    With `tight`, `early` is reached to a tenth at least: a difference that went away is news as well.
    """
    assert np.isfinite(ours[first:]).all()
    assert np.isfinite(theirs[first:]).all()
    gap = np.abs(ours - theirs)
    assert np.nanmax(gap[first:300]) <= early
    assert np.nanmax(gap[300:]) <= late
    if tight:
        assert np.nanmax(gap[first:300]) >= early / 10


@pytest.mark.parametrize("flat", [0.0, 0.6])
@pytest.mark.parametrize("scale", [1e-4, 100.0, 5e6])
@pytest.mark.parametrize("n", [0, 1, 2, 14, 15, 34, 700])
def test_ta_lib_bit_for_bit(n: int, scale: float, flat: float) -> None:
    bars = make_bars(n + 3, n, flat=flat, scale=scale)
    high, low, close = (bars[name].to_numpy() for name in ("high", "low", "close"))
    made = ind.apply(
        bars, ["ema_20", "ema_1", "sma_50", "rsi_14", "rsi_2", "atr_14", "atr_1", "macd_12_26_9", "macd_3_7_2"]
    )
    expected: dict[str, Array] = {
        "ema_20": talib.EMA(close, 20), "ema_1": close, "sma_50": talib.SMA(close, 50), "rsi_14": talib.RSI(close, 14),
        "rsi_2": talib.RSI(close, 2), "atr_14": talib.ATR(high, low, close, 14), "atr_1": talib.ATR(high, low, close, 1),
    }  # fmt: skip
    for periods in ((12, 26, 9), (3, 7, 2)):
        names = [f"macd{part}_{'_'.join(map(str, periods))}" for part in ("", "_signal", "_hist")]
        expected |= dict(zip(names, talib.MACD(close, *periods), strict=True))
    for name, theirs in expected.items():
        ours = made[name].to_numpy() if n else np.empty(0)
        np.testing.assert_array_equal(ours, theirs, err_msg=name)


def test_every_symbol_alone_equals_ta_lib(bars: pl.DataFrame) -> None:
    parts = [make_bars(seed, 60 + 37 * seed).with_columns(symbol=pl.lit(f"S{seed}")) for seed in range(5)]
    made = ind.apply(pl.concat(parts), ["rsi_14", "atr_14"])
    for part, (start, end) in zip(parts, pairwise(np.cumsum([0, *(p.height for p in parts)]).tolist()), strict=True):
        high, low, close = (part[name].to_numpy() for name in ("high", "low", "close"))
        np.testing.assert_array_equal(made["rsi_14"].to_numpy()[start:end], talib.RSI(close, 14))
        np.testing.assert_array_equal(made["atr_14"].to_numpy()[start:end], talib.ATR(high, low, close, 14))


# In pandas-ta-classic `talib=False` asks for its own arithmetic; otherwise it hands over to TA-Lib when that is installed.
def test_pandas_ta_classic_to_its_known_differences(bars: pl.DataFrame) -> None:
    ours = ind.apply(bars, ["ema_20", "rsi_14", "atr_14", "macd_12_26_9"])
    ema = from_pandas_ta("ema", bars, length=20, talib=False)
    rsi = from_pandas_ta("rsi", bars, length=14, talib=False)
    atr = from_pandas_ta("atr", bars, length=14, talib=False)
    macd = from_pandas_ta("macd", bars, talib=False)
    assert_known(column(ours, "ema_20"), column(ema, "EMA_20"), 19, 1e-11, 1e-11, tight=False)
    assert_known(column(ours, "rsi_14"), column(rsi, "RSI_14"), 14, 1e-11, 1e-11, tight=False)
    assert_known(column(ours, "atr_14"), column(atr, atr.columns[-1]), 14, 1e-12, 1e-12, tight=False)
    # Its fast average starts at its own first value, so the line is there at row 25 and needs time to agree.
    line = column(macd, "MACD_12_26_9")
    assert int(np.isfinite(line).argmax()) == 25
    assert_known(column(ours, "macd_12_26_9"), line, 33, 0.1, 1e-10, tight=True)


def test_talipp_to_its_known_differences(bars: pl.DataFrame) -> None:
    ours = ind.apply(bars, ["ema_20", "rsi_14", "atr_14", "macd_12_26_9"])
    closes = bars["close"].to_list()
    candles = [OHLCV(c, h, low, c) for h, low, c in bars.select("high", "low", "close").iter_rows()]

    def values(made: Any) -> Array:
        return np.array([np.nan if value is None else value for value in made], dtype=float)

    assert_known(column(ours, "ema_20"), values(talipp.EMA(20, closes)), 19, 1e-11, 1e-11, tight=False)
    assert_known(column(ours, "rsi_14"), values(talipp.RSI(14, closes)), 14, 1e-11, 1e-11, tight=False)
    # It counts the first bar's range, as StockCharts does: a value one bar earlier, and a seed that fades.
    atr = values(talipp.ATR(14, candles))
    assert int(np.isfinite(atr).argmax()) == 13
    assert_known(column(ours, "atr_14"), atr, 14, 0.1, 1e-8, tight=True)
    line = values([None if value is None else value.macd for value in talipp.MACD(12, 26, 9, closes)])
    assert int(np.isfinite(line).argmax()) == 25
    assert_known(column(ours, "macd_12_26_9"), line, 33, 0.1, 1e-10, tight=True)


def test_averages_seeded_with_the_first_value_fade_to_ours(bars: pl.DataFrame) -> None:
    ours = column(ind.apply(bars, ["ema_20"]), "ema_20")
    theirs = bars["close"].ewm_mean(alpha=2 / 21, adjust=False).to_numpy()
    seed = abs(ours[19] - theirs[19])
    assert seed > 1e-3
    # What is left of a seed after n bars is (1 - alpha) ** n of it.
    for n in (10, 50, 100):
        assert abs(ours[19 + n] - theirs[19 + n]) == pytest.approx(seed * (1 - 2 / 21) ** n, rel=1e-6)
    assert np.abs(ours[400:] - theirs[400:]).max() < 1e-10
