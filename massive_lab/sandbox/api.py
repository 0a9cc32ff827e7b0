"""The seams inside the sandbox: what the server asks of the REST rules and of the market.

Nothing here knows a web framework, so every rule of the wire can be tested without a socket.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy.typing as npt

from massive_lab.schema.plans import Plan, plan
from massive_lab.typing import AssetClass

__all__ = ["Account", "Columns", "MarketData", "RestAnswer", "RestRequest", "RestRules"]

Columns = Mapping[str, npt.NDArray[Any]]
"""Equal-length arrays by wire-independent name; times are int64 UTC nanoseconds, absent values are NaN or -1."""


@dataclass(frozen=True, slots=True)
class Account:
    """Who asks: one key, and one plan for each asset class."""

    name: str
    key: str
    plans: Mapping[AssetClass, Plan] = field(
        default_factory=lambda: {"stocks": plan("advanced"), "options": plan("advanced"), "indices": plan("advanced")}
    )

    def plan_for(self, asset_class: AssetClass) -> Plan:
        return self.plans.get(asset_class) or plan("basic")

    def connections(self, cluster: AssetClass) -> int:
        """WebSocket connections allowed at once on one cluster."""
        return self.plan_for(cluster).connections


@dataclass(frozen=True, slots=True)
class RestRequest:
    """A GET that has passed authentication and the rate limit."""

    path: str
    """Decoded, with a single leading slash."""
    query: Mapping[str, str]
    account: Account
    now_ns: int
    """The virtual clock, UTC."""
    base_url: str
    """Scheme and host as the caller addressed them, for ``next_url``."""


@dataclass(frozen=True, slots=True)
class RestAnswer:
    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


class RestRules(Protocol):
    """All endpoints as one pure function of request, market and time."""

    def handle(self, request: RestRequest) -> RestAnswer: ...


class MarketData(Protocol):
    """The synthetic market: one truth from which REST and the stream are both served.

    All ranges are half open ``[start_ns, end_ns)`` in UTC nanoseconds of SIP time (publication). The same seed gives the
    same arrays, whatever was asked before and in which order.
    """

    def knows(self, symbol: str, now_ns: int) -> bool:
        """Whether the symbol exists (for an option: is or was listed) at `now_ns`."""
        ...

    def universe(self, cluster: AssetClass, now_ns: int) -> list[str]:
        """Symbols a wildcard covers at that time."""
        ...

    def trades(self, symbol: str, start_ns: int, end_ns: int) -> Columns:
        """``sip_ns participant_ns trf_ns(-1) price size exchange tape(-1) sequence trf_id(-1) correction(-1) late(bool)``
        and ``id`` and ``conditions`` (object arrays: str and tuple of int), ascending by ``sip_ns``.
        """
        ...

    def quotes(self, symbol: str, start_ns: int, end_ns: int) -> Columns:
        """``sip_ns participant_ns bid_price bid_size bid_exchange ask_price ask_size ask_exchange sequence tape(-1)
        condition(-1) indicator(-1)``, ascending by ``sip_ns``; a price of 0 is a missing side.
        """
        ...

    def values(self, symbol: str, start_ns: int, end_ns: int) -> Columns:
        """Index values: ``ts_ns value``."""
        ...

    def live_bars(self, symbol: str, span_ns: int, start_ns: int, end_ns: int) -> Columns:
        """Bars of one second or one minute as the stream emits them: ``emit_ns start_ns end_ns open high low close volume
        vwap trade_count day_volume day_vwap day_open average_size``, by ``emit_ns`` in the range. A bar revised by a late
        print appears again under the same ``start_ns`` with a later ``emit_ns``. Index bars have NaN volumes.
        """
        ...

    # What only the REST rules ask for.

    def base_bars(self, symbol: str, unit: str, start_ns: int, end_ns: int, now_ns: int) -> Columns:
        """Bars of one ``"second"``, ``"minute"`` or ``"day"`` whose window starts in the range, from what is published by
        `now_ns`; the last may be unfinished. ``start_ns open high low close volume vwap trade_count``, ascending; NaN volume
        and vwap and -1 trade_count for indices. Day windows start at New York midnight. Windows without an eligible trade
        (index: without a value) are missing.
        """
        ...

    def session_prices(self, symbol: str, date: dt.date, now_ns: int) -> Mapping[str, float] | None:
        """The session of `date` so far: ``open high low close volume vwap previous_close`` and, where there were such prints,
        ``early_price`` (first before the open) and ``late_price`` (last after the close); NaN where there is none. None when
        nothing was printed by `now_ns` or the date has no session.
        """
        ...

    def contracts(self, underlying: str, as_of: dt.date) -> Columns:
        """Option contracts listed on a date, ascending by ticker: ``ticker root expiration style mic`` (object arrays: str, str,
        datetime.date, american|european, str), ``strike multiplier`` (float) and ``is_call`` (bool). Empty for an underlying
        without options. An index has its prefix: ``I:SPX``.
        """
        ...

    def chain(self, underlying: str, tickers: Sequence[str], now_ns: int) -> Columns:
        """State of contracts of one underlying at `now_ns`, in the order asked: ``bid_price bid_size bid_exchange ask_price
        ask_size ask_exchange quote_ns trade_price trade_size trade_exchange trade_condition trade_ns iv delta gamma theta vega
        open_interest day_open day_high day_low day_close day_volume day_vwap previous_close``; NaN or -1 where there is none
        (no greeks for what cannot be solved, no day before the first trade).
        """
        ...
