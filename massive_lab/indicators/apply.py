"""Several indicators at once, by name, on polars, lazy polars and pandas frames."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, overload

import polars as pl

from massive_lab.errors import FrameInvariantError, InvalidRequest
from massive_lab.indicators import atr, ema, macd, rolling, rsi, sma, volatility, vwap
from massive_lab.indicators._engine import Groups, Spec, evaluate, expressions

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["apply", "parse_spec"]

# Name, the number of periods it takes, and the maker. A maker with defaults may be named without periods.
_NUMBERED: dict[str, tuple[int, bool, Callable[..., Spec]]] = {
    "ema": (1, False, ema.spec),
    "sma": (1, False, sma.spec),
    "rsi": (1, True, rsi.spec),
    "atr": (1, True, atr.spec),
    "macd": (3, True, macd.spec),
    "realised_vol": (1, False, volatility.spec),
}
_SHAPES = (
    "ema_20",
    "sma_50",
    "rsi_14",
    "atr_14",
    "macd_12_26_9",
    "session_vwap",
    "session_vwap_extended",
    "session_vwap_day",
    "rolling_vwap_30m",
    "realised_vol_20",
)
_CONVENTIONAL = ("ema", "rsi", "atr", "macd")
_TEXT = re.compile(r"([a-z]+(?:_[a-z]+)*)((?:_\d+)*)(?:@([a-z]+))?")


def parse_spec(text: str, *, warmup_error: bool = False) -> Spec:
    """Read the text of an indicator.

    Parameters
    ----------
    text : str
        A name and its periods: ``ema_20 sma_50 rsi_14 atr_14 macd_12_26_9 session_vwap session_vwap_extended
        session_vwap_day rolling_vwap_30m realised_vol_20`` (the last annualised with 252 bars a year). ``rsi``, ``atr``
        and ``macd`` alone mean the usual periods. ``ema rsi atr macd`` may name a convention, ``ema_20@tradingview``,
        which is then part of the names of the columns; TA-Lib's is the default.
    warmup_error : bool
        Make one more column for ``ema rsi atr macd``, the bound ``<name>_warmup_error``.

    Raises
    ------
    InvalidRequest
        Anything else, a period out of range, or a convention the indicator does not have.

    Examples
    --------
    >>> parse_spec("macd").outputs
    ('macd_12_26_9', 'macd_signal_12_26_9', 'macd_hist_12_26_9')
    >>> parse_spec("ema20")
    Traceback (most recent call last):
    massive_lab.errors.InvalidRequest: 'ema20' is not an indicator. Did you mean 'ema_20'? Known shapes: ema_20, ...
    """
    if str(text).startswith("rolling_vwap_"):
        return rolling.spec(text.removeprefix("rolling_vwap_"))
    match = _TEXT.fullmatch(str(text))
    if match is None:
        raise _unknown(text)
    name = match[1]
    periods = [int(part) for part in match[2].split("_")[1:]]
    convention = match[3]
    if convention and (name in {"sma", "realised_vol"} or name.startswith("session_vwap")):
        raise InvalidRequest(f"{text!r} names a convention; {name} has one definition only.", hint="Leave it out.")
    if name == "session_vwap" and not periods:
        return vwap.spec()
    if name.startswith("session_vwap_") and not periods:
        return vwap.spec(name.removeprefix("session_vwap_"))
    if name not in _NUMBERED:
        raise _unknown(text)
    wanted, has_defaults, make = _NUMBERED[name]
    options: dict[str, Any] = {}
    if name in _CONVENTIONAL:
        options = {"convention": convention or "talib", "warmup_error": warmup_error}
    if len(periods) != wanted and not (has_defaults and not periods):
        raise InvalidRequest(
            f"{text!r} gives {len(periods)} periods; {name} takes {wanted}.",
            hint=f"Write it like {next(shape for shape in _SHAPES if shape.startswith(name))}.",
        )
    return make(*periods, **options)


def _unknown(text: object) -> InvalidRequest:
    close = difflib.get_close_matches(str(text), _SHAPES, n=1)
    meant = f"Did you mean {close[0]!r}? " if close else ""
    return InvalidRequest(f"{text!r} is not an indicator.", hint=f"{meant}Known shapes: {', '.join(_SHAPES)}.")


@overload
def apply(bars: pl.DataFrame, indicators: Sequence[str], *, warmup_error: bool = ...) -> pl.DataFrame: ...
@overload
def apply(bars: pl.LazyFrame, indicators: Sequence[str], *, warmup_error: bool = ...) -> pl.LazyFrame: ...
@overload
def apply(bars: pd.DataFrame, indicators: Sequence[str], *, warmup_error: bool = ...) -> pd.DataFrame: ...
def apply(bars: Any, indicators: Sequence[str], *, warmup_error: bool = False) -> Any:
    """Add indicators to bars, per symbol.

    Parameters
    ----------
    bars : polars.DataFrame, polars.LazyFrame or pandas.DataFrame
        A bars table, or any frame with the columns the indicators read: `close` for ``ema sma rsi macd``; `high`,
        `low` and `close` for ``atr``; `ts_event` and `volume` besides for ``session_vwap``. With a `symbol` column each
        symbol is a series of its own; without one, all rows are one series. In pandas these may be index levels, and
        NaN counts as null.
    indicators : sequence of str
        As `parse_spec` reads them.
    warmup_error : bool
        Add ``<name>_warmup_error`` to ``ema rsi atr`` and the line of ``macd``: a bound on how far the value is from the
        one over a longer history. What it takes for granted is said with the expression.

    Returns
    -------
    The kind of frame that came in
        The same rows in the same order (and the same index), with the new columns, Float64, at the end. A column that
        exists already is replaced.

    Raises
    ------
    InvalidRequest
        Something is not an indicator, or `bars` is not a frame.
    FrameInvariantError
        A column is missing (rule ``columns``) or has the wrong type (``dtype``), `ts_event` does not ascend per symbol
        (``sorted``; on lazy frames only looked at by indicators that read it), NaN or infinity (``finite``), no volume
        (``volume``). On a lazy frame raised when it is collected.

    Examples
    --------
    >>> bars = pl.DataFrame({"symbol": ["A"] * 4, "close": [1.0, 2.0, 4.0, 3.0]})
    >>> apply(bars, ["sma_2", "rsi_2"]).columns
    ['symbol', 'close', 'sma_2', 'rsi_2']
    """
    specs = _specs(indicators, warmup_error=warmup_error)
    if isinstance(bars, pl.DataFrame):
        return bars.with_columns(_columns(bars, specs))
    if isinstance(bars, pl.LazyFrame):
        return _apply_lazy(bars, specs)
    if type(bars).__module__.split(".")[0] == "pandas" and hasattr(bars, "columns"):
        return _apply_pandas(bars, specs)
    raise InvalidRequest(
        f"Indicators need a frame, not {type(bars).__name__}.",
        hint="Pass a polars or pandas DataFrame, or a LazyFrame.",
    )


def _specs(indicators: Sequence[str], *, warmup_error: bool) -> list[Spec]:
    if isinstance(indicators, str):
        raise InvalidRequest(f"The indicators are one text, {indicators!r}.", hint=f"Pass a list: [{indicators!r}].")
    if not isinstance(indicators, Iterable):
        raise InvalidRequest(f"The indicators are {indicators!r}.", hint="Pass a list: ['ema_20', 'rsi_14'].")
    # Named twice, perhaps in two ways ("rsi" and "rsi_14"), it is made once.
    specs = (parse_spec(str(text), warmup_error=warmup_error) for text in indicators)
    return list({spec.text: spec for spec in specs}.values())


def _columns(frame: pl.DataFrame, specs: Sequence[Spec]) -> list[pl.Series]:
    for spec in specs:
        _require(frame.columns, spec)
    symbol = frame["symbol"] if "symbol" in frame.columns else None
    groups = Groups.of(symbol, frame.height)
    made: list[pl.Series] = []
    checked: set[str] = set()
    if "ts_event" in frame.columns and specs and not any(spec.clock for spec in specs):
        evaluate(_ORDER, [frame["ts_event"]], groups, symbol)
    for spec in specs:
        made += evaluate(spec, [frame[name] for name in spec.inputs], groups, symbol, checked)
    return made


# No indicator: it makes nothing, and the engine refuses disorder on the way.
_ORDER = Spec("indicators", ("ts_event",), (), lambda *_: (), clock="ts_event")


def _require(columns: Sequence[str], spec: Spec) -> None:
    missing = [name for name in spec.inputs if name not in columns]
    if missing:
        raise FrameInvariantError(
            f"{spec.text} needs the columns {', '.join(spec.inputs)}; the frame lacks {', '.join(missing)}.",
            rule="columns",
            hint="Rename the frame's columns, or use the expression and name yours there.",
        )


def _apply_lazy(frame: pl.LazyFrame, specs: Sequence[Spec]) -> pl.LazyFrame:
    columns = frame.collect_schema().names()
    for spec in specs:
        _require(columns, spec)
    by = "symbol" if "symbol" in columns else None
    return frame.with_columns(
        [expression for spec in specs for expression in expressions(spec, spec.inputs, by, spec.outputs)]
    )


def _apply_pandas(frame: pd.DataFrame, specs: Sequence[Spec]) -> pd.DataFrame:
    wanted = {"symbol", "ts_event", *(name for spec in specs for name in spec.inputs)}
    columns = {name: frame[name] for name in wanted if name in frame.columns}
    for level in frame.index.names:
        if level in wanted and level not in columns:
            columns[level] = frame.index.get_level_values(level).to_series(index=frame.index)
    for spec in specs:
        _require(list(columns), spec)
    # Conversion by column: pandas holds missing numbers as NaN, which is a null here.
    plain = pl.DataFrame({name: pl.from_pandas(column, nan_to_null=True) for name, column in columns.items()})
    return frame.assign(**{series.name: series.to_numpy() for series in _columns(plain, specs)})
