"""The option chain, the single contract, and the option rows of the unified snapshot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from massive_lab.sandbox.api import RestAnswer
from massive_lab.sandbox.rest.aggs import volumes
from massive_lab.sandbox.rest.entitle import cutoff_ns, require, timeframe
from massive_lab.sandbox.rest.envelope import Ask, asset_class_of, not_found, ok
from massive_lab.sandbox.rest.listing import Contract, find_contracts, listed, read_filters, reader_of, sorted_by
from massive_lab.sandbox.rest.paging import page_of
from massive_lab.sandbox.rest.params import choice, limit
from massive_lab.sandbox.rest.prices import given, last_price, snapshot_day
from massive_lab.sandbox.rest.ticks import decimal, number
from massive_lab.schema.plans import MAX_CHAIN_LIMIT, Plan
from massive_lab.schema.session import new_york_ns, trading_date

__all__ = ["chain", "chain_contract", "option_rows", "underlying_of"]

_DEFAULT_LIMIT = 10
_REAL_TIME = ("iv", "delta", "gamma", "theta", "vega")


@dataclass(frozen=True, slots=True)
class Underlying:
    """What the asker's plan shows of the underlying; no price when it shows none."""

    ticker: str
    price: float | None = None
    updated_ns: int = 0
    timeframe: str = ""

    def fields(self, break_even: float | None) -> dict[str, Any]:
        if self.price is None:
            return {"ticker": self.ticker}
        out: dict[str, Any] = {"ticker": self.ticker}
        if break_even is not None:
            out["change_to_break_even"] = round(break_even - self.price, 4)
        out["last_updated"] = self.updated_ns
        out["value" if self.ticker.startswith("I:") else "price"] = self.price
        out["timeframe"] = self.timeframe
        return out


def underlying_of(ask: Ask, ticker: str) -> Underlying:
    """Needs the plan of the underlying's own class."""
    plan = ask.plan(asset_class_of(ticker))
    found = last_price(ask.market, ticker, cutoff_ns(plan, ask.now_ns)) if plan.snapshots else None
    return Underlying(ticker, *found, timeframe(plan)) if found else Underlying(ticker)


def chain(ask: Ask) -> RestAnswer:
    """Listed contracts only; an index needs its prefix, otherwise nothing is found."""
    plan = require(ask, "options", "snapshots")
    underlying = ask.parts["underlying"]
    size = limit(ask.query, _DEFAULT_LIMIT, MAX_CHAIN_LIMIT)
    sort = choice(ask.query, "sort", ("ticker", "expiration_date", "strike_price"), "ticker")
    order = choice(ask.query, "order", ("asc", "desc"), "asc")
    filters = read_filters(ask.query)
    cutoff = cutoff_ns(plan, ask.now_ns)
    contracts = filters.choose(listed(ask.market, underlying, trading_date(cutoff)))
    items, keys = sorted_by(contracts, sort)
    keep = {"limit": str(size), "order": order, "sort": sort}
    page, following = page_of(ask, items, keys, size, order == "desc", keep, reader_of(sort))
    rows = option_rows(ask, underlying, page, plan, cutoff) if page else []
    return ok(ask, results=rows, next_url=following)


def chain_contract(ask: Ask) -> RestAnswer:
    plan = require(ask, "options", "snapshots")
    cutoff = cutoff_ns(plan, ask.now_ns)
    ticker = ask.parts["contract"]
    contract = find_contracts(ask.market, [ticker], trading_date(cutoff)).get(ticker)
    if contract is None or contract.underlying != ask.parts["underlying"]:
        raise not_found("Options contract not found.")
    return ok(ask, results=option_rows(ask, contract.underlying, [contract], plan, cutoff)[0])


def option_rows(
    ask: Ask, underlying: str, contracts: Sequence[Contract], plan: Plan, cutoff: int
) -> list[dict[str, Any]]:
    """Rows of contracts of one underlying, in the order given."""
    tickers = [contract.ticker for contract in contracts]
    columns = ask.market.chain(underlying, tickers, cutoff)
    if cutoff < ask.now_ns and trading_date(cutoff) == trading_date(ask.now_ns):
        # Delayed plans get delayed prices, but greeks and volatility as they are now.
        now = ask.market.chain(underlying, tickers, ask.now_ns)
        columns = {**columns, **{name: now[name] for name in _REAL_TIME}}
    states = [
        dict(zip(columns, values, strict=True))
        for values in zip(*(np.asarray(column).tolist() for column in columns.values()), strict=True)
    ]
    on = underlying_of(ask, underlying)
    day_ns = new_york_ns(snapshot_day(cutoff))
    return [_row(contract, state, on, plan, day_ns) for contract, state in zip(contracts, states, strict=True)]


def _row(contract: Contract, s: dict[str, Any], on: Underlying, plan: Plan, day_ns: int) -> dict[str, Any]:
    quote = _quote(s, plan) if plan.quotes and s["quote_ns"] > 0 else None
    trade = _trade(s, plan) if plan.trades and s["trade_ns"] > 0 else None
    row: dict[str, Any] = {}
    paid = _premium(s)
    break_even = None
    if paid is not None:
        break_even = round(contract.strike + paid if contract.is_call else contract.strike - paid, 4)
        row["break_even_price"] = break_even
    row["day"] = _day(s, day_ns)
    row["details"] = {
        "contract_type": contract.type,
        "exercise_style": contract.style,
        "expiration_date": contract.expiration.isoformat(),
        "shares_per_contract": number(contract.multiplier),
        "strike_price": number(contract.strike),
        "ticker": contract.ticker,
    }
    greeks = {name: round(s[name], 8) for name in ("delta", "gamma", "theta", "vega") if given(s[name])}
    if greeks:
        row["greeks"] = greeks
    if given(s["iv"]):
        row["implied_volatility"] = round(s["iv"], 8)
    if plan.tier == "business" and paid is not None:
        row |= {"fmv": round(paid, 4), "fmv_last_updated": max(int(s["quote_ns"]), int(s["trade_ns"]), day_ns)}
    if quote is not None:
        row["last_quote"] = quote
    if trade is not None:
        row["last_trade"] = trade
    row["open_interest"] = number(max(0.0, s["open_interest"])) if given(s["open_interest"]) else 0
    row["underlying_asset"] = on.fields(break_even)
    return row


def _premium(s: dict[str, Any]) -> float | None:
    """What the contract costs: the middle of the market, else its last trade, else its last close."""
    bid, ask = s["bid_price"], s["ask_price"]
    if given(bid) and given(ask) and ask > 0:
        return float(bid + ask) / 2
    for name in ("trade_price", "day_close", "previous_close"):
        if given(s[name]) and s[name] > 0:
            return float(s[name])
    return None


def _day(s: dict[str, Any], day_ns: int) -> dict[str, Any]:
    if not given(s["day_close"]):
        return {}
    day: dict[str, Any] = {"close": s["day_close"], "high": s["day_high"], "last_updated": day_ns}
    day |= {"low": s["day_low"], "open": s["day_open"]}
    previous = s["previous_close"]
    if given(previous) and previous > 0:
        change = s["day_close"] - previous
        day |= {
            "change": round(change, 4),
            "change_percent": round(change / previous * 100, 4),
            "previous_close": previous,
        }
    if given(s["day_volume"]):
        day["volume"] = volumes(np.array([s["day_volume"]]))[0]
    if given(s["day_vwap"]):
        day["vwap"] = round(s["day_vwap"], 4)
    return day


def _quote(s: dict[str, Any], plan: Plan) -> dict[str, Any]:
    bid = s["bid_price"] if given(s["bid_price"]) else 0.0
    ask = s["ask_price"] if given(s["ask_price"]) else 0.0
    quote: dict[str, Any] = {
        "ask": ask,
        "ask_size": number(s["ask_size"]) if ask > 0 else 0,
        "bid": bid,
        "bid_size": number(s["bid_size"]) if bid > 0 else 0,
        "last_updated": int(s["quote_ns"]),
        "midpoint": round((bid + ask) / 2, 4),
        "timeframe": timeframe(plan),
    }
    for side in ("ask_exchange", "bid_exchange"):
        if s[side] >= 0:
            quote[side] = int(s[side])
    return quote


def _trade(s: dict[str, Any], plan: Plan) -> dict[str, Any]:
    trade: dict[str, Any] = {
        "price": s["trade_price"],
        "size": number(s["trade_size"]),
        "decimal_size": decimal(s["trade_size"]),
        "sip_timestamp": int(s["trade_ns"]),
        "timeframe": timeframe(plan),
    }
    if s["trade_exchange"] >= 0:
        trade["exchange"] = int(s["trade_exchange"])
    if s["trade_condition"] >= 0:
        trade["conditions"] = [int(s["trade_condition"])]
    return trade
