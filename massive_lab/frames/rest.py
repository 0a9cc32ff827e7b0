"""Bodies of REST answers in, frames of `massive_lab.schema.columns` out: everything a loader calls, in one place.

Every function takes bodies of 200s, inflated, and gives a frame with the full schema of its table, also when there is no row,
sorted by the table's key (``market_status`` keeps stocks first). Times on the wire are milliseconds or nanoseconds; here they are
UTC nanoseconds. All raise `DecodeError` for bytes the vendor does not document, and the errors of
`massive_lab.decode.pages.read_envelope` for an error body behind a 200.
"""

from __future__ import annotations

from massive_lab.frames.rest_bars import bars, grouped_daily, open_close, previous_close
from massive_lab.frames.rest_reference import (
    conditions,
    contracts,
    exchanges,
    holidays,
    market_status,
    server_indicator,
    tickers,
)
from massive_lab.frames.rest_snapshot import chain, chain_contract, indices, snapshot
from massive_lab.frames.rest_ticks import last_quote, last_trade, quotes, trades

__all__ = [
    "bars",
    "chain",
    "chain_contract",
    "conditions",
    "contracts",
    "exchanges",
    "grouped_daily",
    "holidays",
    "indices",
    "last_quote",
    "last_trade",
    "market_status",
    "open_close",
    "previous_close",
    "quotes",
    "server_indicator",
    "snapshot",
    "tickers",
    "trades",
]
