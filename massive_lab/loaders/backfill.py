"""History of one live topic over a short span: what a socket missed, asked of REST.

Unlike the other loaders this one asks for the newest rows first and may stop before the oldest, and it does not look an
empty answer's symbol up: the stream has confirmed the topic.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import polars as pl

from massive_lab.decode.pages import paginate
from massive_lab.errors import InvalidRequest, MassiveLabError, NotEntitled
from massive_lab.frames import rest
from massive_lab.loaders.session import Load, Session, path_of
from massive_lab.schema.plans import MAX_AGGREGATES_LIMIT, MAX_TICKS_LIMIT, Plan
from massive_lab.schema.symbols import Symbol, parse_symbol
from massive_lab.schema.timeframe import Timeframe
from massive_lab.typing import Cluster

__all__ = ["Backfiller", "Filled"]

_MS = 1_000_000
_TICKS: dict[str, tuple[str, Callable[..., pl.DataFrame]]] = {
    "T": ("trades", rest.trades),
    "Q": ("quotes", rest.quotes),
}
_BARS = {"A": Timeframe(1, "s"), "AM": Timeframe(1, "m")}


@dataclass(frozen=True, slots=True)
class Filled:
    """What REST holds of a span."""

    frame: pl.DataFrame
    """Table ``trades``, ``quotes`` or ``bars``, ascending."""
    is_whole: bool
    """Whether nothing was left out: older rows are, beyond the number asked for."""
    reason: str = ""
    """Why it is not whole."""


class Backfiller:
    """Fetches what the stitch of the live system asks for."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def fill(
        self, cluster: Cluster, channel: str, symbol: str, start_ns: int, end_ns: int, *, max_rows: int
    ) -> Filled:
        """The rows of ``[start_ns, end_ns)`` (UTC) of one symbol.

        Parameters
        ----------
        cluster : {"stocks", "options", "indices"}
            Whose call budget this is charged to.
        channel : {"T", "Q", "A", "AM"}
        symbol : str
        start_ns, end_ns : int
            Of the SIP time for ticks, of the start for bars.
        max_rows : int
            Ticks fetched at most, rounded up to whole pages of 50,000.

        Raises
        ------
        InvalidRequest
            For a channel that REST keeps no history of.
        NotEntitled
            When the plan lacks it; nothing is asked when the plan is known.
        TransportError, DecodeError, UnknownSymbol
            As every loader.
        """
        _check(self._session.plan, channel, symbol)
        instrument = parse_symbol(symbol)
        async with self._session.load(f"backfill:{cluster}", [symbol]) as load:
            if channel in _BARS:
                filled = await _bars(load, instrument, _BARS[channel], start_ns, end_ns)
            else:
                filled = await _ticks(load, instrument, channel, start_ns, end_ns, max_rows)
            load.n_rows = filled.frame.height
            return filled


def _check(plan: Plan | None, channel: str, symbol: str) -> None:
    if channel not in _TICKS and channel not in _BARS:
        raise InvalidRequest(
            f"REST keeps no history of channel {channel}.", symbol=symbol, hint="Second and minute bars have one."
        )
    if plan is None:
        return
    has = {"T": plan.trades, "Q": plan.quotes, "A": plan.seconds, "AM": True}
    if not has[channel]:
        what = "second bars" if channel == "A" else _TICKS[channel][0]
        raise NotEntitled(f"The {plan.tier} plan has no {what}.", symbol=symbol, hint="The gap stays.")


async def _ticks(load: Load, symbol: Symbol, channel: str, start_ns: int, end_ns: int, max_rows: int) -> Filled:
    endpoint, build = _TICKS[channel]
    params = {
        "timestamp.gte": str(start_ns),
        "timestamp.lt": str(end_ns),
        # The newest first: where a bound cuts, what is kept joins on to what is streamed now.
        "order": "desc",
        "sort": "timestamp",
        "limit": str(MAX_TICKS_LIMIT),
    }
    bodies, reason = await _pages(load, endpoint, path_of(endpoint, symbol=symbol), params, symbol, max_rows)
    return Filled(build(bodies, symbol=symbol.text), not reason, reason)


async def _bars(load: Load, symbol: Symbol, grid: Timeframe, start_ns: int, end_ns: int) -> Filled:
    path = path_of(
        "aggs_range",
        symbol=symbol,
        multiplier=grid.multiplier,
        timespan=grid.timespan,
        start=start_ns // _MS,
        end=(end_ns - 1) // _MS,
    )
    params = {"sort": "asc", "limit": str(MAX_AGGREGATES_LIMIT)}
    if symbol.asset_class != "indices":
        params["adjusted"] = "false"  # the stream adjusts nothing
    bodies, reason = await _pages(load, "aggs_range", path, params, symbol, MAX_AGGREGATES_LIMIT)
    frame = rest.bars(bodies, symbol=symbol.text, timeframe=grid)
    # The vendor widens the range to whole windows.
    starts = pl.col("ts_event").cast(pl.Int64)
    return Filled(frame.filter(starts >= start_ns, starts < end_ns), not reason, reason)


async def _pages(
    load: Load, endpoint: str, path: str, params: dict[str, str], symbol: Symbol, max_rows: int
) -> tuple[Sequence[bytes], str]:
    """Bodies of whole pages, and why they are not all of them."""
    query = "&".join(f"{name}={value}" for name, value in params.items())
    steps = paginate(f"{path}?{query}", endpoint=endpoint)
    target: str | None = next(steps)
    bodies: list[bytes] = []
    while target is not None:
        try:
            body = await load.fetch(endpoint, target, symbol=symbol.text, budget=symbol.asset_class)
            target = _next(steps, body)
        except MassiveLabError as error:
            if not bodies:
                raise
            return bodies, f"page {len(bodies) + 1} failed: {error.message}"
        bodies.append(body)
        if target is not None and (n_rows := len(bodies) * int(params["limit"])) >= max_rows:
            return bodies, f"only the newest {n_rows:,} rows were fetched"
    return bodies, ""


def _next(steps: Generator[str, bytes, object], body: bytes) -> str | None:
    try:
        return steps.send(body)
    except StopIteration:
        return None
