"""Daily open, high, low and close of every instrument: real where the bundled data have it, seeded elsewhere.

=======  ==================  =========================================================================
symbol   from                made of
=======  ==================  =========================================================================
I:SPX    1990-01-02          real closes to 2022-12-28, real OHLC 1999-2018, then a seeded walk
I:COMP   1999-01-04          real OHLC to 2018-12-31, then a seeded walk tied to I:SPX
I:NDX    as I:COMP           the same numbers: the Nasdaq Composite stands in for the Nasdaq 100
I:VIX    1990-01-02          real closes 2014-01-03 to 2019-01-03, elsewhere mean-reverting against I:SPX
I:DJI    1990-01-02          seeded, tied to I:SPX
I:RUT    1990-01-02          seeded, tied to I:SPX
stocks   2003-09-10          seeded, tied to I:SPX by beta; funds follow their index exactly
=======  ==================  =========================================================================

The vendor's indices start on 2023-02-14; here they start with the data. Where only the close is real, the open,
high and low are synthesised around it. Every random number is addressed by symbol and year, so a calendar that
grows at its end changes nothing before.
"""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import polars as pl

from massive_lab.sandbox.datafiles import data_file
from massive_lab.sandbox.market.instruments import INDICES, STOCKS, Stock
from massive_lab.sandbox.market.rng import Floats, Ints, generator
from massive_lab.schema.session import session, sessions

__all__ = ["DailyBook", "DailySeries"]

_FIRST = dt.date(1990, 1, 2)
_FIRST_STOCK = dt.date(2003, 9, 10)
_ANCHOR = dt.date(2025, 1, 2)
_PROBE = dt.date(2026, 1, 1)


@dataclass(frozen=True)
class DailySeries:
    """Sessions (proleptic ordinals, ascending) and their prices, rounded to two decimals."""

    days: Ints
    open: Floats
    high: Floats
    low: Floats
    close: Floats

    def index_of(self, date: dt.date) -> int | None:
        """Row of a session, or None."""
        i = int(np.searchsorted(self.days, date.toordinal()))
        return i if i < len(self.days) and int(self.days[i]) == date.toordinal() else None

    def previous(self, date: dt.date) -> int | None:
        """Row of the last session before a date, or None."""
        i = int(np.searchsorted(self.days, date.toordinal())) - 1
        return i if i >= 0 else None

    def between(self, first: dt.date, last: dt.date) -> slice:
        """Rows of the sessions from `first` to `last`, both included."""
        lo = int(np.searchsorted(self.days, first.toordinal()))
        return slice(lo, int(np.searchsorted(self.days, last.toordinal(), side="right")))


@lru_cache(maxsize=1)
def _all_sessions() -> Ints:
    end = _PROBE
    # The calendar ends about a year after today; it is asked, not assumed.
    step = dt.timedelta(days=1)
    while True:
        try:
            session(end + step)
        except ValueError:
            break
        end += step
    return np.array([day.toordinal() for day in sessions(_FIRST, end + step)], dtype=np.int64)


@lru_cache(maxsize=8)
def _real(name: str) -> dict[int, tuple[float | None, float | None, float | None, float]]:
    frame = pl.read_parquet(data_file(name)).drop_nulls("close").sort("date")
    return {
        day.toordinal(): (o, h, lo, c)
        for day, o, h, lo, c in frame.select("date", "open", "high", "low", "close").iter_rows()
    }


class DailyBook:
    """Daily series by symbol, made when first asked for and kept: they are small."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._series: dict[str, DailySeries] = {}
        self._core: tuple[Floats, Floats] | None = None

    def __getitem__(self, symbol: str) -> DailySeries:
        found = self._series.get(symbol)
        if found is None:
            found = self._series[symbol] = self._make(symbol)
        return found

    def _normals(self, symbol: str, n: int) -> Floats:
        """``(sessions, n)`` standard normal numbers, addressed by symbol and calendar year."""
        days = _all_sessions()
        years = np.array([dt.date.fromordinal(int(day)).year for day in days])
        out = np.empty((len(days), n))
        for year in np.unique(years):
            rows = np.flatnonzero(years == year)
            block = generator(self._seed, symbol, int(year), "daily").standard_normal((264, n))
            out[rows] = block[: len(rows)]
        return out

    def _market(self) -> tuple[Floats, Floats]:
        """Closes of I:SPX and of I:VIX over all sessions."""
        if self._core is None:
            self._core = _couple(_all_sessions(), self._normals("I:SPX", 2))
        return self._core

    def _make(self, symbol: str) -> DailySeries:
        stock = STOCKS.get(symbol)
        if stock is not None:
            return self._tracker(stock) if stock.tracks else self._stock(stock)
        if symbol not in INDICES:
            raise KeyError(symbol)
        days = _all_sessions()
        spx, vix = self._market()
        real: dict[int, tuple[float | None, float | None, float | None, float]] = {}
        first = _FIRST
        if symbol == "I:SPX":
            close, real = spx, _real("spx_ohlcv_1999_2018.parquet")
        elif symbol == "I:VIX":
            close = vix
        elif symbol in {"I:COMP", "I:NDX"}:
            if symbol == "I:NDX":
                return self["I:COMP"]
            real = _real("nasdaq_composite_ohlcv_1999_2018.parquet")
            first = dt.date.fromordinal(min(real))
            close = self._tied(symbol, 1.1, 0.06, 0.0, 0.0)
            known = np.array([real[int(d)][3] if int(d) in real else np.nan for d in days])
            last = int(np.flatnonzero(~np.isnan(known))[-1])
            close = close * (known[last] / close[last])
            close = np.where(np.isnan(known), close, known)
        else:
            beta, idio, level = {"I:DJI": (0.95, 0.04, 42500.0), "I:RUT": (1.12, 0.09, 2230.0)}[symbol]
            close = self._tied(symbol, beta, idio, level, 0.15)
        noise = self._normals(symbol + "/ohl", 4)
        spread = _volatility(close, 0.9 if symbol == "I:VIX" else 0.62)
        out = _surround(days, close, spread, noise, real)
        return _from(out, first)

    def _tied(self, symbol: str, beta: float, idio: float, level: float, half_life_years: float) -> Floats:
        """Closes that follow I:SPX by beta, with an own mean-reverting part; `level` at the anchor (0: unscaled)."""
        days = _all_sessions()
        spx, _ = self._market()
        daily = self._normals(symbol, 1)[:, 0] * idio / math.sqrt(252)
        keep = 0.5 ** (1 / (252 * half_life_years)) if half_life_years else 0.5 ** (1 / 504)
        own = np.empty(len(days))
        state = 0.0
        for i, shock in enumerate(daily.tolist()):
            state = keep * state + shock
            own[i] = state
        log = beta * np.log(spx) + own
        at = int(np.searchsorted(days, _ANCHOR.toordinal()))
        scaled: Floats = np.exp(log - log[at]) * (level or 1.0)
        return scaled

    def _stock(self, stock: Stock) -> DailySeries:
        days = _all_sessions()
        close = self._tied(stock.ticker, stock.beta, stock.idio, stock.price, 2.0)
        noise = self._normals(stock.ticker + "/ohl", 4)
        return _from(_surround(days, close, _volatility(close, 0.75), noise, {}), _FIRST_STOCK)

    def _tracker(self, stock: Stock) -> DailySeries:
        index = self[stock.tracks]
        rows = index.between(_FIRST_STOCK, dt.date.max)
        prices = [np.round(p[rows] * stock.ratio, 2) for p in (index.open, index.high, index.low, index.close)]
        return DailySeries(index.days[rows], *prices)


def _couple(days: Ints, normals: Floats) -> tuple[Floats, Floats]:
    """Walk I:SPX and I:VIX together, forward from the real window of the VIX and backward before it."""
    spx_real, vix_real = _real("spx_close_1990_2022.parquet"), _real("vix_close_2014_2019.parquet")
    n = len(days)
    ordinals = days.tolist()
    spx = np.array([spx_real[d][3] if d in spx_real else np.nan for d in ordinals])
    vix = np.array([vix_real[d][3] if d in vix_real else np.nan for d in ordinals])
    mean, pull, coupling, own = math.log(18.0), 0.025, 0.042, 0.03
    start = int(np.flatnonzero(~np.isnan(vix))[0])
    for i in range(start, n):
        sigma = vix[i - 1] / 100 / math.sqrt(252) * 0.85
        if math.isnan(spx[i]):
            spx[i] = spx[i - 1] * math.exp(0.09 / 252 - sigma * sigma / 2 + sigma * normals[i, 0])
        if math.isnan(vix[i]):
            move = max(-4.0, min(4.0, math.log(spx[i] / spx[i - 1]) / sigma))
            level = math.log(vix[i - 1])
            level += pull * (mean - level) - coupling * move + own * normals[i, 1]
            vix[i] = min(82.0, max(9.2, math.exp(level)))
    for i in range(start, 0, -1):
        level = math.log(vix[i])
        sigma = vix[i] / 100 / math.sqrt(252) * 0.85
        move = max(-4.0, min(4.0, math.log(spx[i] / spx[i - 1]) / sigma))
        level += pull * (mean - level) + coupling * move + own * normals[i, 1]
        vix[i - 1] = min(82.0, max(9.2, math.exp(level)))
    return spx, vix


def _volatility(close: Floats, factor: float) -> Floats:
    """A daily scale for gaps and ranges: an exponential mean of past absolute returns."""
    absolute = np.abs(np.diff(np.log(close), prepend=np.log(close[0])))
    out = np.empty(len(close))
    state = 0.008
    for i, value in enumerate(absolute.tolist()):
        out[i] = state  # of the past alone
        state += 0.06 * (min(value, 0.1) - state)
    return out * factor


def _surround(
    days: Ints,
    close: Floats,
    scale: Floats,
    noise: Floats,
    real: dict[int, tuple[float | None, float | None, float | None, float]],
) -> list[Floats]:
    before = np.concatenate([close[:1], close[:-1]])
    move = np.log(close / before)
    opening = before * np.exp(0.35 * move + 0.45 * scale * noise[:, 0])
    high = np.maximum(opening, close) * np.exp(np.abs(noise[:, 1]) * scale)
    low = np.minimum(opening, close) * np.exp(-np.abs(noise[:, 2]) * scale)
    out = [np.round(prices, 2) for prices in (opening, high, low, close)]
    if real:
        for i, day in enumerate(days.tolist()):
            known = real.get(day)
            if known is not None and None not in known[:3]:
                for prices, value in zip(out, known, strict=True):
                    prices[i] = round(float(value), 2)  # type: ignore[arg-type]
    np.maximum(out[2], 0.01, out=out[2])
    for prices in out:
        np.maximum(prices, out[2], out=prices)
    return [out[0], out[1], out[2], out[3]]


def _from(prices: list[Floats], first: dt.date) -> DailySeries:
    days = _all_sessions()
    at = int(np.searchsorted(days, first.toordinal()))
    return DailySeries(days[at:], *(p[at:] for p in prices))
