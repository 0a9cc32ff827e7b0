"""Reference data, market status, holidays and server-computed indicators as frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl

from massive_lab.decode import reference as wire
from massive_lab.frames.build import build, concat, sort
from massive_lab.frames.rest_bars import midnight_of_session
from massive_lab.schema.timeframe import Timeframe

__all__ = [
    "conditions",
    "contracts",
    "exchanges",
    "holidays",
    "market_status",
    "server_indicator",
    "tickers",
]


def contracts(pages: Sequence[bytes]) -> pl.DataFrame:
    """Pages of the option contracts reference, table ``contracts``, by contract."""
    return _paged("contracts", pages, wire.contract_columns)


def tickers(pages: Sequence[bytes]) -> pl.DataFrame:
    """Pages of the tickers reference, table ``tickers``, by symbol."""
    return _paged("tickers", pages, wire.ticker_columns)


def conditions(pages: Sequence[bytes]) -> pl.DataFrame:
    """Pages of the conditions reference, table ``conditions``."""
    return _paged("conditions", pages, wire.condition_columns)


def exchanges(body: bytes) -> pl.DataFrame:
    """The exchanges reference, table ``exchanges``."""
    return _paged("exchanges", [body], wire.exchange_columns)


def server_indicator(pages: Sequence[bytes], *, symbol: str, timeframe: Timeframe | None = None) -> pl.DataFrame:
    """Pages of a server-computed indicator, table ``server_indicator``, ascending in time whatever the order asked.

    With the `timeframe` of the underlying bars, values of a day or longer are stamped as those bars are.
    """
    parts = [
        build("server_indicator", {"symbol": symbol, **wire.indicator_columns(body, symbol=symbol)}) for body in pages
    ]
    frame = concat("server_indicator", parts)
    if timeframe is not None and not timeframe.is_intraday:
        frame = frame.with_columns(ts_event=midnight_of_session(pl.col("ts_event")))
    return sort("server_indicator", frame)


def market_status(body: bytes) -> pl.DataFrame:
    """The state of every market now, table ``market_status``; stocks first."""
    return build("market_status", wire.market_status_columns(body))


def holidays(body: bytes) -> pl.DataFrame:
    """Coming closures and half days, table ``holidays``, by date and exchange."""
    return sort("holidays", build("holidays", wire.holiday_columns(body)))


def _paged(table: str, pages: Sequence[bytes], read: Callable[[bytes], wire.Columns]) -> pl.DataFrame:
    return sort(table, concat(table, [build(table, read(body)) for body in pages]))
