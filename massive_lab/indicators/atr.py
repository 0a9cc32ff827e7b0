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

Sources that count ``high - low`` of the first bar as a true range (StockCharts) start one row earlier and differ at first.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

import polars as pl
import talib
from talib import stream

from massive_lab.indicators._engine import Array, Spec, check_period, expressions, per_group
from massive_lab.indicators._incremental import Handled, refused

__all__ = ["ATR", "atr", "spec"]

_INPUTS = ("high", "low", "close")


def spec(period: int = 14) -> Spec:
    """The average true range of bars with its parameters, for `massive_lab.indicators.apply`."""
    period = check_period(period, what="The period of an ATR", least=1)

    def kernel(high: Array, low: Array, close: Array) -> Array:
        return talib.ATR(high, low, close, timeperiod=period)

    return Spec(f"atr_{period}", _INPUTS, (f"atr_{period}",), per_group(kernel))


def atr(
    *,
    period: int = 14,
    high: str | pl.Expr = "high",
    low: str | pl.Expr = "low",
    close: str | pl.Expr = "close",
    by: str | None = "symbol",
    name: str | None = None,
) -> pl.Expr:
    """Average true range per symbol.

    Parameters
    ----------
    period : int
        Bars, 1 to 100,000.
    high, low, close : str or polars.Expr
        Prices of the bar.
    by : str or None
        Column that names the symbol; None when all rows are one series.
    name : str, optional
        Name of the result; ``atr_<period>`` by default.

    Returns
    -------
    polars.Expr
        Float64 in price units; null in the first `period` rows of a symbol and where an input is null.

    Raises
    ------
    InvalidRequest
        The period is out of range.
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
    made = spec(period)
    return expressions(made, (high, low, close), by, (name or made.outputs[0],))[0]


class ATR(Handled):
    """Average true range, one bar at a time; bit for bit the batch result.

    Parameters
    ----------
    period : int
        Bars, 1 to 100,000.

    Examples
    --------
    >>> width = ATR(2)
    >>> [width.update(*bar) for bar in ((2.0, 1.0, 2.0), (4.0, 2.0, 3.0), (4.0, 3.0, 4.0))], width.peek(3.0, 1.0, 1.0)
    ([None, None, 1.5], 2.25)
    """

    __slots__ = ("period",)

    def __init__(self, period: int = 14) -> None:
        super().__init__()
        self.period = check_period(period, what="The period of an ATR", least=1)

    def __repr__(self) -> str:
        return f"ATR(period={self.period}, value={self._value})"

    @property
    def warmup(self) -> int:
        """Bars that give no result yet."""
        return self.period

    @property
    def value(self) -> float | None:
        """The last result; None while warming up."""
        return self._value  # type: ignore[no-any-return]

    def update(self, high: float | None, low: float | None, close: float | None) -> float | None:
        """Take the next bar; a bar with a None is skipped and gives None."""
        if high is None or low is None or close is None:
            return None
        if not (isfinite(high) and isfinite(low) and isfinite(close)):
            raise refused(high, low, close)
        if self._handle is None:
            self._value = self._warm((high, low, close), self._open)
        else:
            self._value = self._handle.update(high, low, close)
        return self._value  # type: ignore[no-any-return]

    def peek(self, high: float | None, low: float | None, close: float | None) -> float | None:
        """What `update` would give, without taking the bar."""
        if high is None or low is None or close is None or self._handle is None:
            return self.copy().update(high, low, close)
        if not (isfinite(high) and isfinite(low) and isfinite(close)):
            raise refused(high, low, close)
        return self._handle.peek(high, low, close)  # type: ignore[no-any-return]

    def _open(self, history: Sequence[Array]) -> stream.ATR:
        high, low, close = history
        return stream.ATR(high, low, close, timeperiod=self.period)
