"""The same expressions behind a column: ``pl.col("close").ta.rsi(14)``.

Registered by importing `massive_lab.indicators`, unless another package has taken the name ``ta`` before.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from massive_lab.indicators.ema import ema
from massive_lab.indicators.macd import macd
from massive_lab.indicators.rsi import rsi
from massive_lab.indicators.sma import sma
from massive_lab.indicators.volatility import realised_vol

__all__ = ["Indicators", "register"]


class Indicators:
    """Indicators of one column. Arguments, names and results are those of the functions of the same name.

    Examples
    --------
    >>> bars = pl.DataFrame({"symbol": ["A"] * 4, "close": [1.0, 2.0, 3.0, 2.0]})
    >>> bars.with_columns(pl.col("close").ta.rsi(2), pl.col("close").ta.ema(3, name="slow")).columns
    ['symbol', 'close', 'rsi_2', 'slow']
    """

    def __init__(self, column: pl.Expr) -> None:
        self._column = column

    def ema(self, period: int, **options: Any) -> Any:
        """`massive_lab.indicators.ema` of this column."""
        return ema(self._column, period=period, **options)

    def sma(self, period: int, **options: Any) -> pl.Expr:
        """`massive_lab.indicators.sma` of this column."""
        return sma(self._column, period=period, **options)

    def rsi(self, period: int = 14, **options: Any) -> Any:
        """`massive_lab.indicators.rsi` of this column."""
        return rsi(self._column, period=period, **options)

    def macd(self, fast: int = 12, slow: int = 26, signal: int = 9, **options: Any) -> tuple[pl.Expr, ...]:
        """`massive_lab.indicators.macd` of this column: expressions to be unpacked with ``*``."""
        return macd(self._column, fast=fast, slow=slow, signal=signal, **options)

    def realised_vol(self, period: int = 20, **options: Any) -> pl.Expr:
        """`massive_lab.indicators.realised_vol` of this column."""
        return realised_vol(self._column, period=period, **options)


def register() -> None:
    """Put the namespace on Polars' expressions, if the name is free."""
    if not hasattr(pl.Expr, "ta"):
        pl.api.register_expr_namespace("ta")(Indicators)
