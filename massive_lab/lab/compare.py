"""The vendor's indicator values beside our own, row by row."""

from __future__ import annotations

import datetime as dt
from typing import Any, get_args

import polars as pl

from massive_lab.errors import InvalidRequest
from massive_lab.loaders.history import bars
from massive_lab.loaders.indicators import server_indicator
from massive_lab.loaders.session import Session
from massive_lab.loaders.when import parse_range
from massive_lab.schema.timeframe import parse_timeframe

__all__ = ["indicator_diff"]

_LINES = {"macd": ("value", "signal", "histogram")}
_SERVED = {"sma", "ema", "rsi", "macd"}
# Calendar days that surely hold one bar, weekends and holidays included.
_DAYS_OF_A_BAR = {"m": 1 / 150, "h": 1 / 4, "d": 1.6, "w": 7.5, "mo": 32.0, "q": 95.0, "y": 370.0}


async def indicator_diff(
    session: Session,
    symbol: str,
    indicator: str,
    start: object,
    end: object,
    *,
    timeframe: object,
    period: int | None,
    fast: int,
    slow: int,
    signal: int,
    column: str,
    convention: str,
    warmup_bars: object,
) -> pl.DataFrame:
    """Load the server's values and bars from `warmup_bars` before the start, compute ours, and join them."""
    if isinstance(warmup_bars, bool) or not isinstance(warmup_bars, int) or warmup_bars < 0:
        raise InvalidRequest(f"warmup_bars is {warmup_bars!r}; it must be a whole number, 0 or more.")
    if indicator not in _SERVED:
        raise InvalidRequest(f"The vendor has no indicator {indicator!r}.", hint="One of sma, ema, rsi, macd.")
    span = parse_range(start, end)
    grid = parse_timeframe(timeframe)
    settings: dict[str, Any] = {"fast": fast, "slow": slow, "signal": signal}
    if indicator != "macd":
        settings = {"period": {"rsi": 14}.get(indicator, 50) if period is None else period}
    expressions = _expressions(indicator, column, convention, settings)
    server = await server_indicator(session, symbol, indicator, start, end, timeframe=grid, column=column, **settings)
    days = 1 + int(warmup_bars * _DAYS_OF_A_BAR[grid.unit])
    first = dt.datetime.fromtimestamp(span.start_ns // 1_000_000_000, dt.UTC) - dt.timedelta(days=days)
    local = (await bars(session, symbol, grid, first, end)).select("ts_event", **expressions)
    whole = server.join(local, on="ts_event", how="left", maintain_order="left")
    parts = [
        whole.select(
            "symbol",
            "ts_event",
            line=pl.lit(line),
            server=pl.col(line),
            local=pl.col(f"local_{line}"),
            difference=pl.col(f"local_{line}") - pl.col(line),
        )
        for line in _LINES.get(indicator, ("value",))
    ]
    return pl.concat(parts)


def _expressions(indicator: str, column: str, convention: str, settings: dict[str, Any]) -> dict[str, pl.Expr]:
    from massive_lab import indicators

    if convention not in get_args(indicators.Convention):
        raise InvalidRequest(
            f"convention is {convention!r}.", hint=f"One of {', '.join(get_args(indicators.Convention))}."
        )
    if indicator != "sma":  # a mean is a mean
        settings = {**settings, "convention": convention}
    made = getattr(indicators, indicator)(column, by=None, **settings)
    several = made if isinstance(made, tuple) else (made,)
    return {f"local_{line}": expr for line, expr in zip(_LINES.get(indicator, ("value",)), several, strict=True)}
