"""Snapshots: option chain, single contract, unified and indices. Bytes to flat columns.

Every object of a row may be missing, because the plan or the day has nothing to give; nothing missing is invented.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, TypeAlias

import msgspec

from massive_lab.decode.fields import Float, Int, Text, decode, exact_size, iso_date, positive, to_ints
from massive_lab.decode.pages import read_rows
from massive_lab.errors import DecodeError, UnknownSymbol
from massive_lab.schema.symbols import OptionSymbol, parse_symbol

__all__ = ["chain_columns", "contract_facts", "contract_snapshot_columns", "indices_columns", "snapshot_columns"]

Columns: TypeAlias = dict[str, list[Any]]


class _Details(msgspec.Struct):
    ticker: Text = None
    contract_type: Text = None
    exercise_style: Text = None
    expiration_date: Text = None
    shares_per_contract: Float = None
    strike_price: Float = None


class _Day(msgspec.Struct):
    open: Float = None
    high: Float = None
    low: Float = None
    close: Float = None
    previous_close: Float = None
    change: Float = None
    change_percent: Float = None
    volume: Float = None
    vwap: Float = None


class _Greeks(msgspec.Struct):
    delta: Float = None
    gamma: Float = None
    theta: Float = None
    vega: Float = None


class _LastQuote(msgspec.Struct):
    bid: Float = None
    bid_size: Float = None
    bid_exchange: Int = None
    ask: Float = None
    ask_size: Float = None
    ask_exchange: Int = None
    last_updated: Int = None
    timeframe: Text = None


class _LastTrade(msgspec.Struct):
    price: Float = None
    size: Float = None
    decimal_size: Text = None
    exchange: Int = None
    sip_timestamp: Int = None
    participant_timestamp: Int = None
    last_updated: Int = None
    timeframe: Text = None


class _Underlying(msgspec.Struct):
    ticker: Text = None
    price: Float = None
    value: Float = None
    last_updated: Int = None
    timeframe: Text = None


class _Session(msgspec.Struct):
    open: Float = None
    high: Float = None
    low: Float = None
    close: Float = None
    previous_close: Float = None
    change: Float = None
    change_percent: Float = None
    price: Float = None
    volume: Float = None
    decimal_volume: Text = None


class _Row(msgspec.Struct):
    """One row of any snapshot; the four endpoints fill different parts of it."""

    ticker: Text = None
    name: Text = None
    type: Text = None
    market_status: Text = None
    error: Text = None
    value: Float = None
    details: _Details | None = None
    day: _Day | None = None
    session: _Session | None = None
    greeks: _Greeks | None = None
    last_quote: _LastQuote | None = None
    last_trade: _LastTrade | None = None
    underlying_asset: _Underlying | None = None
    implied_volatility: Float = None
    open_interest: Int = None
    break_even_price: Float = None
    last_updated: Int = None
    timeframe: Text = None


_ROWS = msgspec.json.Decoder(list[_Row])
_ONE = msgspec.json.Decoder(_Row)
_NOTHING = {
    "details": _Details(),
    "day": _Day(),
    "session": _Session(),
    "greeks": _Greeks(),
    "last_quote": _LastQuote(),
    "last_trade": _LastTrade(),
    "underlying_asset": _Underlying(),
}


def chain_columns(body: bytes, *, underlying: str) -> Columns:
    """Columns of one page of the option chain snapshot.

    Raises
    ------
    DecodeError
        Bad JSON, a wrong type, or a row whose contract cannot be told.
    """
    _, raw = read_rows(body, endpoint="chain", symbol=underlying)
    return _chain(decode(_ROWS, raw, endpoint="chain", symbol=underlying), "chain", underlying)


def contract_snapshot_columns(body: bytes) -> Columns:
    """As `chain_columns`, for the snapshot of a single contract: one row."""
    _, raw = read_rows(body, endpoint="chain_contract")
    return _chain([decode(_ONE, raw, endpoint="chain_contract")], "chain_contract", None)


def snapshot_columns(body: bytes) -> Columns:
    """Columns of one page of the unified snapshot; a row the vendor refused has only its symbol and the error."""
    _, raw = read_rows(body, endpoint="snapshot")
    rows: list[_Row] = decode(_ROWS, raw, endpoint="snapshot")
    columns = _session_columns(rows, "snapshot")
    columns |= _market_columns(rows, "snapshot")
    sessions = [row.session or _Session() for row in rows]
    return columns | {
        "asset_class": [row.type for row in rows],
        "last_price": [_last_price(row) for row in rows],
        "volume": [
            exact_size(s.volume, s.decimal_volume, field="decimal_volume", endpoint="snapshot") for s in sessions
        ],
        "ts_updated": [_newest(row) for row in rows],
        "timeframe": [row.timeframe or _timeframe(row) for row in rows],
    }


def indices_columns(body: bytes) -> Columns:
    """Columns of one page of the indices snapshot."""
    _, raw = read_rows(body, endpoint="snapshot_indices")
    rows: list[_Row] = decode(_ROWS, raw, endpoint="snapshot_indices")
    columns = _session_columns(rows, "snapshot_indices")
    return columns | {
        "value": [row.value for row in rows],
        "ts_updated": to_ints([row.last_updated for row in rows], field="last_updated", endpoint="snapshot_indices"),
        "timeframe": [row.timeframe for row in rows],
    }


def contract_facts(
    ticker: str | None,
    *,
    endpoint: str,
    expiration: str | None,
    strike: float | None,
    option_type: str | None,
    multiplier: float | None,
    underlying: str | None,
) -> tuple[str, str, dt.date, float, str, float | None]:
    """Contract, underlying, expiration, strike, type and multiplier of one option row.

    What the row leaves out is read from its symbol, which encodes all of it. The multiplier is 100 when left out, except
    for an adjusted contract: there it stays null, since only the vendor knows it.
    """
    try:
        parsed = parse_symbol(ticker or "")
    except UnknownSymbol:
        parsed = None
    option = parsed if isinstance(parsed, OptionSymbol) else None
    day = iso_date(expiration, field="expiration_date", endpoint=endpoint)
    kind, root = option_type, underlying
    if option is not None:
        day = day or option.expiration
        strike = option.strike if strike is None else strike
        kind, root = kind or option.option_type, root or option.underlying
    if not ticker or day is None or strike is None or not kind or not root:
        raise DecodeError("A row does not say which contract it is.", excerpt=str(ticker), endpoint=endpoint)
    if option is not None and option.underlying == f"I:{root}":
        root = option.underlying
    if multiplier is None and option is not None and not option.is_adjusted:
        multiplier = 100.0
    return ticker, root, day, strike, kind, multiplier


def _part(row: _Row, name: str) -> Any:
    return getattr(row, name) or _NOTHING[name]


def _parts(rows: Sequence[_Row], name: str) -> list[Any]:
    nothing = _NOTHING[name]
    return [getattr(row, name) or nothing for row in rows]


def _chain(rows: Sequence[_Row], endpoint: str, underlying: str | None) -> Columns:
    facts = []
    for row in rows:
        details: _Details = _part(row, "details")
        asset: _Underlying = _part(row, "underlying_asset")
        facts.append(
            contract_facts(
                details.ticker or row.ticker,
                endpoint=endpoint,
                expiration=details.expiration_date,
                strike=details.strike_price,
                option_type=details.contract_type,
                multiplier=details.shares_per_contract,
                underlying=underlying or asset.ticker,
            )
        )
    days: list[_Day] = _parts(rows, "day")
    assets: list[_Underlying] = _parts(rows, "underlying_asset")
    names = ("contract", "underlying", "expiration", "strike", "option_type", "multiplier")
    columns: Columns = {name: [fact[i] for fact in facts] for i, name in enumerate(names)}
    return (
        columns
        | _market_columns(rows, endpoint)
        | {
            "exercise_style": [_part(row, "details").exercise_style for row in rows],
            **{f"day_{name}": [positive(getattr(d, name)) for d in days] for name in ("open", "high", "low", "close")},
            "day_volume": [d.volume for d in days],
            "day_vwap": [positive(d.vwap) for d in days],
            "previous_close": [d.previous_close for d in days],
            "change": [d.change for d in days],
            "change_percent": [d.change_percent for d in days],
            "break_even_price": [row.break_even_price for row in rows],
            "ts_underlying": to_ints([a.last_updated for a in assets], field="last_updated", endpoint=endpoint),
            "timeframe": [_timeframe(row) for row in rows],
        }
    )


def _market_columns(rows: Sequence[_Row], endpoint: str) -> Columns:
    """Quote, last trade, greeks and open interest: the same objects in the chain and in the unified snapshot."""
    quotes: list[_LastQuote] = _parts(rows, "last_quote")
    trades: list[_LastTrade] = _parts(rows, "last_trade")
    greeks: list[_Greeks] = _parts(rows, "greeks")
    assets: list[_Underlying] = _parts(rows, "underlying_asset")
    return {
        "bid_price": [positive(q.bid) for q in quotes],
        "bid_size": [q.bid_size for q in quotes],
        "bid_exchange": to_ints([q.bid_exchange for q in quotes], field="bid_exchange", endpoint=endpoint),
        "ask_price": [positive(q.ask) for q in quotes],
        "ask_size": [q.ask_size for q in quotes],
        "ask_exchange": to_ints([q.ask_exchange for q in quotes], field="ask_exchange", endpoint=endpoint),
        "ts_quote": to_ints([q.last_updated for q in quotes], field="last_updated", endpoint=endpoint),
        "trade_price": [t.price for t in trades],
        "trade_size": [exact_size(t.size, t.decimal_size, field="decimal_size", endpoint=endpoint) for t in trades],
        "trade_exchange": to_ints([t.exchange for t in trades], field="exchange", endpoint=endpoint),
        "ts_trade": to_ints([_trade_time(t) for t in trades], field="sip_timestamp", endpoint=endpoint),
        "delta": [g.delta for g in greeks],
        "gamma": [g.gamma for g in greeks],
        "theta": [g.theta for g in greeks],
        "vega": [g.vega for g in greeks],
        "implied_vol": [row.implied_volatility for row in rows],
        "open_interest": to_ints([row.open_interest for row in rows], field="open_interest", endpoint=endpoint),
        "underlying_price": [a.price if a.price is not None else a.value for a in assets],
    }


def _session_columns(rows: Sequence[_Row], endpoint: str) -> Columns:
    if any(row.ticker is None for row in rows):
        raise DecodeError("A snapshot row has no ticker.", endpoint=endpoint)
    sessions: list[_Session] = _parts(rows, "session")
    prices = ("open", "high", "low", "close")
    return {
        "symbol": [row.ticker for row in rows],
        "name": [row.name for row in rows],
        "market_status": [row.market_status for row in rows],
        **{
            f"session_{name}": [
                # An index may stand at 0; a stock or contract at 0 has not traded.
                value if (value := getattr(s, name)) or (row.ticker or "").startswith("I:") else None
                for row, s in zip(rows, sessions, strict=True)
            ]
            for name in prices
        },
        "previous_close": [s.previous_close for s in sessions],
        "change": [s.change for s in sessions],
        "change_percent": [s.change_percent for s in sessions],
        "error": [row.error for row in rows],
    }


def _trade_time(trade: _LastTrade) -> Int:
    stamps = (trade.sip_timestamp, trade.last_updated, trade.participant_timestamp)
    return next((stamp for stamp in stamps if stamp is not None), None)


def _last_price(row: _Row) -> Float:
    session, trade = _part(row, "session"), _part(row, "last_trade")
    prices = (row.value, session.price, trade.price, positive(session.close))
    return next((price for price in prices if price is not None), None)


def _newest(row: _Row) -> int | None:
    stamps: list[int | Decimal | None] = [
        row.last_updated,
        _part(row, "last_quote").last_updated,
        _trade_time(_part(row, "last_trade")),
    ]
    known = [stamp for stamp in to_ints(stamps, field="last_updated", endpoint="snapshot") if stamp is not None]
    return max(known) if known else None


def _timeframe(row: _Row) -> Text:
    words = (_part(row, name).timeframe for name in ("last_quote", "last_trade", "underlying_asset"))
    return next((word for word in words if word), None)
