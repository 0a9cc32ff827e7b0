"""Trades and quotes, from the paged lists and from the last-tick endpoints: bytes to columns.

The two families name the same things differently (``sip_timestamp`` and ``t``); both come out under the names of
`massive_lab.schema.columns`, times in UTC nanoseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec
import polars as pl

from massive_lab.decode.fields import Float, Int, Text, decode, exact_size, positive, to_ints
from massive_lab.decode.lines import read_flat
from massive_lab.decode.pages import read_rows
from massive_lab.errors import DecodeError

__all__ = [
    "Columns",
    "last_quote_columns",
    "last_trade_columns",
    "quote_columns",
    "quote_columns_exact",
    "trade_columns",
    "trade_columns_exact",
]

Columns: TypeAlias = dict[str, Any]
"""Column name to a list or a Polars series."""

Ids: TypeAlias = list[int | None] | None

_IDS = pl.List(pl.Int64)
_TRADE_WIRE = {
    "sip_timestamp": pl.Int64,
    "participant_timestamp": pl.Int64,
    "trf_timestamp": pl.Int64,
    "price": pl.Float64,
    "size": pl.Float64,
    "decimal_size": pl.String,
    "conditions": _IDS,
    "exchange": pl.Int64,
    "tape": pl.Int64,
    "sequence_number": pl.Int64,
    "id": pl.String,
    "correction": pl.Int64,
    "trf_id": pl.Int64,
}
_QUOTE_WIRE = {
    "sip_timestamp": pl.Int64,
    "participant_timestamp": pl.Int64,
    "trf_timestamp": pl.Int64,
    "bid_price": pl.Float64,
    "bid_size": pl.Float64,
    "bid_exchange": pl.Int64,
    "ask_price": pl.Float64,
    "ask_size": pl.Float64,
    "ask_exchange": pl.Int64,
    "conditions": _IDS,
    "indicators": _IDS,
    "tape": pl.Int64,
    "sequence_number": pl.Int64,
}
_LONG = {
    "sip_timestamp": "ts_sip",
    "participant_timestamp": "ts_participant",
    "trf_timestamp": "ts_trf",
    "sequence_number": "sequence",
    "id": "trade_id",
}


class _Trade(msgspec.Struct, gc=False):
    price: float
    sip_timestamp: Int
    size: Float = None
    decimal_size: Text = None
    exchange: Int = None
    participant_timestamp: Int = None
    sequence_number: Int = None
    id: Text = None
    conditions: Ids = None
    correction: Int = None
    tape: Int = None
    trf_id: Int = None
    trf_timestamp: Int = None


class _Quote(msgspec.Struct, gc=False):
    sip_timestamp: Int
    bid_price: Float = None
    bid_size: Float = None
    bid_exchange: Int = None
    ask_price: Float = None
    ask_size: Float = None
    ask_exchange: Int = None
    participant_timestamp: Int = None
    trf_timestamp: Int = None
    sequence_number: Int = None
    conditions: Ids = None
    indicators: Ids = None
    tape: Int = None


# The last-tick endpoints say the same in one letter each.
_TRADE_LETTERS = {
    "price": "p",
    "sip_timestamp": "t",
    "size": "s",
    "decimal_size": "ds",
    "exchange": "x",
    "participant_timestamp": "y",
    "sequence_number": "q",
    "id": "i",
    "conditions": "c",
    "correction": "e",
    "tape": "z",
    "trf_id": "r",
    "trf_timestamp": "f",
}
_QUOTE_LETTERS = {
    "sip_timestamp": "t",
    "bid_price": "p",
    "bid_size": "s",
    "bid_exchange": "x",
    "ask_price": "P",
    "ask_size": "S",
    "ask_exchange": "X",
    "participant_timestamp": "y",
    "trf_timestamp": "f",
    "sequence_number": "q",
    "conditions": "c",
    "indicators": "i",
    "tape": "z",
}


def _in_letters(kind: type[msgspec.Struct], letters: dict[str, str]) -> msgspec.json.Decoder[Any]:
    fields = [
        (
            f.name,
            f.type,
            msgspec.field(name=letters[f.name]) if f.required else msgspec.field(default=None, name=letters[f.name]),
        )
        for f in msgspec.structs.fields(kind)
    ]
    return msgspec.json.Decoder(msgspec.defstruct(kind.__name__, fields, gc=False))


_TRADES = msgspec.json.Decoder(list[_Trade])
_QUOTES = msgspec.json.Decoder(list[_Quote])
_LAST_TRADE = _in_letters(_Trade, _TRADE_LETTERS)
_LAST_QUOTE = _in_letters(_Quote, _QUOTE_LETTERS)


def trade_columns(body: bytes, *, symbol: str | None = None) -> Columns:
    """Columns of one page of ``/v3/trades``, in the order the rows came.

    ``decimal_size`` wins over ``size`` where the vendor sends both. An empty id or list of conditions is null.

    Raises
    ------
    DecodeError
        Bad JSON, a wrong type, a trade without price, size or SIP time.
    """
    found = read_flat(body, _TRADE_WIRE, endpoint="trades", symbol=symbol)
    columns = None if found is None else _flat_trades(found)
    return trade_columns_exact(body, symbol=symbol) if columns is None else columns


def trade_columns_exact(body: bytes, *, symbol: str | None = None) -> Columns:
    """`trade_columns` by msgspec alone."""
    _, raw = read_rows(body, endpoint="trades", symbol=symbol)
    return _trades(decode(_TRADES, raw, endpoint="trades", symbol=symbol), "trades", symbol)


def last_trade_columns(body: bytes, *, symbol: str | None = None) -> Columns:
    """As `trade_columns`, for ``/v2/last/trade``: one row."""
    _, raw = read_rows(body, endpoint="last_trade", symbol=symbol)
    return _trades([decode(_LAST_TRADE, raw, endpoint="last_trade", symbol=symbol)], "last_trade", symbol)


def quote_columns(body: bytes, *, symbol: str | None = None) -> Columns:
    """Columns of one page of ``/v3/quotes``, in the order the rows came. A price of 0 is a missing side: null.

    Raises
    ------
    DecodeError
        Bad JSON, a wrong type, a quote without SIP time.
    """
    found = read_flat(body, _QUOTE_WIRE, endpoint="quotes", symbol=symbol)
    columns = None if found is None else _flat_quotes(found)
    return quote_columns_exact(body, symbol=symbol) if columns is None else columns


def quote_columns_exact(body: bytes, *, symbol: str | None = None) -> Columns:
    """`quote_columns` by msgspec alone."""
    _, raw = read_rows(body, endpoint="quotes", symbol=symbol)
    return _quotes(decode(_QUOTES, raw, endpoint="quotes", symbol=symbol), "quotes", symbol)


def last_quote_columns(body: bytes, *, symbol: str | None = None) -> Columns:
    """As `quote_columns`, for ``/v2/last/nbbo``: one row."""
    _, raw = read_rows(body, endpoint="last_quote", symbol=symbol)
    return _quotes([decode(_LAST_QUOTE, raw, endpoint="last_quote", symbol=symbol)], "last_quote", symbol)


def _flat_trades(rows: pl.DataFrame) -> Columns | None:
    """None when a row lacks what it must have, or a decimal size is no number: the exact way says which."""
    size = pl.col("size")
    if rows["decimal_size"].null_count() < rows.height:
        try:
            rows = rows.with_columns(pl.col("decimal_size").cast(pl.Float64, strict=True))
        except pl.exceptions.PolarsError:
            return None
        size = pl.coalesce("decimal_size", "size")
    rows = rows.with_columns(size=size, id=pl.when(pl.col("id") != "").then("id"), conditions=_no_empty("conditions"))
    if not rows["size"].is_finite().all() or any(rows[n].null_count() for n in ("price", "size", "sip_timestamp")):
        return None
    return {_LONG.get(name, name): rows[name] for name in rows.columns if name != "decimal_size"}


def _flat_quotes(rows: pl.DataFrame) -> Columns | None:
    if rows["sip_timestamp"].null_count():
        return None
    rows = rows.with_columns(
        *(pl.when(pl.col(name) != 0).then(name) for name in ("bid_price", "ask_price")),
        *(_no_empty(name) for name in ("conditions", "indicators")),
    )
    return {_LONG.get(name, name): rows[name] for name in rows.columns}


def _no_empty(name: str) -> pl.Expr:
    return pl.when(pl.col(name).list.len() > 0).then(name).alias(name)


def _trades(rows: Sequence[_Trade], endpoint: str, symbol: str | None) -> Columns:
    sizes = [
        row.size
        if row.decimal_size is None
        else exact_size(row.size, row.decimal_size, field="decimal_size", endpoint=endpoint)
        for row in rows
    ]
    if None in sizes:
        raise DecodeError("A trade has no size.", endpoint=endpoint, symbol=symbol)
    return {
        "ts_sip": _times([row.sip_timestamp for row in rows], "sip_timestamp", endpoint, symbol),
        "ts_participant": to_ints(
            [row.participant_timestamp for row in rows], field="participant_timestamp", endpoint=endpoint
        ),
        "ts_trf": to_ints([row.trf_timestamp for row in rows], field="trf_timestamp", endpoint=endpoint),
        "price": [row.price for row in rows],
        "size": sizes,
        "conditions": [row.conditions or None for row in rows],
        "exchange": to_ints([row.exchange for row in rows], field="exchange", endpoint=endpoint),
        "tape": to_ints([row.tape for row in rows], field="tape", endpoint=endpoint),
        "sequence": to_ints([row.sequence_number for row in rows], field="sequence_number", endpoint=endpoint),
        "trade_id": [row.id or None for row in rows],
        "correction": to_ints([row.correction for row in rows], field="correction", endpoint=endpoint),
        "trf_id": to_ints([row.trf_id for row in rows], field="trf_id", endpoint=endpoint),
    }


def _quotes(rows: Sequence[_Quote], endpoint: str, symbol: str | None) -> Columns:
    return {
        "ts_sip": _times([row.sip_timestamp for row in rows], "sip_timestamp", endpoint, symbol),
        "ts_participant": to_ints(
            [row.participant_timestamp for row in rows], field="participant_timestamp", endpoint=endpoint
        ),
        "ts_trf": to_ints([row.trf_timestamp for row in rows], field="trf_timestamp", endpoint=endpoint),
        "bid_price": [positive(row.bid_price) for row in rows],
        "bid_size": [row.bid_size for row in rows],
        "bid_exchange": to_ints([row.bid_exchange for row in rows], field="bid_exchange", endpoint=endpoint),
        "ask_price": [positive(row.ask_price) for row in rows],
        "ask_size": [row.ask_size for row in rows],
        "ask_exchange": to_ints([row.ask_exchange for row in rows], field="ask_exchange", endpoint=endpoint),
        "conditions": [row.conditions or None for row in rows],
        "indicators": [row.indicators or None for row in rows],
        "tape": to_ints([row.tape for row in rows], field="tape", endpoint=endpoint),
        "sequence": to_ints([row.sequence_number for row in rows], field="sequence_number", endpoint=endpoint),
    }


def _times(values: Sequence[Int], field: str, endpoint: str, symbol: str | None) -> list[int | None]:
    stamps = to_ints(values, field=field, endpoint=endpoint)
    if None in stamps:
        raise DecodeError(f"A row has no {field}.", endpoint=endpoint, symbol=symbol)
    return stamps
