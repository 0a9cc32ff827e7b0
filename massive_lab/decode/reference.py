"""Reference data, market status and server-computed indicators: bytes to columns."""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from massive_lab.decode.fields import Float, Int, Text, decode, iso_date, iso_ns, ms_to_ns, scrub, to_ints
from massive_lab.decode.pages import read_envelope, read_rows
from massive_lab.decode.snapshot import contract_facts
from massive_lab.errors import DecodeError

__all__ = [
    "condition_columns",
    "contract_columns",
    "exchange_columns",
    "holiday_columns",
    "indicator_columns",
    "market_status_columns",
    "ticker_columns",
]

Columns: TypeAlias = dict[str, list[Any]]


class _Contract(msgspec.Struct):
    ticker: str
    underlying_ticker: Text = None
    contract_type: Text = None
    exercise_style: Text = None
    expiration_date: Text = None
    strike_price: Float = None
    shares_per_contract: Float = None
    primary_exchange: Text = None
    cfi: Text = None
    correction: Int = None
    additional_underlyings: msgspec.Raw = msgspec.Raw()


class _Ticker(msgspec.Struct):
    ticker: str
    name: Text = None
    market: Text = None
    locale: Text = None
    primary_exchange: Text = None
    type: Text = None
    active: bool | None = None
    currency_name: Text = None
    currency_symbol: Text = None
    cik: Text = None
    composite_figi: Text = None
    share_class_figi: Text = None
    last_updated_utc: Text = None


class _Exchange(msgspec.Struct):
    id: Int
    name: Text = None
    type: Text = None
    asset_class: Text = None
    locale: Text = None
    acronym: Text = None
    mic: Text = None
    operating_mic: Text = None
    participant_id: Text = None


class _Updates(msgspec.Struct):
    updates_high_low: bool | None = None
    updates_open_close: bool | None = None
    updates_volume: bool | None = None


class _Rules(msgspec.Struct):
    consolidated: _Updates | None = None


class _Condition(msgspec.Struct):
    id: Int
    type: Text = None
    name: Text = None
    asset_class: Text = None
    data_types: list[str] | None = None
    abbreviation: Text = None
    update_rules: _Rules | None = None


class _Value(msgspec.Struct):
    timestamp: Int
    value: Float = None
    signal: Float = None
    histogram: Float = None


class _Indicator(msgspec.Struct):
    values: list[_Value] | None = None


class _Status(msgspec.Struct):
    market: str
    server_time: str = msgspec.field(name="serverTime")
    early_hours: bool | None = msgspec.field(default=None, name="earlyHours")
    after_hours: bool | None = msgspec.field(default=None, name="afterHours")
    exchanges: dict[str, Any] | None = None
    currencies: dict[str, Any] | None = None
    indices_groups: dict[str, Any] | None = msgspec.field(default=None, name="indicesGroups")


class _Holiday(msgspec.Struct):
    date: str
    exchange: Text = None
    name: Text = None
    status: Text = None
    open: Text = None
    close: Text = None


_CONTRACTS = msgspec.json.Decoder(list[_Contract])
_TICKERS = msgspec.json.Decoder(list[_Ticker])
_EXCHANGES = msgspec.json.Decoder(list[_Exchange])
_CONDITIONS = msgspec.json.Decoder(list[_Condition])
_INDICATOR = msgspec.json.Decoder(_Indicator)
_STATUS = msgspec.json.Decoder(_Status)
_HOLIDAYS = msgspec.json.Decoder(list[_Holiday])


def contract_columns(body: bytes) -> Columns:
    """Columns of one page of the option contracts reference.

    An index underlying, which this endpoint writes without its prefix, gets it back: ``SPX`` becomes ``I:SPX``.
    """
    _, raw = read_rows(body, endpoint="contracts")
    rows: list[_Contract] = decode(_CONTRACTS, raw, endpoint="contracts")
    facts = [
        contract_facts(
            row.ticker,
            endpoint="contracts",
            expiration=row.expiration_date,
            strike=row.strike_price,
            option_type=row.contract_type,
            multiplier=row.shares_per_contract,
            underlying=row.underlying_ticker,
        )
        for row in rows
    ]
    names = ("contract", "underlying", "expiration", "strike", "option_type", "multiplier")
    columns: Columns = {name: [fact[i] for fact in facts] for i, name in enumerate(names)}
    return columns | {
        "exercise_style": [row.exercise_style for row in rows],
        "primary_exchange": [row.primary_exchange for row in rows],
        "cfi": [row.cfi for row in rows],
        "correction": to_ints([row.correction for row in rows], field="correction", endpoint="contracts"),
        "additional_underlyings": [_json(row.additional_underlyings) for row in rows],
    }


def ticker_columns(body: bytes) -> Columns:
    """Columns of one page of the tickers reference."""
    _, raw = read_rows(body, endpoint="tickers")
    rows: list[_Ticker] = decode(_TICKERS, raw, endpoint="tickers")
    return {
        "symbol": [row.ticker for row in rows],
        "name": [row.name for row in rows],
        "market": [row.market for row in rows],
        "locale": [row.locale for row in rows],
        "primary_exchange": [row.primary_exchange for row in rows],
        "type": [row.type for row in rows],
        "active": [row.active for row in rows],
        "currency": [row.currency_name or row.currency_symbol for row in rows],
        "cik": [row.cik for row in rows],
        "composite_figi": [row.composite_figi for row in rows],
        "share_class_figi": [row.share_class_figi for row in rows],
        "ts_updated": [iso_ns(row.last_updated_utc, field="last_updated_utc", endpoint="tickers") for row in rows],
    }


def exchange_columns(body: bytes) -> Columns:
    """Columns of the exchanges reference."""
    _, raw = read_rows(body, endpoint="exchanges")
    rows: list[_Exchange] = decode(_EXCHANGES, raw, endpoint="exchanges")
    texts = ("name", "type", "asset_class", "locale", "acronym", "mic", "operating_mic", "participant_id")
    columns: Columns = {"exchange": to_ints([row.id for row in rows], field="id", endpoint="exchanges")}
    return columns | {name: [getattr(row, name) for row in rows] for name in texts}


def condition_columns(body: bytes) -> Columns:
    """Columns of one page of the conditions reference."""
    _, raw = read_rows(body, endpoint="conditions")
    rows: list[_Condition] = decode(_CONDITIONS, raw, endpoint="conditions")
    rules = [(row.update_rules and row.update_rules.consolidated) or _Updates() for row in rows]
    columns: Columns = {"condition": to_ints([row.id for row in rows], field="id", endpoint="conditions")}
    return columns | {
        "type": [row.type for row in rows],
        "name": [row.name for row in rows],
        "asset_class": [row.asset_class for row in rows],
        "data_types": [",".join(row.data_types or []) for row in rows],
        "abbreviation": [row.abbreviation for row in rows],
        "updates_high_low": [rule.updates_high_low for rule in rules],
        "updates_open_close": [rule.updates_open_close for rule in rules],
        "updates_volume": [rule.updates_volume for rule in rules],
    }


def indicator_columns(body: bytes, *, symbol: str | None = None) -> Columns:
    """Columns of one page of a server-computed indicator, in the order they came."""
    endpoint = "indicator"
    _, raw = read_rows(body, endpoint=endpoint, symbol=symbol)
    found: _Indicator = decode(_INDICATOR, raw, endpoint=endpoint, symbol=symbol)
    rows = found.values or []
    stamps = to_ints([row.timestamp for row in rows], field="timestamp", endpoint=endpoint)
    if None in stamps:
        raise DecodeError("An indicator value has no time.", endpoint=endpoint, symbol=symbol)
    return {
        "ts_event": ms_to_ns(stamps, field="timestamp", endpoint=endpoint),
        "value": [row.value for row in rows],
        "signal": [row.signal for row in rows],
        "histogram": [row.histogram for row in rows],
    }


def market_status_columns(body: bytes) -> Columns:
    """One row per market of ``/v1/marketstatus/now``: stocks first, then exchanges, index groups and currencies.

    The vendor's early and late flags speak of the stock market: other markets have them false.
    """
    endpoint = "market_status"
    read_envelope(body, endpoint=endpoint)
    status: _Status = decode(_STATUS, body, endpoint=endpoint)
    rows = [("stocks", status.market, True)]
    groups = (("exchange", status.exchanges), ("indices", status.indices_groups), ("currency", status.currencies))
    for prefix, members in groups:
        for name, word in (members or {}).items():
            if not isinstance(word, str):
                raise DecodeError(f"The status of {name} is no text.", excerpt=scrub(repr(word)), endpoint=endpoint)
            rows.append((f"{prefix}:{name}", word, prefix == "exchange"))
    server = iso_ns(status.server_time, field="serverTime", endpoint=endpoint)
    return {
        "market": [name for name, _, _ in rows],
        "status": [word for _, word, _ in rows],
        "ts_server": [server] * len(rows),
        "is_early": [bool(status.early_hours) and on_tape for _, _, on_tape in rows],
        "is_late": [bool(status.after_hours) and on_tape for _, _, on_tape in rows],
    }


def holiday_columns(body: bytes) -> Columns:
    """One row per exchange and date of ``/v1/marketstatus/upcoming``, a bare array."""
    endpoint = "market_holidays"
    if body.lstrip()[:1] != b"[":
        # Only a failure comes as an object here.
        read_envelope(body, endpoint=endpoint)
    rows: list[_Holiday] = decode(_HOLIDAYS, body, endpoint=endpoint)
    return {
        "date": [iso_date(row.date, field="date", endpoint=endpoint) for row in rows],
        "exchange": [row.exchange for row in rows],
        "name": [row.name for row in rows],
        "status": [row.status for row in rows],
        "ts_open": [iso_ns(row.open, field="open", endpoint=endpoint) for row in rows],
        "ts_close": [iso_ns(row.close, field="close", endpoint=endpoint) for row in rows],
    }


def _json(raw: msgspec.Raw) -> str | None:
    if not raw:
        return None
    text = msgspec.json.format(bytes(raw), indent=-1).decode("utf-8", "replace")
    return None if text in ("null", "[]") else text
