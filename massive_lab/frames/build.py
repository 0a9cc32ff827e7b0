"""Columns to frames that match their table exactly: names, order, dtypes, also when there is no row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

from massive_lab.errors import DecodeError, FrameInvariantError
from massive_lab.schema.columns import Dtype, Table
from massive_lab.schema.columns import table as find_table

__all__ = ["build", "concat", "dtype", "empty", "sort", "to_schema"]

_DTYPES: dict[str, pl.DataType] = {
    "str": pl.String(),
    "f64": pl.Float64(),
    "i64": pl.Int64(),
    "bool": pl.Boolean(),
    "date": pl.Date(),
    "ts": pl.Datetime("ns", "UTC"),
    "list_i64": pl.List(pl.Int64()),
}
_SCALARS = (str, bool, int, float)


def dtype(word: Dtype | str) -> pl.DataType:
    """The Polars type of a word of `massive_lab.schema.columns`.

    Examples
    --------
    >>> dtype("ts")
    Datetime(time_unit='ns', time_zone='UTC')
    """
    return _DTYPES[word]


def to_schema(table: str) -> pl.Schema:
    """Names and types of a table, in order."""
    return pl.Schema({column.name: _DTYPES[column.dtype] for column in find_table(table).columns})


def empty(table: str) -> pl.DataFrame:
    """A frame of no rows with the full schema.

    Examples
    --------
    >>> empty("values").columns, empty("values").height
    (['symbol', 'ts_event', 'value'], 0)
    """
    return to_schema(table).to_frame()


def build(table: str, columns: Mapping[str, Any], n_rows: int | None = None) -> pl.DataFrame:
    """A frame of exactly the table's columns.

    Parameters
    ----------
    table : str
        Name in `massive_lab.schema.columns.SCHEMAS`.
    columns : mapping
        Column name to a list, a numpy array or a Polars series; times as integers (UTC ns) or datetimes. A single text
        or number, or None, fills its column. Columns not given are null.
    n_rows : int, optional
        Number of rows; needed only when no column is a sequence.

    Returns
    -------
    polars.DataFrame

    Raises
    ------
    FrameInvariantError
        For a column the table does not have (rule ``columns``), or columns of different lengths (rule ``length``).
    DecodeError
        For values of another type, NaN and infinities: JSON has none, so they are a fault on the way.

    Examples
    --------
    >>> build("values", {"symbol": "I:SPX", "ts_event": [1_000_000_000], "value": [5900.25]}).row(0)[2]
    5900.25
    """
    spec = find_table(table)
    unknown = [name for name in columns if name not in spec.names]
    if unknown:
        raise FrameInvariantError(
            f"Table {table!r} has no column {', '.join(map(repr, unknown))}.",
            rule="columns",
            hint=f"Its columns are {', '.join(spec.names)}.",
        )
    height = _height(spec, columns, n_rows)
    return pl.DataFrame([_series(spec, name, columns.get(name), height) for name in spec.names])


def concat(table: str, frames: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Frames of one table below each other; the empty frame when there is none.

    Raises
    ------
    FrameInvariantError
        When a frame is not of the table's schema (rule ``schema``).
    """
    schema = to_schema(table)
    parts = []
    for frame in frames:
        if frame.schema != schema:
            raise FrameInvariantError(
                f"A frame is not of table {table!r}: it has {dict(frame.schema)}.", rule="schema", rows=frame.head(5)
            )
        if frame.height:
            parts.append(frame)
    if not parts:
        return empty(table)
    return parts[0] if len(parts) == 1 else pl.concat(parts, how="vertical", rechunk=True)


def sort(table: str, frame: pl.DataFrame) -> pl.DataFrame:
    """Rows in the order of the table's key; rows of equal keys keep theirs."""
    return frame.sort(list(find_table(table).key), maintain_order=True, nulls_last=False)


def _height(spec: Table, columns: Mapping[str, Any], n_rows: int | None) -> int:
    lengths = {name: len(c) for name, c in columns.items() if c is not None and not isinstance(c, _SCALARS)}
    if n_rows is not None:
        lengths["n_rows"] = n_rows
    if len(set(lengths.values())) > 1:
        raise FrameInvariantError(f"Columns of {spec.name!r} differ in length: {lengths}.", rule="length")
    if lengths:
        return next(iter(lengths.values()))
    return 1 if any(isinstance(c, _SCALARS) for c in columns.values()) else 0


def _series(spec: Table, name: str, values: Any, height: int) -> pl.Series:
    kind = _DTYPES[spec[name].dtype]
    try:
        if values is None:
            return pl.Series(name, [None], dtype=kind).new_from_index(0, height)
        if isinstance(values, _SCALARS):
            series = _typed(name, [values], kind).new_from_index(0, height)
        else:
            series = _typed(name, values, kind)
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError) as cause:
        reason = str(cause).partition("\n")[0].rstrip(".")
        raise DecodeError(
            f"Column {name!r} of {spec.name!r} holds values that are not {spec[name].dtype}: {reason}.",
            excerpt=repr(values)[:200],
        ) from cause
    if kind == pl.Float64 and not series.is_finite().all():
        raise DecodeError(
            f"Column {name!r} of {spec.name!r} holds NaN or an infinity.",
            hint="Null stands for what is not available; the vendor sends neither NaN nor infinities.",
        )
    return series


def _typed(name: str, values: Any, kind: pl.DataType) -> pl.Series:
    if isinstance(values, pl.Series):
        return _cast(values.alias(name), kind)
    if hasattr(values, "dtype"):  # numpy: through its own type, then a checked cast
        return _cast(pl.Series(name, values), kind)
    values = list(values)
    if isinstance(kind, pl.Datetime):
        first = next((value for value in values if value is not None), None)
        if isinstance(first, str):
            raise TypeError(f"a time as text: {first!r}")
        if first is None or isinstance(first, int):
            return pl.Series(name, values, dtype=pl.Int64, strict=True).cast(kind)
    return pl.Series(name, values, dtype=kind, strict=True)


def _cast(series: pl.Series, kind: pl.DataType) -> pl.Series:
    return series if series.dtype == kind else series.cast(kind, strict=True)
