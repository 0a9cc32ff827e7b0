"""Reference data: option contracts, tickers, exchanges and conditions."""

from __future__ import annotations

import datetime as dt
import re
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from massive_lab.sandbox.api import MarketData, RestAnswer
from massive_lab.sandbox.market.conditions import OPTION_CONDITIONS, STOCK_CONDITIONS, Condition
from massive_lab.sandbox.market.instruments import INDICES, OPTION_UNDERLYINGS, STOCKS
from massive_lab.sandbox.market.reference import EXCHANGES, TICKER_TYPES
from massive_lab.sandbox.rest.envelope import Ask, asset_class_of, not_found, ok
from massive_lab.sandbox.rest.listing import (
    SORTS,
    Contract,
    Filters,
    find_contracts,
    listed,
    read_filters,
    reader_of,
    sorted_by,
)
from massive_lab.sandbox.rest.paging import page_of
from massive_lab.sandbox.rest.params import DAY, choice, day_of, flag, integer, limit, ranged
from massive_lab.sandbox.rest.ticks import number
from massive_lab.schema.plans import MAX_CONTRACTS_LIMIT
from massive_lab.schema.session import trading_date

__all__ = ["conditions", "contract", "contracts", "exchanges", "ticker_details", "ticker_types", "tickers"]

_ONE_YEAR = 365
_TICKER_SORTS = (
    "ticker",
    "name",
    "market",
    "locale",
    "primary_exchange",
    "type",
    "currency_symbol",
    "currency_name",
    "base_currency_symbol",
    "base_currency_name",
    "cik",
    "composite_figi",
    "share_class_figi",
    "last_updated_utc",
    "delisted_utc",
)


def contracts(ask: Ask) -> RestAnswer:
    """Contracts listed on `as_of`; with ``expired=true`` those that had expired by then."""
    size = limit(ask.query, 10, MAX_CONTRACTS_LIMIT)
    sort = choice(ask.query, "sort", SORTS, "ticker")
    order = choice(ask.query, "order", ("asc", "desc"), "asc")
    filters = read_filters(ask.query)
    expired = flag(ask.query, "expired", False)
    as_of = _as_of(ask)
    underlying = ranged(ask.query, "underlying_ticker", _text)
    ticker = ranged(ask.query, "ticker", _text)
    found: list[Contract] = []
    for name in OPTION_UNDERLYINGS:
        if underlying.accepts(name.removeprefix("I:")):
            found += _expired(ask.market, name, as_of, filters) if expired else listed(ask.market, name, as_of)
    chosen = [row for row in filters.choose(found) if ticker.accepts(row.ticker)]
    items, keys = sorted_by(chosen, sort)
    keep = {"limit": str(size), "order": order, "sort": sort}
    page, following = page_of(ask, items, keys, size, order == "desc", keep, reader_of(sort))
    return ok(ask, results=[_contract_row(row) for row in page], next_url=following)


def contract(ask: Ask) -> RestAnswer:
    """One contract. Once expired it needs an `as_of` before its expiration."""
    ticker = ask.parts["contract"]
    found = find_contracts(ask.market, [ticker], _as_of(ask)).get(ticker)
    if found is None:
        raise not_found("Options contract not found.")
    return ok(ask, results=_contract_row(found))


def _text(text: str, _name: str) -> str:
    return text


def _as_of(ask: Ask) -> dt.date:
    today = trading_date(ask.now_ns)
    text = ask.query.get("as_of", "")
    # What will be listed tomorrow is not known today.
    return min(day_of(text, "as_of"), today) if text else today


def _expiring(market: MarketData, underlying: str, date: dt.date) -> list[Contract]:
    """The contracts that expired on a date, as they were listed that day."""
    return [row for row in listed(market, underlying, date) if row.expiration == date]


def _expired(market: MarketData, underlying: str, as_of: dt.date, filters: Filters) -> list[Contract]:
    wanted = filters.expiration
    lower = [bound for bound in (wanted.eq, wanted.gt, wanted.gte, *(wanted.any_of or ())) if bound is not None]
    upper = [bound for bound in (wanted.eq, wanted.lt, wanted.lte) if bound is not None]
    # Without a bound the walk through the past ends after a year.
    first = min(lower) if lower else as_of - _ONE_YEAR * DAY
    last = min([as_of - DAY, *upper])
    out: list[Contract] = []
    date = first
    while date <= last:
        if date.weekday() < 5 and wanted.accepts(date):
            out += _expiring(market, underlying, date)
        date += DAY
    return out


def _contract_row(row: Contract) -> dict[str, Any]:
    style = "A" if row.style == "american" else "E"
    underlying = row.underlying.removeprefix("I:")
    asset = "I" if row.underlying.startswith("I:") else "S"
    out: dict[str, Any] = {
        "cfi": f"O{'C' if row.is_call else 'P'}{style}{asset}{'C' if asset == 'I' else 'P'}S",
        "contract_type": row.type,
        "exercise_style": row.style,
        "expiration_date": row.expiration.isoformat(),
        "primary_exchange": row.mic,
        "shares_per_contract": number(row.multiplier),
        "strike_price": number(row.strike),
        "ticker": row.ticker,
        # Here, and only here, an index goes without its prefix.
        "underlying_ticker": underlying,
    }
    if row.root[-1].isdigit():
        out["additional_underlyings"] = [
            {"amount": number(row.multiplier), "type": "equity", "underlying": underlying},
            {"amount": 6.53, "type": "currency", "underlying": "USD"},
        ]
    return out


def exchanges(ask: Ask) -> RestAnswer:
    wanted = choice(ask.query, "asset_class", ("", "stocks", "options", "crypto", "fx", "futures"), "")
    locale = choice(ask.query, "locale", ("", "us", "global"), "")
    rows = []
    for venue in EXCHANGES:
        if wanted not in {"", venue.asset_class} or locale == "global":
            continue
        row: dict[str, Any] = {
            "asset_class": venue.asset_class,
            "id": venue.id,
            "locale": "us",
            "name": venue.name,
            "operating_mic": venue.operating_mic,
            "type": venue.type,
        }
        optional = {"acronym": venue.acronym, "mic": venue.mic, "participant_id": venue.letter}
        rows.append({**row, **{name: text for name, text in optional.items() if text}})
    return ok(ask, count=len(rows), results=rows)


def conditions(ask: Ask) -> RestAnswer:
    size = limit(ask.query, 10, 1000)
    order = choice(ask.query, "order", ("asc", "desc"), "asc")
    sort = choice(ask.query, "sort", ("asset_class", "id", "type", "name", "data_types", "legacy"), "asset_class")
    wanted = choice(ask.query, "asset_class", ("", "stocks", "options", "crypto", "fx"), "")
    data_type = choice(ask.query, "data_type", ("", "trade", "bbo", "nbbo"), "")
    sip = choice(ask.query, "sip", ("", "CTA", "UTP", "OPRA"), "")
    id_ = integer(ask.query["id"], "id") if ask.query.get("id") else None
    pairs = [
        (_condition_key(sort, asset_class, row), (asset_class, row))
        for asset_class, table in (("options", OPTION_CONDITIONS), ("stocks", STOCK_CONDITIONS))
        for row in table.values()
        if wanted in {"", asset_class}
        and data_type in {"", "trade"}
        and (not sip or sip in dict(row.sips))
        and id_ in {None, row.id}
    ]
    pairs.sort(key=lambda pair: pair[0])
    keep = {"limit": str(size), "order": order, "sort": sort}
    read = int if sort == "id" else str
    page, following = page_of(
        ask, [item for _, item in pairs], [key for key, _ in pairs], size, order == "desc", keep, read
    )
    rows = [_condition_row(asset_class, row) for asset_class, row in page]
    return ok(ask, count=len(rows), results=rows, next_url=following)


def _condition_key(sort: str, asset_class: str, row: Condition) -> tuple[Any, str]:
    values: dict[str, Any] = {"id": row.id, "type": row.type, "name": row.name, "asset_class": asset_class}
    return values.get(sort, ""), f"{asset_class}/{row.type}/{row.id:04d}"


def _condition_row(asset_class: str, row: Condition) -> dict[str, Any]:
    rules = {
        "updates_high_low": row.high_low,
        "updates_open_close": row.open_close,
        "updates_volume": row.volume,
    }
    return {
        "id": row.id,
        "type": row.type,
        "name": row.name,
        "asset_class": asset_class,
        "data_types": ["trade"],
        "legacy": False,
        "sip_mapping": dict(row.sips),
        "update_rules": {"consolidated": rules, "market_center": rules},
    }


@lru_cache(maxsize=1)
def _all_tickers() -> dict[str, dict[str, Any]]:
    """Reference rows by ticker, ascending."""
    rows: dict[str, dict[str, Any]] = {
        stock.ticker: {
            "active": True,
            "currency_name": "usd",
            "locale": "us",
            "market": "stocks",
            "name": stock.name,
            "primary_exchange": stock.mic,
            "ticker": stock.ticker,
            "type": stock.type,
        }
        for stock in STOCKS.values()
    }
    for index in INDICES.values():
        rows[index.ticker] = {
            "active": True,
            "locale": "us",
            "market": "indices",
            "name": index.name,
            "source_feed": "SANDBOX",
            "ticker": index.ticker,
        }
    return dict(sorted(rows.items()))


def tickers(ask: Ask) -> RestAnswer:
    size = limit(ask.query, 100, 1000)
    order = choice(ask.query, "order", ("asc", "desc"), "asc")
    sort = choice(ask.query, "sort", _TICKER_SORTS, "ticker")
    market = choice(ask.query, "market", ("", "stocks", "crypto", "fx", "otc", "indices"), "")
    active = flag(ask.query, "active", True)
    wanted = ranged(ask.query, "ticker", _text)
    kind, exchange = ask.query.get("type", ""), ask.query.get("exchange", "")
    search = ask.query.get("search", "").casefold()
    if ask.query.get("date"):
        day_of(ask.query["date"], "date")
    rows = [
        ((str(row.get(sort, "")), ticker), row)
        for ticker, row in _all_tickers().items()
        if active
        and wanted.accepts(ticker)
        and market in {"", row["market"]}
        and kind in {"", row.get("type", "")}
        and exchange in {"", row.get("primary_exchange", "")}
        and (not search or search in ticker.casefold() or search in row["name"].casefold())
    ]
    if ask.query.get("cusip") or ask.query.get("cik"):
        rows = []  # the sandbox's instruments carry neither
    rows.sort(key=lambda pair: pair[0])
    keep = {"limit": str(size), "order": order, "sort": sort}
    page, following = page_of(ask, [row for _, row in rows], [key for key, _ in rows], size, order == "desc", keep)
    return ok(ask, count=len(page), results=page, next_url=following)


def ticker_details(ask: Ask) -> RestAnswer:
    ticker = ask.parts["symbol"]
    date = day_of(ask.query["date"], "date") if ask.query.get("date") else trading_date(ask.now_ns)
    row = _all_tickers().get(ticker)
    if row is None or asset_class_of(ticker) == "options" or date > trading_date(ask.now_ns) + DAY:
        raise not_found("Ticker not found.")
    details = dict(row)
    stock = STOCKS.get(ticker)
    if stock is not None:
        slug = quote(re.sub(r"[^a-z0-9]+", "-", stock.name.casefold()).strip("-"))
        where = f"{ask.request.base_url}/v1/reference/company-branding/{slug}/images/2025-01-02"
        shares = stock.prints * 100_000
        details |= {
            "branding": {"icon_url": f"{where}_icon.png", "logo_url": f"{where}_logo.svg"},
            "description": f"SANDBOX: {stock.name.rstrip('.')}. The name is real; every price and figure is synthetic.",
            "list_date": "2003-09-10",
            "market_cap": round(shares * stock.price, 2),
            "round_lot": 100,
            "share_class_shares_outstanding": shares,
            "ticker_root": ticker.partition(".")[0],
            "weighted_shares_outstanding": shares,
        }
        if "." in ticker:
            details["ticker_suffix"] = ticker.partition(".")[2]
        if not stock.price:
            del details["market_cap"]
    return ok(ask, results=details)


def ticker_types(ask: Ask) -> RestAnswer:
    wanted = choice(ask.query, "asset_class", ("", "stocks", "options", "crypto", "fx", "indices"), "")
    choice(ask.query, "locale", ("", "us", "global"), "")
    rows = [
        {"asset_class": asset_class, "code": code, "description": description, "locale": "us"}
        for code, description, asset_class in TICKER_TYPES
        if wanted in {"", asset_class}
    ]
    return ok(ask, count=len(rows), results=rows)
