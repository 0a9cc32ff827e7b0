"""The invariants of a frame, checked: what a backtest may rely on.

========== ==============================================================================================
rule       what holds
========== ==============================================================================================
columns    every column of the table is there, with its type; more columns are allowed
null       columns that are never null have none
finite     no NaN and no infinity in any column of the table
sorted     rows ascend by the table's key
unique     no two rows share a key (rows with a null in the key are not compared)
interval   bars: ``ts_event < ts_close``
grid       bars: one bar length per frame, or calendar bars; starts lie on the grid
overlap    bars: intervals of one symbol do not overlap
ohlc       bars: ``low <= open <= high`` and ``low <= close <= high``
price      bars: prices are above 0; values of an index (``I:``) may be 0
volume     bars: volume and trade count are not negative
vwap       bars: the bar's VWAP lies within low and high, give or take `vwap_tolerance`
========== ==============================================================================================
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import reduce
from operator import and_
from typing import TYPE_CHECKING

import polars as pl

from massive_lab.errors import FrameInvariantError, InvalidRequest
from massive_lab.frames.build import to_schema
from massive_lab.schema.columns import SCHEMAS, Table

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["check", "to_polars"]

_SHOWN = 5
_HOUR = 3600 * 10**9
_SHORTEST_DAY = 23 * _HOUR


def to_polars(frame: pl.DataFrame | pl.LazyFrame | pd.DataFrame) -> pl.DataFrame:
    """The frame in Polars; NaN of pandas is null, and named index levels become columns.

    Raises
    ------
    InvalidRequest
        When it is no frame.
    """
    if isinstance(frame, pl.DataFrame):
        return frame
    if isinstance(frame, pl.LazyFrame):
        return frame.collect()
    if type(frame).__module__.split(".")[0] == "pandas" and hasattr(frame, "columns"):
        if any(name is not None for name in frame.index.names):
            frame = frame.reset_index()
        return pl.from_pandas(frame, nan_to_null=True)
    raise InvalidRequest(f"A frame is needed, not {type(frame).__name__}.", hint="Pass a polars or pandas DataFrame.")


def check(
    frame: pl.DataFrame | pl.LazyFrame | pd.DataFrame, table: str = "bars", *, vwap_tolerance: float = 0.005
) -> None:
    """Raise when a frame breaks a rule of its table.

    Parameters
    ----------
    frame : polars.DataFrame, polars.LazyFrame or pandas.DataFrame
        A lazy frame is collected. In pandas NaN counts as null.
    table : str
        Name in `massive_lab.schema.columns.SCHEMAS`.
    vwap_tolerance : float
        How far a bar's VWAP may lie outside low and high, as a share of the price. Not 0: trades that are no part of the
        high and low (odd lots, late prints) count in the vendor's VWAP.

    Raises
    ------
    FrameInvariantError
        `rule` is one of the module's table, `rows` the first offending rows with their numbers.
    InvalidRequest
        Unknown table, or no frame.

    Examples
    --------
    >>> from massive_lab.frames.build import build
    >>> bars = build("bars", {"symbol": "A", "ts_event": [0], "ts_close": [60 * 10**9], "open": 1.0, "high": 2.0,
    ...                       "low": 1.5, "close": 2.0, "volume": 10.0})
    >>> check(bars)
    Traceback (most recent call last):
    massive_lab.errors.FrameInvariantError: Table 'bars' breaks the rule 'ohlc' (low <= open, close <= high) in 1 of 1
    rows, the first at row 0. ...
    """
    if table not in SCHEMAS:
        raise InvalidRequest(f"There is no table {table!r}.", hint=f"Tables: {', '.join(SCHEMAS)}.")
    spec = SCHEMAS[table]
    data = to_polars(frame)
    _check_columns(data, spec)
    data = data.select(spec.names)
    floats = [column.name for column in spec.columns if column.dtype == "f64"]
    never_null = [column.name for column in spec.columns if not column.null]
    if never_null:
        _require(data, spec, "null", "never null", _any(pl.col(name).is_null() for name in never_null))
    if floats:
        _require(data, spec, "finite", "no NaN, no infinity", _any(~pl.col(name).is_finite() for name in floats))
    if spec.key:
        _check_key(data, spec)
    if table in {"bars", "live_bars"}:
        _check_bars(data, spec, vwap_tolerance, live=table == "live_bars")


def _check_columns(data: pl.DataFrame, spec: Table) -> None:
    schema = to_schema(spec.name)
    missing = [name for name in schema if name not in data.columns]
    wrong = [f"{name} is {data.schema[name]}, not {kind}" for name, kind in schema.items()
             if name in data.columns and data.schema[name] != kind]  # fmt: skip
    if missing or wrong:
        facts = [f"it lacks {', '.join(missing)}"] if missing else []
        raise FrameInvariantError(
            f"The frame is not of table {spec.name!r}: {'; '.join(facts + wrong)}.",
            rule="columns",
            hint="The table's columns are in docs/reference.md.",
        )


def _check_key(data: pl.DataFrame, spec: Table) -> None:
    columns = [pl.col(name) for name in spec.key]
    before = [column.shift() for column in columns]
    same = [a.eq_missing(b) for a, b in zip(before, columns, strict=True)]
    rises = [
        ((a < b) | (a.is_null() & b.is_not_null())).fill_null(value=False) for a, b in zip(before, columns, strict=True)
    ]
    later = rises[-1] | reduce(and_, same[-1:])
    for position in range(len(columns) - 2, -1, -1):
        later = rises[position] | (same[position] & later)
    first = pl.int_range(pl.len()) == 0
    key = ", ".join(spec.key)
    _require(data, spec, "sorted", f"ascending by {key}", ~(later | first))
    whole = reduce(and_, (column.is_not_null() for column in columns))
    _require(data, spec, "unique", f"one row per {key}", reduce(and_, same) & whole & ~first)


def _check_bars(data: pl.DataFrame, spec: Table, vwap_tolerance: float, *, live: bool) -> None:
    low, high, symbol = pl.col("low"), pl.col("high"), pl.col("symbol")
    _require(data, spec, "interval", "ts_event < ts_close", pl.col("ts_event") >= pl.col("ts_close"))
    _check_grid(data, spec)
    overlap = (pl.col("ts_event") < pl.col("ts_close").shift()) & (symbol == symbol.shift())
    _require(data, spec, "overlap", "intervals of a symbol do not overlap", overlap)
    outside = _any((pl.col(name) < low) | (pl.col(name) > high) for name in ("open", "close"))
    _require(data, spec, "ohlc", "low <= open, close <= high", outside)
    index = symbol.str.starts_with("I:")
    _require(data, spec, "price", "prices above 0, of an index 0 or more", (low < 0) | ((low == 0) & ~index))
    counts = ["volume"] if live else ["volume", "trade_count"]
    _require(data, spec, "volume", "volume and trade count not negative", _any(pl.col(name) < 0 for name in counts))
    room = pl.col("vwap").abs() * vwap_tolerance
    vwap = (pl.col("vwap") < low - room) | (pl.col("vwap") > high + room)
    _require(data, spec, "vwap", f"vwap within low and high, give or take {vwap_tolerance:%}", vwap)


def _check_grid(data: pl.DataFrame, spec: Table) -> None:
    length = (pl.col("ts_close") - pl.col("ts_event")).dt.total_nanoseconds()
    lengths = data.select(length.unique().sort()).to_series()
    intraday = lengths.filter(lengths < _SHORTEST_DAY)
    if len(intraday) == 0:
        local = pl.col("ts_event").dt.convert_time_zone("America/New_York")
        _require(data, spec, "grid", "calendar bars start at midnight in New York", local.dt.time() != pl.time(0))
        return
    step = int(intraday[0])
    odd = length != step
    _require(data, spec, "grid", f"one bar length per frame; the shortest is {step / 1e9:g} s", odd)
    # Offsets of New York from UTC are whole hours, so the grid within an hour is the same in both.
    spot = pl.col("ts_event").to_physical() % math.gcd(step, _HOUR)
    _require(data, spec, "grid", f"bars of {step / 1e9:g} s start on multiples within the hour", spot != 0)


def _any(parts: Iterable[pl.Expr]) -> pl.Expr:
    return pl.any_horizontal(part.fill_null(value=False) for part in parts)


def _require(data: pl.DataFrame, spec: Table, rule: str, meaning: str, broken: pl.Expr) -> None:
    bad = data.select(broken.fill_null(value=False).alias("bad")).to_series().arg_true()
    if len(bad) == 0:
        return
    rows = data[bad.head(_SHOWN)].insert_column(0, bad.head(_SHOWN).alias("row"))
    raise FrameInvariantError(
        f"Table {spec.name!r} breaks the rule {rule!r} ({meaning}) in {len(bad)} of {data.height} rows, the first at row "
        f"{bad[0]}.",
        rule=rule,
        rows=rows,
        hint="The rows are on the error as .rows.",
    )
