"""Bars of every REST endpoint as one table, whatever the vendor stamps them with.

The vendor stamps a bar with the start of its window (custom bars) or with the end of the session (previous close, grouped
daily); day bars of stocks start at midnight in New York, those of indices have been seen at midnight in Chicago and at midnight
UTC. Here a bar is always ``[ts_event, ts_close)``, and one of a day or longer starts at midnight in New York.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import polars as pl

from massive_lab.decode.bars import BAR_WIRE, bar_columns
from massive_lab.decode.bars import open_close as read_open_close
from massive_lab.errors import DecodeError
from massive_lab.frames.build import build, empty, sort
from massive_lab.schema.timeframe import Timeframe

__all__ = ["bars", "grouped_daily", "open_close", "previous_close"]

_NS = pl.Datetime("ns", "UTC")
_DAY = Timeframe(1, "d")


def bars(pages: Sequence[bytes], *, symbol: str, timeframe: Timeframe) -> pl.DataFrame:
    """Pages of custom bars.

    Parameters
    ----------
    pages : sequence of bytes
        Bodies in the order received; any order of the rows.
    symbol : str
    timeframe : Timeframe
        What was asked for; the answer does not say.

    Returns
    -------
    polars.DataFrame
        Table ``bars``, ascending. Of several bars with one ``ts_event`` the last received is kept: the vendor re-sends
        bars it revises.

    Raises
    ------
    DecodeError
        As `massive_lab.decode.bars.bar_columns`.

    Examples
    --------
    >>> page = b'{"resultsCount":1,"results":[{"o":1,"h":2,"l":1,"c":2,"v":10,"t":1748865600000}]}'
    >>> bars([page], symbol="AAPL", timeframe=Timeframe(1, "m")).row(0)[1:5]
    (datetime.datetime(2025, 6, 2, 12, 0, tzinfo=...), datetime.datetime(2025, 6, 2, 12, 1, tzinfo=...), 1.0, 2.0)
    """
    parts = [bar_columns(body, endpoint="aggs_range", symbol=symbol) for body in pages]
    wire = parts[0] if len(parts) == 1 else pl.concat([pl.DataFrame(schema=BAR_WIRE), *parts])
    if not timeframe.is_intraday:
        wire = wire.with_columns(ts=_midnight_of_date())
    return _table(_latest(wire), timeframe=timeframe, symbol=symbol)


def previous_close(body: bytes, *, symbol: str) -> pl.DataFrame:
    """The day bar of the last session, table ``bars``; empty when there is none.

    The vendor stamps it with the end of the session; here it starts at midnight in New York, as every day bar.
    """
    wire = bar_columns(body, endpoint="aggs_prev", symbol=symbol).with_columns(ts=_midnight_of_date())
    return _table(_latest(wire), timeframe=_DAY, symbol=symbol)


def grouped_daily(body: bytes, *, date: dt.date | str) -> pl.DataFrame:
    """One day bar of every stock, table ``bars``, by symbol.

    Parameters
    ----------
    body : bytes
    date : datetime.date or str
        The New York date asked for: the day bar is placed there, not at the stamp of 16:00 the vendor sends.
    """
    wire = bar_columns(body, endpoint="aggs_grouped")
    if wire["ticker"].null_count():
        raise DecodeError("A row of grouped daily bars has no ticker.", endpoint="aggs_grouped")
    day = dt.date.fromisoformat(date) if isinstance(date, str) else date
    start = pl.lit(day).cast(pl.Datetime("ns")).dt.replace_time_zone("America/New_York")
    wire = wire.with_columns(ts=start.dt.convert_time_zone("UTC").cast(pl.Int64))
    wire = wire.unique("ticker", keep="last", maintain_order=True)
    return _table(wire, timeframe=_DAY, symbol=None)


def open_close(body: bytes, *, symbol: str) -> pl.DataFrame:
    """Official open and close of one day, table ``open_close``: one row."""
    row = read_open_close(body, symbol=symbol)
    names = ("date", "open", "high", "low", "close", "volume", "early_price", "late_price")
    return build("open_close", {"symbol": symbol, **{name: [getattr(row, name)] for name in names}})


def _latest(wire: pl.DataFrame) -> pl.DataFrame:
    """Ascending by time, the last received of each."""
    stamps = wire["ts"]
    if not (stamps.diff() <= 0).any():  # the usual page: ascending without repeats
        return wire
    return wire.unique("ts", keep="last", maintain_order=True).sort("ts")


def _table(wire: pl.DataFrame, *, timeframe: Timeframe, symbol: str | None) -> pl.DataFrame:
    """The table of wire columns whose `ts` is the start of the bar."""
    if wire.is_empty():
        return empty("bars")
    start = pl.from_epoch("ts", "ns").dt.replace_time_zone("UTC")
    duration, offset = timeframe.duration_ns, timeframe.calendar_offset
    # A day is not always 24 hours: calendar bars end where the next begins on a New York calendar.
    end = (pl.col("ts") + duration).cast(_NS) if duration else _to_utc(_to_local(start).dt.offset_by(offset or ""))
    times = wire.select(ts_event=start, ts_close=end)
    columns = {name: wire[name] for name in ("open", "high", "low", "close", "volume", "vwap", "trade_count")}
    columns |= {"ts_event": times["ts_event"], "ts_close": times["ts_close"]}
    frame = build("bars", {"symbol": wire["ticker"] if symbol is None else symbol, **columns}, wire.height)
    return sort("bars", frame) if symbol is None else frame


def _midnight_of_date() -> pl.Expr:
    """`ts` moved to midnight in New York of its session date."""
    return midnight_of_session(pl.from_epoch("ts", "ns").dt.replace_time_zone("UTC")).cast(pl.Int64)


def midnight_of_session(stamp: pl.Expr) -> pl.Expr:
    """Midnight in New York of the session date that a stamp of a day or longer stands for, whatever its zone."""
    # From 19:00 New York on, a stamp is midnight UTC of the next date; all others, Chicago's included, are of their own.
    return _to_utc(_to_local(stamp).dt.offset_by("5h").dt.truncate("1d"))


def _to_local(stamp: pl.Expr) -> pl.Expr:
    return stamp.dt.convert_time_zone("America/New_York").dt.replace_time_zone(None)


def _to_utc(local: pl.Expr) -> pl.Expr:
    return local.dt.replace_time_zone("America/New_York").dt.convert_time_zone("UTC").cast(_NS)
