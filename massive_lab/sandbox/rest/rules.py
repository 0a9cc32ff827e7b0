"""All endpoints as one function of request, market and time.

Where the vendor's documentation is silent, or the sandbox differs on purpose:

- Indices go back as far as their data (the vendor's begin on 2023-02-14); there are no splits, so ``adjusted`` is an echo.
- A window that a page of base bars does not complete is left to the next page; when it is the first of the page, the page
  has no bar, and its cursor counts the base bars read (``ap``). The vendor does not say what it does there.
- Windows of several units are counted from New York midnight or from a fixed day, never from the start of the range.
- The end-of-day plan sees everything up to the midnight that begins today, and bars of two indices only.
- Grouped daily and open-close answer once the session is over, not while it runs.
- An unknown ticker is 200 and empty on aggregates, ticks, indicators and the chain, 404 where one object is asked for.
- Without a plan for the underlying, ``underlying_asset`` has the ticker alone.
- ``expired=true`` lists expired contracts only, and reaches back a year unless the expiration is bounded below.
- A date as a bound on ``timestamp`` is the whole New York day: ``gt`` begins after it, ``lte`` includes it.
"""

from __future__ import annotations

from massive_lab.sandbox.api import MarketData, RestAnswer, RestRequest
from massive_lab.sandbox.rest.envelope import Ask, Refused, request_id, unrouted
from massive_lab.sandbox.rest.paging import decode_cursor
from massive_lab.sandbox.rest.routes import HANDLERS, route

__all__ = ["Rest"]


class Rest:
    """The vendor's REST API over a market.

    It keeps nothing between requests: the same seed, request and time give the same bytes. Keys, rate limits and
    compression are the server's.

    Parameters
    ----------
    market : MarketData
    seed : int
        Part of every ``request_id``.
    """

    def __init__(self, market: MarketData, seed: int) -> None:
        self._market = market
        self._seed = seed

    def handle(self, request: RestRequest) -> RestAnswer:
        """Answer a request that has passed authentication."""
        found = route(request.path)
        if found is None:
            return unrouted()
        endpoint, parts = found
        id_ = request_id(self._seed, request.path, request.query)
        try:
            ask = self._ask(request, endpoint, parts, id_)
            return HANDLERS[endpoint](ask)
        except Refused as refusal:
            return refusal.answer(id_)

    def _ask(self, request: RestRequest, endpoint: str, parts: dict[str, str], id_: str) -> Ask:
        query = {name: value for name, value in request.query.items() if name not in {"apiKey", "cursor"}}
        position: dict[str, str] = {}
        cursor = request.query.get("cursor", "")
        if cursor:
            kept = decode_cursor(cursor)
            position = {name: kept.pop(name) for name in ("ap", "as") if name in kept}
            query = {**query, **kept}
        return Ask(self._market, request, endpoint, parts, query, position, id_)
