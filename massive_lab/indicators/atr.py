"""Average true range.

=========== ===========================================================================================
formula     ``atr[t] = (atr[t-1] * (period - 1) + tr[t]) / period`` with
            ``tr[t] = max(high - low, |high - close[t-1]|, |low - close[t-1]|)``
source      J. W. Wilder, *New Concepts in Technical Trading Systems* (1978); arithmetic as TA-Lib's ATR
smoothing   Wilder, alpha ``1 / period``
seed        the simple mean of the first `period` true ranges; the first bar has no previous close and gives none
first value row ``period`` (counted from 0), so ``warmup`` is ``period``
null rule   a row with a null in high, low or close is skipped and stays null
=========== ===========================================================================================

Conventions: ``stockcharts`` and ``tradingview`` count ``high - low`` of the first bar as its true range, so that the first
value is at row ``period - 1`` and the first rows differ; the difference weighs ``(1 - 1 / period) ** n`` after `n` bars. The
vendor's server has no ATR, so there is no ``massive``.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any, Literal, overload

import numpy as np
import polars as pl
import talib

from massive_lab.indicators._convention import Convention, check_convention, suffix
from massive_lab.indicators._engine import Array, Spec, check_period, expressions, per_group
from massive_lab.indicators._incremental import Incremental, number, refused
from massive_lab.indicators._recursion import Wilder
from massive_lab.indicators._warmup import names, one_or_two, wilder_error

__all__ = ["ATR", "atr", "spec"]

_CONVENTIONS: tuple[Convention, ...] = ("talib", "stockcharts", "tradingview")
_INPUTS = ("high", "low", "close")


def spec(period: int = 14, *, convention: str = "talib", warmup_error: bool = False) -> Spec:
    """The average true range of bars with its parameters, for `massive_lab.indicators.apply`."""
    period = check_period(period, what="The period of an ATR", least=1)
    known = check_convention(convention, "An ATR", _CONVENTIONS)

    def kernel(high: Array, low: Array, close: Array) -> tuple[Array, ...]:
        # A bar before the first that closed at its low makes high - low the first true range.
        extra = 0 if known == "talib" else 1
        if extra:
            high, low, close = (np.concatenate((low[:1], column)) for column in (high, low, close))
        found = talib.ATR(high, low, close, timeperiod=period)[extra:]
        if not warmup_error:
            return (found,)
        before = np.concatenate((low[:1], close[:-1]))
        widths = np.maximum(np.maximum(high - low, np.abs(before - high)), np.abs(before - low))
        return found, wilder_error(widths, period, start=1)[extra:]

    text = f"atr_{period}{suffix(known)}"
    return Spec(text, _INPUTS, names(text, warmup_error=warmup_error), per_group(kernel))


@overload
def atr(
    *,
    period: int = ...,
    convention: Convention = ...,
    warmup_error: Literal[False] = ...,
    high: str | pl.Expr = ...,
    low: str | pl.Expr = ...,
    close: str | pl.Expr = ...,
    by: str | None = ...,
    name: str | None = ...,
) -> pl.Expr: ...
@overload
def atr(
    *,
    period: int = ...,
    convention: Convention = ...,
    warmup_error: Literal[True],
    high: str | pl.Expr = ...,
    low: str | pl.Expr = ...,
    close: str | pl.Expr = ...,
    by: str | None = ...,
    name: str | None = ...,
) -> tuple[pl.Expr, pl.Expr]: ...


def atr(
    *,
    period: int = 14,
    convention: Convention = "talib",
    warmup_error: bool = False,
    high: str | pl.Expr = "high",
    low: str | pl.Expr = "low",
    close: str | pl.Expr = "close",
    by: str | None = "symbol",
    name: str | None = None,
) -> pl.Expr | tuple[pl.Expr, pl.Expr]:
    """Average true range per symbol.

    Parameters
    ----------
    period : int
        Bars, 1 to 100,000.
    convention : {"talib", "stockcharts", "tradingview"}
        Whose definition; see the module's docstring.
    high, low, close : str or polars.Expr
        Prices of the bar.
    warmup_error : bool
        Give one more expression, ``<name>_warmup_error``: a bound on how far the result is from the one over a longer
        history, in its unit. It holds as long as a true range was, before the first row, never above twice the largest of the
        seed window. Null where the result is.
    by : str or None
        Column that names the symbol; None when all rows are one series.
    name : str, optional
        Name of the result; ``atr_<period>`` by default, with ``@<convention>`` where that is not TA-Lib.

    Returns
    -------
    polars.Expr, or a tuple of two
        Float64 in price units; null in the first `period` rows of a symbol (``period - 1`` in the other
        conventions) and where an input is null.

    Raises
    ------
    InvalidRequest
        The period is out of range, or the convention is unknown.
    FrameInvariantError
        When evaluated: NaN or infinity in an input (rule ``finite``), or no numbers (rule ``dtype``).

    Examples
    --------
    >>> bars = pl.DataFrame({
    ...     "symbol": ["A"] * 4, "high": [2.0, 4.0, 4.0, 3.0], "low": [1.0, 2.0, 3.0, 1.0], "close": [2.0, 3.0, 4.0, 1.0],
    ... })
    >>> bars.with_columns(atr(period=2))["atr_2"].to_list()
    [None, None, 1.5, 2.25]
    """
    made = spec(period, convention=convention, warmup_error=warmup_error)
    return one_or_two(expressions(made, (high, low, close), by, names(name or made.text, warmup_error=warmup_error)))


class ATR(Incremental):
    """Average true range, one bar at a time; bit for bit the batch result.

    Parameters
    ----------
    period : int
        Bars, 1 to 100,000.
    convention : {"talib", "stockcharts", "tradingview"}

    Examples
    --------
    >>> width = ATR(2)
    >>> [width.update(*bar) for bar in ((2.0, 1.0, 2.0), (4.0, 2.0, 3.0), (4.0, 3.0, 4.0))], width.peek(3.0, 1.0, 1.0)
    ([None, None, 1.5], 2.25)
    >>> width.amend(5.0, 3.0, 4.0)
    2.0
    """

    __slots__ = ("_average", "_close", "convention", "period")

    PARAMETERS = ("period", "convention")

    def __init__(self, period: int = 14, convention: Convention = "talib") -> None:
        super().__init__()
        self.period = check_period(period, what="The period of an ATR", least=1)
        self.convention = check_convention(convention, "An ATR", _CONVENTIONS)
        self._average = Wilder(self.period, seed=self.period)
        self._close: float | None = None

    @property
    def warmup(self) -> int:
        """Bars that give no result yet."""
        return self.period if self.convention == "talib" else self.period - 1

    @property
    def value(self) -> float | None:
        """The last result; None while warming up."""
        return self._value  # type: ignore[no-any-return]

    def update(self, high: float | None, low: float | None, close: float | None) -> float | None:
        """Take the next bar; a bar with a None is skipped and gives None."""
        if high is None or low is None or close is None:
            self._before = self._state()
            return None
        width = self._true_range(high, low, close)
        average = self._average
        self._before = self._close, average.count, average.level
        self._close = float(close)
        if width is None or average.handle is None:
            self._value = found = None if width is None else average.step(width)
            return found
        # Warm, as at nearly every tick: the same step without a call. A bar from 0 to x after a close of 0 has range x.
        level: float = average.handle.update(width, 0.0, 0.0)
        average.level = self._value = level
        return level

    def peek(self, high: float | None, low: float | None, close: float | None) -> float | None:
        """What `update` would give, without taking the bar."""
        if high is None or low is None or close is None:
            return None
        width = self._true_range(high, low, close)
        return None if width is None else self._average.peek(width)

    def amend(self, high: float | None, low: float | None, close: float | None) -> float | None:
        """Replace the last bar, and give the result; a bar with a None takes it back.

        Raises
        ------
        InvalidRequest
            There is no last bar.
        """
        for price in (high, low, close):
            if price is not None:
                number(price)
        self._undo()
        return self.update(high, low, close)

    def _true_range(self, high: float, low: float, close: float) -> float | None:
        if not (isfinite(high) and isfinite(low) and isfinite(close)):
            raise refused(high, low, close)
        high, low, before = float(high), float(low), self._close
        if before is None:
            if self.convention == "talib":
                return None
            before = low
        width = high - low
        if (up := abs(before - high)) > width:
            width = up
        if (down := abs(before - low)) > width:  # not max(): this runs at every tick
            width = down
        return width

    def _state(self) -> tuple[Any, ...]:
        average = self._average
        return self._close, average.count, average.level

    def _rewind(self, state: Sequence[Any]) -> None:
        self._close, count, level = state
        self._average.back((count, level))
        self._value = self._average.value
