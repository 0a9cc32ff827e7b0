"""Windows of bars: where they start in New York time, and how base bars fold into them."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from massive_lab.sandbox.api import Columns
from massive_lab.schema.session import new_york_ns

__all__ = ["TIMESPANS", "Grid", "fold"]

Ints = npt.NDArray[np.int64]

TIMESPANS = ("second", "minute", "hour", "day", "week", "month", "quarter", "year")
_CLOCK = {"second": 1_000_000_000, "minute": 60_000_000_000, "hour": 3_600_000_000_000}
_HOUR = 3_600_000_000_000
_DAY = 24 * _HOUR
_EPOCH = dt.date(1970, 1, 1)
_FIRST_DAY, _LAST_DAY = (dt.date(1850, 1, 1) - _EPOCH).days, (dt.date(2250, 1, 1) - _EPOCH).days


@lru_cache(maxsize=65536)
def _midnight(day: int) -> int:
    # Windows of many years may end beyond what 64 bits of nanoseconds hold.
    return new_york_ns(_EPOCH + dt.timedelta(days=min(max(day, _FIRST_DAY), _LAST_DAY)))


def _midnights(days: Ints) -> Ints:
    unique, inverse = np.unique(days, return_inverse=True)
    return np.array([_midnight(day) for day in unique.tolist()], dtype=np.int64)[inverse]


def _days(ns: Ints) -> tuple[Ints, Ints]:
    """New York days since 1970, and their midnights."""
    # Summer time guesses a day too late only in the last hour of a winter day.
    days = (ns - 4 * _HOUR) // _DAY
    midnights = _midnights(days)
    late = midnights > ns
    if late.any():
        days = days - late
        midnights = _midnights(days)
    return days, midnights


@dataclass(frozen=True, slots=True)
class Grid:
    """The windows of one multiplier and timespan.

    Intraday windows are counted from New York midnight and begin anew each day. Longer ones are counted from a fixed
    day (weeks from a Sunday, months, quarters and years from January 1970), so a window never depends on the range
    that was asked for.
    """

    multiplier: int
    timespan: str

    @property
    def base(self) -> str:
        """The base aggregate: ``second``, ``minute`` (also for hours) or ``day`` (for all that is longer)."""
        return {"second": "second", "minute": "minute", "hour": "minute"}.get(self.timespan, "day")

    @property
    def is_base(self) -> bool:
        return self.multiplier == 1 and self.timespan == self.base

    def starts(self, ns: Ints) -> Ints:
        """The start of the window each instant falls in."""
        days, midnights = _days(ns)
        unit = _CLOCK.get(self.timespan)
        if unit is not None:
            width = unit * self.multiplier
            intraday: Ints = midnights + (ns - midnights) // width * width
            return intraday
        return _midnights(self._first_day(self._number(days)))

    def _number(self, days: Ints) -> Ints:
        m = self.multiplier
        if self.timespan == "day":
            return days // m
        if self.timespan == "week":
            return (days - 3) // 7 // m
        months = days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
        return months // (m * {"month": 1, "quarter": 3, "year": 12}[self.timespan])

    def _first_day(self, numbers: Ints) -> Ints:
        m = self.multiplier
        if self.timespan == "day":
            return numbers * m
        if self.timespan == "week":
            return numbers * m * 7 + 3
        months = numbers * (m * {"month": 1, "quarter": 3, "year": 12}[self.timespan])
        days: Ints = months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
        return days

    def floor(self, ns: int) -> int:
        return int(self.starts(np.array([ns], dtype=np.int64))[0])

    def after(self, start_ns: int) -> int:
        """The start of the window after the one that starts at `start_ns`."""
        at = np.array([start_ns], dtype=np.int64)
        days, _ = _days(at)
        unit = _CLOCK.get(self.timespan)
        if unit is not None:
            return min(int(start_ns + unit * self.multiplier), _midnight(int(days[0]) + 1))
        return int(_midnights(self._first_day(self._number(days) + 1))[0])


def fold(bars: Columns, grid: Grid) -> tuple[dict[str, npt.NDArray[Any]], Ints]:
    """Base bars to the windows of a grid.

    Returns
    -------
    columns : dict of arrays
        As the base bars, one row for each window that has a base bar.
    first : array
        Position of the first base bar of each row.
    """
    n = len(bars["start_ns"])
    if grid.is_base or n == 0:
        return dict(bars), np.arange(n, dtype=np.int64)
    starts = grid.starts(np.asarray(bars["start_ns"], dtype=np.int64))
    first = np.flatnonzero(np.concatenate(([True], starts[1:] != starts[:-1])))
    last = np.append(first[1:], n) - 1
    volume = np.asarray(bars["volume"], dtype=np.float64)
    total = np.round(np.add.reduceat(volume, first), 6)
    with np.errstate(invalid="ignore", divide="ignore"):
        paid = np.add.reduceat(np.where(volume > 0, bars["vwap"] * volume, 0.0), first)
        vwap = np.where(np.isnan(total), np.nan, paid / total)
    count = np.asarray(bars["trade_count"], dtype=np.int64)
    out = {
        "start_ns": starts[first],
        "open": bars["open"][first],
        "high": np.maximum.reduceat(bars["high"], first),
        "low": np.minimum.reduceat(bars["low"], first),
        "close": bars["close"][last],
        "volume": total,
        "vwap": vwap,
        "trade_count": np.where(count[first] < 0, -1, np.add.reduceat(count, first)),
    }
    return out, first
