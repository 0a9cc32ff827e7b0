"""The trades of a live feed beside the vendor's bars."""

from __future__ import annotations

import datetime as dt

import polars as pl

from massive_lab.errors import InvalidRequest
from massive_lab.live.session import Live
from massive_lab.loaders.history import bars
from massive_lab.loaders.session import Session
from massive_lab.schema.symbols import parse_many
from massive_lab.typing import Symbols

__all__ = ["check_choice", "ticks_and_bars"]

_CHANNELS = {"1m": "AM", "1s": "A"}
_SPANS = {"1m": dt.timedelta(minutes=1), "1s": dt.timedelta(seconds=1)}


def check_choice(live: object, timeframe: str, source: str) -> None:
    """Refuse what is no choice, before anything is asked for."""
    if not isinstance(live, Live):
        raise InvalidRequest(f"{live!r} is not a feed.", hint="Give what lab.live(symbols, channels=('T', 'AM')) returned.")
    if timeframe not in _CHANNELS:
        raise InvalidRequest(f"timeframe is {timeframe!r}.", hint="Use '1s' or '1m'.")
    if source not in ("stream", "rest"):
        raise InvalidRequest(f"bars is {source!r}.", hint="Use 'stream' or 'rest'.")


async def ticks_and_bars(
    session: Session, live: Live, symbols: Symbols | None, timeframe: str, source: str
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """What `massive_lab.reconcile_bars` compares: the trades of a feed, the bars, and the feed's gaps."""
    trades = live.trades(symbols).frame()
    if source == "stream":
        own = live.bars(symbols, channel=_CHANNELS[timeframe]).frame()
    else:
        own = await _by_rest(session, trades, timeframe)
    # A polled trade that the stream then tells too is one trade; those without a sequence are kept as they are.
    numbered = pl.col("sequence").is_not_null()
    same = ["symbol", pl.col("ts_sip").dt.epoch("ms"), "sequence", "price", "size"]
    once = trades.filter(numbered).unique(same, keep="last", maintain_order=True)
    return pl.concat([once, trades.filter(~numbered)]), own, await live._core.gap_rows()


async def _by_rest(session: Session, trades: pl.DataFrame, timeframe: str) -> pl.DataFrame:
    if not trades.height:
        raise InvalidRequest("No trade has come yet.", hint="Wait for some, or compare with the bars of the stream.")
    wanted = [symbol.text for symbol in parse_many(trades["symbol"].unique().to_list())]
    start, end = trades["ts_sip"].min(), trades["ts_sip"].max()
    assert isinstance(start, dt.datetime)
    assert isinstance(end, dt.datetime)
    span = _SPANS[timeframe]
    # From the first whole interval on; the last one may still grow.
    return await bars(session, sorted(wanted), timeframe, start - span, end)
