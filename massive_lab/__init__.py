"""DataFrame-first access to Massive.com market data: history, indicators, live ticks, and what they cost.

``import massive_lab as ml`` loads nothing heavy; each name is resolved when it is first used.

==================== =========================================================================
connecting           `connect` `aconnect` `Lab` `AsyncLab`
indicators           `ema` `sma` `rsi` `atr` `macd` `session_vwap` `rolling_vwap` `realised_vol`, `indicators.apply`
frames               `check` `resample` `replay` `prove_no_lookahead` `reconcile_bars`
macro                `regime.classify` `regime.latest`
errors               `MassiveLabError` and its tree, see `errors`
==================== =========================================================================
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from massive_lab._version import __version__

if TYPE_CHECKING:
    from massive_lab import errors, indicators, regime, sandbox, schema
    from massive_lab.errors import (
        CaptureDamaged,
        CaptureError,
        ClosedError,
        ConfigError,
        ConnectionLost,
        DataError,
        DecodeError,
        FrameInvariantError,
        GapError,
        IncompletePagination,
        InvalidRequest,
        MassiveLabError,
        NotEntitled,
        RateLimited,
        SlowReader,
        SubscriptionFailed,
        Timeout,
        TransportError,
        Unauthorized,
        UnknownSymbol,
        UpstreamError,
    )
    from massive_lab.frames.bars import resample
    from massive_lab.frames.check import check
    from massive_lab.frames.lookahead import prove_no_lookahead
    from massive_lab.frames.reconcile import reconcile_bars
    from massive_lab.indicators import atr, ema, macd, realised_vol, rolling_vwap, rsi, session_vwap, sma
    from massive_lab.lab.aio import AsyncLab
    from massive_lab.lab.core import aconnect, connect
    from massive_lab.lab.replay import replay
    from massive_lab.lab.sync import Lab
    from massive_lab.live.read.mailbox import EventsDropped

__all__ = [
    "AsyncLab",
    "CaptureDamaged",
    "CaptureError",
    "ClosedError",
    "ConfigError",
    "ConnectionLost",
    "DataError",
    "DecodeError",
    "EventsDropped",
    "FrameInvariantError",
    "GapError",
    "IncompletePagination",
    "InvalidRequest",
    "Lab",
    "MassiveLabError",
    "NotEntitled",
    "RateLimited",
    "SlowReader",
    "SubscriptionFailed",
    "Timeout",
    "TransportError",
    "Unauthorized",
    "UnknownSymbol",
    "UpstreamError",
    "__version__",
    "aconnect",
    "atr",
    "check",
    "connect",
    "ema",
    "errors",
    "indicators",
    "macd",
    "prove_no_lookahead",
    "realised_vol",
    "reconcile_bars",
    "regime",
    "replay",
    "resample",
    "rolling_vwap",
    "rsi",
    "sandbox",
    "schema",
    "session_vwap",
    "sma",
]

_MODULES = frozenset({"errors", "indicators", "regime", "sandbox", "schema"})
_HOMES = {
    "AsyncLab": "lab.aio",
    "EventsDropped": "live.read.mailbox",
    "Lab": "lab.sync",
    "aconnect": "lab.core",
    "atr": "indicators",
    "check": "frames.check",
    "connect": "lab.core",
    "ema": "indicators",
    "macd": "indicators",
    "prove_no_lookahead": "frames.lookahead",
    "realised_vol": "indicators",
    "reconcile_bars": "frames.reconcile",
    "replay": "lab.replay",
    "resample": "frames.bars",
    "rolling_vwap": "indicators",
    "rsi": "indicators",
    "session_vwap": "indicators",
    "sma": "indicators",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        value: Any = import_module(f"massive_lab.{name}")
    elif name in _HOMES:
        value = getattr(import_module(f"massive_lab.{_HOMES[name]}"), name)
    elif name in __all__:
        value = getattr(import_module("massive_lab.errors"), name)
    else:
        raise AttributeError(f"module 'massive_lab' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
