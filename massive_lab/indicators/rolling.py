"""Volume-weighted average price over the last stretch of time. Batch only.

=========== ===========================================================================================
formula     ``sum(typical * volume) / sum(volume)`` over the bars that start in ``(t - window, t]``;
            ``typical = (high + low + close) / 3``
source      the usual intraday definition on typical prices, over a moving window; sums as Polars' `rolling_sum_by`
smoothing   none
seed        none: the first rows average what there is
first value the first bar with a volume
null rule   a row with a null in high, low, close or volume is skipped and stays null; while the window holds no volume
            the value is null
=========== ===========================================================================================

The window is time, not bars: with minute bars, ``"30m"`` holds at most 30 of them, fewer where minutes are missing, and it
does not stop at the end of a session. Moving sums round a little at each step: values are good to some 1e-12 of the largest
volume times price that passed.
"""

from __future__ import annotations

import re

import numpy as np
import polars as pl
from numpy.typing import NDArray

from massive_lab.errors import FrameInvariantError, InvalidRequest
from massive_lab.indicators._engine import Array, Spec, expressions, per_group

__all__ = ["rolling_vwap", "spec"]

_INPUTS = ("ts_event", "high", "low", "close", "volume")
_WINDOW = re.compile(r"([1-9]\d{0,5})([smhd])")


def spec(window: str = "30m") -> Spec:
    """The moving VWAP of bars over its window, for `massive_lab.indicators.apply`."""
    if not _WINDOW.fullmatch(str(window)):
        raise InvalidRequest(
            f"{window!r} is no window of a rolling VWAP.", hint="Give a number of s, m, h or d: 90s, 30m, 2h, 5d."
        )

    def kernel(ts: NDArray[np.int64], high: Array, low: Array, close: Array, volume: Array) -> Array:
        if len(volume) and volume.min() < 0:
            raise FrameInvariantError(
                f"rolling_vwap got a negative volume, {volume.min()}.",
                rule="volume",
                hint="Mend the source of the bars.",
            )
        frame = pl.DataFrame({"ts": ts, "money": (high + low + close) / 3.0 * volume, "volume": volume})
        over = {"by": "ts", "window_size": window, "closed": "right"}
        return (
            frame.with_columns(pl.col("ts").cast(pl.Datetime("ns")))
            .select(
                # Whether there is any volume is counted: a moving sum of fractions need not come back to 0.
                pl.when((pl.col("volume") > 0).cast(pl.Int64).rolling_sum_by(**over) > 0)  # type: ignore[arg-type]
                .then(pl.col("money").rolling_sum_by(**over) / pl.col("volume").rolling_sum_by(**over))  # type: ignore[arg-type]
                .alias("vwap")
            )["vwap"]
            .fill_null(np.nan)
            .to_numpy()
        )

    text = f"rolling_vwap_{window}"
    return Spec(text, _INPUTS, (text,), per_group(kernel), clock="ts_event", volume="volume")


def rolling_vwap(
    *,
    window: str = "30m",
    ts_event: str = "ts_event",
    high: str | pl.Expr = "high",
    low: str | pl.Expr = "low",
    close: str | pl.Expr = "close",
    volume: str | pl.Expr = "volume",
    by: str | None = "symbol",
    name: str | None = None,
) -> pl.Expr:
    """Volume-weighted average price over the last stretch of time, per symbol.

    Parameters
    ----------
    window : str
        Length of the window: a number of ``s``, ``m``, ``h`` or ``d`` (of 24 hours).
    ts_event : str
        Start of the bar, ``Datetime`` with a zone; strictly ascending per symbol.
    high, low, close, volume : str or polars.Expr
        Prices and volume of the bar.
    by : str or None
        Column that names the symbol; None when all rows are one series.
    name : str, optional
        Name of the result; ``rolling_vwap_<window>`` by default.

    Returns
    -------
    polars.Expr
        Float64 in price units; null while the window has no volume and where an input is null.

    Raises
    ------
    InvalidRequest
        The window cannot be read.
    FrameInvariantError
        When evaluated: a symbol without any volume, or a negative one (rule ``volume``), times out of order
        (``sorted``), NaN or infinity (``finite``), wrong types (``dtype``).

    Examples
    --------
    >>> import datetime as dt
    >>> bars = pl.DataFrame({
    ...     "symbol": ["A"] * 3, "ts_event": [dt.datetime(2025, 6, 2, 14, m, tzinfo=dt.UTC) for m in (30, 31, 32)],
    ...     "high": [12.0, 15.0, 9.0], "low": [8.0, 9.0, 9.0], "close": [10.0, 12.0, 9.0], "volume": [100.0, 300.0, 100.0],
    ... })
    >>> bars.with_columns(rolling_vwap(window="2m"))["rolling_vwap_2m"].to_list()
    [10.0, 11.5, 11.25]
    """
    made = spec(window)
    return expressions(made, (ts_event, high, low, close, volume), by, (name or made.outputs[0],))[0]
