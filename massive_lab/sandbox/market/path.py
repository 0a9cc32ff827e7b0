"""The price of one instrument through one session: a path that opens, turns and closes where the day did.

A random walk that shares the day's common factor is laid over the skeleton open, first extreme, second extreme,
close, and folded at the day's low and high, so it touches both exactly and never leaves them.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from massive_lab.sandbox.market.rng import Floats, Ints, generator

__all__ = ["DayPath", "common_factor", "make_path"]

STEP_NS = 5_000_000_000


@dataclass(frozen=True)
class DayPath:
    """Prices on an even grid from the open to the close, both included."""

    start_ns: int
    step_ns: int
    values: Floats
    high_at: int
    low_at: int

    @property
    def nbytes(self) -> int:
        return self.values.nbytes

    def at(self, ts_ns: Ints) -> Floats:
        """Prices at instants; before the open the open, after the close the close."""
        position = (ts_ns - self.start_ns) / self.step_ns
        return np.interp(position, np.arange(len(self.values)), self.values)


@lru_cache(maxsize=4)
def _weights(n: int) -> Floats:
    """Volatility through the day: high after the open, low at noon, rising into the close."""
    u = (np.arange(n) + 0.5) / n
    return np.asarray(0.65 + 0.9 * np.exp(-u * 9) + 0.35 * np.exp((u - 1) * 7))


@lru_cache(maxsize=256)
def common_factor(seed: int, date: dt.date, n: int) -> Floats:
    """Increments shared by all instruments on a date."""
    return generator(seed, "market", date, "path").standard_normal(n)


def make_path(
    seed: int,
    symbol: str,
    date: dt.date,
    bounds: tuple[int, int],
    ohlc: tuple[float, float, float, float],
    loading: float,
) -> DayPath:
    """One day's path.

    Parameters
    ----------
    bounds : tuple of int
        Open and close of the regular session, UTC ns.
    ohlc : tuple of float
    loading : float
        Share of the common factor, -1 to 1.
    """
    start, end = bounds
    n = (end - start) // STEP_NS
    o, h, lo, c = ohlc
    increments = loading * common_factor(seed, date, n)
    rest = 1 - loading * loading
    if rest > 0:
        increments = increments + rest**0.5 * generator(seed, symbol, date, "path").standard_normal(n)
    walk = np.empty(n + 1)
    walk[0] = 0.0
    np.cumsum(increments * _weights(n), out=walk[1:])
    walk *= 0.42 * (h - lo) / n**0.5
    u = np.arange(n + 1) / n
    raw = o + (c - o) * u + walk - walk[-1] * u
    knots = {0: o, n: c}
    high_at = 0 if o == h else n if c == h else min(max(int(raw.argmax()), 1), n - 1)
    low_at = 0 if o == lo else n if c == lo else min(max(int(raw.argmin()), 1), n - 1)
    if low_at == high_at and h > lo:
        low_at += 1 if low_at < n - 1 else -1
    knots[high_at], knots[low_at] = h, lo
    where = np.array(sorted(knots))
    base = np.interp(u, where / n, [knots[k] for k in where.tolist()])
    values = base + walk - np.interp(u, where / n, walk[where])
    if h > lo:
        folded = np.mod((values - lo) / (h - lo), 2.0)
        values = lo + (h - lo) * (1 - np.abs(1 - folded))
    else:
        values = np.full(n + 1, o)
    for at, price in knots.items():
        values[at] = price
    return DayPath(start, STEP_NS, np.clip(values, lo, h), high_at, low_at)
