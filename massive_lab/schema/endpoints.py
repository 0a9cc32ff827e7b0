"""Names of the REST endpoints, shared by telemetry, the sandbox's own count and the audit.

Two readings of the wire (client and sandbox) can only be compared when they call the same thing by the same name; the
names are the one thing they share.
"""

from __future__ import annotations

import re
from functools import lru_cache

__all__ = ["ENDPOINTS", "classify"]

ENDPOINTS: dict[str, str] = {
    "aggs_range": "/v2/aggs/ticker/{symbol}/range/{multiplier}/{timespan}/{start}/{end}",
    "aggs_prev": "/v2/aggs/ticker/{symbol}/prev",
    "aggs_grouped": "/v2/aggs/grouped/locale/us/market/stocks/{date}",
    "open_close": "/v1/open-close/{symbol}/{date}",
    "trades": "/v3/trades/{symbol}",
    "quotes": "/v3/quotes/{symbol}",
    "last_trade": "/v2/last/trade/{symbol}",
    "last_quote": "/v2/last/nbbo/{symbol}",
    "chain": "/v3/snapshot/options/{underlying}",
    "chain_contract": "/v3/snapshot/options/{underlying}/{contract}",
    "snapshot_indices": "/v3/snapshot/indices",
    "snapshot": "/v3/snapshot",
    "snapshot_stocks": "/v2/snapshot/locale/us/markets/stocks/tickers",
    "snapshot_stock": "/v2/snapshot/locale/us/markets/stocks/tickers/{symbol}",
    "snapshot_movers": "/v2/snapshot/locale/us/markets/stocks/{direction}",
    "contracts": "/v3/reference/options/contracts",
    "contract": "/v3/reference/options/contracts/{contract}",
    "exchanges": "/v3/reference/exchanges",
    "conditions": "/v3/reference/conditions",
    "tickers": "/v3/reference/tickers",
    "ticker_types": "/v3/reference/tickers/types",
    "ticker_details": "/v3/reference/tickers/{symbol}",
    "indicator_sma": "/v1/indicators/sma/{symbol}",
    "indicator_ema": "/v1/indicators/ema/{symbol}",
    "indicator_rsi": "/v1/indicators/rsi/{symbol}",
    "indicator_macd": "/v1/indicators/macd/{symbol}",
    "market_status": "/v1/marketstatus/now",
    "market_holidays": "/v1/marketstatus/upcoming",
}
"""Endpoint name to path template."""

# Literal segments before placeholders, so that ``tickers/types`` is not read as a symbol.
_ROUTES = [
    (name, re.compile(re.sub(r"\{\w+\}", "[^/]+", template)))
    for name, template in sorted(ENDPOINTS.items(), key=lambda item: item[1].count("{"))
]


@lru_cache(maxsize=4096)
def classify(path: str) -> str:
    """The endpoint name of a request path; ``"other"`` when it is none of ours.

    Examples
    --------
    >>> classify("/v2/aggs/ticker/O:SPY251219C00650000/range/1/day/2025-01-02/2025-01-03")
    'aggs_range'
    >>> classify("/v3/snapshot/options/I:SPX"), classify("/nothing")
    ('chain', 'other')
    """
    for name, pattern in _ROUTES:
        if pattern.fullmatch(path):
            return name
    return "other"
