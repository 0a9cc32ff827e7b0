"""Indicators computed by the vendor; each answer is kept for 60 s and shared by all who ask meanwhile."""

from __future__ import annotations

from numbers import Integral

import polars as pl

from massive_lab.errors import InvalidRequest
from massive_lab.frames import rest
from massive_lab.loaders.reference import ensure_known
from massive_lab.loaders.session import Session, path_of
from massive_lab.loaders.when import parse_range
from massive_lab.schema.plans import MAX_INDICATOR_LIMIT
from massive_lab.schema.symbols import parse_symbol
from massive_lab.schema.timeframe import parse_timeframe
from massive_lab.telemetry import CacheHit, RequestCoalesced

__all__ = ["CACHE_S", "server_indicator"]

CACHE_S = 60.0
_DEFAULT_PERIOD = {"sma": 50, "ema": 50, "rsi": 14}


async def server_indicator(
    session: Session,
    symbol: str,
    indicator: str,
    start: object,
    end: object,
    *,
    timeframe: object = "1d",
    period: int | None = None,
    fast: int = 12,
    slow: int = 26,
    signal: int = 9,
    column: str = "close",
    adjustment: str = "split",
) -> pl.DataFrame:
    parsed = parse_symbol(symbol)
    grid = parse_timeframe(timeframe)
    span = parse_range(start, end)
    params = _params(indicator, period, fast, slow, signal)
    if grid.multiplier != 1 or grid.unit == "s":
        raise InvalidRequest(
            f"The vendor computes no indicators on {grid} bars.",
            hint="Use '1m', '1h', '1d', '1w', '1mo', '1q' or '1y', or compute locally.",
        )
    if column not in ("open", "high", "low", "close"):
        raise InvalidRequest(f"column is {column!r}.", hint="Use 'open', 'high', 'low' or 'close'.")
    if adjustment not in ("split", "none"):
        raise InvalidRequest(f"adjustment is {adjustment!r}.", hint="Use 'split' or 'none'.")
    params |= {
        "timespan": grid.timespan,
        "timestamp.gte": str(span.start_ns // 1_000_000),
        "timestamp.lt": str(span.end_ns // 1_000_000),
        "adjusted": "true" if adjustment == "split" else "false",
        "series_type": column,
        "order": "asc",
        "limit": str(MAX_INDICATOR_LIMIT),
    }
    endpoint = f"indicator_{indicator}"
    key = (endpoint, parsed.text, tuple(sorted(params.items())))
    hit: pl.DataFrame | None = session.cached(key, CACHE_S)
    if hit is not None:
        session.telemetry.emit(CacheHit(session.clock.monotonic(), endpoint, "server_indicator"))
        return hit.clone()
    if session.shared.is_shared(key):
        session.telemetry.emit(RequestCoalesced(session.clock.monotonic(), endpoint, "server_indicator"))

    async def ask() -> pl.DataFrame:
        # Its age counts from the question: what the server answered may be as old as that.
        asked_s = session.clock.monotonic()
        async with session.load("server_indicator", [parsed.text]) as load:
            pages = await load.pages(
                endpoint,
                path_of(endpoint, symbol=parsed),
                params=params,
                symbol=parsed.text,
                budget=parsed.asset_class,
                on_page=lambda _: load.progress.step(),
            )
            frame = rest.server_indicator([page.body for page in pages], symbol=parsed.text, timeframe=grid)
            if frame.is_empty():
                await ensure_known(load, parsed, as_of=span.start_ns)
            load.n_rows = frame.height
            session.store(key, frame, asked_s)
            return frame

    shared: pl.DataFrame = await session.shared.join(key, ask)
    return shared.clone()


def _params(indicator: object, period: int | None, fast: int, slow: int, signal: int) -> dict[str, str]:
    if indicator == "macd":
        if not (all(map(_is_count, (fast, slow, signal))) and fast < slow):
            raise InvalidRequest(
                f"MACD needs whole numbers 0 < fast < slow and signal >= 1; got {fast!r}, {slow!r}, {signal!r}."
            )
        return {"short_window": str(int(fast)), "long_window": str(int(slow)), "signal_window": str(int(signal))}
    if not isinstance(indicator, str) or indicator not in _DEFAULT_PERIOD:
        raise InvalidRequest(f"The vendor has no indicator {indicator!r}.", hint="One of sma, ema, rsi, macd.")
    window = _DEFAULT_PERIOD[indicator] if period is None else period
    if not _is_count(window):
        raise InvalidRequest(f"period is {window!r}; it must be a whole number of bars, at least 1.")
    return {"window": str(int(window))}


def _is_count(value: object) -> bool:
    """Whole and positive; `Integral` takes numpy's integers too."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        return False
    return int(value) >= 1
