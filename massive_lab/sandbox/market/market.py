"""The market as the rest of the sandbox sees it: one class, asked by symbol and time."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from massive_lab.errors import UnknownSymbol
from massive_lab.sandbox.market import bars as bar_rules
from massive_lab.sandbox.market.bars import Bars
from massive_lab.sandbox.market.cache import ByteCache
from massive_lab.sandbox.market.conditions import MIX_HIGH_LOW, MIX_OPEN_CLOSE, MIX_VOLUME
from massive_lab.sandbox.market.daily import DailyBook, DailySeries
from massive_lab.sandbox.market.index import IndexValues, make_values
from massive_lab.sandbox.market.instruments import INDICES, STOCKS
from massive_lab.sandbox.market.live import LIVE_COLUMNS, Prints, emitted
from massive_lab.sandbox.market.optionbook import OptionBook
from massive_lab.sandbox.market.path import DayPath, make_path
from massive_lab.sandbox.market.rng import Ints
from massive_lab.sandbox.market.tape import Recipe, Tape, day_totals, make_tape
from massive_lab.sandbox.market.ticks import NBBO, Decor, decorate, make_nbbo, trade_columns
from massive_lab.schema.session import Session, new_york_ns, session, trading_date
from massive_lab.schema.symbols import OptionSymbol, parse_symbol
from massive_lab.typing import AssetClass

__all__ = ["Market"]

Columns = Mapping[str, npt.NDArray[Any]]

_MB = 1 << 20
_SPANS = {"second": 1_000_000_000, "minute": 60_000_000_000}
_MARKET_VOLATILITY = 0.16
# A Form T print sets the price of an extended-hours bar, though it never sets that of the day.
_FORM_T = 6
_DAY_ONLY = (9, 10, 11)
_INTRADAY_HL = MIX_HIGH_LOW | (np.arange(len(MIX_HIGH_LOW)) == _FORM_T)
_INTRADAY_OC = MIX_OPEN_CLOSE | (np.arange(len(MIX_HIGH_LOW)) == _FORM_T)

TRADE_COLUMNS: dict[str, Any] = {
    **dict.fromkeys(("sip_ns", "participant_ns", "trf_ns"), np.int64),
    **dict.fromkeys(("price", "size"), np.float64),
    **dict.fromkeys(("exchange", "tape", "sequence", "trf_id", "correction"), np.int64),
    "late": np.bool_,
    **dict.fromkeys(("id", "conditions"), object),
}
QUOTE_COLUMNS: dict[str, Any] = {
    **dict.fromkeys(("sip_ns", "participant_ns"), np.int64),
    **dict.fromkeys(("bid_price", "bid_size"), np.float64),
    "bid_exchange": np.int64,
    **dict.fromkeys(("ask_price", "ask_size"), np.float64),
    **dict.fromkeys(("ask_exchange", "sequence", "tape", "condition", "indicator"), np.int64),
}


def _joined(parts: list[Columns], names: Mapping[str, Any] | Sequence[str]) -> Columns:
    if len(parts) == 1:
        return parts[0]
    if parts:
        return {name: np.concatenate([part[name] for part in parts]) for name in names}
    kinds = names if isinstance(names, Mapping) else {}
    return {
        name: np.empty(0, dtype=kinds.get(name, np.int64 if name.endswith("_ns") else np.float64)) for name in names
    }


def _array_bytes(columns: Mapping[str, npt.NDArray[Any]]) -> int:
    return sum(array.nbytes for array in columns.values())


_midnight = lru_cache(maxsize=16384)(new_york_ns)


class Market:
    """The synthetic market; satisfies `massive_lab.sandbox.api.MarketData`.

    Every number is addressed by seed, symbol, date and purpose, so the same seed gives the same market whatever was
    asked before. There are no splits in the sandbox: adjusted and unadjusted prices are the same. Trades, quotes, values and
    bars exist for every session since the symbol's daily series begins (see `massive_lab.sandbox.market.daily`).

    Parameters
    ----------
    seed : int
    density : float
        Factor on the number of prints; below 1 for faster tests.

    Examples
    --------
    >>> market = Market()
    >>> day = new_york_ns(dt.date(2025, 6, 2))
    >>> bars = market.base_bars("I:SPX", "day", day, day + 1, now_ns=day + 10**15)
    >>> bool(bars["low"][0] <= bars["open"][0] <= bars["high"][0])
    True
    """

    def __init__(self, seed: int = 7, density: float = 1.0) -> None:
        self.seed = seed
        self.density = density
        self.daily = DailyBook(seed)
        self.options = OptionBook(self)
        self._paths: ByteCache[DayPath] = ByteCache(24 * _MB, lambda path: path.nbytes)
        self._tapes: ByteCache[Tape] = ByteCache(64 * _MB, lambda tape: tape.nbytes)
        self._decor: ByteCache[Decor] = ByteCache(40 * _MB, _array_bytes)
        self._nbbo: ByteCache[NBBO] = ByteCache(96 * _MB, _array_bytes)
        self._values: ByteCache[IndexValues] = ByteCache(24 * _MB, lambda values: values.nbytes)
        self._bars: ByteCache[Bars] = ByteCache(48 * _MB, lambda bars: bars.nbytes + 200)
        self._live: ByteCache[dict[str, npt.NDArray[Any]]] = ByteCache(80 * _MB, _array_bytes)

    # What exists

    def knows(self, symbol: str, now_ns: int) -> bool:
        """Whether the symbol exists (for an option: is or was listed) at `now_ns`."""
        if symbol in STOCKS or symbol in INDICES:
            return True
        option = self._option(symbol)
        return option is not None and self.options.listed(option, trading_date(now_ns))

    def universe(self, cluster: AssetClass, now_ns: int) -> list[str]:
        """Symbols a wildcard covers: all stocks, all indices, and the option contracts that trade that day."""
        if cluster == "stocks":
            return sorted(STOCKS)
        if cluster == "indices":
            return sorted(INDICES)
        return self.options.active(trading_date(now_ns))

    def series(self, symbol: str) -> DailySeries:
        """Daily prices of a stock or an index."""
        return self.daily[symbol]

    @staticmethod
    def _option(symbol: str) -> OptionSymbol | None:
        if not symbol.startswith("O:"):
            return None
        try:
            parsed = parse_symbol(symbol)
        except UnknownSymbol:
            return None
        return parsed if isinstance(parsed, OptionSymbol) else None

    # One session of one symbol

    def _days(self, symbol: str, start_ns: int, end_ns: int) -> Iterator[Session]:
        if end_ns <= start_ns:
            return
        first, last = trading_date(max(start_ns, 0)), trading_date(max(end_ns - 1, 0))
        option = self._option(symbol)
        if option is not None:
            yield from self.options.days(option, first, last)
        elif symbol in STOCKS or symbol in INDICES:
            series = self.daily[symbol]
            for ordinal in series.days[series.between(first, last)].tolist():
                day = session(dt.date.fromordinal(ordinal))
                assert day is not None
                yield day

    def ohlc(self, symbol: str, date: dt.date) -> tuple[float, float, float, float] | None:
        """The whole day's prices of a stock or an index."""
        series = self.daily[symbol]
        row = series.index_of(date)
        if row is None:
            return None
        return float(series.open[row]), float(series.high[row]), float(series.low[row]), float(series.close[row])

    def previous_close(self, symbol: str, date: dt.date) -> float:
        """Close of the session before a date; the day's own open on the first day."""
        series = self.daily[symbol]
        row = series.previous(date)
        return float(series.open[0] if row is None else series.close[row])

    def path(self, symbol: str, day: Session) -> DayPath:
        """The day's price path of a stock or an index."""
        return self._paths.get((symbol, day.date), lambda: self._make_path(symbol, day))

    def _make_path(self, symbol: str, day: Session) -> DayPath:
        ohlc = self.ohlc(symbol, day.date)
        assert ohlc is not None
        stock = STOCKS.get(symbol)
        name = symbol
        if stock is None:
            loading = {"I:SPX": 1.0, "I:VIX": -0.88, "I:DJI": 0.95}.get(symbol, 0.9)
            name = "I:COMP" if symbol == "I:NDX" else symbol
        elif stock.tracks:
            loading = {"I:SPX": 1.0, "I:DJI": 0.95}.get(stock.tracks, 0.9)
            name = "I:COMP" if stock.tracks == "I:NDX" else stock.tracks
        else:
            market = stock.beta * _MARKET_VOLATILITY
            loading = market / float(np.hypot(market, stock.idio))
        return make_path(self.seed, name, day.date, (day.open_ns, day.close_ns), ohlc, loading)

    def tape(self, symbol: str, day: Session) -> Tape:
        """The day's prints of a stock."""
        return self._tapes.get((symbol, day.date), lambda: make_tape(self._recipe(symbol, day)))

    def _recipe(self, symbol: str, day: Session) -> Recipe:
        ohlc = self.ohlc(symbol, day.date)
        assert ohlc is not None
        # Trading has multiplied: a day of 2003 had a tenth of the prints of one today.
        era = min(1.0, 0.88 ** (2022 - day.date.year))
        prints = int(STOCKS[symbol].prints * self.density * era)
        before = self.previous_close(symbol, day.date)
        return Recipe(self.seed, symbol, day, self.path(symbol, day), ohlc, before, prints)

    def _index(self, symbol: str, day: Session) -> IndexValues:
        def make() -> IndexValues:
            ohlc = self.ohlc(symbol, day.date)
            assert ohlc is not None
            tick, path = INDICES[symbol].tick_s, self.path(symbol, day)
            return make_values(self.seed, symbol, day, path, ohlc, tick, self.density)

        return self._values.get((symbol, day.date), make)

    # Ticks

    def trades(self, symbol: str, start_ns: int, end_ns: int) -> Columns:
        """Trades published in ``[start_ns, end_ns)``; see `massive_lab.sandbox.api.MarketData`."""
        parts: list[Columns] = []
        for day in self._days(symbol, start_ns, end_ns):
            if symbol.startswith("O:"):
                some = self.options.trades(symbol, day, start_ns, end_ns)
                parts += [some] if some is not None else []
            elif symbol in STOCKS:
                stock, tape = STOCKS[symbol], self.tape(symbol, day)
                rows = _between(tape.order, tape.sip_ns, start_ns, end_ns)
                if len(rows):
                    parts.append(trade_columns(tape, self._decorated(symbol, day, tape), rows, stock.tape))
        return _joined(parts, TRADE_COLUMNS)

    def _decorated(self, symbol: str, day: Session, tape: Tape) -> Decor:
        return self._decor.get((symbol, day.date), lambda: decorate(self.seed, symbol, day, tape, STOCKS[symbol].mic))

    def quotes(self, symbol: str, start_ns: int, end_ns: int) -> Columns:
        """Quotes published in ``[start_ns, end_ns)``; see `massive_lab.sandbox.api.MarketData`."""
        parts: list[Columns] = []
        for day in self._days(symbol, start_ns, end_ns):
            if symbol.startswith("O:"):
                nbbo = self.options.quotes(symbol, day)
            elif symbol in STOCKS:
                nbbo = self.nbbo(symbol, day)
            else:
                continue
            lo, hi = np.searchsorted(nbbo["sip_ns"], [start_ns, end_ns])
            if hi > lo:
                parts.append({name: array[lo:hi] for name, array in nbbo.items()})
        return _joined(parts, QUOTE_COLUMNS)

    def nbbo(self, symbol: str, day: Session) -> NBBO:
        """All quotes of a stock on a day."""
        stock = STOCKS[symbol]
        return self._nbbo.get(
            (symbol, day.date),
            lambda: make_nbbo(self.seed, symbol, day, self.tape(symbol, day), stock.mic, stock.tape),
        )

    def values(self, symbol: str, start_ns: int, end_ns: int) -> Columns:
        """Index values in ``[start_ns, end_ns)``: ``ts_ns value``."""
        parts: list[Columns] = []
        if symbol in INDICES:
            for day in self._days(symbol, start_ns, end_ns):
                values = self._index(symbol, day)
                lo, hi = np.searchsorted(values.ts_ns, [start_ns, end_ns])
                if hi > lo:
                    parts.append({"ts_ns": values.ts_ns[lo:hi], "value": values.value[lo:hi]})
        return _joined(parts, ("ts_ns", "value"))

    # Bars

    def prints(self, symbol: str, day: Session) -> Prints:
        """What second, minute and hour bars of a day are made of."""
        if symbol.startswith("O:"):
            return self.options.prints(symbol, day)
        if symbol in INDICES:
            values = self._index(symbol, day)
            every = np.ones(len(values.ts_ns), dtype=np.bool_)
            return Prints(values.ts_ns, values.ts_ns, values.value, None, (every, every, every), ~every)
        tape = self.tape(symbol, day)
        rows = ~np.isin(tape.mix, _DAY_ONLY)
        mix = tape.mix[rows]
        flags = (_INTRADAY_HL[mix], _INTRADAY_OC[mix], MIX_VOLUME[mix])
        return Prints(tape.part_ns[rows], tape.sip_ns[rows], tape.price[rows], tape.size[rows], flags, tape.late[rows])

    def base_bars(self, symbol: str, unit: str, start_ns: int, end_ns: int, now_ns: int) -> Columns:
        """Bars of one second, minute or day; see `massive_lab.sandbox.api.MarketData`."""
        if unit == "day":
            bars = self._day_bars(symbol, start_ns, end_ns, now_ns)
        else:
            span = _SPANS[unit]
            parts = [
                self._session_bars(symbol, day, span, now_ns)
                for day in self._days(symbol, start_ns, min(end_ns, now_ns + 1))
            ]
            bars = bar_rules.concat(parts)
        lo, hi = np.searchsorted(bars.start, [start_ns, end_ns])
        return _bar_columns(bars.take(slice(int(lo), int(hi))))

    def _session_bars(self, symbol: str, day: Session, span_ns: int, now_ns: int) -> Bars:
        if now_ns >= day.late_ns:
            return self._bars.get((symbol, day.date, span_ns), lambda: self.prints(symbol, day).bars(span_ns))
        prints = self.prints(symbol, day)
        return prints.bars(span_ns, prints.sip <= now_ns)

    def _day_bars(self, symbol: str, start_ns: int, end_ns: int, now_ns: int) -> Bars:
        if symbol in INDICES:
            return self._index_days(symbol, start_ns, end_ns, now_ns)
        days = self._days(symbol, start_ns, min(end_ns, now_ns + 1))
        return bar_rules.concat([self.day_bar(symbol, day, now_ns) for day in days])

    def day_bar(self, symbol: str, day: Session, now_ns: int) -> Bars:
        """The day bar of a stock or an option as published by `now_ns`: one row, or none."""
        over = now_ns >= day.late_ns

        def make() -> Bars:
            if symbol.startswith("O:"):
                prints = self.options.prints(symbol, day)
                price, size, time, sip = prints.price, prints.size, prints.time, prints.sip
                flags = (prints.high_low, prints.open_close, prints.volume)
            elif over:
                return self._finished(symbol, day)
            else:
                tape = self.tape(symbol, day)
                price, size, time, sip = tape.price, tape.size, tape.part_ns, tape.sip_ns
                flags = (tape.high_low, tape.open_close, tape.volume)
            rows: slice | npt.NDArray[np.bool_] = slice(None) if over else sip <= now_ns
            assert size is not None
            window = np.full(len(time[rows]), _midnight(day.date), dtype=np.int64)
            high_low, open_close, volume = (flag[rows] for flag in flags)
            return bar_rules.aggregate(window, price[rows], size[rows], high_low, open_close, volume)

        return self._bars.get((symbol, day.date, "day"), make) if over else make()

    def _finished(self, symbol: str, day: Session) -> Bars:
        recipe = self._recipe(symbol, day)
        volume, vwap, count = day_totals(recipe)
        start = np.array([_midnight(day.date)], dtype=np.int64)
        return Bars(start, *(np.array([float(value)]) for value in (*recipe.ohlc, volume, vwap, count)))

    def _index_days(self, symbol: str, start_ns: int, end_ns: int, now_ns: int) -> Bars:
        if min(end_ns, now_ns + 1) <= start_ns:
            return bar_rules.empty()
        series = self.daily[symbol]
        today = trading_date(now_ns)
        rows = series.between(trading_date(max(start_ns, 0)), min(today, trading_date(max(end_ns - 1, 0))))
        days = [dt.date.fromordinal(day) for day in series.days[rows].tolist()]
        none = np.full(len(days), np.nan)
        starts = np.array([_midnight(day) for day in days], dtype=np.int64)
        whole = Bars(
            starts, series.open[rows], series.high[rows], series.low[rows], series.close[rows], none, none, none
        )
        last = session(days[-1]) if days else None
        if last is None or now_ns >= last.close_ns:
            return whole
        values = self.values(symbol, last.open_ns, now_ns + 1)["value"]
        whole = whole.take(slice(0, -1))
        if not len(values):
            return whole
        every = np.ones(len(values), dtype=np.bool_)
        window = np.full(len(values), starts[-1])
        return bar_rules.concat([whole, bar_rules.aggregate(window, values, None, every, every, every)])

    def live_bars(self, symbol: str, span_ns: int, start_ns: int, end_ns: int) -> Columns:
        """Bars as the stream emits them, by ``emit_ns``; see `massive_lab.sandbox.api.MarketData`."""
        parts: list[Columns] = []
        for day in self._days(symbol, start_ns, end_ns):
            whole = self._emissions(symbol, day, span_ns)
            lo, hi = np.searchsorted(whole["emit_ns"], [start_ns, end_ns])
            if hi > lo:
                parts.append({name: array[lo:hi] for name, array in whole.items()})
        return _joined(parts, LIVE_COLUMNS)

    def _emissions(self, symbol: str, day: Session, span_ns: int) -> dict[str, npt.NDArray[Any]]:
        def make() -> dict[str, npt.NDArray[Any]]:
            prints = self.prints(symbol, day)
            first = np.flatnonzero(prints.open_close & (prints.time >= day.open_ns))
            if not len(first):
                return emitted(prints, span_ns, lambda _: float("nan"))
            known, price = int(prints.sip[first[0]]), float(prints.price[first[0]])
            return emitted(prints, span_ns, lambda at: price if at >= known else float("nan"))

        return self._live.get((symbol, day.date, span_ns), make)

    def session_prices(self, symbol: str, date: dt.date, now_ns: int) -> Mapping[str, float] | None:
        """The session of `date` so far; see `massive_lab.sandbox.api.MarketData`."""
        midnight = _midnight(date)
        day = next(self._days(symbol, midnight, midnight + 1), None)
        if day is None:
            return None
        option = symbol.startswith("O:")
        bar = self._day_bars(symbol, midnight, midnight + 1, now_ns)
        before = self.options.close_before(symbol, date) if option else self.previous_close(symbol, date)
        out = {"previous_close": before}
        if symbol in STOCKS:
            tape = self.tape(symbol, day)
            seen = tape.order[tape.sip_ns[tape.order] <= now_ns]
            if not len(seen):
                return None
            seen = seen[tape.mix[seen] == _FORM_T]
            early = seen[tape.part_ns[seen] < day.open_ns]
            late = seen[tape.part_ns[seen] >= day.close_ns]
            if len(early):
                out["early_price"] = float(tape.price[early[0]])
            if len(late):
                out["late_price"] = float(tape.price[late[-1]])
        elif not len(bar):
            return None
        names = ("open", "high", "low", "close", "volume", "vwap")
        for name in names:
            out[name] = float(getattr(bar, name)[0]) if len(bar) else float("nan")
        return out

    # Options

    def contracts(self, underlying: str, as_of: dt.date) -> Columns:
        """Option contracts listed on a date; see `massive_lab.sandbox.api.MarketData`."""
        return self.options.contracts(underlying, as_of)

    def chain(self, underlying: str, tickers: Sequence[str], now_ns: int) -> Columns:
        """State of contracts at `now_ns`; see `massive_lab.sandbox.api.MarketData`."""
        return self.options.chain(underlying, tickers, now_ns)


def _between(order: Ints, sip_ns: Ints, start_ns: int, end_ns: int) -> Ints:
    lo, hi = np.searchsorted(sip_ns, [start_ns, end_ns], sorter=order)
    return order[lo:hi]


def _bar_columns(bars: Bars) -> Columns:
    return {
        "start_ns": bars.start,
        "open": bars.open,
        "high": bars.high,
        "low": bars.low,
        "close": bars.close,
        "volume": bars.volume,
        "vwap": bars.vwap,
        "trade_count": np.where(np.isnan(bars.count), -1, bars.count).astype(np.int64),
    }
