"""Bars from ticks, by the eligibility rules of the vendor.

A window has a bar when at least one print in it may set open and close. Volume and transactions count every print that
updates volume; the VWAP is taken over the prints that may set a price, so it lies between low and high.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from massive_lab.sandbox.market.rng import Bools, Floats, Ints

__all__ = ["Bars", "aggregate", "concat", "empty"]


@dataclass(frozen=True)
class Bars:
    """Bars ascending by `start` (UTC ns). Volume, VWAP and count are NaN for indices."""

    start: Ints
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    vwap: Floats
    count: Floats

    def __len__(self) -> int:
        return len(self.start)

    @property
    def nbytes(self) -> int:
        return 64 * len(self.start)

    def take(self, rows: slice | Ints | Bools) -> Bars:
        """Some of the rows."""
        return Bars(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


def empty() -> Bars:
    """No bars."""
    none = np.empty(0)
    return Bars(np.empty(0, dtype=np.int64), none, none, none, none, none, none, none)


def concat(parts: list[Bars]) -> Bars:
    """Bars of several stretches, one after the other."""
    parts = [part for part in parts if len(part)]
    if not parts:
        return empty()
    if len(parts) == 1:
        return parts[0]
    return Bars(*(np.concatenate([getattr(part, name) for part in parts]) for name in Bars.__dataclass_fields__))


def rounded(values: Floats) -> Floats:
    """To four decimals, as the vendor prints volumes and VWAPs."""
    out: Floats = np.round(values, 4)
    return out


def aggregate(
    window: Ints, price: Floats, size: Floats | None, high_low: Bools, open_close: Bools, volume: Bools
) -> Bars:
    """Group prints, ascending in time, by the start of their window."""
    setters = np.flatnonzero(open_close)
    if not len(setters):
        return empty()
    first_of = np.flatnonzero(np.diff(window[setters], prepend=np.int64(-1)))
    starts = window[setters][first_of]
    last_of = np.append(first_of[1:], len(setters)) - 1
    opens, closes = price[setters[first_of]], price[setters[last_of]]

    movers = np.flatnonzero(high_low | open_close)
    m_window = window[movers]
    m_first = np.searchsorted(m_window, starts)
    m_last = np.searchsorted(m_window, starts, side="right")
    # Stretches between two bars hold only prints of windows without a bar; reduceat needs both edges.
    edges = np.column_stack([m_first, m_last]).ravel()
    m_price = np.append(price[movers], 0.0)
    highs = np.maximum.reduceat(m_price, edges)[::2]
    lows = np.minimum.reduceat(m_price, edges)[::2]
    if size is None:
        none = np.full(len(starts), np.nan)
        return Bars(starts, opens, highs, lows, closes, none, none, none)
    m_size = np.append(size[movers], 0.0)
    priced = np.add.reduceat(m_size, edges)[::2]
    vwap = np.add.reduceat(m_price * m_size, edges)[::2] / priced
    counted = np.flatnonzero(volume)
    v_window = window[counted]
    v_first = np.searchsorted(v_window, starts)
    v_last = np.searchsorted(v_window, starts, side="right")
    v_edges = np.column_stack([v_first, v_last]).ravel()
    # Of an empty stretch reduceat gives the element at its edge, not zero.
    volumes = np.where(v_last > v_first, np.add.reduceat(np.append(size[counted], 0.0), v_edges)[::2], 0.0)
    vwap = np.clip(np.round(vwap, 4), lows, highs)
    count = (v_last - v_first).astype(np.float64)
    return Bars(starts, opens, highs, lows, closes, rounded(volumes), vwap, count)
