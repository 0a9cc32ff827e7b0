"""Simple moving average.

=========== ===========================================================================================
formula     the mean of the last `period` values
source      TA-Lib's SMA: a running sum, in which the newest value is added before the oldest is dropped
smoothing   none
seed        none
first value row ``period - 1`` (counted from 0), so ``warmup`` is ``period - 1``
null rule   a null row is skipped and stays null: the window holds the last `period` values that are there
=========== ===========================================================================================

All conventions agree on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl
import talib

from massive_lab.indicators._engine import Array, Spec, check_period, expressions, per_group
from massive_lab.indicators._incremental import OfValues

__all__ = ["SMA", "sma", "spec"]


def spec(period: int) -> Spec:
    """The mean of one column with its parameters, for `massive_lab.indicators.apply`."""
    period = check_period(period, what="The period of an SMA", least=1)

    def kernel(values: Array) -> Array:
        return talib.SMA(values, timeperiod=period)

    return Spec(f"sma_{period}", ("close",), (f"sma_{period}",), per_group(kernel))


def sma(column: str | pl.Expr = "close", *, period: int, by: str | None = "symbol", name: str | None = None) -> pl.Expr:
    """Simple moving average per symbol.

    Parameters
    ----------
    column : str or polars.Expr
        What to average; numbers.
    period : int
        Bars, 1 to 100,000.
    by : str or None
        Column that names the symbol; None when all rows are one series.
    name : str, optional
        Name of the result; ``sma_<period>`` by default.

    Returns
    -------
    polars.Expr
        Float64 in the unit of the input; null in the first ``period - 1`` rows of a symbol and where the input is null.

    Raises
    ------
    InvalidRequest
        The period is out of range.
    FrameInvariantError
        When evaluated: NaN or infinity in the input (rule ``finite``), or no numbers (rule ``dtype``).

    Examples
    --------
    >>> bars = pl.DataFrame({"symbol": ["A", "A", "A", "B"], "close": [1.0, 3.0, 5.0, 9.0]})
    >>> bars.with_columns(sma("close", period=2))["sma_2"].to_list()
    [None, 2.0, 4.0, None]
    """
    made = spec(period)
    return expressions(made, (column,), by, (name or made.outputs[0],))[0]


class SMA(OfValues[float]):
    """Simple moving average, one value at a time; bit for bit the batch result. Keeps `period` values.

    Parameters
    ----------
    period : int
        Values, 1 to 100,000.

    Examples
    --------
    >>> mean = SMA(2)
    >>> [mean.update(x) for x in (1.0, 3.0, 5.0)], mean.peek(7.0)
    ([None, 2.0, 4.0], 6.0)
    """

    __slots__ = ("_at", "_sum", "_window", "period")

    PARAMETERS = ("period",)

    def __init__(self, period: int) -> None:
        super().__init__()
        self.period = check_period(period, what="The period of an SMA", least=1)
        self._sum = 0.0
        self._window: list[float] = []  # a ring once it is full; `_at` is the oldest
        self._at = 0

    @property
    def warmup(self) -> int:
        """Values that give no result yet."""
        return self.period - 1

    def _step(self, value: float) -> float | None:
        window = self._window
        total = self._sum + value
        if len(window) < self.period - 1:
            window.append(value)
            self._sum = total
            return None
        # The order of the additions is TA-Lib's: the sum holds period - 1 values between updates.
        if self.period == 1:
            self._sum = total - value
        else:
            at = self._at
            self._sum = total - window[at]
            window[at] = value
            self._at = at + 1 if at + 2 < self.period else 0
        return total / self.period

    def _look(self, value: float) -> float | None:
        return (self._sum + value) / self.period if len(self._window) == self.period - 1 else None

    def _state(self) -> tuple[Any, ...]:
        """What one step changes: the window is not copied, but the value the next step drops is kept."""
        n = len(self._window)
        return self._value, self._sum, self._at, n, self._window[self._at] if n and n == self.period - 1 else 0.0

    def _rewind(self, state: Sequence[Any]) -> None:
        self._value, self._sum, self._at, n, dropped = state
        del self._window[n:]
        if n and n == self.period - 1:
            self._window[self._at] = dropped

    def _dump(self) -> list[Any]:
        return [self._value, self._sum, self._at, *self._window]

    def _load(self, state: Sequence[Any]) -> None:
        self._value, self._sum, self._at, *window = state
        self._window = [float(value) for value in window]
        if len(window) > self.period - 1 or not 0 <= self._at <= max(len(window) - 1, 0):
            raise ValueError(state)
