"""Moving average convergence divergence.

=========== ===========================================================================================
formula     ``macd = ema(x, fast) - ema(x, slow)``; ``signal = ema(macd, signal)``; ``hist = macd - signal``
source      G. Appel, *Technical Analysis: Power Tools for Active Investors* (2005); arithmetic as TA-Lib's MACD
smoothing   three exponential averages, alpha ``2 / (n + 1)``
seed        simple means. Aligned at the slow start: the fast average is seeded with the `fast` values that end where
            the slow seed ends, not with the very first ones; the signal with the first `signal` values of the line
first value row ``slow + signal - 2`` (counted from 0) for all three, so ``warmup`` is ``slow + signal - 2``: 33 for
            12, 26, 9. The line exists from row ``slow - 1`` on, and is not shown before the signal exists
null rule   a null row is skipped and stays null; the next row continues from the last value
=========== ===========================================================================================

Libraries that start the fast average at its own first value (StockCharts, TradingView) show the line earlier and differ
in the first rows; after some 250 bars nothing of it is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import NamedTuple

import polars as pl
import talib
from talib import stream

from massive_lab.errors import InvalidRequest
from massive_lab.indicators._engine import Array, Spec, check_period, expressions, per_group
from massive_lab.indicators._incremental import Handled, refused

__all__ = ["MACD", "MACDValue", "macd", "spec"]


def _periods(fast: int, slow: int, signal: int) -> tuple[int, int, int]:
    fast = check_period(fast, what="The fast period of a MACD", least=2)
    slow = check_period(slow, what="The slow period of a MACD", least=2)
    signal = check_period(signal, what="The signal period of a MACD", least=1)
    if fast >= slow:
        raise InvalidRequest(
            f"A MACD's fast period {fast} is not below its slow period {slow}.", hint="The usual ones are 12, 26 and 9."
        )
    return fast, slow, signal


def spec(fast: int = 12, slow: int = 26, signal: int = 9, column: str = "close") -> Spec:
    """Line, signal and histogram of one column with the parameters, for `massive_lab.indicators.apply`."""
    fast, slow, signal = _periods(fast, slow, signal)
    suffix = f"{fast}_{slow}_{signal}"

    def kernel(values: Array) -> tuple[Array, Array, Array]:
        return talib.MACD(values, fastperiod=fast, slowperiod=slow, signalperiod=signal)

    outputs = (f"macd_{suffix}", f"macd_signal_{suffix}", f"macd_hist_{suffix}")
    return Spec(f"macd_{suffix}", (column,), outputs, per_group(kernel))


def macd(
    column: str | pl.Expr = "close",
    *,
    fast: int = 12,
    slow: int = 26,
    signal: int = 9,
    by: str | None = "symbol",
    name: str | None = None,
) -> tuple[pl.Expr, pl.Expr, pl.Expr]:
    """Line, signal and histogram per symbol: three expressions, to be unpacked with ``*``.

    Parameters
    ----------
    column : str or polars.Expr
        Prices.
    fast, slow, signal : int
        Bars; ``2 <= fast < slow``, ``signal >= 1``, at most 100,000.
    by : str or None
        Column that names the symbol; None when all rows are one series.
    name : str, optional
        Names the results ``name``, ``name_signal`` and ``name_hist``; by default ``macd_12_26_9``,
        ``macd_signal_12_26_9`` and ``macd_hist_12_26_9`` with the periods asked for.

    Returns
    -------
    tuple of three polars.Expr
        Float64 in the unit of the input; null in the first ``slow + signal - 2`` rows of a symbol and where the input
        is null.

    Raises
    ------
    InvalidRequest
        A period is out of range, or `fast` is not below `slow`.
    FrameInvariantError
        When evaluated: NaN or infinity in the input (rule ``finite``), or no numbers (rule ``dtype``).

    Examples
    --------
    >>> bars = pl.DataFrame({"symbol": ["A"] * 5, "close": [1.0, 2.0, 4.0, 7.0, 11.0]})
    >>> bars.select(*macd("close", fast=2, slow=3, signal=2)).columns
    ['macd_2_3_2', 'macd_signal_2_3_2', 'macd_hist_2_3_2']
    >>> bars.select(macd("close", fast=2, slow=3, signal=2)[0].round(6)).to_series().to_list()
    [None, None, None, 1.0, 1.388889]
    """
    made = spec(fast, slow, signal)
    names = made.outputs if name is None else (name, f"{name}_signal", f"{name}_hist")
    line, smoothed, histogram = expressions(made, (column,), by, names)
    return line, smoothed, histogram


class MACDValue(NamedTuple):
    """One bar's line, signal and histogram."""

    macd: float
    signal: float
    hist: float


class MACD(Handled):
    """Line, signal and histogram, one value at a time; bit for bit the batch result.

    Parameters
    ----------
    fast, slow, signal : int
        Values; ``2 <= fast < slow``, ``signal >= 1``.

    Examples
    --------
    >>> lines = MACD(2, 3, 2)
    >>> [lines.update(x) for x in (1.0, 2.0, 4.0)]
    [None, None, None]
    >>> lines.update(7.0)
    MACDValue(macd=1.0, signal=0.8333333333333333, hist=0.16666666666666674)
    """

    __slots__ = ("fast", "signal", "slow")

    def __init__(self, fast: int = 12, slow: int = 26, signal: int = 9) -> None:
        super().__init__()
        self.fast, self.slow, self.signal = _periods(fast, slow, signal)

    def __repr__(self) -> str:
        return f"MACD(fast={self.fast}, slow={self.slow}, signal={self.signal}, value={self._value})"

    @property
    def warmup(self) -> int:
        """Values that give no result yet."""
        return self.slow + self.signal - 2

    @property
    def value(self) -> MACDValue | None:
        """The last result; None while warming up."""
        return self._value  # type: ignore[no-any-return]

    def update(self, value: float | None) -> MACDValue | None:
        """Take the next value; None is skipped and gives None."""
        if value is None:
            return None
        if not isfinite(value):
            raise refused(value)
        found = self._warm((value,), self._open) if self._handle is None else self._handle.update(value)
        self._value = None if found is None else MACDValue(*found)
        return self._value  # type: ignore[no-any-return]

    def peek(self, value: float | None) -> MACDValue | None:
        """What `update` would give, without taking the value."""
        if value is None or self._handle is None:
            return self.copy().update(value)
        if not isfinite(value):
            raise refused(value)
        return MACDValue(*self._handle.peek(value))

    def _open(self, history: Sequence[Array]) -> stream.MACD:
        return stream.MACD(history[0], fastperiod=self.fast, slowperiod=self.slow, signalperiod=self.signal)
