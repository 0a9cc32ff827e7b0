"""Last prices and running sessions: what the snapshots share."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping

from massive_lab.sandbox.api import MarketData
from massive_lab.sandbox.rest.reading import read_ticks
from massive_lab.schema.session import phase_at, session, sessions, trading_date
from massive_lab.typing import AssetClass

__all__ = ["given", "last_price", "market_status", "previous_session", "running", "snapshot_day"]

_RESET_NS = 12_600_000_000_000
"""The vendor clears its snapshots at 03:30 New York."""
_LOOK_BACK_NS = 30 * 86_400_000_000_000
_WEEK = dt.timedelta(days=11)


def given(value: float) -> bool:
    """Whether there is a number: absent ones are NaN."""
    return not math.isnan(value)


def previous_session(date: dt.date) -> dt.date:
    """The last trading date before a date."""
    return sessions(date - _WEEK, date)[-1]


def snapshot_day(now_ns: int) -> dt.date:
    """The session a snapshot shows: today's from 03:30 New York on, otherwise the one before."""
    date = trading_date(now_ns - _RESET_NS)
    return date if session(date) is not None else previous_session(date)


def last_price(market: MarketData, symbol: str, cutoff: int) -> tuple[float, int] | None:
    """Price (index: value) and time of the last trade by `cutoff`; None when there was none for a month."""
    kind, price, time = ("value", "value", "ts_ns") if symbol.startswith("I:") else ("trade", "price", "sip_ns")
    found = read_ticks(market, symbol, kind, cutoff - _LOOK_BACK_NS, cutoff + 1, 1, descending=True)
    if len(found[time]) == 0:
        return None
    return float(found[price][-1]), int(found[time][-1])


def running(market: MarketData, symbol: str, cutoff: int) -> tuple[dt.date, Mapping[str, float]] | None:
    """The session a snapshot shows, or the one before when nothing was printed in it yet."""
    date = snapshot_day(cutoff)
    for _ in range(2):
        prices = market.session_prices(symbol, date, cutoff)
        if prices is not None:
            return date, prices
        date = previous_session(date)
    return None


def market_status(asset_class: AssetClass, now_ns: int) -> str:
    """Only stocks trade outside the regular session."""
    phase = phase_at(now_ns)
    if phase == "regular":
        return "open"
    if asset_class != "stocks" or phase == "closed":
        return "closed"
    return "early_trading" if phase == "early" else "late_trading"
