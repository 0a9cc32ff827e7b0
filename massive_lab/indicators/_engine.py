"""How an indicator's arithmetic meets a frame: grouping by symbol, nulls, bad values, and the way back.

An indicator is a `Spec`: the columns it reads, the columns it makes and a kernel on NumPy arrays. The engine runs the
kernel once per symbol inside one call over the whole column, so that the price of grouping is one pass over the symbols and
not one Python call through the query engine for each of them.

Rules for every indicator, stated once:

* Rows of a symbol are taken in the order of the frame. The frame may be sorted by symbol, or symbols may alternate; the
  row order of the result is that of the input.
* A row with a null in any input is skipped: its result is null, and the next row continues as if it had not been there.
* NaN and infinity are refused with `FrameInvariantError`; they never reach the arithmetic.
* Leading rows without a value yet (warm-up) are null, never NaN.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from massive_lab.errors import FrameInvariantError, InvalidRequest, MassiveLabError

__all__ = ["Array", "Groups", "Spec", "check_period", "evaluate", "expressions", "per_group"]

Array: TypeAlias = NDArray[np.float64]
Kernel: TypeAlias = Callable[[Sequence[NDArray[Any]], NDArray[np.int64]], tuple[Array, ...]]

_MAX_PERIOD = 100_000
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Spec:
    """One indicator with its parameters.

    Attributes
    ----------
    text : str
        Canonical text, as `massive_lab.indicators.apply` reads it: ``"macd_12_26_9"``.
    inputs : tuple of str
        Columns read, in the order the kernel takes them.
    outputs : tuple of str
        Columns made, in the order the kernel returns them.
    kernel : callable
        ``kernel(arrays, bounds)``: arrays without nulls, grouped by symbol; group ``i`` is
        ``[bounds[i], bounds[i + 1])``. NaN in a result means "no value".
    clock : str
        The input that holds the time, or "". It reaches the kernel as int64 nanoseconds, strictly ascending per group.
    volume : str
        The input that holds a volume, or "". A symbol that has none at all is refused.
    """

    text: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    kernel: Kernel
    clock: str = ""
    volume: str = ""


@dataclass(frozen=True, slots=True)
class Groups:
    """Rows by symbol. `order` is None when they lie together already; group ``i`` is ``[bounds[i], bounds[i + 1])``."""

    bounds: NDArray[np.int64]
    order: NDArray[np.int64] | None = None

    @classmethod
    def of(cls, symbol: pl.Series | None, height: int) -> Groups:
        """Find the groups; without symbols everything is one."""
        if height == 0:
            return cls(np.zeros(1, dtype=np.int64))
        if symbol is None:
            return cls(np.array([0, height], dtype=np.int64))
        runs = symbol.rle_id().to_numpy()
        if runs[-1] == 0:
            return cls(np.array([0, height], dtype=np.int64))
        starts = np.concatenate(([0], np.flatnonzero(np.diff(runs)) + 1))
        heads = symbol.gather(starts)
        if heads.n_unique() == len(heads):
            return cls(np.append(starts, height).astype(np.int64))
        codes = heads.rank("dense").fill_null(0).cast(pl.Int64).to_numpy()[runs]
        order = np.argsort(codes, kind="stable").astype(np.int64)
        edges = np.flatnonzero(np.diff(codes[order])) + 1
        return cls(np.concatenate(([0], edges, [height])).astype(np.int64), order)


def per_group(function: Callable[..., Array | tuple[Array, ...]]) -> Kernel:
    """Lift a function on one symbol's arrays to a kernel.

    One symbol costs no copy; several are written into one array each.
    """

    def kernel(arrays: Sequence[NDArray[Any]], bounds: NDArray[np.int64]) -> tuple[Array, ...]:
        if len(bounds) == 2:
            return _as_tuple(function(*arrays))
        edges = bounds.tolist()
        parts = [
            _as_tuple(function(*(array[start:end] for array in arrays))) for start, end in itertools.pairwise(edges)
        ]
        return tuple(np.concatenate(column) for column in zip(*parts, strict=True))

    return kernel


def _as_tuple(value: Array | tuple[Array, ...]) -> tuple[Array, ...]:
    return value if isinstance(value, tuple) else (value,)


def evaluate(
    spec: Spec,
    inputs: Sequence[pl.Series],
    groups: Groups,
    symbol: pl.Series | None = None,
    checked: set[str] | None = None,
) -> list[pl.Series]:
    """Run an indicator on columns.

    Parameters
    ----------
    spec : Spec
    inputs : sequence of polars.Series
        As `spec.inputs`; any numeric dtype, the clock as ``Datetime`` in UTC or integer nanoseconds.
    groups : Groups
    symbol : polars.Series, optional
        Only to name the symbol in an error.
    checked : set of str, optional
        Inputs known to be finite; those found so are added.

    Returns
    -------
    list of polars.Series
        Float64, as `spec.outputs`, in the row order of the inputs.
    """
    height = len(inputs[0])
    if spec.volume:
        _refuse_missing_volume(inputs[spec.inputs.index(spec.volume)], spec, symbol)
    columns = [_numbers(series, name, spec) for series, name in zip(inputs, spec.inputs, strict=True)]
    mask: NDArray[np.bool_] | None = None
    for column in columns:
        if column.null_count():
            present = column.is_not_null().to_numpy()
            mask = present if mask is None else mask & present
    for column, name in zip(columns, spec.inputs, strict=True):
        if name != spec.clock and (checked is None or name not in checked):
            _refuse_non_finite(column, name, spec, symbol)
            if checked is not None:
                checked.add(name)
    arrays: list[NDArray[Any]] = [
        (column.fill_null(0) if column.null_count() else column).to_numpy() for column in columns
    ]
    bounds, order, rows = groups.bounds, groups.order, None
    if order is not None:
        arrays = [array[order] for array in arrays]
        mask = None if mask is None else mask[order]
    if mask is not None:
        rows = np.flatnonzero(mask)
        arrays = [array[rows] for array in arrays]
        bounds = np.concatenate(([0], np.cumsum(mask)))[bounds]
        bounds = np.unique(bounds)  # a symbol with nothing but nulls has no rows left
    if len(bounds) < 2:
        return [pl.Series(name, [None] * height, dtype=pl.Float64) for name in spec.outputs]
    if spec.clock:
        where = _disorder(arrays[spec.inputs.index(spec.clock)], bounds)
        if len(where):
            at = where if rows is None else rows[where]
            raise _disordered(at if order is None else order[at], inputs, spec, symbol)
    results = spec.kernel(arrays, bounds)
    return [
        pl.Series(name, _back(array, rows, order, height), nan_to_null=True)
        for name, array in zip(spec.outputs, results, strict=True)
    ]


def _back(array: Array, rows: NDArray[np.int64] | None, order: NDArray[np.int64] | None, height: int) -> Array:
    if rows is not None:
        full = np.full(height, np.nan)
        full[rows] = array
        array = full
    if order is not None:
        full = np.empty(height)
        full[order] = array
        array = full
    return array


def expressions(spec: Spec, columns: Sequence[str | pl.Expr], by: str | None, names: Sequence[str]) -> list[pl.Expr]:
    """The indicator as Polars expressions, one per output, on eager and lazy frames alike."""
    given: list[Any] = [*columns, *([] if by is None else [by])]
    for column in given:
        if not isinstance(column, str | pl.Expr):
            raise InvalidRequest(f"{repr(column)[:80]} is not a column.", hint="Give a column's name or an expression.")
    inputs = [pl.col(column) if isinstance(column, str) else column for column in columns]
    if by is not None:
        inputs = [pl.col(by), *inputs]

    def make(position: int) -> Callable[[Sequence[pl.Series]], pl.Series]:
        def function(series: Sequence[pl.Series], **_: Any) -> pl.Series:
            symbol = series[0] if by is not None else None
            values = series[1:] if by is not None else series
            try:
                groups = Groups.of(symbol, len(values[0]))
                return evaluate(spec, values, groups, symbol)[position]
            except MassiveLabError as error:
                raise _portable(error) from None

        return function

    return [
        pl.map_batches(inputs, make(position), return_dtype=pl.Float64).alias(name)
        for position, name in enumerate(names)
    ]


def _portable(error: MassiveLabError) -> MassiveLabError:
    """The same error in a form that keeps its attributes through the query engine.

    Polars builds the error anew from its type and its text to add where it happened, which would lose `rule` and `rows`.
    """
    state = error.__dict__.copy()
    cls = type(error)

    def __init__(self: MassiveLabError, *_: Any) -> None:  # noqa: N807
        MassiveLabError.__init__(self, error.message)
        self.__dict__.update(state)

    def __reduce__(self: MassiveLabError) -> Any:  # noqa: ARG001, N807
        return error.__reduce__()

    namespace = {"__init__": __init__, "__reduce__": __reduce__, "__module__": cls.__module__, "__doc__": cls.__doc__}
    carrier: type[MassiveLabError] = type(cls.__name__, (cls,), namespace)
    return carrier(error.message)


def check_period(value: Any, *, what: str, least: int) -> int:
    """A period that TA-Lib takes: an integer from `least` to 100,000."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or not least <= value <= _MAX_PERIOD:
        raise InvalidRequest(
            f"{what} is {value!r}.", hint=f"Give a whole number of bars from {least} to {_MAX_PERIOD}."
        )
    return int(value)


def _numbers(series: pl.Series, name: str, spec: Spec) -> pl.Series:
    dtype = series.dtype
    if name == spec.clock:
        if dtype == pl.Int64:
            return series
        if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
            return series.cast(pl.Datetime("ns", dtype.time_zone)).to_physical()
        raise FrameInvariantError(
            f"{spec.text} needs {name} as a time with a zone, not {dtype}.",
            rule="dtype",
            hint='Use Datetime("ns", "UTC"), as every frame of this library has it.',
        )
    if dtype == pl.Float64:
        return series
    if dtype.is_numeric():
        return series.cast(pl.Float64)
    if dtype == pl.Null:
        return series.cast(pl.Float64)
    raise FrameInvariantError(
        f"{spec.text} needs {name} as numbers, not {dtype}.", rule="dtype", hint="Cast the column, or name another one."
    )


def _refuse_non_finite(column: pl.Series, name: str, spec: Spec, symbol: pl.Series | None) -> None:
    # The sum of a million numbers is finite unless one of them is not, or they are astronomically large.
    if math.isfinite(column.sum() or 0.0):
        return
    bad = (~column.is_finite()).fill_null(value=False).arg_true()
    if len(bad) == 0:
        return
    rows = pl.DataFrame({"row": bad, name: column.gather(bad)})
    if symbol is not None:
        rows = rows.insert_column(1, symbol.gather(bad).alias("symbol"))
    raise FrameInvariantError(
        f"{spec.text} got NaN or infinity in {name}: {len(bad)} of {len(column)} rows, the first at row {bad[0]}.",
        rule="finite",
        rows=rows.head(_SHOWN),
        hint="A missing value is a null: use fill_nan(None), or mend the source.",
    )


def _disorder(clock: NDArray[np.int64], bounds: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places that are not later than the place before them in their group."""
    rises = clock[1:] > clock[:-1]
    rises[bounds[1:-1] - 1] = True
    return np.empty(0, dtype=np.int64) if rises.all() else np.flatnonzero(~rises) + 1


def _disordered(
    at: NDArray[np.int64], inputs: Sequence[pl.Series], spec: Spec, symbol: pl.Series | None
) -> FrameInvariantError:
    at.sort()
    times = inputs[spec.inputs.index(spec.clock)].gather(at[:_SHOWN])
    rows = pl.DataFrame({"row": at[:_SHOWN], spec.clock: times})
    if symbol is not None:
        rows = rows.insert_column(1, symbol.gather(at[:_SHOWN]).alias("symbol"))
    return FrameInvariantError(
        f"{spec.text} needs {spec.clock} strictly ascending per symbol: {len(at)} of {len(inputs[0])} rows are at or "
        f"before the one before them, the first at row {at[0]} ({times[0]}).",
        rule="sorted",
        rows=rows,
        hint="Sort by symbol and ts_event and drop repeated rows. A frame of several symbols needs a symbol column.",
    )


def _refuse_missing_volume(volume: pl.Series, spec: Spec, symbol: pl.Series | None) -> None:
    if volume.null_count() == 0:
        return
    if symbol is None:
        without = ["the frame"] if volume.null_count() == len(volume) else []
    else:
        frame = pl.DataFrame({"symbol": symbol, "volume": volume})
        counts = frame.group_by("symbol", maintain_order=True).agg(pl.col("volume").count())
        without = [str(name) for name in counts.filter(pl.col("volume") == 0)["symbol"].to_list()]
    if without:
        shown = ", ".join(without[:_SHOWN])
        raise FrameInvariantError(
            f"{spec.text} needs a volume and {shown} has none.",
            rule="volume",
            rows=pl.DataFrame({"symbol": without}),
            hint="Indices have no volume: leave them out, or use an ETF on the index.",
        )
