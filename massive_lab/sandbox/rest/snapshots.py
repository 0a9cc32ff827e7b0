"""The unified snapshot and the indices snapshot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from msgspec import Raw

from massive_lab.sandbox.api import RestAnswer
from massive_lab.sandbox.market.instruments import INDICES, STOCKS
from massive_lab.sandbox.rest.aggs import volumes
from massive_lab.sandbox.rest.chain import option_rows
from massive_lab.sandbox.rest.entitle import cutoff_ns, require, timeframe
from massive_lab.sandbox.rest.envelope import Ask, asset_class_of, not_entitled, ok
from massive_lab.sandbox.rest.listing import Contract, find_contracts
from massive_lab.sandbox.rest.paging import page_of
from massive_lab.sandbox.rest.params import Range, choice, limit, ranged, ticker_list
from massive_lab.sandbox.rest.prices import given, last_price, market_status, running, snapshot_day
from massive_lab.sandbox.rest.reading import read_bars
from massive_lab.sandbox.rest.ticks import decimal, last_row, number
from massive_lab.schema.plans import MAX_CHAIN_LIMIT, MAX_SNAPSHOT_TICKERS, Plan
from massive_lab.schema.session import new_york_ns, trading_date
from massive_lab.typing import AssetClass

__all__ = ["snapshot", "snapshot_indices"]

_DEFAULT_LIMIT = 10
_MISSING = {"error": "NOT_FOUND", "message": "Ticker not found."}
_FORBIDDEN = {"error": "NOT_ENTITLED", "message": "Not entitled to this ticker."}
_TYPES: dict[str, tuple[AssetClass, ...]] = {
    "": ("indices", "options", "stocks"),
    "stocks": ("stocks",),
    "options": ("options",),
    "indices": ("indices",),
    "crypto": (),
    "fx": (),
}


def snapshot(ask: Ask) -> RestAnswer:
    """Up to 250 tickers of all classes; what is unknown or not in the plan is an error in its own row."""
    kind = choice(ask.query, "type", tuple(_TYPES), "")
    tickers, following = _page(ask, _TYPES[kind])
    return ok(ask, results=_rows(ask, tickers, _TYPES[kind]), next_url=following)


def snapshot_indices(ask: Ask) -> RestAnswer:
    require(ask, "indices", "snapshots")
    tickers, following = _page(ask, ("indices",))
    rows = _rows(ask, tickers, ("indices",))
    for row in rows:
        # This endpoint alone says it so.
        if row.get("market_status") == "open":
            row["market_status"] = "regular_trading"
    return ok(ask, results=rows, next_url=following)


def _page(ask: Ask, classes: tuple[AssetClass, ...]) -> tuple[Sequence[str], str | None]:
    size = limit(ask.query, _DEFAULT_LIMIT, MAX_CHAIN_LIMIT)
    sort = choice(ask.query, "sort", ("ticker",), "ticker")
    order = choice(ask.query, "order", ("asc", "desc"), "asc")
    several = ticker_list(ask.query.get("ticker.any_of", ""), MAX_SNAPSHOT_TICKERS, "ticker.any_of")
    wanted: Range[str] = ranged({k: v for k, v in ask.query.items() if k != "ticker.any_of"}, "ticker", _text)
    if several or wanted.eq is not None:
        asked = several or [str(wanted.eq)]
        tickers = sorted(ticker for ticker in asked if wanted.accepts(ticker))
    else:
        shown = [name for name in classes if ask.plan(name).snapshots]
        if classes and not shown:
            raise not_entitled()
        names = [t for name in shown for t in ask.market.universe(name, cutoff_ns(ask.plan(name), ask.now_ns))]
        names.sort()
        tickers = names[wanted.slice_of(names)]
    keys = [(ticker, "") for ticker in tickers]
    keep = {"limit": str(size), "order": order, "sort": sort}
    return page_of(ask, tickers, keys, size, order == "desc", keep)


def _text(text: str, _name: str) -> str:
    return text


def _rows(ask: Ask, tickers: Sequence[str], classes: tuple[AssetClass, ...]) -> list[dict[str, Any]]:
    options = _option_rows(ask, [ticker for ticker in tickers if ticker.startswith("O:")])
    rows = []
    for ticker in tickers:
        asset_class = asset_class_of(ticker)
        plan = ask.plan(asset_class)
        row: dict[str, Any] | None
        if asset_class not in classes:
            row = None
        elif not plan.snapshots:
            row = dict(_FORBIDDEN)
        elif asset_class == "options":
            row = options.get(ticker)
        else:
            row = _price_row(ask, ticker, asset_class, plan)
        rows.append({"ticker": ticker, **(dict(_MISSING) if row is None else row)})
    return rows


def _price_row(ask: Ask, ticker: str, asset_class: AssetClass, plan: Plan) -> dict[str, Any] | None:
    """A stock or an index; None when unknown."""
    cutoff = cutoff_ns(plan, ask.now_ns)
    if not ask.market.knows(ticker, cutoff):
        return None
    found = last_price(ask.market, ticker, cutoff)
    shown = running(ask.market, ticker, cutoff)
    if found is None or shown is None:
        return None
    price, updated_ns = found
    is_index = asset_class == "indices"
    instrument = INDICES.get(ticker) if is_index else STOCKS.get(ticker)
    row: dict[str, Any] = {
        "type": asset_class,
        "name": instrument.name if instrument is not None else ticker,
        "market_status": market_status(asset_class, ask.now_ns),
        "session": _session(shown[1], price, is_index),
        "last_updated": updated_ns,
        "timeframe": timeframe(plan),
    }
    if is_index:
        row["value"] = price
        return row
    if plan.tier == "business":
        row |= {"fmv": price, "fmv_last_updated": updated_ns}
    row |= _stock_parts(ask, ticker, plan, cutoff)
    return row


def _session(prices: Any, price: float, is_index: bool) -> dict[str, Any]:
    previous = prices["previous_close"]
    o, h, low, c = (prices[name] if given(prices[name]) else price for name in ("open", "high", "low", "close"))
    out: dict[str, Any] = {"open": o, "high": h, "low": low, "close": c}
    last = c if is_index else price
    if given(previous):
        out |= {"previous_close": previous, **_changes("", last, previous)}
    if is_index:
        return out
    out["price"] = price
    if given(prices["volume"]):
        out["volume"] = volumes(np.array([prices["volume"]]))[0]
        out["decimal_volume"] = decimal(prices["volume"])
    if given(previous):
        early, late = prices.get("early_price", np.nan), prices.get("late_price", np.nan)
        if given(early):
            out |= _changes("early_trading_", early, previous)
        if given(prices["close"]):
            out |= _changes("regular_trading_", c, previous)
        if given(late):
            out |= _changes("late_trading_", late, c)
    return out


def _changes(prefix: str, price: float, base: float) -> dict[str, float]:
    change = price - base
    return {f"{prefix}change": round(change, 4), f"{prefix}change_percent": round(change / base * 100, 4)}


def _stock_parts(ask: Ask, ticker: str, plan: Plan, cutoff: int) -> dict[str, Any]:
    """Last minute, trade and quote of a stock, as far as the plan goes."""
    since = new_york_ns(snapshot_day(cutoff))
    parts: dict[str, Any] = {}
    minute = read_bars(ask.market, ticker, "minute", since, cutoff + 1, cutoff, 1, descending=True)
    if len(minute["start_ns"]):
        bar = {name: column[-1:].tolist()[0] for name, column in minute.items()}
        parts["last_minute"] = {name: bar[name] for name in ("open", "high", "low", "close")}
        parts["last_minute"] |= {
            "volume": number(bar["volume"]),
            "decimal_volume": decimal(bar["volume"]),
            "transactions": bar["trade_count"],
        }
        if given(bar["vwap"]):
            parts["last_minute"]["vwap"] = round(bar["vwap"], 4)
    if plan.trades and (trade := last_row(ask, "trade", ticker, since, cutoff)):
        parts["last_trade"] = {
            "price": trade["price"],
            "size": number(trade["size"]),
            "decimal_size": decimal(trade["size"]),
            "exchange": trade["exchange"],
            "id": trade["id"],
            "last_updated": trade["sip_ns"],
            "timeframe": timeframe(plan),
        }
        if len(trade["conditions"]):
            parts["last_trade"]["conditions"] = list(trade["conditions"])
    if plan.quotes and (quote := last_row(ask, "quote", ticker, since, cutoff)):
        parts["last_quote"] = {
            "bid": quote["bid_price"],
            "ask": quote["ask_price"],
            "bid_size": number(quote["bid_size"]),
            "ask_size": number(quote["ask_size"]),
            "midpoint": round((quote["bid_price"] + quote["ask_price"]) / 2, 4),
            "last_updated": quote["sip_ns"],
            "timeframe": timeframe(plan),
        }
        for side in ("bid_exchange", "ask_exchange"):
            if quote[side] >= 0:
                parts["last_quote"][side] = quote[side]
    return parts


def _option_rows(ask: Ask, tickers: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The chain's rows with what the unified snapshot says more, by ticker; unknown ones are missing."""
    plan = ask.plan("options")
    if not tickers or not plan.snapshots:
        return {}
    cutoff = cutoff_ns(plan, ask.now_ns)
    by_underlying: dict[str, list[Contract]] = {}
    for contract in find_contracts(ask.market, tickers, trading_date(cutoff)).values():
        by_underlying.setdefault(contract.underlying, []).append(contract)
    out = {}
    for underlying, contracts in by_underlying.items():
        for contract, row in zip(contracts, option_rows(ask, underlying, contracts, plan, cutoff), strict=True):
            out[contract.ticker] = _unified_option(ask, contract, row, plan)
    return out


def _unified_option(ask: Ask, contract: Contract, row: dict[str, Any], plan: Plan) -> dict[str, Any]:
    day = row.pop("day")
    row["details"] = {**row["details"], "underlying_ticker": contract.underlying}
    del row["details"]["ticker"]
    session = {name: value for name, value in day.items() if name not in {"last_updated", "vwap"}}
    if "close" in day:
        session["price"] = row.get("last_trade", {}).get("price", day["close"])
        volume = day.get("volume", 0)
        session["decimal_volume"] = decimal(float(bytes(volume) if isinstance(volume, Raw) else volume))
    return {
        "type": "options",
        "name": f"{contract.underlying.removeprefix('I:')} ${contract.strike:g} {contract.type.title()}",
        "market_status": market_status("options", ask.now_ns),
        "session": session,
        **row,
        "timeframe": timeframe(plan),
    }
