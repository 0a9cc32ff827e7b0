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

Conventions, in what they differ from that:

=============== ===========================================================================================
``stockcharts`` independent: each average is seeded with its own first values; first value as above
``tradingview`` every average begins with the first value it gets; first value at row 0, where all three
                are 0; ``warmup`` 0
``massive``     independent as ``stockcharts``; the signal runs from 0 over the line filled with zeros, in which the line
                is the fast average alone until the slow one exists. First value at row ``slow - 1`` for all three.
                Reconstructed from the vendor's published numbers; its server reads so many bars before the first it
                shows that little of the seed is left
=============== ===========================================================================================

They converge: after some 250 bars nothing of the seeds of 12, 26, 9 is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any, Literal, NamedTuple, overload

import numpy as np
import polars as pl
import talib

from massive_lab.errors import InvalidRequest
from massive_lab.indicators._convention import Convention, check_convention, suffix
from massive_lab.indicators._engine import Array, Spec, check_period, expressions, per_group
from massive_lab.indicators._incremental import OfValues, refused
from massive_lab.indicators._recursion import Ema, ema_from, ema_from_first
from massive_lab.indicators._warmup import ema_error, names

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


def _lines(values: Array, fast: int, slow: int, signal: int, convention: Convention) -> tuple[Array, Array, Array]:
    if convention == "talib":
        return talib.MACD(values, fastperiod=fast, slowperiod=slow, signalperiod=signal)
    if convention == "tradingview":
        line = ema_from_first(values, fast) - ema_from_first(values, slow)
        smoothed = ema_from_first(line, signal)
    elif len(values) < slow:
        line = smoothed = np.full(len(values), np.nan)
    else:
        quick, late = talib.EMA(values, timeperiod=fast), talib.EMA(values, timeperiod=slow)
        line = quick - late
        if convention == "massive":
            smoothed = ema_from(np.nan_to_num(quick) - np.nan_to_num(late), signal, 0.0)
            smoothed[: slow - 1] = np.nan
        else:
            smoothed = np.full(len(values), np.nan)
            smoothed[slow - 1 :] = talib.EMA(line[slow - 1 :], timeperiod=signal)
            line[np.isnan(smoothed)] = np.nan
    return line, smoothed, line - smoothed


def _error(values: Array, line: Array, fast: int, slow: int, convention: Convention) -> Array:
    """The bounds of both averages, where there is a line."""
    late = 0 if convention == "tradingview" else slow - 1
    quick = {"talib": slow - 1, "tradingview": 0}.get(convention, fast - 1)
    start = max(quick - fast + 1, 0)
    bound = ema_error(values, fast, start=start, first=quick) + ema_error(values, slow, start=0, first=late)
    bound[np.isnan(line)] = np.nan
    return bound


def spec(
    fast: int = 12, slow: int = 26, signal: int = 9, *, convention: str = "talib", warmup_error: bool = False
) -> Spec:
    """Line, signal and histogram of one column with the parameters, for `massive_lab.indicators.apply`."""
    fast, slow, signal = _periods(fast, slow, signal)
    known = check_convention(convention, "A MACD")

    def kernel(values: Array) -> tuple[Array, ...]:
        lines = _lines(values, fast, slow, signal, known)
        return (*lines, _error(values, lines[0], fast, slow, known)) if warmup_error else lines

    tail = f"{fast}_{slow}_{signal}{suffix(known)}"
    line, *error = names(f"macd_{tail}", warmup_error=warmup_error)
    outputs = (line, f"macd_signal_{tail}", f"macd_hist_{tail}", *error)
    return Spec(f"macd_{tail}", ("close",), outputs, per_group(kernel))


@overload
def macd(
    column: str | pl.Expr = ...,
    *,
    fast: int = ...,
    slow: int = ...,
    signal: int = ...,
    convention: Convention = ...,
    warmup_error: Literal[False] = ...,
    by: str | None = ...,
    name: str | None = ...,
) -> tuple[pl.Expr, pl.Expr, pl.Expr]: ...
@overload
def macd(
    column: str | pl.Expr = ...,
    *,
    fast: int = ...,
    slow: int = ...,
    signal: int = ...,
    convention: Convention = ...,
    warmup_error: Literal[True],
    by: str | None = ...,
    name: str | None = ...,
) -> tuple[pl.Expr, pl.Expr, pl.Expr, pl.Expr]: ...
def macd(
    column: str | pl.Expr = "close",
    *,
    fast: int = 12,
    slow: int = 26,
    signal: int = 9,
    convention: Convention = "talib",
    warmup_error: bool = False,
    by: str | None = "symbol",
    name: str | None = None,
) -> tuple[pl.Expr, ...]:
    """Line, signal and histogram per symbol: three expressions, to be unpacked with ``*``.

    Parameters
    ----------
    column : str or polars.Expr
        Prices.
    fast, slow, signal : int
        Bars; ``2 <= fast < slow``, ``signal >= 1``, at most 100,000.
    convention : {"talib", "stockcharts", "tradingview", "massive"}
        Whose definition; see the module's docstring.
    warmup_error : bool
        Give a fourth expression, ``<name>_warmup_error``: a bound on how far the line is from the one over a longer
        history, in its unit. It holds as long as the column was, before the first row, never above twice the largest of the
        seed window. Null where the line is.
    by : str or None
        Column that names the symbol; None when all rows are one series.
    name : str, optional
        Names the results ``name``, ``name_signal`` and ``name_hist``; by default ``macd_12_26_9``,
        ``macd_signal_12_26_9`` and ``macd_hist_12_26_9`` with the periods asked for,
        and with ``@<convention>`` where that is not TA-Lib.

    Returns
    -------
    tuple of three polars.Expr, or of four
        Float64 in the unit of the input; null in the first rows of a symbol (``slow + signal - 2`` with TA-Lib; see the
        module's docstring for the others) and where the input is null.

    Raises
    ------
    InvalidRequest
        A period is out of range, `fast` is not below `slow`, or the convention is unknown.
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
    made = spec(fast, slow, signal, convention=convention, warmup_error=warmup_error)
    named = made.outputs
    if name is not None:
        line, *error = names(name, warmup_error=warmup_error)
        named = (line, f"{name}_signal", f"{name}_hist", *error)
    return tuple(expressions(made, (column,), by, named))


class MACDValue(NamedTuple):
    """One bar's line, signal and histogram."""

    macd: float
    signal: float
    hist: float


_NEW = tuple.__new__  # a named tuple without the Python call of its constructor


class MACD(OfValues[MACDValue]):
    """Line, signal and histogram, one value at a time; bit for bit the batch result.

    Parameters
    ----------
    fast, slow, signal : int
        Values; ``2 <= fast < slow``, ``signal >= 1``.
    convention : {"talib", "stockcharts", "tradingview", "massive"}

    Examples
    --------
    >>> lines = MACD(2, 3, 2)
    >>> [lines.update(x) for x in (1.0, 2.0, 4.0)]
    [None, None, None]
    >>> lines.update(7.0)
    MACDValue(macd=1.0, signal=0.8333333333333333, hist=0.16666666666666674)
    """

    __slots__ = ("_fast", "_filled", "_signal", "_skip", "_slow", "convention", "fast", "signal", "slow")

    PARAMETERS = ("fast", "slow", "signal", "convention")

    def __init__(self, fast: int = 12, slow: int = 26, signal: int = 9, convention: Convention = "talib") -> None:
        super().__init__()
        self.fast, self.slow, self.signal = _periods(fast, slow, signal)
        self.convention = check_convention(convention, "A MACD")
        first = self.convention == "tradingview"
        self._filled = self.convention == "massive"
        self._skip = self.slow - self.fast if self.convention == "talib" else 0
        self._fast = Ema(self.fast, seed=1 if first else self.fast)
        self._slow = Ema(self.slow, seed=1 if first else self.slow)
        self._signal = Ema(self.signal, seed=1 if first else 0 if self._filled else self.signal)

    @property
    def warmup(self) -> int:
        """Values that give no result yet."""
        return self._slow.seed - 1 + max(self._signal.seed - 1, 0)

    def update(self, value: float | None) -> MACDValue | None:
        """Take the next value; None is skipped and gives None."""
        quick, late, last = self._fast, self._slow, self._signal
        if value is None or late.handle is None or last.handle is None:
            return super().update(value)
        # Warm, as at nearly every tick: the same steps without the questions.
        if not isfinite(value):
            raise refused(value)
        self._before = quick.count, quick.level, late.count, late.level, last.count, last.level
        value = float(value)
        quick.level = fast = quick.handle.update(value)
        late.level = slow = late.handle.update(value)
        line = fast - slow
        last.level = smoothed = last.handle.update(line)
        self._value = found = _NEW(MACDValue, (line, smoothed, line - smoothed))
        return found

    def _step(self, value: float) -> MACDValue | None:
        quick, late, last = self._fast, self._slow, self._signal
        fast = quick.step(value) if late.count >= self._skip else None
        slow = late.step(value)
        if fast is not None and slow is not None:
            line = fast - slow
        elif self._filled:
            line = (fast or 0.0) - (slow or 0.0)
        else:
            return None
        return self._made(line, slow, last.step(line))

    def _look(self, value: float) -> MACDValue | None:
        return self.copy()._step(value)

    def _made(self, line: float, slow: float | None, smoothed: float | None) -> MACDValue | None:
        return None if slow is None or smoothed is None else MACDValue(line, smoothed, line - smoothed)

    def _state(self) -> tuple[Any, ...]:
        fast, slow, signal = self._fast, self._slow, self._signal
        return fast.count, fast.level, slow.count, slow.level, signal.count, signal.level

    def _rewind(self, state: Sequence[Any]) -> None:
        n_fast, fast, n_slow, slow, n_signal, signal = state
        self._fast.back((n_fast, fast))
        self._slow.back((n_slow, slow))
        self._signal.back((n_signal, signal))
        self._value = self._made(fast - slow, self._slow.value, self._signal.value)
