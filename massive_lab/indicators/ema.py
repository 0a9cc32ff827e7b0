"""Exponential moving average.

=========== ===========================================================================================
formula     ``ema[t] = (x[t] - ema[t-1]) * k + ema[t-1]`` with ``k = 2 / (period + 1)``
source      R. G. Brown, *Statistical Forecasting for Inventory Control* (1959); arithmetic as TA-Lib's EMA
smoothing   alpha ``2 / (period + 1)``
seed        the simple mean of the first `period` values
first value row ``period - 1`` (counted from 0), so ``warmup`` is ``period - 1``
null rule   a null row is skipped and stays null; the next row continues from the last value
=========== ===========================================================================================

Conventions: ``stockcharts`` and ``massive`` are equal to ``talib``. ``tradingview`` is seeded with the first value, which is
also the first result (row 0, ``warmup`` 0), as ``ewm(adjust=False)`` of pandas and Polars does; the recursion is the same.
Both converge: after `n` further bars the seed still weighs ``(1 - k) ** n``.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any, Literal, overload

import polars as pl
import talib

from massive_lab.indicators._convention import Convention, check_convention, suffix
from massive_lab.indicators._engine import Array, Spec, check_period, expressions, per_group
from massive_lab.indicators._incremental import OfValues, refused
from massive_lab.indicators._recursion import Ema, ema_from_first
from massive_lab.indicators._warmup import ema_error, names, one_or_two

__all__ = ["EMA", "ema", "spec"]


def spec(period: int, *, convention: str = "talib", warmup_error: bool = False) -> Spec:
    """The average of one column with its parameters, for `massive_lab.indicators.apply`."""
    period = check_period(period, what="The period of an EMA", least=1)
    known = check_convention(convention, "An EMA")

    def kernel(values: Array) -> tuple[Array, ...]:
        first = known == "tradingview"
        found = ema_from_first(values, period) if first else talib.EMA(values, timeperiod=period)
        if not warmup_error:
            return (found,)
        return found, ema_error(values, period, start=0, first=0 if first else period - 1)

    text = f"ema_{period}{suffix(known)}"
    return Spec(text, ("close",), names(text, warmup_error=warmup_error), per_group(kernel))


@overload
def ema(
    column: str | pl.Expr = ...,
    *,
    period: int,
    convention: Convention = ...,
    warmup_error: Literal[False] = ...,
    by: str | None = ...,
    name: str | None = ...,
) -> pl.Expr: ...
@overload
def ema(
    column: str | pl.Expr = ...,
    *,
    period: int,
    convention: Convention = ...,
    warmup_error: Literal[True],
    by: str | None = ...,
    name: str | None = ...,
) -> tuple[pl.Expr, pl.Expr]: ...


def ema(
    column: str | pl.Expr = "close",
    *,
    period: int,
    convention: Convention = "talib",
    warmup_error: bool = False,
    by: str | None = "symbol",
    name: str | None = None,
) -> pl.Expr | tuple[pl.Expr, pl.Expr]:
    """Exponential moving average per symbol.

    Parameters
    ----------
    column : str or polars.Expr
        What to average; numbers.
    period : int
        Bars, 1 to 100,000.
    convention : {"talib", "stockcharts", "tradingview", "massive"}
        Whose definition; see the module's docstring.
    warmup_error : bool
        Give one more expression, ``<name>_warmup_error``: a bound on how far the result is from the one over a longer
        history, in its unit. It holds as long as the column was, before the first row, never above twice the largest of the
        seed window. Null where the result is.
    by : str or None
        Column that names the symbol; None when all rows are one series.
    name : str, optional
        Name of the result; ``ema_<period>`` by default, with ``@<convention>`` where that is not TA-Lib.

    Returns
    -------
    polars.Expr, or a tuple of two
        Float64 in the unit of the input, one value a row; null in the first ``period - 1`` rows of a symbol (in none with
        ``tradingview``) and where the input is null.

    Raises
    ------
    InvalidRequest
        The period is out of range, or the convention is unknown.
    FrameInvariantError
        When evaluated: NaN or infinity in the input (rule ``finite``), or no numbers (rule ``dtype``).

    Notes
    -----
    Formula, source, smoothing and seed are in the module's docstring. Rows are taken in the order of the frame.

    Examples
    --------
    >>> bars = pl.DataFrame({"symbol": ["A"] * 5, "close": [1.0, 2.0, 3.0, 4.0, 6.0]})
    >>> bars.with_columns(ema("close", period=3))["ema_3"].to_list()
    [None, None, 2.0, 3.0, 4.5]
    """
    made = spec(period, convention=convention, warmup_error=warmup_error)
    return one_or_two(expressions(made, (column,), by, names(name or made.text, warmup_error=warmup_error)))


class EMA(OfValues[float]):
    """Exponential moving average, one value at a time; bit for bit the batch result.

    Parameters
    ----------
    period : int
        Values, 1 to 100,000.
    convention : {"talib", "stockcharts", "tradingview", "massive"}

    Examples
    --------
    >>> average = EMA(3)
    >>> [average.update(x) for x in (1.0, 2.0, 3.0, 4.0)], average.peek(6.0), average.value
    ([None, None, 2.0, 3.0], 4.5, 3.0)
    >>> average.amend(6.0)
    4.0
    """

    __slots__ = ("_average", "convention", "period")

    PARAMETERS = ("period", "convention")

    def __init__(self, period: int, convention: Convention = "talib") -> None:
        super().__init__()
        self.period = check_period(period, what="The period of an EMA", least=1)
        self.convention = check_convention(convention, "An EMA")
        self._average = Ema(self.period, seed=1 if self.convention == "tradingview" else self.period)

    @property
    def warmup(self) -> int:
        """Values that give no result yet."""
        return self._average.seed - 1

    def update(self, value: float | None) -> float | None:
        """Take the next value; None is skipped and gives None."""
        average = self._average
        handle = average.handle
        if value is None or handle is None:
            return super().update(value)
        # Warm, as at nearly every tick: the same steps without a call.
        if not isfinite(value):
            raise refused(value)
        self._before = average.count, average.level
        level: float = handle.update(float(value))
        average.level = self._value = level
        return level

    def _step(self, value: float) -> float | None:
        return self._average.step(value)

    def _look(self, value: float) -> float | None:
        return self._average.peek(value)

    def _state(self) -> tuple[Any, ...]:
        average = self._average
        return average.count, average.level

    def _rewind(self, state: Sequence[Any]) -> None:
        count, level = state
        self._average.back((count, level))
        self._value = self._average.value
