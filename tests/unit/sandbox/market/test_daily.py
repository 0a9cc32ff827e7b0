from __future__ import annotations

import datetime as dt

import numpy as np
import polars as pl
import pytest

from massive_lab.sandbox.datafiles import data_file
from massive_lab.sandbox.market.daily import DailyBook
from massive_lab.sandbox.market.instruments import INDICES, STOCKS
from massive_lab.schema.session import sessions


@pytest.fixture(scope="module")
def book() -> DailyBook:
    return DailyBook(7)


@pytest.mark.parametrize("symbol", sorted(STOCKS) + sorted(INDICES))
def test_every_session_has_prices_in_order_and_in_cents(book: DailyBook, symbol: str) -> None:
    series = book[symbol]
    assert (series.low > 0).all()
    for price in (series.open, series.close):
        assert (series.low <= price).all()
        assert (price <= series.high).all()
    for price in (series.open, series.high, series.low, series.close):
        assert np.array_equal(np.round(price, 2), price)
    first = dt.date.fromordinal(int(series.days[0]))
    expected = [day.toordinal() for day in sessions(first, dt.date(2026, 12, 1))]
    assert series.days[: len(expected)].tolist() == expected


@pytest.mark.parametrize(
    ("symbol", "file"),
    [("I:SPX", "spx_ohlcv_1999_2018.parquet"), ("I:NDX", "nasdaq_composite_ohlcv_1999_2018.parquet")],
)
def test_real_days_are_reproduced_exactly(book: DailyBook, symbol: str, file: str) -> None:
    series = book[symbol]
    real = pl.read_parquet(data_file(file))
    rows = [series.index_of(day) for day in real["date"]]
    for name in ("open", "high", "low", "close"):
        assert np.array_equal(getattr(series, name)[rows], np.round(real[name].to_numpy(), 2))


@pytest.mark.parametrize(
    ("symbol", "file"), [("I:SPX", "spx_close_1990_2022.parquet"), ("I:VIX", "vix_close_2014_2019.parquet")]
)
def test_real_closes_are_reproduced_exactly(book: DailyBook, symbol: str, file: str) -> None:
    series = book[symbol]
    real = pl.read_parquet(data_file(file))
    rows = [series.index_of(day) for day in real["date"]]
    # The two files of the S&P 500 differ by less than a cent on some days; the one with whole days wins.
    assert np.abs(series.close[rows] - real["close"].to_numpy()).max() < 0.011


def test_volatility_falls_when_the_index_rises(book: DailyBook) -> None:
    spx, vix = book["I:SPX"], book["I:VIX"]
    rows = spx.between(dt.date(2019, 2, 1), dt.date(2026, 6, 1))
    moves = np.corrcoef(np.diff(np.log(spx.close[rows])), np.diff(np.log(vix.close[rows])))[0, 1]
    assert moves < -0.6
    assert vix.close.min() > 9
    assert vix.close.max() < 90


def test_series_do_not_depend_on_what_was_asked_before(book: DailyBook) -> None:
    other = DailyBook(7)
    for symbol in ("QQQ", "AAPL", "I:VIX"):
        assert np.array_equal(other[symbol].high, book[symbol].high)
    assert not np.array_equal(DailyBook(8)["AAPL"].close, book["AAPL"].close)


def test_lookups(book: DailyBook) -> None:
    series = book["AAPL"]
    assert series.index_of(dt.date(2025, 6, 1)) is None
    row = series.index_of(dt.date(2025, 6, 2))
    assert row is not None
    assert series.previous(dt.date(2025, 6, 2)) == row - 1
    assert series.previous(dt.date(1980, 1, 1)) is None
    assert book["SPY"].close[row] == round(book["I:SPX"].close[book["I:SPX"].index_of(dt.date(2025, 6, 2))] * 0.1, 2)
    with pytest.raises(KeyError):
        book["NOPE"]
