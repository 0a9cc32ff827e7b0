"""Two runs of a function side by side: columns that may differ, in a form in which they can be compared."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

__all__ = ["LEFT", "OTHER", "RIGHT", "pair", "screen", "text"]

LEFT, RIGHT = "\0left", "\0right"
"""Marks of a joined row: not null when that side has it."""
OTHER = "\0other"
"""Suffix of the right side's columns."""


def screen(joined: pl.DataFrame, names: Sequence[str]) -> tuple[set[str], dict[str, int]]:
    """Columns that may differ in rows both sides have, and how many values each compares; one pass over all of them."""
    names = [name for name in names if name in joined.columns]
    if not names:
        return set(), {}
    both = pl.col(LEFT).is_not_null() & pl.col(RIGHT).is_not_null()
    plain = [
        name
        for name in names
        if joined.schema.get(name + OTHER) == joined.schema[name]
        and not joined.schema[name].is_nested()
        and joined.schema[name] not in (pl.Object, pl.Categorical, pl.Null)
    ]
    values = joined.select(
        [(pl.col(name).is_not_null() & both).sum().alias(name) for name in names]
        + [(pl.col(name).ne_missing(pl.col(name + OTHER)) & both).any().alias(name + OTHER) for name in plain]
    ).row(0, named=True)
    return {name for name in names if values.get(name + OTHER, True)}, {name: values[name] for name in names}


def pair(joined: pl.DataFrame, name: str) -> tuple[pl.Series, pl.Series]:
    """A column and its twin in a form that can be compared; a twin that is not there is null."""
    a, b = (
        joined[side] if side in joined.columns else pl.Series(side, [None] * joined.height)
        for side in (name, name + OTHER)
    )
    if pl.Null in (a.dtype, b.dtype):
        a, b = (a.cast(b.dtype), b) if a.dtype == pl.Null else (a, b.cast(a.dtype))
    if a.dtype.is_nested() or b.dtype.is_nested() or pl.Object in (a.dtype, b.dtype):
        a, b = (pl.Series([None if v is None else repr(v) for v in s.to_list()], dtype=pl.String) for s in (a, b))
    elif a.dtype != b.dtype and a.dtype.is_numeric() and b.dtype.is_numeric():
        a, b = a.cast(pl.Float64), b.cast(pl.Float64)
    elif a.dtype != b.dtype or a.dtype == pl.Categorical:
        a, b = a.cast(pl.String), b.cast(pl.String)
    return a, b


def text(series: pl.Series) -> pl.Series:
    """Values as text, null kept."""
    if series.dtype == pl.Duration:
        return pl.Series([None if value is None else str(value) for value in series.to_list()], dtype=pl.String)
    return series.cast(pl.String)
