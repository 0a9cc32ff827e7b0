"""The vocabulary of every frame: name, dtype, unit and what a null means.

Fixed once here; `massive_lab.frames.build` makes frames that match exactly (also when empty) and the reference tables of
the documentation are generated from it. This module knows no dataframe library: dtypes are words.

======== ==================================================
dtype    Polars type
======== ==================================================
str      String
f64      Float64
i64      Int64
bool     Boolean
date     Date
ts       Datetime("ns", "UTC")
list_i64 List(Int64)
======== ==================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["SCHEMAS", "Column", "Dtype", "Table", "table"]

Dtype = Literal["str", "f64", "i64", "bool", "date", "ts", "list_i64"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column. `null` says what a null means; empty when the column is never null."""

    name: str
    dtype: Dtype
    unit: str
    meaning: str
    null: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """An ordered set of columns and the key that sorts and identifies a row."""

    name: str
    doc: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    def __getitem__(self, name: str) -> Column:
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)


_C = Column
_NOT_SENT = "the vendor did not send it"
_INDEX = "indices have none"
_PLAN = "the plan lacks it or the vendor did not send it"

_SYMBOL = _C("symbol", "str", "", "symbol as the vendor writes it")
_TS_RECV = _C("ts_recv", "ts", "ns UTC", "when the event was read from the socket or the poll answered")
_SOURCE = _C("source", "str", "", "stream, poll or backfill")


def _ohlc(prefix: str, what: str, null: str = "") -> tuple[Column, ...]:
    words = (("open", "first"), ("high", "highest"), ("low", "lowest"), ("close", "last"))
    return tuple(_C(f"{prefix}{name}", "f64", "price", f"{word} {what}", null) for name, word in words)


_BAR = (
    _SYMBOL,
    _C("ts_event", "ts", "ns UTC", "start of the interval, included"),
    _C("ts_close", "ts", "ns UTC", "end of the interval, excluded; a bar is known from here on"),
    *_ohlc("", "eligible price of the interval"),
    _C("volume", "f64", "shares or contracts", "traded volume; may be fractional", _INDEX),
    _C("vwap", "f64", "price", "the vendor's volume-weighted price of this bar", f"{_NOT_SENT}; {_INDEX}"),
    _C("trade_count", "i64", "", "trades in the interval", f"{_NOT_SENT}; {_INDEX}"),
)
_TRADE = (
    _SYMBOL,
    _C("ts_sip", "ts", "ns UTC", "when the consolidated feed published it"),
    _C("ts_participant", "ts", "ns UTC", "when the exchange reported it", _NOT_SENT),
    _C("ts_trf", "ts", "ns UTC", "when a trade reporting facility received it", "not reported through one"),
    _C("price", "f64", "price", "trade price"),
    _C("size", "f64", "shares or contracts", "trade size; may be fractional"),
    _C("conditions", "list_i64", "", "condition ids", "no condition"),
    _C("exchange", "i64", "", "exchange id", _NOT_SENT),
    _C("tape", "i64", "", "1 A (NYSE), 2 B, 3 C (Nasdaq)", "options have none"),
    _C("sequence", "i64", "", "orders the events of a symbol and day; not contiguous", _NOT_SENT),
    _C("trade_id", "str", "", "unique per symbol, exchange and reporting facility", _NOT_SENT),
    _C("correction", "i64", "", "correction indicator", "not a correction"),
    _C("trf_id", "i64", "", "trade reporting facility", "not reported through one"),
)
_QUOTE = (
    _SYMBOL,
    _C("ts_sip", "ts", "ns UTC", "when the consolidated feed published it"),
    _C("ts_participant", "ts", "ns UTC", "when the exchange reported it", _NOT_SENT),
    _C("ts_trf", "ts", "ns UTC", "when a trade reporting facility received it", "not reported through one"),
    _C("bid_price", "f64", "price", "best bid", "no bid: the vendor sends 0"),
    _C("bid_size", "f64", "shares or contracts", "size at the best bid", _NOT_SENT),
    _C("bid_exchange", "i64", "", "exchange id of the bid", _NOT_SENT),
    _C("ask_price", "f64", "price", "best ask", "no ask: the vendor sends 0"),
    _C("ask_size", "f64", "shares or contracts", "size at the best ask", _NOT_SENT),
    _C("ask_exchange", "i64", "", "exchange id of the ask", _NOT_SENT),
    _C("mid_price", "f64", "price", "mean of bid and ask", "one-sided"),
    _C("spread", "f64", "price", "ask less bid; negative when crossed", "one-sided"),
    _C("conditions", "list_i64", "", "condition ids", "no condition"),
    _C("indicators", "list_i64", "", "indicator ids", "no indicator"),
    _C("tape", "i64", "", "1 A (NYSE), 2 B, 3 C (Nasdaq)", "options have none"),
    _C("sequence", "i64", "", "orders the events of a symbol and day; not contiguous", _NOT_SENT),
)
_CONTRACT = (
    _C("contract", "str", "", "O: symbol"),
    _C("underlying", "str", "", "symbol of the underlying; I: for an index"),
    _C("expiration", "date", "New York date", "last trading day of the contract"),
    _C("strike", "f64", "price", "strike price"),
    _C("option_type", "str", "", "call or put"),
    _C("multiplier", "f64", "shares", "deliverable per contract; 100 unless adjusted"),
    _C("exercise_style", "str", "", "american or european", _NOT_SENT),
)
_SESSION = (
    *_ohlc("session_", "price of the session", "no trade yet"),
    _C("previous_close", "f64", "price", "close of the session before", _NOT_SENT),
    _C("change", "f64", "price", "last less previous close", _NOT_SENT),
    _C("change_percent", "f64", "%", "change in per cent of the previous close", _NOT_SENT),
)
_BID_ASK = (
    _C("bid_price", "f64", "price", "best bid", f"no bid, or {_PLAN}"),
    _C("bid_size", "f64", "shares or contracts", "size at the best bid", _PLAN),
    _C("bid_exchange", "i64", "", "exchange id of the bid", _PLAN),
    _C("ask_price", "f64", "price", "best ask", f"no ask, or {_PLAN}"),
    _C("ask_size", "f64", "shares or contracts", "size at the best ask", _PLAN),
    _C("ask_exchange", "i64", "", "exchange id of the ask", _PLAN),
    _C("mid_price", "f64", "price", "mean of bid and ask", "one-sided or no quote"),
    _C("spread", "f64", "price", "ask less bid", "one-sided or no quote"),
    _C("ts_quote", "ts", "ns UTC", "time of the quote", _PLAN),
)
_LAST_TRADE = (
    _C("trade_price", "f64", "price", "last trade", _PLAN),
    _C("trade_size", "f64", "shares or contracts", "size of the last trade", _PLAN),
    _C("trade_exchange", "i64", "", "exchange id of the last trade", _PLAN),
    _C("ts_trade", "ts", "ns UTC", "time of the last trade", _PLAN),
)
_GREEKS = (
    _C("delta", "f64", "per $1", "price change per $1 of the underlying", "not solvable or not sent; never 0 instead"),
    _C("gamma", "f64", "per $1^2", "delta change per $1 of the underlying", "as delta"),
    _C("theta", "f64", "per calendar day", "price change per day", "as delta"),
    _C("vega", "f64", "per vol point", "price change per 1 % of implied volatility", "as delta"),
    _C("implied_vol", "f64", "annualised decimal", "0.30 is 30 %", "as delta"),
)
_TIMEFRAME = _C("timeframe", "str", "", "REAL-TIME or DELAYED", _NOT_SENT)

SCHEMAS: dict[str, Table] = {
    t.name: t
    for t in (
        Table("bars", "One row per symbol and interval ``[ts_event, ts_close)``.", _BAR, ("symbol", "ts_event")),
        Table("trades", "One row per trade print.", _TRADE, ("symbol", "ts_sip", "sequence")),
        Table(
            "quotes", "One row per change of the national best bid and offer.", _QUOTE, ("symbol", "ts_sip", "sequence")
        ),
        Table(
            "values",
            "One row per index value.",
            (_SYMBOL, _C("ts_event", "ts", "ns UTC", "time of the value"), _C("value", "f64", "index points", "value")),
            ("symbol", "ts_event"),
        ),
        Table(
            "chain",
            "One row per listed option contract: quote, last trade, greeks and open interest, as of now.",
            (
                *_CONTRACT,
                *_BID_ASK,
                *_LAST_TRADE,
                *_GREEKS,
                _C("open_interest", "i64", "contracts", "at the end of the previous day", _NOT_SENT),
                *_ohlc("day_", "price of the day", "no trade yet today"),
                _C("day_volume", "f64", "contracts", "volume of the day", "no trade yet today"),
                _C("day_vwap", "f64", "price", "volume-weighted price of the day", "no trade yet today"),
                _C("previous_close", "f64", "price", "close of the session before", _NOT_SENT),
                _C("change", "f64", "price", "last less previous close", _NOT_SENT),
                _C("change_percent", "f64", "%", "change in per cent of the previous close", _NOT_SENT),
                _C("break_even_price", "f64", "price", "underlying price at which a buyer breaks even", _NOT_SENT),
                _C(
                    "underlying_price",
                    "f64",
                    "price",
                    "price or index value",
                    "the plan of the underlying's class lacks it",
                ),
                _C("ts_underlying", "ts", "ns UTC", "time of the underlying's price", "as underlying_price"),
                _TIMEFRAME,
            ),
            ("contract",),
        ),
        Table(
            "contracts",
            "One row per option contract of the reference data.",
            (
                *_CONTRACT,
                _C("primary_exchange", "str", "", "market identifier code", _NOT_SENT),
                _C("cfi", "str", "", "ISO 10962 code", _NOT_SENT),
                _C("correction", "i64", "", "correction number", "none"),
                _C("additional_underlyings", "str", "JSON", "further deliverables of an adjusted contract", "none"),
            ),
            ("contract",),
        ),
        Table(
            "snapshot",
            "One row per symbol of any class, as of now.",
            (
                _SYMBOL,
                _C("name", "str", "", "instrument name", _NOT_SENT),
                _C("asset_class", "str", "", "stocks, options or indices", "the row is an error"),
                _C("market_status", "str", "", "open, closed, early_trading, late_trading, regular_trading", _NOT_SENT),
                _C("last_price", "f64", "price", "last price, or index value", _NOT_SENT),
                *_SESSION,
                _C("volume", "f64", "shares or contracts", "volume of the session", _INDEX),
                *_BID_ASK,
                *_LAST_TRADE,
                *_GREEKS,
                _C("open_interest", "i64", "contracts", "at the end of the previous day", "options only"),
                _C("underlying_price", "f64", "price", "price or index value", "options only"),
                _C("ts_updated", "ts", "ns UTC", "time of the newest part", _NOT_SENT),
                _TIMEFRAME,
                _C("error", "str", "", "NOT_FOUND or NOT_ENTITLED", "the row is good"),
            ),
            ("symbol",),
        ),
        Table(
            "indices",
            "One row per index, as of now.",
            (
                _SYMBOL,
                _C("name", "str", "", "index name", _NOT_SENT),
                _C("value", "f64", "index points", "last value", _NOT_SENT),
                _C("market_status", "str", "", "as in snapshot", _NOT_SENT),
                *_SESSION,
                _C("ts_updated", "ts", "ns UTC", "time of the value", _NOT_SENT),
                _TIMEFRAME,
                _C("error", "str", "", "NOT_FOUND or NOT_ENTITLED", "the row is good"),
            ),
            ("symbol",),
        ),
        Table(
            "open_close",
            "Official open and close of one New York date.",
            (
                _SYMBOL,
                _C("date", "date", "New York date", "trading date"),
                *_ohlc("", "price of the regular session"),
                _C("volume", "f64", "shares or contracts", "volume of the day", _INDEX),
                _C("early_price", "f64", "price", "first price before the open", _NOT_SENT),
                _C("late_price", "f64", "price", "last price after the close", _NOT_SENT),
            ),
            ("symbol", "date"),
        ),
        Table(
            "server_indicator",
            "Values computed by the vendor, newest last.",
            (
                _SYMBOL,
                _C("ts_event", "ts", "ns UTC", "start of the bar the value belongs to"),
                _C("value", "f64", "as the indicator", "indicator value, or the MACD line"),
                _C("signal", "f64", "as the indicator", "MACD signal line", "not a MACD"),
                _C("histogram", "f64", "as the indicator", "value less signal", "not a MACD"),
            ),
            ("symbol", "ts_event"),
        ),
        Table(
            "market_status",
            "One row per market, as of the server's time.",
            (
                _C(
                    "market",
                    "str",
                    "",
                    "stocks, an exchange (exchange:nyse), an index group (indices:s_and_p), a currency market",
                ),
                _C("status", "str", "", "open, closed or extended-hours"),
                _C("ts_server", "ts", "ns UTC", "the server's time"),
                _C("is_early", "bool", "", "before the regular session"),
                _C("is_late", "bool", "", "after the regular session"),
            ),
            ("market",),
        ),
        Table(
            "holidays",
            "Coming closures and half days, one row per exchange.",
            (
                _C("date", "date", "New York date", "date"),
                _C("exchange", "str", "", "NYSE, NASDAQ or OTC"),
                _C("name", "str", "", "holiday"),
                _C("status", "str", "", "closed or early-close"),
                _C("ts_open", "ts", "ns UTC", "open of a half day", "closed all day"),
                _C("ts_close", "ts", "ns UTC", "close of a half day", "closed all day"),
            ),
            ("date", "exchange"),
        ),
        Table(
            "tickers",
            "One row per instrument of the reference data.",
            (
                _SYMBOL,
                _C("name", "str", "", "name"),
                _C("market", "str", "", "stocks, indices, otc ..."),
                _C("locale", "str", "", "us or global"),
                _C("primary_exchange", "str", "", "market identifier code", _NOT_SENT),
                _C("type", "str", "", "instrument type code", _NOT_SENT),
                _C("active", "bool", "", "listed today", _NOT_SENT),
                _C("currency", "str", "", "currency of the price", _NOT_SENT),
                _C("cik", "str", "", "SEC number", _NOT_SENT),
                _C("composite_figi", "str", "", "FIGI", _NOT_SENT),
                _C("share_class_figi", "str", "", "FIGI of the share class", _NOT_SENT),
                _C("ts_updated", "ts", "ns UTC", "last change of the row", _NOT_SENT),
            ),
            ("symbol",),
        ),
        Table(
            "exchanges",
            "One row per exchange id.",
            (
                _C("exchange", "i64", "", "exchange id as trades and quotes carry it"),
                _C("name", "str", "", "name"),
                _C("type", "str", "", "exchange, TRF or SIP"),
                _C("asset_class", "str", "", "stocks, options ..."),
                _C("locale", "str", "", "us or global"),
                _C("acronym", "str", "", "short name", _NOT_SENT),
                _C("mic", "str", "", "market identifier code", _NOT_SENT),
                _C("operating_mic", "str", "", "code of the operator", _NOT_SENT),
                _C("participant_id", "str", "", "letter on the tape", _NOT_SENT),
            ),
            ("asset_class", "exchange"),
        ),
        Table(
            "conditions",
            "One row per condition; ids repeat across types.",
            (
                _C("condition", "i64", "", "condition id"),
                _C("type", "str", "", "kind of condition"),
                _C("name", "str", "", "name"),
                _C("asset_class", "str", "", "stocks or options"),
                _C("data_types", "str", "comma list", "trade, bbo, nbbo"),
                _C("abbreviation", "str", "", "short name", _NOT_SENT),
                _C("updates_high_low", "bool", "", "counts for the consolidated high and low", _NOT_SENT),
                _C("updates_open_close", "bool", "", "counts for the consolidated open and close", _NOT_SENT),
                _C("updates_volume", "bool", "", "counts for the consolidated volume", _NOT_SENT),
            ),
            ("asset_class", "type", "condition"),
        ),
        Table("live_trades", "Trades as they came.", (*_TRADE, _TS_RECV, _SOURCE), ("symbol", "ts_sip", "sequence")),
        Table("live_quotes", "Quotes as they came.", (*_QUOTE, _TS_RECV, _SOURCE), ("symbol", "ts_sip", "sequence")),
        Table(
            "live_values",
            "Index values as they came.",
            (
                _SYMBOL,
                _C("ts_event", "ts", "ns UTC", "time of the value"),
                _C("value", "f64", "index points", "value"),
                _TS_RECV,
                _SOURCE,
            ),
            ("symbol", "ts_event"),
        ),
        Table(
            "live_bars",
            "Second or minute bars as they came; a bar sent again replaces the one before.",
            (
                *_BAR[:-1],
                _C("day_volume", "f64", "shares or contracts", "volume of the day so far", _INDEX),
                _C("day_vwap", "f64", "price", "volume-weighted price of the day so far", _INDEX),
                _C("day_open", "f64", "price", "official open of the day", _NOT_SENT),
                _C("average_size", "f64", "shares or contracts", "mean trade size of the bar", _INDEX),
                _TS_RECV,
                _SOURCE,
            ),
            ("symbol", "ts_event"),
        ),
    )
}
"""Table name to `Table`."""


def table(name: str) -> Table:
    """Look a table up.

    Examples
    --------
    >>> table("bars").names[:3], table("bars")["volume"].null
    (('symbol', 'ts_event', 'ts_close'), 'indices have none')
    """
    return SCHEMAS[name]
