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

Conventions: all four smooth and seed alike (TradingView's ``rma`` is Wilder's average seeded with a simple mean), so that
they differ only where nothing moves. A series that never moved has no gain and no loss: ``talib`` gives 0, ``stockcharts``
and ``tradingview`` give 100 (there is no loss), ``massive`` 50: what the vendor's server gives there is not published, and
50 is what the sandbox answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any, Literal, TypeAlias, overload

import polars as pl
import talib

from massive_lab.indicators._convention import Convention, check_convention, suffix
from massive_lab.indicators._engine import Array, Spec, check_period, expressions, per_group
from massive_lab.indicators._incremental import OfValues, refused
from massive_lab.indicators._warmup import names, one_or_two, rsi_error

__all__ = ["RSI", "rsi", "spec"]

_Now: TypeAlias = tuple[float | None, int, float | None, float, float]

_FLAT: dict[Convention, float] = {"talib": 0.0, "stockcharts": 100.0, "tradingview": 100.0, "massive": 50.0}


def spec(period: int = 14, *, convention: str = "talib", warmup_error: bool = False) -> Spec:
    """The index of one column with its parameters, for `massive_lab.indicators.apply`."""
    period = check_period(period, what="The period of an RSI", least=2)
    known = check_convention(convention, "An RSI")

    def kernel(values: Array) -> tuple[Array, ...]:
        found = talib.RSI(values, timeperiod=period)
        if known != "talib" and (no_gain := found == 0.0).any():
            # The index of the mirrored series is that of the losses: 0 in both is no movement at all.
            found[no_gain & (talib.RSI(-values, timeperiod=period) == 0.0)] = _FLAT[known]
        return (found, rsi_error(values, found, period)) if warmup_error else (found,)

    text = f"rsi_{period}{suffix(known)}"
    return Spec(text, ("close",), names(text, warmup_error=warmup_error), per_group(kernel))


@overload
def rsi(
    column: str | pl.Expr = ...,
    *,
    period: int = ...,
    convention: Convention = ...,
    warmup_error: Literal[False] = ...,
    by: str | None = ...,
    name: str | None = ...,
) -> pl.Expr: ...
@overload
def rsi(
    column: str | pl.Expr = ...,
    *,
    period: int = ...,
    convention: Convention = ...,
    warmup_error: Literal[True],
    by: str | None = ...,
    name: str | None = ...,
) -> tuple[pl.Expr, pl.Expr]: ...


def rsi(
    column: str | pl.Expr = "close",
    *,
    period: int = 14,
    convention: Convention = "talib",
    warmup_error: bool = False,
    by: str | None = "symbol",
    name: str | None = None,
) -> pl.Expr | tuple[pl.Expr, pl.Expr]:
    """Relative strength index per symbol, 0 to 100.

    Parameters
    ----------
    column : str or polars.Expr
        Prices.
    period : int
        Bars, 2 to 100,000.
    convention : {"talib", "stockcharts", "tradingview", "massive"}
        Whose definition; see the module's docstring.
    warmup_error : bool
        Give one more expression, ``<name>_warmup_error``: a bound on how far the result is from the one over a longer
        history, in its unit. It holds as long as a change was, before the first row, never above twice the largest of the
        seed window. Null where the result is.
    by : str or None
        Column that names the symbol; None when all rows are one series.
    name : str, optional
        Name of the result; ``rsi_<period>`` by default, with ``@<convention>`` where that is not TA-Lib.

    Returns
    -------
    polars.Expr, or a tuple of two
        Float64 without unit; null in the first `period` rows of a symbol and where the input is null.

    Raises
    ------
    InvalidRequest
        The period is out of range, or the convention is unknown.
    FrameInvariantError
        When evaluated: NaN or infinity in the input (rule ``finite``), or no numbers (rule ``dtype``).

    Examples
    --------
    >>> bars = pl.DataFrame({"symbol": ["A"] * 5, "close": [1.0, 2.0, 3.0, 2.0, 3.0]})
    >>> bars.with_columns(rsi("close", period=2))["rsi_2"].to_list()
    [None, None, 100.0, 50.0, 75.0]
    """
    made = spec(period, convention=convention, warmup_error=warmup_error)
    return one_or_two(expressions(made, (column,), by, names(name or made.text, warmup_error=warmup_error)))


class RSI(OfValues[float]):
    """Relative strength index, one value at a time; bit for bit the batch result.

    Parameters
    ----------
    period : int
        Values, 2 to 100,000.
    convention : {"talib", "stockcharts", "tradingview", "massive"}

    Examples
    --------
    >>> strength = RSI(2)
    >>> [strength.update(x) for x in (1.0, 2.0, 3.0, 2.0)], strength.peek(3.0)
    ([None, None, 100.0, 50.0], 75.0)
    >>> strength.amend(1.0)
    33.33333333333333
    """

    __slots__ = ("_now", "_share", "_weight", "convention", "period")

    PARAMETERS = ("period", "convention")

    def __init__(self, period: int = 14, convention: Convention = "talib") -> None:
        super().__init__()
        self.period = check_period(period, what="The period of an RSI", least=2)
        self.convention = check_convention(convention, "An RSI")
        self._weight = float(self.period - 1)
        self._share = 1.0 / self.period
        # Result, changes taken up to the period, last value, gains and losses: sums until then, means after.
        self._now: _Now = (None, 0, None, 0.0, 0.0)

    @property
    def warmup(self) -> int:
        """Values that give no result yet."""
        return self.period

    def _next(self, value: float) -> _Now:
        """The state after a value. TA-Lib rounds after each of these operations, so Python gives the same bits."""
        _, count, last, gain, loss = self._now
        if last is None:
            return None, 0, value, 0.0, 0.0
        change = value - last
        if count == self.period:
            gain *= self._weight
            loss *= self._weight
        else:
            count += 1
        if change < 0:
            loss -= change
        else:
            gain += change
        if count < self.period:
            return None, count, value, gain, loss
        gain *= self._share
        loss *= self._share
        total = gain + loss
        found = 100.0 * (gain / total) if total else _FLAT[self.convention]
        return found, count, value, gain, loss

    def update(self, value: float | None) -> float | None:
        """Take the next value; None is skipped and gives None."""
        if value is None:
            self._before = self._now
            return None
        if not isfinite(value):
            raise refused(value)
        self._before = self._now
        self._now = now = self._next(float(value))
        self._value = now[0]
        return now[0]

    def _look(self, value: float) -> float | None:
        return self._next(value)[0]

    def _state(self) -> tuple[Any, ...]:
        return self._now

    def _rewind(self, state: Sequence[Any]) -> None:
        found, count, last, gain, loss = state
        if not 0 <= count <= self.period:
            raise ValueError(state)
        self._now = found, count, last, gain, loss
        self._value = found
