"""Options of the market by contract, underlying and date."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from massive_lab.sandbox.market.cache import ByteCache
from massive_lab.sandbox.market.daily import DailySeries
from massive_lab.sandbox.market.instruments import OPTION_UNDERLYINGS
from massive_lab.sandbox.market.listing import ContractTable, Listing
from massive_lab.sandbox.market.live import Prints
from massive_lab.sandbox.market.optionmodel import Model, Paths, Specs, specs
from massive_lab.sandbox.market.optionprice import greeks, implied_volatility
from massive_lab.sandbox.market.optiontape import OptionTape, make_option_tape
from massive_lab.sandbox.market.rng import Floats, Ints
from massive_lab.schema.session import Session, session, trading_date
from massive_lab.schema.symbols import OptionSymbol, parse_symbol

__all__ = ["N_ACTIVE", "OptionBook"]

Columns = Mapping[str, npt.NDArray[Any]]

N_ACTIVE = 300
"""Contracts that a wildcard covers: the busiest of the day."""
_MB = 1 << 20
_RESET_NS = (3 * 3600 + 1800) * 10**9  # 03:30 New York: yesterday's figures are cleared


class _Host(Paths, Protocol):
    """The market, as far as options need it."""

    def series(self, symbol: str) -> DailySeries: ...


class OptionBook:
    """Contracts, tapes, quotes and chains.

    American contracts are priced without early exercise but never below it. Trades of options are never late, carry one
    condition and no id, as on the wire. A contract trades until its expiration; those settled at the open of that day until
    the session before.
    """

    def __init__(self, market: _Host) -> None:
        self._market = market
        self.model = Model(market)
        self.listing = Listing(market.previous_close)
        self._tables: ByteCache[ContractTable] = ByteCache(32 * _MB, lambda table: table.nbytes)
        self._tapes: ByteCache[OptionTape] = ByteCache(48 * _MB, lambda tape: tape.nbytes)
        self._quotes: ByteCache[dict[str, npt.NDArray[Any]]] = ByteCache(
            32 * _MB, lambda quotes: sum(array.nbytes for array in quotes.values())
        )
        self._specs_of: ByteCache[Specs] = ByteCache(4 * _MB, lambda _: 600)
        self._active: ByteCache[list[str]] = ByteCache(_MB, lambda names: 80 * len(names))

    # Listing

    def listed(self, option: OptionSymbol, date: dt.date) -> bool:
        """Whether a contract is or was listed by a date."""
        first = self._first_day(option, date)
        return first is not None and first <= date

    def _first_day(self, option: OptionSymbol, as_of: dt.date) -> dt.date | None:
        if option.underlying not in OPTION_UNDERLYINGS:
            return None
        series = self._market.series(option.underlying)
        if option.expiration < dt.date.fromordinal(int(series.days[0])):
            return None
        found = self.listing.first_day(option.underlying, option.root, option.expiration, option.strike)
        return found if found is not None and found <= as_of else None

    def contracts(self, underlying: str, as_of: dt.date) -> Columns:
        """Contracts listed on a date, ascending by ticker."""
        return self.table(underlying, as_of).columns

    def table(self, underlying: str, as_of: dt.date) -> ContractTable:
        """The same, with what the model needs."""
        if underlying not in OPTION_UNDERLYINGS or as_of.toordinal() < self._market.series(underlying).days[0]:
            return self._tables.get("", lambda: self.listing.table("", as_of))
        return self._tables.get((underlying, as_of), lambda: self.listing.table(underlying, as_of))

    def days(self, option: OptionSymbol, first: dt.date, last: dt.date) -> Iterator[Session]:
        """Sessions on which a contract was listed and traded, from `first` to `last`, both included."""
        listed = self._first_day(option, min(last, option.expiration))
        if listed is None:
            return
        series = self._market.series(option.underlying)
        rows = series.between(max(first, listed), min(last, option.expiration))
        expiry = int(self._single(option).expiry_ns[0])
        for ordinal in series.days[rows].tolist():
            day = session(dt.date.fromordinal(ordinal))
            if day is not None and day.open_ns < expiry:
                yield day

    def _single(self, option: OptionSymbol) -> Specs:
        return self._specs_of.get(
            option.text,
            lambda: specs(
                option.underlying,
                [option.root],
                np.array([option.expiration.toordinal()], dtype=np.int64),
                np.array([round(option.strike * 1000)], dtype=np.int64),
                np.array([option.option_type == "call"]),
            ),
        )

    def active(self, date: dt.date) -> list[str]:
        """The busiest contracts of the last session up to a date, ascending."""
        series = self._market.series("I:SPX")
        row = series.previous(date + dt.timedelta(days=1))
        if row is None:
            return []
        return self._active.get(int(series.days[row]), lambda: self._find_active(int(series.days[row])))

    def _find_active(self, ordinal: int) -> list[str]:
        day = session(dt.date.fromordinal(ordinal))
        assert day is not None
        names: list[str] = []
        amounts: list[Floats] = []
        for underlying in OPTION_UNDERLYINGS:
            table = self.table(underlying, day.date)
            spec = self._specs(underlying, table, np.arange(len(table.expiry_day)))
            expected, _ = self.model.liquidity(spec, day)
            counts = self.model.counts(spec, day, expected)
            names += table.columns["ticker"].tolist()
            amounts.append(np.where(counts > 0, expected, 0.0))
        amount = np.concatenate(amounts)
        busiest = np.argsort(-amount, kind="stable")[:N_ACTIVE]
        return sorted(names[i] for i in busiest.tolist() if amount[i] > 0)

    def _specs(self, underlying: str, table: ContractTable, rows: Ints) -> Specs:
        thousandths = np.round(table.strike[rows] * 1000).astype(np.int64)
        names = table.columns["root"][rows].tolist()
        return specs(underlying, names, table.expiry_day[rows], thousandths, table.is_call[rows])

    # Ticks

    def tape(self, symbol: str, day: Session) -> OptionTape:
        """Trades of a session of a listed contract."""

        def make() -> OptionTape:
            option = parse_symbol(symbol)
            assert isinstance(option, OptionSymbol)
            spec = self._single(option)
            expected, step = self.model.liquidity(spec, day)
            counts = self.model.counts(spec, day, expected)
            return make_option_tape(self.model, spec, day, step, counts)

        return self._tapes.get((symbol, day.date), make)

    def trades(self, symbol: str, day: Session, start_ns: int, end_ns: int) -> Columns | None:
        """Trades of a session within ``[start_ns, end_ns)``, if any."""
        tape = self.tape(symbol, day)
        lo, hi = np.searchsorted(tape.sip_ns, [start_ns, end_ns])
        return tape.columns(int(lo), int(hi)) if hi > lo else None

    def prints(self, symbol: str, day: Session) -> Prints:
        """What bars of a session are made of."""
        tape = self.tape(symbol, day)
        every = np.ones(len(tape.sip_ns), dtype=np.bool_)
        return Prints(tape.sip_ns, tape.sip_ns, tape.price, tape.size, (every, every, every), ~every)

    def quotes(self, symbol: str, day: Session) -> dict[str, npt.NDArray[Any]]:
        """All quotes of a session of a listed contract."""
        return self._quotes.get((symbol, day.date), lambda: self._make_quotes(symbol, day))

    def _make_quotes(self, symbol: str, day: Session) -> dict[str, npt.NDArray[Any]]:
        option = parse_symbol(symbol)
        assert isinstance(option, OptionSymbol)
        spec = self._single(option)
        _, step = self.model.liquidity(spec, day)
        first = self.model.touch(spec, day, step, np.array([day.open_ns], dtype=np.int64)).quote_ns
        times = np.arange(int(first[0]), day.close_ns, int(step[0]), dtype=np.int64)
        touch = self.model.touch(spec, day, step, times)
        none = np.full(len(times), -1, dtype=np.int64)
        return {
            "sip_ns": times,
            "participant_ns": times - 150_000,
            "bid_price": touch.bid,
            "bid_size": touch.bid_size,
            "bid_exchange": touch.bid_exchange,
            "ask_price": touch.ask,
            "ask_size": touch.ask_size,
            "ask_exchange": touch.ask_exchange,
            "sequence": 1000 + 7 * np.arange(len(times), dtype=np.int64),
            "tape": none,
            "condition": none,
            "indicator": none,
        }

    def close_before(self, symbol: str, date: dt.date) -> float:
        """Last price of a contract on the session before a date; the middle of its last quote when it did not trade."""
        option = parse_symbol(symbol)
        assert isinstance(option, OptionSymbol)
        series = self._market.series(option.underlying)
        row = series.previous(date)
        if row is None:
            return float("nan")
        before = session(dt.date.fromordinal(int(series.days[row])))
        assert before is not None
        first = self._first_day(option, before.date)
        if first is None:
            return float("nan")
        tape = self.tape(symbol, before)
        if len(tape.price):
            return float(tape.price[-1])
        spec = self._single(option)
        _, step = self.model.liquidity(spec, before)
        touch = self.model.touch(spec, before, step, np.array([before.close_ns], dtype=np.int64))
        return round(float((touch.bid[0] + touch.ask[0]) / 2), 4)

    # Chain

    def chain(self, underlying: str, tickers: Sequence[str], now_ns: int) -> Columns:
        """State of contracts at an instant; see `massive_lab.sandbox.api.MarketData`."""
        today = trading_date(max(now_ns - _RESET_NS, 0))
        series = self._market.series(underlying)
        row = series.previous(today + dt.timedelta(days=1))
        n = len(tickers)
        if row is None or not n:
            return {name: np.full(n, -1 if kind == "i" else np.nan) for name, kind in _CHAIN.items()}
        day = session(dt.date.fromordinal(int(series.days[row])))
        before = session(dt.date.fromordinal(int(series.days[max(row - 1, 0)])))
        assert day is not None
        assert before is not None
        options = [parse_symbol(ticker) for ticker in tickers]
        chosen = [option for option in options if isinstance(option, OptionSymbol)]
        spec = specs(
            underlying,
            [option.root for option in chosen],
            np.array([option.expiration.toordinal() for option in chosen], dtype=np.int64),
            np.array([round(option.strike * 1000) for option in chosen], dtype=np.int64),
            np.array([option.option_type == "call" for option in chosen]),
        )
        # Before the open the quotes and trades of the session before still stand.
        quoting = day if now_ns >= day.open_ns else before
        expected, step = self.model.liquidity(spec, day)
        _, quote_step = (expected, step) if quoting is day else self.model.liquidity(spec, quoting)
        ts = np.full(n, min(now_ns, quoting.close_ns - 1), dtype=np.int64)
        touch = self.model.touch(spec, quoting, quote_step, ts)
        unquoted = touch.grid < 0
        state = touch.state
        two_sided = (touch.bid > 0) & ~unquoted
        # A price that only exercise holds up carries no volatility: the vendor leaves such contracts without one.
        exercise = np.where(spec.is_call, 1.0, -1.0) * (state.spot - spec.strike)
        solvable = two_sided & ((state.value > exercise) | (OPTION_UNDERLYINGS[underlying].style != "american"))
        sigma = implied_volatility(
            np.where(solvable, (touch.bid + touch.ask) / 2, 0.0), state.fwd, spec.strike, state.years, spec.is_call
        )
        out: dict[str, npt.NDArray[Any]] = {
            "bid_price": np.where(unquoted, np.nan, touch.bid),
            "bid_size": np.where(unquoted, np.nan, touch.bid_size),
            "bid_exchange": np.where(unquoted, -1, touch.bid_exchange),
            "ask_price": np.where(unquoted, np.nan, touch.ask),
            "ask_size": np.where(unquoted, np.nan, touch.ask_size),
            "ask_exchange": np.where(unquoted, -1, touch.ask_exchange),
            "quote_ns": np.where(unquoted, -1, touch.quote_ns),
            "iv": sigma,
            **greeks(state.spot, state.fwd, spec.strike, state.years, sigma, spec.is_call),
            "open_interest": self.model.open_interest(spec, day),
        }
        self._add_trades(out, tickers, spec, (before, day), expected, now_ns)
        return {name: out[name] for name in _CHAIN}

    def _add_trades(
        self,
        out: dict[str, npt.NDArray[Any]],
        tickers: Sequence[str],
        spec: Specs,
        around: tuple[Session, Session],
        expected: Floats,
        now_ns: int,
    ) -> None:
        """Day bar, last trade and previous close, from the tapes of today and of the session before."""
        before, day = around
        n = len(tickers)
        for name in (
            "trade_price",
            "trade_size",
            "day_open",
            "day_high",
            "day_low",
            "day_close",
            "day_volume",
            "day_vwap",
        ):
            out[name] = np.full(n, np.nan)
        for name in ("trade_exchange", "trade_condition", "trade_ns"):
            out[name] = np.full(n, -1, dtype=np.int64)
        earlier, step = self.model.liquidity(spec, before)
        last = self.model.touch(spec, before, step, np.full(n, before.close_ns, dtype=np.int64))
        previous = np.round((last.bid + last.ask) / 2, 4)
        listed = np.array([self._is_old(ticker, before.date) for ticker in tickers])
        previous[~listed] = np.nan
        if now_ns < day.open_ns:
            for name in ("bid_price", "bid_size", "ask_price", "ask_size", "iv", "delta", "gamma", "theta", "vega"):
                out[name][~listed] = np.nan
            for name in ("bid_exchange", "ask_exchange", "quote_ns"):
                out[name][~listed] = -1
        tape = self._page(tickers, spec, before, step, np.where(listed, self.model.counts(spec, before, earlier), 0))
        traded = np.flatnonzero(np.diff(tape.first))
        last_row = tape.first[traded + 1] - 1
        previous[traded] = tape.price[last_row]
        _last_trades(out, traded, tape, last_row)
        out["previous_close"] = previous
        if now_ns < day.open_ns:
            return
        _, step = self.model.liquidity(spec, day)
        tape = self._page(tickers, spec, day, step, self.model.counts(spec, day, expected))
        seen = tape.seen(now_ns)
        traded = np.flatnonzero(seen)
        if not len(traded):
            return
        first, last_row = tape.first[traded], tape.first[traded] + seen[traded] - 1
        _last_trades(out, traded, tape, last_row)
        rows = np.flatnonzero(tape.sip_ns <= now_ns)
        starts = np.concatenate([[0], np.cumsum(seen[traded])[:-1]])
        price, size = tape.price[rows], tape.size[rows]
        out["day_open"][traded], out["day_close"][traded] = tape.price[first], tape.price[last_row]
        out["day_high"][traded] = np.maximum.reduceat(price, starts)
        out["day_low"][traded] = np.minimum.reduceat(price, starts)
        volume = np.add.reduceat(size, starts)
        out["day_volume"][traded] = volume
        vwap = np.round(np.add.reduceat(price * size, starts) / volume, 4)
        out["day_vwap"][traded] = np.clip(vwap, out["day_low"][traded], out["day_high"][traded])

    def _page(self, tickers: Sequence[str], spec: Specs, day: Session, step_ns: Ints, counts: Ints) -> OptionTape:
        """Trades of a page of the chain through a session."""
        return self._tapes.get(
            (tuple(tickers), day.date), lambda: make_option_tape(self.model, spec, day, step_ns, counts)
        )

    def _is_old(self, ticker: str, date: dt.date) -> bool:
        option = parse_symbol(ticker)
        return isinstance(option, OptionSymbol) and self.listed(option, date)


def _last_trades(out: dict[str, npt.NDArray[Any]], which: Ints, tape: OptionTape, rows: Ints) -> None:
    out["trade_price"][which], out["trade_size"][which] = tape.price[rows], tape.size[rows]
    out["trade_exchange"][which], out["trade_condition"][which] = tape.exchange[rows], tape.condition[rows]
    out["trade_ns"][which] = tape.sip_ns[rows]


_CHAIN: dict[str, str] = {
    **dict.fromkeys(("bid_price", "bid_size"), "f"),
    "bid_exchange": "i",
    **dict.fromkeys(("ask_price", "ask_size"), "f"),
    **dict.fromkeys(("ask_exchange", "quote_ns"), "i"),
    **dict.fromkeys(("trade_price", "trade_size"), "f"),
    **dict.fromkeys(("trade_exchange", "trade_condition", "trade_ns"), "i"),
    **dict.fromkeys(("iv", "delta", "gamma", "theta", "vega"), "f"),
    "open_interest": "i",
    **dict.fromkeys(("day_open", "day_high", "day_low", "day_close", "day_volume", "day_vwap", "previous_close"), "f"),
}
