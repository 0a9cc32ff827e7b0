"""The wider catalogue, by name: about 190 indicators of pandas-ta-classic on any frame.

These are not defined by this library: formulas, seeds, warm-up and column names are those of pandas-ta-classic. They work on
whole columns only (batch): there is no incremental form, and none equals one bit for bit. Some of them look ahead by design,
such as ``dpo`` with its default ``centered=True``; `massive_lab.frames.lookahead` shows which.

The package is optional (extra ``pandas-ta``) and is imported when it is first asked for.
"""

from __future__ import annotations

import difflib
import inspect
import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import polars as pl

from massive_lab.errors import ConfigError, FrameInvariantError, InvalidRequest
from massive_lab.frames.check import to_polars
from massive_lab.indicators._engine import Groups

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["from_pandas_ta"]

_PACKAGE = "pandas_ta_classic"
_COLUMNS = {"open_": "open", "open": "open", "high": "high", "low": "low", "close": "close", "volume": "volume"}
_KEYS = ("symbol", "ts_event", "ts_close")


@overload
def from_pandas_ta(name: str, bars: pl.DataFrame, **params: Any) -> pl.DataFrame: ...
@overload
def from_pandas_ta(name: str, bars: pl.LazyFrame, **params: Any) -> pl.LazyFrame: ...
@overload
def from_pandas_ta(name: str, bars: pd.DataFrame, **params: Any) -> pd.DataFrame: ...
def from_pandas_ta(name: str, bars: Any, **params: Any) -> Any:
    """An indicator of pandas-ta-classic, per symbol; batch only.

    Parameters
    ----------
    name : str
        Its name there: ``"supertrend"``, ``"adx"``, ``"bbands"`` ...
    bars : polars.DataFrame, polars.LazyFrame or pandas.DataFrame
        `ts_event` and the prices and volume that the indicator reads, as ``open high low close volume``; with `symbol`
        each symbol is a series of its own. Times ascend strictly per symbol. In pandas keys may be named index levels. A
        lazy frame is collected and given back lazy.
    **params
        Passed on as they are: ``length=10``, ``multiplier=3.0`` ... The indicator's own defaults hold otherwise.

    Returns
    -------
    The kind of frame that came in
        The rows and the order of `bars` with its key columns (`symbol ts_event ts_close`, those that are there) and the
        indicator's columns under the names pandas-ta-classic gives them: Float64, null while warming up. In
        pandas the index is that of `bars`. A symbol too short for the indicator has nulls. Rows with a null in an input
        are left out of the series and are null.

    Raises
    ------
    ConfigError
        pandas-ta-classic is not installed.
    InvalidRequest
        There is no such indicator, it does not work on bars, a parameter is unknown or refused, or every symbol is too
        short for it.
    FrameInvariantError
        A column is missing (rule ``columns``), or times do not ascend (``sorted``).

    Examples
    --------
    >>> import datetime as dt
    >>> bars = pl.DataFrame({
    ...     "ts_event": [dt.datetime(2025, 6, 2, 14, i) for i in range(4)], "close": [1.0, 2.0, 4.0, 4.0],
    ... })
    >>> from_pandas_ta("roc", bars, length=1)["ROC_1"].to_list()
    [None, 100.0, 100.0, 0.0]
    """
    function = _find(name)
    wanted = _inputs(name, function, params)
    data = to_polars(bars)
    missing = [column for column in ("ts_event", *wanted.values()) if column not in data.columns]
    if missing:
        raise FrameInvariantError(
            f"{name} reads ts_event, {', '.join(wanted.values())}; the frame lacks {', '.join(missing)}.",
            rule="columns",
            hint="Rename the frame's columns.",
        )
    made = _run(name, function, data, wanted, params)
    keys = [data[key] for key in _KEYS if key in data.columns]
    if isinstance(bars, pl.DataFrame):
        return pl.DataFrame([*keys, *made])
    if isinstance(bars, pl.LazyFrame):
        return pl.DataFrame([*keys, *made]).lazy()
    out = bars[[key for key in _KEYS if key in bars.columns]].copy()
    return out.assign(**{series.name: series.to_numpy() for series in made})


def _package() -> Any:
    if find_spec(_PACKAGE) is None or find_spec("pandas") is None:
        raise ConfigError("from_pandas_ta needs pandas-ta-classic.", hint="Run: pip install 'massive-lab[pandas-ta]'")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return import_module(_PACKAGE)


def _find(name: str) -> Callable[..., Any]:
    package = _package()
    names = sorted({known for group in package.Category.values() for known in group})
    if name not in names:
        close = difflib.get_close_matches(str(name).lower(), names, n=3)
        meant = f"Did you mean {' or '.join(map(repr, close))}?" if close else "Its documentation lists them."
        raise InvalidRequest(f"pandas-ta-classic has no indicator {name!r}.", hint=meant)
    found: Callable[..., Any] = getattr(package, name)
    return found


def _inputs(name: str, function: Callable[..., Any], params: dict[str, Any]) -> dict[str, str]:
    """The arguments that are columns of bars, and which columns."""
    signature = inspect.signature(function).parameters.values()
    required = [p.name for p in signature if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    foreign = [argument for argument in required if argument not in _COLUMNS and argument not in params]
    if foreign or not required:
        reads = f" it reads {', '.join(foreign)}" if foreign else " it does not read the columns of bars"
        raise InvalidRequest(
            f"{name} cannot be taken from bars alone:{reads}.",
            hint="Call it in pandas-ta-classic, with your own series.",
        )
    known = [p.name for p in signature if p.kind is p.POSITIONAL_OR_KEYWORD]
    for given in params:
        if given in _COLUMNS:
            raise InvalidRequest(f"{given} is a column, not a parameter.", hint="The columns are taken from the bars.")
        close = difflib.get_close_matches(given, known, n=1, cutoff=0.75)
        if given not in known and close:
            raise InvalidRequest(f"{name} has no parameter {given!r}.", hint=f"Did you mean {close[0]!r}?")
    return {argument: _COLUMNS[argument] for argument in required if argument in _COLUMNS}


def _run(
    name: str, function: Callable[..., Any], data: pl.DataFrame, wanted: dict[str, str], params: dict[str, Any]
) -> list[pl.Series]:
    import pandas as pd

    times = data["ts_event"].to_physical().to_numpy()
    symbol = data["symbol"] if "symbol" in data.columns else None
    groups = Groups.of(symbol, data.height)
    order = np.arange(data.height) if groups.order is None else groups.order
    columns = {column: data[column].cast(pl.Float64).fill_nan(None).to_numpy() for column in set(wanted.values())}
    present = np.ones(data.height, dtype=bool)
    for values in columns.values():
        present &= ~np.isnan(values)
    index = pd.DatetimeIndex(data["ts_event"].dt.cast_time_unit("ns").dt.replace_time_zone(None).to_numpy())
    parts: list[tuple[np.ndarray[Any, Any], Any]] = []
    for start, end in zip(groups.bounds[:-1].tolist(), groups.bounds[1:].tolist(), strict=True):
        rows = order[start:end]
        if (np.diff(times[rows]) <= 0).any():
            who = f" of {symbol[int(rows[0])]}" if symbol is not None else ""
            raise FrameInvariantError(
                f"{name} needs ts_event{who} strictly ascending.", rule="sorted", hint="Sort by symbol and ts_event."
            )
        rows = rows[present[rows]]
        if len(rows) == 0:
            continue
        made = _call(
            name, function, {a: pd.Series(columns[c][rows], index=index[rows]) for a, c in wanted.items()}, params
        )
        if made is not None:
            parts.append((rows, made))
    if not parts and data.height:
        raise InvalidRequest(
            f"{name} gave nothing: the longest symbol has {int(np.diff(groups.bounds).max())} bars.",
            hint="It needs more bars, or other parameters.",
        )
    return _assemble(parts, data.height)


def _call(name: str, function: Callable[..., Any], series: dict[str, Any], params: dict[str, Any]) -> Any:
    """One symbol: a pandas frame with a row for each bar, or None when there are too few."""
    import pandas as pd

    n = len(next(iter(series.values())))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = function(**series, **params)
    except Exception as error:
        raise InvalidRequest(
            f"{name} raised {type(error).__name__}: {error}.", hint="Look at its parameters in pandas-ta-classic."
        ) from error
    if isinstance(made, tuple):  # a second frame holds values projected beyond the last bar
        made = made[0]
    if isinstance(made, pd.Series):
        made = made.to_frame(made.name if isinstance(made.name, str) else name)
    if made is None or (isinstance(made, pd.DataFrame) and made.empty):
        return None
    if not isinstance(made, pd.DataFrame) or len(made) != n:
        raise InvalidRequest(
            f"{name} does not give one row per bar.", hint="Call it in pandas-ta-classic; it is no column of bars."
        )
    return made


def _assemble(parts: list[tuple[np.ndarray[Any, Any], Any]], height: int) -> list[pl.Series]:
    names = list(dict.fromkeys(str(column) for _, made in parts for column in made.columns))
    out = []
    for name in names:
        full = np.full(height, np.nan)
        for rows, made in parts:
            if name in made.columns:
                full[rows] = made[name].to_numpy(dtype=np.float64, na_value=np.nan)
        full[~np.isfinite(full)] = np.nan
        out.append(pl.Series(name, full, nan_to_null=True))
    return out
