"""One session of trades of one stock.

The core (time, price, size, conditions) is made first and is all that bars need; exchanges, ids and reporting
facilities are added when trades are asked for. Prices are whole cents throughout.

Laws: the first eligible print is the day's open, the closing cross its close, the high and the low are printed by
eligible trades of the regular session, and no trade that may move the day's high or low lies outside them. A print that
is not late has its SIP and its participant time in the same second, so bars by either time agree but for late prints.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from massive_lab.sandbox.market.conditions import MIX_HIGH_LOW, MIX_OPEN_CLOSE, MIX_VOLUME
from massive_lab.sandbox.market.path import DayPath
from massive_lab.sandbox.market.rng import Bools, Floats, Ints, generator
from massive_lab.schema.session import Session

__all__ = ["Recipe", "Tape", "day_totals", "make_tape"]

_SECOND = 1_000_000_000
_FRACTIONS_FROM = dt.date(2026, 2, 23)  # fractional shares are reported from here on

_KINDS = 10_000
"""Regular prints are drawn in so many parts: what each is, and whether it is large."""
_MIX_OF = np.empty(_KINDS, dtype=np.int64)
for _start, _mix in (
    *((0.0, 4), (0.26, 5), (0.38, 0), (0.62, 1), (0.76, 2), (0.84, 3)),
    *((0.9955, 13), (0.997, 14), (0.998, 15), (0.9992, 16)),
):
    _MIX_OF[int(_start * _KINDS) :] = _mix
_IS_BLOCK = np.zeros(_KINDS, dtype=np.bool_)
_IS_BLOCK[8400:8450] = _IS_BLOCK[9955:] = True

_ROUND = np.array([100, 100, 100, 100, 200, 200, 300, 400, 500, 1000], dtype=np.float64)


_Part = tuple[Ints, Ints, Floats, Ints, Ints, Ints]


@dataclass(frozen=True)
class Tape:
    """Prints ascending by participant time; `order` sorts them by SIP time.

    `bid` and `ask` are the touch in cents at each print, `regular` says that the print belongs to 09:30-16:00, and
    `intraday` that it may count in second, minute and hour bars (the closing cross counts in the day alone).
    """

    part_ns: Ints
    sip_ns: Ints
    price: Floats
    size: Floats
    mix: Ints
    bid: Ints
    ask: Ints
    late: Bools
    correction: Ints
    regular: Bools
    order: Ints

    @property
    def nbytes(self) -> int:
        return sum(getattr(self, name).nbytes for name in self.__dataclass_fields__)

    @property
    def high_low(self) -> Bools:
        """May move the high and low of the regular session."""
        return MIX_HIGH_LOW[self.mix]

    @property
    def open_close(self) -> Bools:
        return MIX_OPEN_CLOSE[self.mix]

    @property
    def volume(self) -> Bools:
        return MIX_VOLUME[self.mix]


@lru_cache(maxsize=3)
def _masses(shape: str) -> tuple[Floats, Floats]:
    """Share of a session's prints by time, both from 0 to 1."""
    grid = np.linspace(0, 1, 66)
    middle = (grid[1:] + grid[:-1]) / 2
    if shape == "regular":
        intensity = 0.55 + 1.7 * np.exp(-middle * 14) + 1.6 * np.exp((middle - 1) * 16) + 0.35 * (2 * middle - 1) ** 2
    elif shape == "early":
        intensity = 0.15 + 2.0 * np.exp((middle - 1) * 5)
    else:
        intensity = 0.2 + 2.5 * np.exp(-middle * 9)
    mass = np.concatenate([[0.0], np.cumsum(intensity)])
    return mass / mass[-1], grid


def _times(rng: np.random.Generator, n: int, start: int, end: int, *, shape: str) -> Ints:
    """Ascending instants in ``[start, end)``, denser where trading is busy."""
    gaps = rng.standard_exponential(n + 1)
    u = np.cumsum(gaps)
    u = u[:-1] / u[-1]
    mass, grid = _masses(shape)
    at = np.interp(u, mass, grid)
    times: Ints = start + (at * (end - start - 1)).astype(np.int64)
    return times


@dataclass(frozen=True, slots=True)
class Recipe:
    """What one session of one stock is made from.

    Attributes
    ----------
    prints : int
        Trades to expect; the day's own activity varies around it.
    """

    seed: int
    symbol: str
    day: Session
    path: DayPath
    ohlc: tuple[float, float, float, float]
    previous_close: float
    prints: int

    @property
    def cents(self) -> tuple[int, int, int, int]:
        o, h, lo, c = (round(price * 100) for price in self.ohlc)
        return o, h, lo, c


def _draw(recipe: Recipe, rng: np.random.Generator) -> tuple[_Part, _Part, _Part]:
    """Prints before, during and after the regular session, before any is late."""
    day, cents = recipe.day, recipe.cents
    o, c, before = cents[0], cents[3], round(recipe.previous_close * 100)
    busy = float(np.exp(rng.normal(0.0, 0.22))) * (0.6 if day.is_half_day else 1.0)
    n = max(40, int(recipe.prints * busy))
    parts = (
        _extended(rng, max(2, int(n * 0.035)), day.early_ns, day.open_ns, before, o, "early"),
        _regular(rng, n, day, recipe.path, cents),
        _extended(rng, max(2, int(n * 0.025)), day.close_ns + 2 * _SECOND, day.late_ns, c, c, "late"),
    )
    if day.date >= _FRACTIONS_FROM:
        for *_, size, _mix, _bid, _ask in parts:
            odd = np.flatnonzero((size < 100) & (rng.random(len(size)) < 0.03))
            size[odd] = np.maximum(np.round(size[odd] * rng.random(len(odd)), 4), 0.0001)
    return parts


def day_totals(recipe: Recipe) -> tuple[float, float, int]:
    """Volume, VWAP and number of trades of a finished day: those of its tape, for less work.

    A late report changes the conditions of a print but neither its volume nor its weight, so reports need not be drawn.
    """
    early, regular, late = _draw(recipe, generator(recipe.seed, recipe.symbol, recipe.day.date, "tape"))
    _, tick, size, mix, _, _ = regular
    counted = MIX_VOLUME[mix]
    volume = float(size[counted].sum() + early[2].sum() + late[2].sum())
    priced = np.flatnonzero(MIX_HIGH_LOW[mix] | MIX_OPEN_CLOSE[mix])
    weight = size[priced]
    vwap = round(float(((tick[priced] / 100.0) * weight).sum() / weight.sum()), 4)
    _, high, low, _ = recipe.ohlc
    return round(volume, 4), min(max(vwap, low), high), int(counted.sum()) + len(early[0]) + len(late[0])


def make_tape(recipe: Recipe) -> Tape:
    """Generate a session."""
    day = recipe.day
    _, h, lo, _ = recipe.cents
    rng = generator(recipe.seed, recipe.symbol, day.date, "tape")
    part, tick, size, mix, bid, ask = (np.concatenate(columns) for columns in zip(*_draw(recipe, rng), strict=True))
    regular = (part >= day.open_ns) & (part < day.close_ns + _SECOND)

    # Reported late: seconds to minutes after the trade, and never part of open or close.
    draws = rng.random(len(part))
    ordinary = (mix < 8) | (mix == 16)
    at_bound = regular & ((tick == h) | (tick == lo))
    late = (draws < 0.002) & ordinary & ~at_bound
    where = np.flatnonzero(late)
    delay = np.exp(rng.uniform(np.log(4.0), np.log(400.0), len(where)))
    lag = (3e5 + 2e7 * rng.random(len(part)) ** 6).astype(np.int64)
    left = _SECOND - 1 - part % _SECOND
    sip = part + np.minimum(lag, left // 2)
    sip[where] = np.minimum(part[where] + (delay * 1e9).astype(np.int64), day.late_ns - 1000)
    mix[where] = np.where(regular[where], np.where(np.isin(mix[where], (4, 5)), 18, 12), 17)
    correction = np.full(len(part), -1, dtype=np.int64)
    correction[where[delay > 120]] = 12
    order = np.argsort(sip, kind="stable")
    steps = np.arange(len(sip))
    sip[order] = np.maximum.accumulate(sip[order] - steps) + steps  # no two at one instant
    return Tape(part, sip, tick / 100.0, size, mix, bid, ask, late, correction, regular, order)


def _regular(rng: np.random.Generator, n: int, day: Session, path: DayPath, ohlc: tuple[int, int, int, int]) -> _Part:
    o, h, lo, c = ohlc
    times = _times(rng, n, day.open_ns + _SECOND // 2, day.close_ns - 1000, shape="regular")
    times += np.arange(n)  # no two at one instant
    width = max(1, min(round(o * 0.00006), h - lo)) if h > lo else 1
    spread = np.where(rng.random(n) < 0.8, width, width + 1) if h - lo > width else np.full(n, width)
    middle = path.at(times) * 100
    bid = np.floor(middle - (spread - 1) / 2).astype(np.int64)
    bid = np.clip(bid, lo, np.maximum(h - spread, lo))
    side = rng.random(n)
    tick = np.minimum(bid + np.where(side < 0.46, 0, np.where(side < 0.92, spread, spread // 2)), h)

    kind = (rng.random(n) * _KINDS).astype(np.int64)
    odd = np.flatnonzero(kind < 0.38 * _KINDS)
    size = _ROUND[rng.integers(0, len(_ROUND), n)]
    size[odd] = rng.integers(1, 100, len(odd))
    mix = _MIX_OF[kind]
    block = np.flatnonzero(_IS_BLOCK[kind])
    size[block] = np.round(rng.pareto(1.4, len(block)) * 2000 + 1000, -2)

    at_high = int(np.searchsorted(times, path.start_ns + path.high_at * path.step_ns))
    at_low = int(np.searchsorted(times, path.start_ns + path.low_at * path.step_ns))
    at_high, at_low = min(max(at_high, 1), n - 2), min(max(at_low, 1), n - 2)
    if at_high == at_low:
        at_low += 1
    for at, price, low_side in ((at_high, h, False), (at_low, lo, True)):
        tick[at], mix[at], size[at] = price, 0, 100.0
        bid[at] = price if low_side else price - spread[at]
    ask = bid + spread

    # The crosses: the first print of the regular session, and the close just after its end.
    shares = float(size.sum())
    first = np.array([day.open_ns + 1_000_000 + int(rng.integers(0, 4 * 10**8)), 0], dtype=np.int64)
    first[1] = first[0] + 1000
    last = np.array([day.close_ns + 3 * 10**8 + int(rng.integers(0, 5 * 10**8)), 0], dtype=np.int64)
    last[1] = last[0] + 1000
    open_size, close_size = np.round(shares * rng.uniform(0.01, 0.03)), np.round(shares * rng.uniform(0.06, 0.14))
    return (
        np.concatenate([first, times, last]),
        np.concatenate([[o, o], tick, [c, c]]),
        np.concatenate([[open_size, open_size], size, [close_size, close_size]]),
        np.concatenate([[8, 10], mix, [9, 11]]),
        np.concatenate([[o, o], bid, [c, c]]),
        np.concatenate([[o + 1, o + 1], ask, [c + 1, c + 1]]),
    )


def _extended(rng: np.random.Generator, n: int, start: int, end: int, first: int, last: int, shape: str) -> _Part:
    times = _times(rng, n, start, end, shape=shape) + np.arange(n)
    u = (np.arange(n) + 1) / (n + 1)
    walk = np.cumsum(rng.standard_normal(n)) / n**0.5
    if shape == "early":
        walk = walk - u * walk[-1]
    middle = first + (last - first) * u**2 + walk * max(first, 1) * 0.002
    width = max(2, round(first * 0.0003))
    bid = np.maximum(np.floor(middle - width / 2).astype(np.int64), 1)
    ask = bid + width
    side = rng.random(n)
    tick = np.where(side < 0.47, bid, np.where(side < 0.94, ask, bid + width // 2))
    odd = rng.random(n) < 0.55
    size = _ROUND[rng.integers(0, len(_ROUND), n)]
    size[odd] = rng.integers(1, 100, int(odd.sum()))
    return times, tick, size, np.where(odd, 7, 6), bid, ask
