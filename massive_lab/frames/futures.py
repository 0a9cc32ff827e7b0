"""Other futures for the same past: where a frame is cut, and what may come after the cut.

A function that looks ahead is found by giving it the same past with another future. Some leaks show only when the future is
missing, some only when it is there but different, some only at special rows; so there are several futures, and the cuts are
chosen where leaks hide: at the end of the frame, at its largest and smallest values and jumps, and spread over the rest.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FUTURES", "alternative", "choose_cuts", "instants"]

Instants: TypeAlias = NDArray[np.int64]

FUTURES = ("missing", "changed", "scaled", "spiked", "thinned", "shortened", "null")
"""Names of the futures.

``missing``: no row after the cut. ``changed``: other prices and volumes, texts and flags in another order. ``scaled``: all
numbers times one factor. ``spiked``: a jump in price and volume right after the cut and in a tenth of the later rows.
``thinned``: half of the rows are gone. ``shortened``: one symbol ends at the cut; the only symbol ends a few rows later.
``null``: the rows are there and empty.
"""

_KEYS = frozenset({"symbol", "ts_event", "ts_close", "date"})
_SIZES = frozenset({"volume", "trade_count", "size", "open_interest"})
_EXTREMES = 8


def instants(series: pl.Series) -> pl.Series:
    """Times of any unit and zone, or dates, as UTC nanoseconds.

    Examples
    --------
    >>> import datetime as dt
    >>> instants(pl.Series([dt.date(1970, 1, 2)])).to_list()
    [86400000000000]
    """
    if isinstance(series.dtype, pl.Datetime):
        return series.cast(pl.Datetime("ns", series.dtype.time_zone)).to_physical()
    if series.dtype == pl.Date:
        return series.cast(pl.Datetime("ns")).to_physical()
    return series.cast(pl.Int64)


def choose_cuts(data: pl.DataFrame, known: Instants, n: int | None, rng: np.random.Generator) -> Instants:
    """Instants to cut at, ascending: what is known up to and including one of them is the past.

    Parameters
    ----------
    data : polars.DataFrame
        The rows.
    known : array of int64
        When each row becomes known.
    n : int or None
        How many at most; None for every instant but the last.
    rng : numpy.random.Generator

    Examples
    --------
    >>> bars = pl.DataFrame({"volume": [1.0, 1.0, 50.0, 1.0, 1.0]})
    >>> choose_cuts(bars, np.arange(5), 2, np.random.default_rng(0)).tolist()
    [2, 3]
    """
    times = np.unique(known)
    last = len(times) - 1
    if n is None or n >= last:
        return times[:-1]
    chosen: dict[int, None] = {}  # an ordered set: the earlier entries are the more telling ones
    special = np.searchsorted(times, _extreme_instants(data, known))
    # Windows that fill up or run out are short: both ends get cuts at growing distances.
    ends = [last - 1, 6, last - 2, 2, last - 5, 14, last - 12][: max(1, n // 3)]
    for position in [*ends, *special[: max(1, n // 3)].tolist()]:
        if 0 <= position < last:
            chosen[int(position)] = None
    edges = np.linspace(0, last, max(n - len(chosen), 0) + 1)
    for start, end in itertools.pairwise(edges):
        chosen[int(rng.integers(int(start), max(int(end), int(start) + 1)))] = None
    found: Instants = times[np.sort(np.array(list(chosen)[:n]))]
    return found


def _extreme_instants(data: pl.DataFrame, known: Instants) -> Instants:
    """When each numeric column is largest, smallest, and jumps most, against the median of its symbol; in turns."""
    names = [name for name, dtype in data.schema.items() if dtype.is_numeric() and name not in _KEYS]
    names.sort(key=lambda name: (name not in ("volume", "close"), name))
    found: list[list[int]] = []
    over = ["symbol"] if "symbol" in data.columns else []
    for name in names[:_EXTREMES]:
        value = pl.col(name).cast(pl.Float64).fill_nan(None)
        middle = value.median().over(over) if over else value.median()
        jump = value.diff().over(over) if over else value.diff()
        scaled = data.select(level=value / middle, jump=(jump / middle).abs())
        found.append(
            [
                int(known[row])
                for row in (
                    scaled["level"].fill_nan(None).arg_max(),
                    scaled["jump"].fill_nan(None).arg_max(),
                    scaled["level"].fill_nan(None).arg_min(),
                )
                if row is not None
            ]
        )
    turns = [column[step] for step in range(3) for column in found if step < len(column)]
    return np.array(turns, dtype=np.int64)


def alternative(
    bars: pl.DataFrame | pl.LazyFrame | pd.DataFrame,
    data: pl.DataFrame,
    known: Instants,
    cut: int,
    future: str,
    rng: np.random.Generator,
) -> Any:
    """The frame with the same rows up to the cut and another future.

    Parameters
    ----------
    bars : polars.DataFrame, polars.LazyFrame or pandas.DataFrame
        As the user gave it; the kind that comes in goes out, with its columns, types, index and order.
    data : polars.DataFrame
        The same rows in Polars.
    known : array of int64
        When each row becomes known.
    cut : int
        Rows known after it are the future.
    future : str
        One of `FUTURES`.
    rng : numpy.random.Generator

    Examples
    --------
    >>> bars = pl.DataFrame({"close": [1.0, 2.0, 3.0, 4.0]})
    >>> alternative(bars, bars, np.arange(4), 1, "scaled", np.random.default_rng(0))["close"].to_list()
    [1.0, 2.0, 5.1, 6.8]
    >>> alternative(bars, bars, np.arange(4), 1, "null", np.random.default_rng(0))["close"].to_list()
    [1.0, 2.0, None, None]
    """
    later = known > cut
    rows = np.flatnonzero(_kept(data, known, later, future, rng))
    part = data[rows]
    changed = _changed(part, later[rows], known[rows], future, rng)
    made = part.with_columns(changed)
    if isinstance(bars, pl.DataFrame):
        return made
    if isinstance(bars, pl.LazyFrame):
        return made.lazy()
    out = bars.iloc[rows].copy()
    for series in changed:
        if series.name in out.columns:
            values, dtype = series.to_pandas(), bars.dtypes[series.name]
            if hasattr(dtype, "na_value") or not series.null_count():
                values = values.astype(dtype)
            out[series.name] = values.array
    return out


def _kept(
    data: pl.DataFrame, known: Instants, later: NDArray[np.bool_], future: str, rng: np.random.Generator
) -> NDArray[np.bool_]:
    if future == "missing":
        return ~later
    if future == "thinned":
        return ~later | (rng.random(len(later)) < 0.5)
    if future == "shortened":
        symbols = data["symbol"].unique().drop_nulls().sort() if "symbol" in data.columns else pl.Series([])
        if len(symbols) > 1:
            ended = (data["symbol"] == symbols[int(rng.integers(len(symbols)))]).fill_null(value=False).to_numpy()
            keep: NDArray[np.bool_] = ~(later & ended)
            return keep
        times = np.unique(known[later])
        later = known > times[min(int(rng.integers(1, 6)), len(times)) - 1]
        return ~later
    return np.ones(len(later), dtype=bool)


def _changed(
    part: pl.DataFrame, later: NDArray[np.bool_], known: Instants, future: str, rng: np.random.Generator
) -> list[pl.Series]:
    """The columns that differ. One factor per row for all prices, so that high and low still hold open and close."""
    n = len(later)
    prices, sizes = np.ones(n), np.ones(n)
    order = np.arange(n)
    if future == "changed":
        prices[later] = np.exp(rng.normal(0.1, 0.1, int(later.sum())))
        sizes[later] = np.exp(rng.normal(0.3, 1.0, int(later.sum())))
        order[later] = rng.permutation(order[later])
    elif future == "scaled":
        prices[later], sizes[later] = 1.7, 3.0
    elif future == "spiked" and later.any():
        spikes = later & ((known == known[later].min()) | (rng.random(n) < 0.1))
        prices[spikes], sizes[spikes] = 2.5, 500.0
    elif future != "null":
        return []
    out = []
    for series in part.iter_columns():
        dtype = series.dtype
        if series.name in _KEYS or dtype.is_temporal():
            continue
        if future == "null":
            out.append(series.set(pl.Series(later), None) if dtype != pl.Null else series)
        elif dtype.is_numeric():
            counts = series.name in _SIZES or series.name.endswith("_size") or dtype.is_integer()
            scaled = series.cast(pl.Float64) * (sizes if counts else prices)
            if future == "changed" and series.name in _SIZES:
                scaled = scaled + later  # a volume of 0 becomes one of 1
            if dtype.is_integer():
                scaled = scaled.round()
            out.append(scaled.cast(dtype, strict=False).zip_with(pl.Series(later), series))
        elif future == "changed":
            out.append(series.gather(order))
    return out
