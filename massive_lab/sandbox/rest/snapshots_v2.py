"""The v2 snapshots of stocks: all or some, one, and the movers."""

from __future__ import annotations

from typing import Any

import numpy as np

from massive_lab.sandbox.api import RestAnswer
from massive_lab.sandbox.rest.aggs import volumes
from massive_lab.sandbox.rest.entitle import cutoff_ns, require
from massive_lab.sandbox.rest.envelope import Ask, asset_class_of, not_found, ok, unrouted
from massive_lab.sandbox.rest.params import day_end_ns, flag, ticker_list
from massive_lab.sandbox.rest.prices import given, previous_session, running, snapshot_day
from massive_lab.sandbox.rest.reading import read_bars
from massive_lab.sandbox.rest.ticks import decimal, last_row, number
from massive_lab.schema.plans import Plan
from massive_lab.schema.session import new_york_ns

__all__ = ["snapshot_movers", "snapshot_stock", "snapshot_stocks"]

_N_MOVERS = 20
_MOVER_VOLUME = 10_000


def snapshot_stocks(ask: Ask) -> RestAnswer:
    """All stocks, or those listed in `tickers`; unknown ones are left out."""
    plan = require(ask, "stocks", "snapshots")
    flag(ask.query, "include_otc", False)
    cutoff = cutoff_ns(plan, ask.now_ns)
    known = ask.market.universe("stocks", cutoff)
    asked = ticker_list(ask.query.get("tickers", ""), 100_000, "tickers")
    wanted = [ticker for ticker in known if ticker in set(asked)] if asked else known
    rows = [row for ticker in wanted if (row := _v2(ask, ticker, plan, cutoff)) is not None]
    return ok(ask, with_id=False, count=len(rows), tickers=rows)


def snapshot_stock(ask: Ask) -> RestAnswer:
    plan = require(ask, "stocks", "snapshots")
    ticker = ask.parts["symbol"]
    cutoff = cutoff_ns(plan, ask.now_ns)
    row = None
    if asset_class_of(ticker) == "stocks" and ask.market.knows(ticker, cutoff):
        row = _v2(ask, ticker, plan, cutoff)
    if row is None:
        raise not_found("Ticker not found.")
    return ok(ask, ticker=row)


def snapshot_movers(ask: Ask) -> RestAnswer:
    """The 20 that rose or fell most, of those that traded at all."""
    direction = ask.parts["direction"]
    if direction not in {"gainers", "losers"}:
        return unrouted()
    plan = require(ask, "stocks", "snapshots")
    flag(ask.query, "include_otc", False)
    cutoff = cutoff_ns(plan, ask.now_ns)
    rows = []
    for ticker in ask.market.universe("stocks", cutoff):
        shown = running(ask.market, ticker, cutoff)
        if shown is None or not given(shown[1]["close"]) or not given(shown[1]["previous_close"]):
            continue
        prices = shown[1]
        if prices["volume"] >= _MOVER_VOLUME:
            rows.append((prices["close"] / prices["previous_close"] - 1, ticker))
    rising = direction == "gainers"
    chosen = sorted((row for row in rows if (row[0] > 0) == rising), reverse=rising)[:_N_MOVERS]
    found = [row for _, ticker in chosen if (row := _v2(ask, ticker, plan, cutoff)) is not None]
    return ok(ask, with_id=False, tickers=found)


def _v2(ask: Ask, ticker: str, plan: Plan, cutoff: int) -> dict[str, Any] | None:
    """The v2 object: all zeros for a day without prints."""
    date = snapshot_day(cutoff)
    today = ask.market.session_prices(ticker, date, cutoff)
    before = ask.market.session_prices(ticker, previous_session(date), cutoff)
    if today is None and before is None:
        return None
    row: dict[str, Any] = {"ticker": ticker, "day": _v2_bar(today, twins=True), "prevDay": _v2_bar(before, twins=False)}
    since = new_york_ns(date)
    minute = read_bars(
        ask.market, ticker, "minute", since, min(day_end_ns(date), cutoff + 1), cutoff, 1, descending=True
    )
    row["min"] = _v2_minute(minute, today)
    trade = last_row(ask, "trade", ticker, since, cutoff)
    previous = before["close"] if before is not None else np.nan
    price = trade["price"] if trade is not None else previous
    changed = today is not None and given(previous)
    row["todaysChange"] = round(price - previous, 4) if changed else 0
    row["todaysChangePerc"] = round((price / previous - 1) * 100, 4) if changed else 0
    row["updated"] = trade["sip_ns"] if trade is not None else 0
    if plan.tier == "business" and given(price):
        row["fmv"] = price
    if plan.trades and trade is not None:
        last: dict[str, Any] = {
            "p": trade["price"],
            "s": number(trade["size"]),
            "ds": decimal(trade["size"]),
            "x": trade["exchange"],
            "i": trade["id"],
            "t": trade["sip_ns"],
        }
        if len(trade["conditions"]):
            last["c"] = list(trade["conditions"])
        row["lastTrade"] = last
    if plan.quotes and (quote := last_row(ask, "quote", ticker, since, cutoff)):
        row["lastQuote"] = {
            "P": quote["ask_price"],
            "S": number(quote["ask_size"]),
            "p": quote["bid_price"],
            "s": number(quote["bid_size"]),
            "t": quote["sip_ns"],
        }
        row["updated"] = max(row["updated"], quote["sip_ns"])
    return row


def _v2_bar(prices: Any, *, twins: bool) -> dict[str, Any]:
    names = {"o": "open", "h": "high", "l": "low", "c": "close", "v": "volume", "vw": "vwap"}
    out: dict[str, Any] = dict.fromkeys(names, 0)
    if prices is not None:
        out |= {wire: round(prices[name], 4) for wire, name in names.items() if given(prices[name])}
        out["v"] = volumes(np.array([prices["volume"]]))[0] if given(prices["volume"]) else 0
    if twins:
        out["dv"] = decimal(prices["volume"]) if prices is not None and given(prices["volume"]) else "0"
    return out


def _v2_minute(minute: Any, today: Any) -> dict[str, Any]:
    names = {"o": "open", "h": "high", "l": "low", "c": "close"}
    so_far = today["volume"] if today is not None and given(today["volume"]) else 0.0
    out: dict[str, Any] = {"av": number(so_far), "dav": decimal(so_far)}
    if len(minute["start_ns"]) == 0:
        return {**dict.fromkeys((*names, "v", "vw", "n", "t"), 0), "dv": "0", **out}
    bar = {name: column[-1:].tolist()[0] for name, column in minute.items()}
    out |= {wire: bar[name] for wire, name in names.items()}
    out |= {"v": number(bar["volume"]), "dv": decimal(bar["volume"]), "n": bar["trade_count"]}
    out |= {"vw": round(bar["vwap"], 4) if given(bar["vwap"]) else 0, "t": bar["start_ns"] // 1_000_000}
    return out
