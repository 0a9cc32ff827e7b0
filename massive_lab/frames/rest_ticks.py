"""Trades and quotes of the REST endpoints as frames."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from massive_lab.decode import ticks
from massive_lab.frames.build import build, concat, sort

__all__ = ["last_quote", "last_trade", "quotes", "trades"]


def trades(pages: Sequence[bytes], *, symbol: str) -> pl.DataFrame:
    """Pages of trades, table ``trades``, ascending by SIP time and sequence.

    Sizes may be fractional: the vendor's decimal text wins over its rounded number. Nothing is dropped: corrections and
    late prints stay, marked by ``correction`` and ``conditions``.
    """
    parts = [build("trades", {"symbol": symbol, **ticks.trade_columns(body, symbol=symbol)}) for body in pages]
    return sort("trades", concat("trades", parts))


def quotes(pages: Sequence[bytes], *, symbol: str) -> pl.DataFrame:
    """Pages of quotes, table ``quotes``, ascending by SIP time and sequence. A missing side is null, never 0."""
    parts = [_quotes(ticks.quote_columns(body, symbol=symbol), symbol) for body in pages]
    return sort("quotes", concat("quotes", parts))


def last_trade(body: bytes, *, symbol: str) -> pl.DataFrame:
    """The last trade, table ``trades``: one row."""
    return build("trades", {"symbol": symbol, **ticks.last_trade_columns(body, symbol=symbol)})


def last_quote(body: bytes, *, symbol: str) -> pl.DataFrame:
    """The last quote, table ``quotes``: one row."""
    return _quotes(ticks.last_quote_columns(body, symbol=symbol), symbol)


def _quotes(columns: ticks.Columns, symbol: str) -> pl.DataFrame:
    return with_mid(build("quotes", {"symbol": symbol, **columns}))


def with_mid(frame: pl.DataFrame) -> pl.DataFrame:
    """Fill ``mid_price`` and ``spread`` from bid and ask; null when a side is missing."""
    bid, ask = pl.col("bid_price"), pl.col("ask_price")
    return frame.with_columns(mid_price=(bid + ask) / 2, spread=ask - bid)
