"""Indicators with one definition: expressions on frames, by name on any frame, and one bar at a time.

================ ============================ ===========================
expression       by name, for `apply`         incremental
================ ============================ ===========================
`ema`            ``ema_20``                   `EMA`
`sma`            ``sma_50``                   `SMA`
`rsi`            ``rsi_14``                   `RSI`
`atr`            ``atr_14``                   `ATR`
`macd`           ``macd_12_26_9``             `MACD`
`session_vwap`   ``session_vwap``             `SessionVWAP`
`rolling_vwap`   ``rolling_vwap_30m``         none
`realised_vol`   ``realised_vol_20``          none
================ ============================ ===========================

All give the same numbers, bit for bit. The arithmetic is TA-Lib's; every module states its formula, source,
smoothing, seed, first valid bar and null rule. The functions here share their names with the modules they come from.
"""

from __future__ import annotations

from massive_lab.indicators._convention import Convention
from massive_lab.indicators.apply import apply, parse_spec
from massive_lab.indicators.atr import ATR, atr
from massive_lab.indicators.ema import EMA, ema
from massive_lab.indicators.macd import MACD, MACDValue, macd
from massive_lab.indicators.namespace import register
from massive_lab.indicators.pandas_ta import from_pandas_ta
from massive_lab.indicators.rolling import rolling_vwap
from massive_lab.indicators.rsi import RSI, rsi
from massive_lab.indicators.sma import SMA, sma
from massive_lab.indicators.volatility import realised_vol
from massive_lab.indicators.vwap import SessionVWAP, session_vwap

__all__ = [
    "ATR",
    "EMA",
    "MACD",
    "RSI",
    "SMA",
    "Convention",
    "MACDValue",
    "SessionVWAP",
    "apply",
    "atr",
    "ema",
    "from_pandas_ta",
    "macd",
    "parse_spec",
    "realised_vol",
    "rolling_vwap",
    "rsi",
    "session_vwap",
    "sma",
]

register()
