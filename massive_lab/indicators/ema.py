"""Exponential moving average.

=========== ===========================================================================================
formula     ``ema[t] = (x[t] - ema[t-1]) * k + ema[t-1]`` with ``k = 2 / (period + 1)``
source      R. G. Brown, *Statistical Forecasting for Inventory Control* (1959); arithmetic as TA-Lib's EMA
smoothing   alpha ``2 / (period + 1)``
seed        the simple mean of the first `period` values
first value row ``period - 1`` (counted from 0), so ``warmup`` is ``period - 1``
null rule   a null row is skipped and stays null; the next row continues from the last value
=========== ===========================================================================================

Libraries that seed with the first value (``ewm(adjust=False)`` of pandas and Polars) differ in the first rows and
converge later: after `n` further bars the seed still weighs ``(1 - k) ** n``.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

import polars as pl
import talib
from talib import stream

from massive_lab.indicators._engine import Array, Spec, check_period, expressions, per_group
from massive_lab.indicators._incremental import Handled, refused

__all__ = ["EMA", "ema", "spec"]


def spec(period: int, column: str = "close") -> Spec:
    """The average of one column with its parameters, for `massive_lab.indicators.apply`."""
    period = check_period(period, what="The period of an EMA", least=1)

    def kernel(values: Array) -> Array:
        return talib.EMA(values, timeperiod=period)

    return Spec(f"ema_{period}", (column,), (f"ema_{period}",), per_group(kernel))


def ema(column: str | pl.Expr = "close", *, period: int, by: str | None = "symbol", name: str | None = None) -> pl.Expr:
    """Exponential moving average per symbol.

    Parameters
    ----------
    column : str or polars.Expr
        What to average; numbers.
    period : int
        Bars, 1 to 100,000.
    by : str or None
        Column that names the symbol; None when all rows are one series.
    name : str, optional
        Name of the result; ``ema_<period>`` by default.

    Returns
    -------
    polars.Expr
        Float64 in the unit of the input, one value a row; null in the first ``period - 1`` rows of a symbol and where
        the input is null.

    Raises
    ------
    InvalidRequest
        The period is out of range.
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
    made = spec(period)
    return expressions(made, (column,), by, (name or made.outputs[0],))[0]


class EMA(Handled):
    """Exponential moving average, one value at a time; bit for bit the batch result.

    Parameters
    ----------
    period : int
        Values, 1 to 100,000.

    Examples
    --------
    >>> average = EMA(3)
    >>> [average.update(x) for x in (1.0, 2.0, 3.0, 4.0)], average.peek(6.0), average.value
    ([None, None, 2.0, 3.0], 4.5, 3.0)
    """

    __slots__ = ("period",)

    def __init__(self, period: int) -> None:
        super().__init__()
        self.period = check_period(period, what="The period of an EMA", least=1)

    def __repr__(self) -> str:
        return f"EMA(period={self.period}, value={self._value})"

    @property
    def warmup(self) -> int:
        """Values that give no result yet."""
        return self.period - 1

    @property
    def value(self) -> float | None:
        """The last result; None while warming up."""
        return self._value  # type: ignore[no-any-return]

    def update(self, value: float | None) -> float | None:
        """Take the next value; None is skipped and gives None."""
        if value is None:
            return None
        if not isfinite(value):
            raise refused(value)
        if self._handle is None:
            self._value = self._warm((value,), self._open)
        else:
            self._value = self._handle.update(value)
        return self._value  # type: ignore[no-any-return]

    def peek(self, value: float | None) -> float | None:
        """What `update` would give, without taking the value."""
        if value is None or self._handle is None:
            return self.copy().update(value)
        if not isfinite(value):
            raise refused(value)
        return self._handle.peek(value)  # type: ignore[no-any-return]

    def _open(self, history: Sequence[Array]) -> stream.EMA:
        return stream.EMA(history[0], timeperiod=self.period)
