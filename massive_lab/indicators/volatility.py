"""Realised volatility: how much log prices have moved. Batch only.

=========== ===========================================================================================
formula     ``std(log(x[t] / x[t-1])) * sqrt(annualisation)`` over the last `period` returns; the sample standard
            deviation (divisor ``period - 1``), around the mean of the window
source      the usual close-to-close estimator; arithmetic as Polars' `rolling_std`
smoothing   none
seed        none
first value row ``period`` (counted from 0): `period` returns need one price more
null rule   a null row is skipped and stays null; the next return is measured from the last price that was there
=========== ===========================================================================================
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl

from massive_lab.errors import FrameInvariantError, InvalidRequest
from massive_lab.indicators._engine import Array, Spec, check_period, expressions, per_group

__all__ = ["realised_vol", "spec"]


def spec(period: int = 20, *, annualisation: float = 252) -> Spec:
    """The volatility of one column with its parameters, for `massive_lab.indicators.apply`."""
    period = check_period(period, what="The period of a realised volatility", least=2)
    given: Any = annualisation
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given < math.inf:
        raise InvalidRequest(
            f"The annualisation is {annualisation!r}.",
            hint="Give the number of bars in a year: 252 for days, 252 * 390 for the minutes of regular sessions.",
        )
    factor = math.sqrt(annualisation)

    def kernel(values: Array) -> Array:
        if len(values) and values.min() <= 0:
            raise FrameInvariantError(
                f"realised_vol got a price of {values.min()}; returns need prices above 0.",
                rule="positive",
                hint="Use it on prices, not on spreads or changes.",
            )
        returns = pl.Series(np.diff(np.log(values)))
        found: Array = returns.rolling_std(period).fill_null(np.nan).to_numpy() * factor
        return np.concatenate((np.full(min(1, len(values)), np.nan), found))

    text = f"realised_vol_{period}"
    return Spec(text, ("close",), (text,), per_group(kernel))


def realised_vol(
    column: str | pl.Expr = "close",
    *,
    period: int = 20,
    annualisation: float = 252,
    by: str | None = "symbol",
    name: str | None = None,
) -> pl.Expr:
    """Annualised standard deviation of log returns per symbol.

    Parameters
    ----------
    column : str or polars.Expr
        Prices above 0.
    period : int
        Returns in the window, 2 to 100,000.
    annualisation : float
        Bars in a year: 252 for daily bars, ``252 * 390`` for the minutes of regular sessions.
    by : str or None
        Column that names the symbol; None when all rows are one series.
    name : str, optional
        Name of the result; ``realised_vol_<period>`` by default.

    Returns
    -------
    polars.Expr
        Float64, a decimal a year (0.2 is 20 %); null in the first `period` rows of a symbol and where the input is null.

    Raises
    ------
    InvalidRequest
        The period or the annualisation is out of range.
    FrameInvariantError
        When evaluated: a price at or below 0 (rule ``positive``), NaN or infinity (``finite``), no numbers (``dtype``).

    Examples
    --------
    >>> bars = pl.DataFrame({"symbol": ["A"] * 4, "close": [100.0, 110.0, 99.0, 108.9]})
    >>> bars.with_columns(realised_vol(period=2, annualisation=1).round(4))["realised_vol_2"].to_list()
    [None, None, 0.1419, 0.1419]
    """
    made = spec(period, annualisation=annualisation)
    return expressions(made, (column,), by, (name or made.outputs[0],))[0]
