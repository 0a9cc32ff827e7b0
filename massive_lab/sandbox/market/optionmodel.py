"""The state of option contracts at an instant: fair value, touch, liquidity, open interest.

Quotes live on a grid of each contract's own: a phase within its step, and a step by how busy it is. The touch in force at
an instant is that of the last grid point, whoever asks: the chain, the tape and the stream see the same.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from massive_lab.errors import InvalidRequest
from massive_lab.sandbox.market.instruments import INDICES, OPTION_UNDERLYINGS, STOCKS
from massive_lab.sandbox.market.listing import contract_key
from massive_lab.sandbox.market.optionprice import Surface, forward, price
from massive_lab.sandbox.market.path import DayPath
from massive_lab.sandbox.market.rng import Bools, Floats, Ints, mix64, uniforms
from massive_lab.schema.session import Session, new_york_ns, session

__all__ = ["EXCHANGES", "Model", "Paths", "Specs", "State", "Touch", "rows_of", "specs"]

_YEAR_NS = 365 * 86400 * 10**9
_SECOND = 1_000_000_000
EXCHANGES = np.array([301, 302, 303, 304, 307, 308, 309, 312, 313, 315, 316, 318, 319, 320, 322, 323], dtype=np.int64)
"""Option venues by id."""


class Paths(Protocol):
    """What the model asks of the market."""

    seed: int
    density: float

    def path(self, symbol: str, day: Session) -> DayPath: ...

    def previous_close(self, symbol: str, date: dt.date) -> float: ...


@dataclass(frozen=True)
class Specs:
    """Some contracts of one underlying, as arrays."""

    underlying: str
    strike: Floats
    is_call: Bools
    expiry_ns: Ints
    key: npt.NDArray[np.uint64]


def rows_of(spec: Specs, rows: Ints) -> Specs:
    """Some of the contracts, repeats allowed."""
    return Specs(spec.underlying, spec.strike[rows], spec.is_call[rows], spec.expiry_ns[rows], spec.key[rows])


@dataclass(frozen=True)
class State:
    """Model inputs and fair value at instants."""

    spot: Floats
    fwd: Floats
    years: Floats
    value: Floats


@dataclass(frozen=True)
class Touch:
    """NBBO at instants; `grid` counts quotes of the session, -1 before the first."""

    grid: Ints
    quote_ns: Ints
    bid: Floats
    ask: Floats
    bid_size: Floats
    ask_size: Floats
    bid_exchange: Ints
    ask_exchange: Ints
    state: State


def _expiry_ns(day: int, am: bool) -> int:
    date = dt.date.fromordinal(day)
    if am:
        return new_york_ns(date, 9, 30)
    try:
        found = session(date)
    except InvalidRequest:
        found = None
    return found.close_ns if found is not None else new_york_ns(date, 16)


def specs(underlying: str, names: list[str], days: Ints, thousandths: Ints, calls: Bools) -> Specs:
    """Contracts from what their symbols say."""
    root = OPTION_UNDERLYINGS[underlying]
    known: dict[tuple[int, bool], int] = {}
    expiry = np.empty(len(days), dtype=np.int64)
    for i, (name, day) in enumerate(zip(names, days.tolist(), strict=True)):
        am = root.am_settled and (name == root.monthly or underlying == "I:VIX")
        if (day, am) not in known:
            known[day, am] = _expiry_ns(day, am)
        expiry[i] = known[day, am]
    key = contract_key(names, days, thousandths, calls)
    return Specs(underlying, thousandths / 1000.0, calls, expiry, key)


class Model:
    """Prices and liquidity of the options of the market."""

    def __init__(self, market: Paths) -> None:
        self._market = market
        self.seed = market.seed
        self._surfaces = {symbol: _surface(symbol) for symbol in OPTION_UNDERLYINGS}

    def _level(self, underlying: str, vix: Floats) -> Floats:
        """Volatility of very short terms, from the VIX."""
        base = vix / 100
        if underlying == "I:VIX":
            return np.asarray(0.75 + 1.5 * base)
        if underlying in STOCKS and not STOCKS[underlying].tracks:
            stock = STOCKS[underlying]
            return np.asarray(np.sqrt((stock.beta * base * 0.95) ** 2 + stock.idio**2))
        return np.asarray(base * (1.2 if underlying in {"QQQ", "I:NDX"} else 0.95))

    def state(self, spec: Specs, day: Session, ts_ns: Ints) -> State:
        """Fair values at instants of a session; `spec` and `ts_ns` broadcast."""
        root = OPTION_UNDERLYINGS[spec.underlying]
        surface = self._surfaces[spec.underlying]
        spot = self._market.path(spec.underlying, day).at(ts_ns)
        level = self._level(spec.underlying, self._market.path("I:VIX", day).at(ts_ns))
        years = np.maximum(spec.expiry_ns - ts_ns, 60 * _SECOND) / _YEAR_NS
        fwd = forward(spot, years, root.dividend, 18.0 if spec.underlying == "I:VIX" else 0.0)
        sigma = surface.volatility(level, fwd, spec.strike, years)
        value = price(fwd, spec.strike, years, sigma, spec.is_call)
        if root.style == "american":
            sign = np.where(spec.is_call, 1.0, -1.0)
            value = np.maximum(value, sign * (spot - spec.strike))
        return State(spot, fwd, years, value)

    def liquidity(self, spec: Specs, day: Session) -> tuple[Floats, Ints]:
        """Expected trades of a session, and ns between quotes; known before the session opens."""
        root = OPTION_UNDERLYINGS[spec.underlying]
        years = np.maximum(spec.expiry_ns - day.open_ns, 60 * _SECOND) / _YEAR_NS
        spot = np.full(len(spec.strike), self._market.previous_close(spec.underlying, day.date))
        vix = np.full(len(spec.strike), self._market.previous_close("I:VIX", day.date))
        fwd = forward(spot, years, root.dividend, 18.0 if spec.underlying == "I:VIX" else 0.0)
        level = self._level(spec.underlying, vix)
        x = self._surfaces[spec.underlying].standardised(level, fwd, spec.strike, years)
        out_of_money = np.where(spec.is_call, x, -x) > -0.3
        expected = np.exp(-0.5 * (x / 1.15) ** 2) / (1 + (years * 365 / 7) ** 1.15) * np.where(out_of_money, 1.0, 0.35)
        expected = expected * root.activity * self._market.density
        step = np.select(
            [expected > 60, expected > 8, expected > 1], [2 * _SECOND, 6 * _SECOND, 20 * _SECOND], 60 * _SECOND
        )
        return expected, step.astype(np.int64)

    def counts(self, spec: Specs, day: Session, expected: Floats) -> Ints:
        """Trades of a session: geometric around what is expected, so many contracts have none."""
        u = uniforms(spec.key, self.seed, day.date, "count")
        trading = spec.expiry_ns > day.open_ns
        return np.where(trading, np.floor(-expected * np.log(u)), 0).astype(np.int64)

    def open_interest(self, spec: Specs, day: Session) -> Ints:
        """Contracts open at the end of the session before."""
        expected, _ = self.liquidity(spec, day)
        own = uniforms(spec.key, self.seed, "interest")
        today = uniforms(spec.key, self.seed, day.date, "interest")
        return np.floor(expected * 55 * (own**2 * 3 + 0.02) * (0.95 + 0.1 * today)).astype(np.int64)

    def touch(self, spec: Specs, day: Session, step_ns: Ints, ts_ns: Ints) -> Touch:
        """The quote in force at instants; `spec`, `step_ns` and `ts_ns` broadcast."""
        seed = self.seed
        last = day.close_ns - 1
        phase = (uniforms(spec.key, seed, "phase") * step_ns).astype(np.int64)
        grid = (np.minimum(ts_ns, last) - day.open_ns - phase) // step_ns
        at = day.open_ns + phase + np.maximum(grid, 0) * step_ns
        state = self.state(spec, day, at)
        tick = _tick(spec.underlying, state.value)
        root = OPTION_UNDERLYINGS[spec.underlying]
        wide = 0.006 if root.activity >= 400 else 0.014
        half = np.maximum(tick * 0.5, state.value * wide + 0.0002 * state.spot * (step_ns > 6 * _SECOND))
        bid = np.floor((state.value - half) / tick + 1e-9) * tick
        ask = np.ceil((state.value + half) / tick - 1e-9) * tick
        bid = _cents(np.maximum(bid, 0.0))
        ask = _cents(np.maximum(ask, bid + tick))
        word = mix64(np.broadcast_to(spec.key, grid.shape), seed) ^ np.maximum(grid, 0).astype(np.uint64)
        draw = mix64(word, 0x5DEECE66D)
        lots = np.floor(1 + 96 * _bits(draw, 0) + 180 * _bits(draw, 40) ** 4)
        bid_size, ask_size = lots, np.floor(1 + 96 * _bits(draw, 16) + 180 * _bits(draw, 48) ** 4)
        return Touch(
            grid,
            at,
            bid,
            ask,
            np.where(bid > 0, bid_size, 0.0),
            ask_size,
            EXCHANGES[(_bits(draw, 24) * len(EXCHANGES)).astype(np.int64)],
            EXCHANGES[(_bits(draw, 32) * len(EXCHANGES)).astype(np.int64)],
            state,
        )


def _cents(prices: Floats) -> Floats:
    out: Floats = np.round(prices, 2)
    return out


def _bits(word: npt.NDArray[np.uint64], shift: int) -> Floats:
    """16 bits of a word as a number in [0, 1)."""
    return np.asarray(((word >> np.uint64(shift)) & np.uint64(0xFFFF)).astype(np.float64) / 65536.0)


def _tick(underlying: str, value: Floats) -> Floats:
    """Price interval: pennies in the pilot classes, 0.05 below and 0.10 above three dollars for index options."""
    if underlying == "I:VIX":
        return np.where(value < 3, 0.01, 0.05)
    if underlying in INDICES:
        return np.where(value < 3, 0.05, 0.10)
    if underlying in {"SPY", "QQQ"}:
        return np.full(np.shape(value), 0.01)
    return np.where(value < 3, 0.01, 0.05)


def _surface(symbol: str) -> Surface:
    if symbol == "I:VIX":
        return Surface(0.65, 0.10, 0.02, 5.0)
    if symbol in STOCKS and not STOCKS[symbol].tracks:
        stock = STOCKS[symbol]
        return Surface(float(np.hypot(stock.beta * 0.16, stock.idio)), -0.05, 0.03, 3.0)
    return Surface(0.21 if symbol in {"QQQ", "I:NDX"} else 0.175, -0.11, 0.022, 3.0)
