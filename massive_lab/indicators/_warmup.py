"""What the history before the first row can still contribute: bounds on the error of a truncated start.

Two recursions with the same weight that take the same values differ by their difference at one row times the weight's
power since, whatever the values are. So with the level `s` at the row `t0` of the seed, and the weight `w` (``1 - k``)::

    |average over the whole history - average over these rows| <= w ** (t - t0) * max(s - low, high - s)

is exact as long as the average over the whole history lay between `low` and `high` at `t0`. Here ``high`` is twice the
largest value of the seed window (twice the largest magnitude, and ``low = -high``, where it holds negative values) and
``low = 0``: true for prices that were never, before these rows, above twice the highest of the seed window. Rounding is
added, with ``period * 2 ** -50`` of the largest magnitude so far.
"""

from __future__ import annotations

import numpy as np
import polars as pl
import talib

from massive_lab.indicators._engine import Array

__all__ = ["ema_error", "names", "one_or_two", "rsi_error", "wilder_error"]

_FACTOR = 2.0
_EPS = 2.0**-50


def _fading(n: int, first: int, weight: float) -> Array:
    """Powers of the weight since row `first`; NaN before it."""
    out = np.full(n, np.nan)
    out[first:] = weight ** np.arange(n - first) if first < n else 0.0
    return out * (1 + 1e-9)  # covers the rounding of the powers


def _bound(window: Array, values: Array, fading: Array, period: int) -> Array:
    level = float(window.mean())
    high = _FACTOR * float(np.abs(window).max())
    low = 0.0 if window.min() >= 0 else -high
    rounding = period * _EPS * np.maximum(np.maximum.accumulate(np.abs(values)), high)
    return fading * max(level - low, high - level) + rounding


def names(name: str, *, warmup_error: bool) -> tuple[str, ...]:
    """The name of the result and, when asked, that of its bound.

    Examples
    --------
    >>> names("ema_20", warmup_error=True)
    ('ema_20', 'ema_20_warmup_error')
    """
    return (name, f"{name}_warmup_error") if warmup_error else (name,)


def one_or_two(made: list[pl.Expr]) -> pl.Expr | tuple[pl.Expr, pl.Expr]:
    """The expression, or it and its bound."""
    return made[0] if len(made) == 1 else (made[0], made[1])


def ema_error(values: Array, period: int, *, start: int, first: int) -> Array:
    """Bound for an exponential average seeded with the rows from `start` to `first`, both included."""
    fading = _fading(len(values), first, 1 - 2 / (period + 1))
    return fading if len(values) <= first else _bound(values[start : first + 1], values, fading, period)


def wilder_error(widths: Array, period: int, *, start: int) -> Array:
    """Bound for Wilder's average of true ranges seeded with `period` rows from `start` on."""
    first = start + period - 1
    fading = _fading(len(widths), first, 1 - 1 / period)
    return fading if len(widths) <= first else _bound(widths[start : first + 1], widths, fading, period)


def rsi_error(values: Array, found: Array, period: int) -> Array:
    """Bound for the relative strength index `found`.

    The averages of gains and losses are bounded as above, with ``high`` twice the largest change of the seed window. The
    index rises with the gains and falls with the losses, so its extremes are at the ends of those ranges.
    """
    n = len(values)
    fading = _fading(n, period, 1 - 1 / period)
    if n <= period:
        return fading
    change = np.diff(values, prepend=values[:1])
    nothing = np.zeros(n)
    high = _FACTOR * float(np.abs(change[1 : period + 1]).max())
    ends = []
    for side in (np.maximum(change, 0.0), np.maximum(-change, 0.0)):
        mean = talib.ATR(side, nothing, nothing, timeperiod=period)
        seed = mean[period]
        ends.append((np.maximum(mean - fading * seed, 0.0), mean + fading * (high - seed)))
    (gain_low, gain_high), (loss_low, loss_high) = ends
    with np.errstate(divide="ignore", invalid="ignore"):
        most = 100 * gain_high / (gain_high + loss_low)
        least = 100 * gain_low / (gain_low + loss_high)
    # Where nothing moved in the rows, the index over the whole history may be anything.
    bound: Array = np.where(np.isnan(most + least), 100.0, np.maximum(most - found, found - least))
    bound[:period] = np.nan
    bound += 100 * (np.arange(n) + period) * _EPS
    return bound
