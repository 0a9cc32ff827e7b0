"""Relative strength index.

=========== ===========================================================================================
formula     ``100 * gain / (gain + loss)``; ``gain[t] = (gain[t-1] * (period - 1) + max(x[t] - x[t-1], 0)) / period``,
            `loss` alike with the falls
source      J. W. Wilder, *New Concepts in Technical Trading Systems* (1978); arithmetic as TA-Lib's RSI
smoothing   Wilder, alpha ``1 / period``
seed        the simple means of the first `period` gains and losses
first value row ``period`` (counted from 0): `period` changes need one value more; ``warmup`` is ``period``
null rule   a null row is skipped and stays null; the next change is measured from the last value that was there
=========== ===========================================================================================

A series that never moves has no gain and no loss: TA-Lib, and so this module, gives 0 (not 50). TA-Lib counts
``gain + loss`` below 1e-14 as none.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

import polars as pl
import talib
from talib import stream

from massive_lab.indicators._engine import Array, Spec, check_period, expressions, per_group
from massive_lab.indicators._incremental import Handled, refused

__all__ = ["RSI", "rsi", "spec"]


def spec(period: int = 14, column: str = "close") -> Spec:
    """The index of one column with its parameters, for `massive_lab.indicators.apply`."""
    period = check_period(period, what="The period of an RSI", least=2)

    def kernel(values: Array) -> Array:
        return talib.RSI(values, timeperiod=period)

    return Spec(f"rsi_{period}", (column,), (f"rsi_{period}",), per_group(kernel))


def rsi(
    column: str | pl.Expr = "close", *, period: int = 14, by: str | None = "symbol", name: str | None = None
) -> pl.Expr:
    """Relative strength index per symbol, 0 to 100.

    Parameters
    ----------
    column : str or polars.Expr
        Prices.
    period : int
        Bars, 2 to 100,000.
    by : str or None
        Column that names the symbol; None when all rows are one series.
    name : str, optional
        Name of the result; ``rsi_<period>`` by default.

    Returns
    -------
    polars.Expr
        Float64 without unit; null in the first `period` rows of a symbol and where the input is null.

    Raises
    ------
    InvalidRequest
        The period is out of range.
    FrameInvariantError
        When evaluated: NaN or infinity in the input (rule ``finite``), or no numbers (rule ``dtype``).

    Examples
    --------
    >>> bars = pl.DataFrame({"symbol": ["A"] * 5, "close": [1.0, 2.0, 3.0, 2.0, 3.0]})
    >>> bars.with_columns(rsi("close", period=2))["rsi_2"].to_list()
    [None, None, 100.0, 50.0, 75.0]
    """
    made = spec(period)
    return expressions(made, (column,), by, (name or made.outputs[0],))[0]


class RSI(Handled):
    """Relative strength index, one value at a time; bit for bit the batch result.

    Parameters
    ----------
    period : int
        Values, 2 to 100,000.

    Examples
    --------
    >>> strength = RSI(2)
    >>> [strength.update(x) for x in (1.0, 2.0, 3.0, 2.0)], strength.peek(3.0)
    ([None, None, 100.0, 50.0], 75.0)
    """

    __slots__ = ("period",)

    def __init__(self, period: int = 14) -> None:
        super().__init__()
        self.period = check_period(period, what="The period of an RSI", least=2)

    def __repr__(self) -> str:
        return f"RSI(period={self.period}, value={self._value})"

    @property
    def warmup(self) -> int:
        """Values that give no result yet."""
        return self.period

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

    def _open(self, history: Sequence[Array]) -> stream.RSI:
        return stream.RSI(history[0], timeperiod=self.period)
