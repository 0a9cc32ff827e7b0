"""Coarser bars from finer ones.

Buckets follow the vendor's: minutes and hours lie on the clock (an hour bar starts at the top of the hour, so the first one of
a regular session starts at 09:00), days, weeks, months, quarters and years on New York dates from midnight, weeks from Sunday.
Hours in fours or sixes count from midnight in New York. A bucket without a bar has no row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

import polars as pl

from massive_lab.errors import InvalidRequest
from massive_lab.frames.build import empty, to_schema
from massive_lab.frames.check import check, to_polars
from massive_lab.frames.convert import to_kind
from massive_lab.schema.timeframe import Timeframe, parse_timeframe

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["resample"]

_DAY_NS = 24 * 3600 * 10**9
_NEW_YORK = "America/New_York"
_NS = pl.Datetime("ns", "UTC")


@overload
def resample(frame: pl.DataFrame, timeframe: str | Timeframe) -> pl.DataFrame: ...
@overload
def resample(frame: pd.DataFrame, timeframe: str | Timeframe) -> pd.DataFrame: ...
def resample(frame: pl.DataFrame | pd.DataFrame, timeframe: str | Timeframe) -> pl.DataFrame | pd.DataFrame:
    """Make coarser bars, per symbol.

    Parameters
    ----------
    frame : polars.DataFrame or pandas.DataFrame
        Table ``bars``; the kind that comes in goes out. Further columns are dropped.
    timeframe : str
        ``"5m"``, ``"1h"``, ``"1d"``, ``"1w"``, ``"1mo"`` ...: anything that divides a day, one day or week, or months
        that divide a year.

    Returns
    -------
    The kind of frame that came in
        Table ``bars``. `open` is the first, `close` the last, `high` and `low` the extremes, `volume` and `trade_count`
        the sums; `vwap` is weighted by volume. A sum is null when one of its parts is, because it is not known then;
        `vwap` is null besides when nothing was traded.

    Raises
    ------
    FrameInvariantError
        The frame breaks a rule of `massive_lab.frames.check`.
    InvalidRequest
        A bar reaches over the end of its bucket (the frame is coarser than the timeframe, or not a divisor of it), or
        the timeframe has no fixed grid (``"7m"``, ``"2d"``).

    Examples
    --------
    >>> from massive_lab.frames.build import build
    >>> minute = 60 * 10**9
    >>> bars = build("bars", {"symbol": "A", "ts_event": [0, minute], "ts_close": [minute, 2 * minute], "open": [1.0, 2.0],
    ...                       "high": [3.0, 2.5], "low": [1.0, 2.0], "close": [2.0, 2.2], "volume": [10.0, 30.0],
    ...                       "vwap": [2.0, 2.4]})
    >>> resample(bars, "5m").select("open", "high", "low", "close", "volume", "vwap").row(0)
    (1.0, 3.0, 1.0, 2.2, 40.0, 2.3)
    """
    grid = parse_timeframe(timeframe)
    _require_grid(grid)
    data = to_polars(frame)
    check(data)
    made = _resample(data, grid) if data.height else empty("bars")
    return to_kind(made, "polars" if isinstance(frame, pl.DataFrame) else "pandas")


def _resample(data: pl.DataFrame, grid: Timeframe) -> pl.DataFrame:
    start, end = _bucket(grid)
    marked = data.with_columns(start.alias("start")).with_columns(end.alias("end"))
    over = marked.filter(pl.col("ts_close") > pl.col("end"))
    if over.height:
        row = over.row(0, named=True)
        raise InvalidRequest(
            f"A bar from {row['ts_event']} to {row['ts_close']} does not fit into one bar of {grid}.",
            hint="Resample only to a coarser timeframe whose bars hold whole finer ones.",
        )
    traded = pl.col("volume") > 0
    money = pl.when(traded).then(pl.col("vwap") * pl.col("volume")).otherwise(0.0)
    unknown = pl.col("volume").is_null() | (traded & pl.col("vwap").is_null())
    total = _known_sum("volume")
    made = marked.group_by("symbol", "start", maintain_order=True).agg(
        pl.col("end").first(),
        pl.col("open").first(),
        pl.col("high").max(),
        pl.col("low").min(),
        pl.col("close").last(),
        total.alias("volume"),
        pl.when(~unknown.any() & (pl.col("volume").sum() > 0)).then(money.sum() / pl.col("volume").sum()).alias("vwap"),
        _known_sum("trade_count").alias("trade_count"),
    )
    return made.rename({"start": "ts_event", "end": "ts_close"}).select(
        pl.col(name).cast(kind) for name, kind in to_schema("bars").items()
    )


def _known_sum(name: str) -> pl.Expr:
    return pl.when(pl.col(name).is_not_null().all()).then(pl.col(name).sum())


def _bucket(grid: Timeframe) -> tuple[pl.Expr, pl.Expr]:
    """Start of a row's bucket from `ts_event`, and its end from `start`."""
    local = pl.col("ts_event").dt.convert_time_zone(_NEW_YORK).dt.replace_time_zone(None)
    start = pl.col("start")
    length = grid.duration_ns
    if length is not None:
        if 3600 * 10**9 % length == 0:  # the same grid in every zone that is whole hours from UTC
            ns = pl.col("ts_event").to_physical()
            return (ns - ns % length).cast(_NS), (start.to_physical() + length).cast(_NS)
        midnight = _to_utc(local.dt.truncate("1d"))
        since = (pl.col("ts_event") - midnight).dt.total_nanoseconds()
        first = (midnight.to_physical() + since - since % length).cast(_NS)
        # On the two days of the year that have 23 or 25 hours the last bucket ends at midnight all the same.
        until_midnight = _to_utc(
            start.dt.convert_time_zone(_NEW_YORK).dt.replace_time_zone(None).dt.truncate("1d").dt.offset_by("1d")
        )
        return first, pl.min_horizontal((start.to_physical() + length).cast(_NS), until_midnight)
    offset = grid.calendar_offset
    assert offset is not None
    # Polars begins weeks on Monday, the vendor on Sunday.
    shift = 1 if grid.unit == "w" else 0
    day = local.dt.offset_by(f"{shift}d").dt.truncate(offset).dt.offset_by(f"-{shift}d")
    start_local = start.dt.convert_time_zone(_NEW_YORK).dt.replace_time_zone(None)
    return _to_utc(day), _to_utc(start_local.dt.offset_by(offset))


def _to_utc(local: pl.Expr) -> pl.Expr:
    return local.dt.replace_time_zone(_NEW_YORK).dt.convert_time_zone("UTC").cast(_NS)


def _require_grid(grid: Timeframe) -> None:
    length = grid.duration_ns
    if length is not None:
        good = length <= _DAY_NS and _DAY_NS % length == 0
    elif grid.unit in {"d", "w", "y"}:
        good = grid.multiplier == 1
    else:
        months = grid.multiplier * (3 if grid.unit == "q" else 1)
        good = 12 % months == 0
    if not good:
        raise InvalidRequest(
            f"{grid} has no fixed grid: its bars would start at another time each day or year.",
            hint="Use seconds, minutes or hours that divide a day, 1d, 1w, months that divide a year, 1q or 1y.",
        )
