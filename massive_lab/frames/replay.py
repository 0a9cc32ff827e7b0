"""Bars in the order in which they became known."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from massive_lab.frames.check import check, to_polars

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Bar", "replay"]

_CHUNK = 20_000


class Bar(NamedTuple):
    """One bar of table ``bars``. Times are UTC nanoseconds; `opened_at` and `closed_at` give them as datetimes."""

    symbol: str
    ts_event: int
    ts_close: int
    open: float
    high: float
    low: float
    close: float
    volume: float | None
    vwap: float | None
    trade_count: int | None

    @property
    def opened_at(self) -> dt.datetime:
        """Start of the interval, UTC, to the microsecond."""
        return dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=self.ts_event // 1000)

    @property
    def closed_at(self) -> dt.datetime:
        """End of the interval, UTC, to the microsecond: the moment the bar is known."""
        return dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=self.ts_close // 1000)


def replay(frame: pl.DataFrame | pl.LazyFrame | pd.DataFrame) -> Iterator[Bar]:
    """The bars of a frame in event order: a bar comes at its close, never before.

    Parameters
    ----------
    frame : polars.DataFrame, polars.LazyFrame or pandas.DataFrame
        Table ``bars``, any number of symbols; other columns are ignored.

    Returns
    -------
    iterator of Bar
        Ordered by `ts_close`, then symbol. Every bar once.

    Raises
    ------
    FrameInvariantError
        At once, before the first bar, when the frame breaks a rule of `massive_lab.frames.check`.

    Examples
    --------
    >>> from massive_lab.frames.build import build
    >>> minute = 60 * 10**9
    >>> bars = build("bars", {"symbol": ["A", "A", "B"], "ts_event": [0, minute, 0], "ts_close": [minute, 2 * minute, minute],
    ...                       "open": 1.0, "high": 1.0, "low": 1.0, "close": [1.0, 1.0, 1.0]})
    >>> [(bar.symbol, bar.closed_at.minute) for bar in replay(bars)]
    [('A', 1), ('B', 1), ('A', 2)]
    """
    data = to_polars(frame)
    check(data)
    ordered = data.select(Bar._fields).sort("ts_close", "symbol", maintain_order=True)
    return _rows(ordered.with_columns(pl.col("ts_event", "ts_close").to_physical()))


def _rows(data: pl.DataFrame) -> Iterator[Bar]:
    for part in data.iter_slices(_CHUNK):
        yield from map(Bar._make, zip(*(series.to_list() for series in part), strict=True))
