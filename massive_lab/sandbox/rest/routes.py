"""Which handler answers which path."""

from __future__ import annotations

import re
from functools import lru_cache

from massive_lab.sandbox.rest import aggs, chain, indicators, reference, snapshots, snapshots_v2, status, ticks
from massive_lab.sandbox.rest.envelope import Handler
from massive_lab.schema.endpoints import ENDPOINTS

__all__ = ["HANDLERS", "route"]

HANDLERS: dict[str, Handler] = {
    "aggs_range": aggs.aggs_range,
    "aggs_prev": aggs.aggs_prev,
    "aggs_grouped": aggs.aggs_grouped,
    "open_close": aggs.open_close,
    "trades": ticks.trades,
    "quotes": ticks.quotes,
    "last_trade": ticks.last_trade,
    "last_quote": ticks.last_quote,
    "chain": chain.chain,
    "chain_contract": chain.chain_contract,
    "snapshot_indices": snapshots.snapshot_indices,
    "snapshot": snapshots.snapshot,
    "snapshot_stocks": snapshots_v2.snapshot_stocks,
    "snapshot_stock": snapshots_v2.snapshot_stock,
    "snapshot_movers": snapshots_v2.snapshot_movers,
    "contracts": reference.contracts,
    "contract": reference.contract,
    "exchanges": reference.exchanges,
    "conditions": reference.conditions,
    "tickers": reference.tickers,
    "ticker_types": reference.ticker_types,
    "ticker_details": reference.ticker_details,
    "indicator_sma": indicators.sma,
    "indicator_ema": indicators.ema,
    "indicator_rsi": indicators.rsi,
    "indicator_macd": indicators.macd,
    "market_status": status.market_status_now,
    "market_holidays": status.upcoming,
}
"""Handler by endpoint name; the names and path templates are those of `massive_lab.schema.endpoints`."""

_ROUTES = [
    (name, re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", template)))
    # Literal segments win over placeholders.
    for name, template in sorted(ENDPOINTS.items(), key=lambda item: item[1].count("{"))
]


@lru_cache(maxsize=4096)
def route(path: str) -> tuple[str, dict[str, str]] | None:
    """Endpoint name and path parts; None when nothing is routed there.

    Examples
    --------
    >>> route("/v2/aggs/ticker/I:SPX/prev")
    ('aggs_prev', {'symbol': 'I:SPX'})
    """
    for name, pattern in _ROUTES:
        match = pattern.fullmatch(path)
        if match is not None:
            return name, match.groupdict()
    return None
