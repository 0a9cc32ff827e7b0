"""REST in place of a lost socket: one shared, batched poll worker per cluster, whoever reads.

When which symbols are asked for is decided by `massive_lab.live.poll.schedule`. Rows of the ``snapshot`` table become the same
events the stream sends, marked ``poll``. An answer that says nothing new is suppressed, and nothing that is not newer than
what the stream last brought is handed on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import polars as pl

from massive_lab.clock import Clock
from massive_lab.decode.stream import Event, IndexValue, Quote, Trade
from massive_lab.errors import MassiveLabError, RateLimited
from massive_lab.live.poll.budget import Budget
from massive_lab.live.poll.schedule import Call, Schedule, Seen
from massive_lab.live.topics import Kind, Topic, poll_kind

__all__ = ["PollMemory", "PollOwner", "PollWorker", "Poller", "snapshot_events", "snapshot_seen", "wanted_kinds"]

_MS = 1_000_000
_TOLD = 64
"""Polled events of a symbol remembered: a socket that is only slow is dropped long before so many."""


class Poller(Protocol):
    """What the fallback asks of REST; the loaders implement it."""

    async def poll(self, cluster: str, symbols: Sequence[str]) -> pl.DataFrame:
        """At most 250 symbols of one cluster as the ``snapshot`` table, by one call; rows in error are kept."""
        ...


def wanted_kinds(topics: Iterable[Topic]) -> dict[str, set[Kind]]:
    """Symbols that a snapshot can serve, each with the kinds asked of it, in order.

    Examples
    --------
    >>> topics = [Topic.parse("stocks", text) for text in ("T.AAPL", "Q.AAPL", "AM.AAPL", "T.*")]
    >>> sorted(wanted_kinds(topics)["AAPL"]), list(wanted_kinds(topics))
    (['quotes', 'trades'], ['AAPL'])
    """
    wanted: dict[str, set[Kind]] = {}
    for topic in topics:
        if (kind := poll_kind(topic)) is not None:
            wanted.setdefault(topic.symbol, set()).add(kind)
    return wanted


_COLUMNS = {
    "symbol": pl.String(),
    "error": pl.String(),
    "last_price": pl.Float64(),
    "ts_updated": pl.Int64(),
    "trade_price": pl.Float64(),
    "trade_size": pl.Float64(),
    "trade_exchange": pl.Int64(),
    "ts_trade": pl.Int64(),
    "bid_price": pl.Float64(),
    "bid_size": pl.Float64(),
    "bid_exchange": pl.Int64(),
    "ask_price": pl.Float64(),
    "ask_size": pl.Float64(),
    "ask_exchange": pl.Int64(),
    "ts_quote": pl.Int64(),
}


def snapshot_events(frame: pl.DataFrame, wanted: dict[str, set[Kind]], ts_recv: int) -> list[Event]:
    """Trades, quotes and index values of a ``snapshot`` frame.

    Parameters
    ----------
    frame : polars.DataFrame
    wanted : mapping of symbol to kinds
    ts_recv : int
        UTC ns of the answer.

    Returns
    -------
    list of Event
        Only of what is wanted and present: a row in error, or without the time of its part, gives nothing.
    """
    rows = _with_columns(frame, _COLUMNS)
    events: list[Event] = []
    for row in rows.iter_rows(named=True):
        kinds = wanted.get(row["symbol"])
        if not kinds or row["error"] is not None:
            continue
        if "trades" in kinds and row["trade_price"] is not None and row["ts_trade"] is not None:
            events.append(_trade(row, ts_recv))
        if "quotes" in kinds and row["ts_quote"] is not None:
            events.append(_quote(row, ts_recv))
        if "values" in kinds and row["last_price"] is not None and row["ts_updated"] is not None:
            ms, sub = divmod(row["ts_updated"], _MS)
            events.append(IndexValue(row["symbol"], ms, row["last_price"], ts_recv, "poll", sub))
    return events


def snapshot_seen(frame: pl.DataFrame) -> dict[str, Seen]:
    """What a ``snapshot`` frame says that matters to the schedule: a price, and whether the market is closed.

    The price is the last one; where there is none that of the last trade, else the middle of the quote.

    Examples
    --------
    >>> snapshot_seen(pl.DataFrame({"symbol": ["SPY"], "bid_price": [1.0], "ask_price": [2.0], "market_status": ["open"]}))
    {'SPY': Seen(price=1.5, market='open')}
    """
    if "symbol" not in frame.columns:
        return {}
    rows = _with_columns(frame, {**_COLUMNS, "market_status": pl.String()})
    price = pl.coalesce("last_price", "trade_price", (pl.col("bid_price") + pl.col("ask_price")) / 2)
    return {symbol: Seen(*rest) for symbol, *rest in rows.select("symbol", price, "market_status").iter_rows()}


def _with_columns(frame: pl.DataFrame, wanted: Mapping[str, pl.DataType]) -> pl.DataFrame:
    absent = [pl.lit(None, dtype).alias(name) for name, dtype in wanted.items() if name not in frame.columns]
    return frame.with_columns(absent).select(pl.col(name).cast(dtype) for name, dtype in wanted.items())


def _trade(row: dict[str, Any], ts_recv: int) -> Trade:
    ms, sub = divmod(row["ts_trade"], _MS)
    return Trade(
        row["symbol"], ms, row["trade_price"], whole=row["trade_size"], exchange=row["trade_exchange"],
        ts_recv=ts_recv, source="poll", sub_ns=sub,
    )  # fmt: skip


def _quote(row: dict[str, Any], ts_recv: int) -> Quote:
    ms, sub = divmod(row["ts_quote"], _MS)
    return Quote(
        row["symbol"], ms,
        bid_price=row["bid_price"], bid_size=row["bid_size"], bid_exchange=row["bid_exchange"],
        ask_price=row["ask_price"], ask_size=row["ask_size"], ask_exchange=row["ask_exchange"],
        ts_recv=ts_recv, source="poll", sub_ns=sub,
    )  # fmt: skip


def _said(event: Event) -> tuple[Any, ...]:
    if isinstance(event, Trade):
        return event.ms, event.price, event.size
    if isinstance(event, Quote):
        return event.ms, event.bid_price, event.bid_size, event.ask_price, event.ask_size
    return event.ms, event.value if isinstance(event, IndexValue) else None


class Newest(Protocol):
    """The newest event of (type, symbol), from any source."""

    def get(self, key: tuple[type, str], /) -> Event | None: ...


class PollMemory:
    """What the polls of one outage have said, so that nothing is said twice, by them or by the stream after them."""

    def __init__(self) -> None:
        self._said: dict[tuple[type, str], deque[tuple[Any, ...]]] = {}

    def __bool__(self) -> bool:
        return bool(self._said)

    def news(self, events: Iterable[Event], newest: Newest) -> list[Event]:
        """The polled events worth handing on.

        Parameters
        ----------
        events : iterable of Event
        newest : Newest
            A polled event must be newer than a streamed or filled one by at least the
            millisecond in which streams count; it must not be older than a polled one.
        """
        fresh = []
        for event in events:
            key = (type(event), event.symbol)
            said = _said(event)
            told = self._said.get(key)
            if told and told[-1] == said:
                continue
            before = newest.get(key)
            # The memory ends with the outage; the newest event is known for longer.
            if before is not None and _said(before) == said:
                continue
            if before is not None and (event.ms < before.ms or (event.ms == before.ms and before.source != "poll")):
                continue
            self._said.setdefault(key, deque(maxlen=_TOLD)).append(said)
            fresh.append(event)
        return fresh

    def keep(self, event: Event) -> None:
        """An event that was polled in an earlier outage counts as said in this one."""
        self._said.setdefault((type(event), event.symbol), deque([_said(event)], maxlen=_TOLD))

    def already_said(self, event: Event) -> bool:
        """Whether a streamed event repeats a polled one. Asked once for each; the memory of a symbol ends with what is later."""
        key = type(event), event.symbol
        told = self._said.get(key)
        if told is None:
            return False
        said = _said(event)
        if said in told:
            told.remove(said)
            return True
        # A socket that was only slow brings what came before the poll as well.
        if not told or event.ms > told[-1][0]:
            del self._said[key]
        return False


class PollOwner(Protocol):
    """What the worker asks of the hub."""

    @property
    def cluster(self) -> str: ...
    def poller(self) -> Poller | None: ...
    def poll_wanted(self) -> dict[str, set[Kind]]: ...
    def polling_begins(self) -> None: ...
    def poll_planned(self, call: Call) -> None: ...
    def polled(self, n_symbols: int, events: list[Event]) -> None: ...
    def poll_failed(self, error: MassiveLabError) -> None: ...


class PollWorker:
    """Polls until cancelled: one call at a time, as the schedule and the budget say.

    Parameters
    ----------
    owner : PollOwner
    clock : Clock
    schedule : Schedule
        Of the owner's cluster, on the same budget.
    budget : Budget
        What all clusters of the client share; the worker is a member while it runs.
    """

    def __init__(self, owner: PollOwner, clock: Clock, schedule: Schedule, budget: Budget) -> None:
        self._owner = owner
        self._clock = clock
        self._schedule = schedule
        self._budget = budget
        self._wanted: dict[str, set[Kind]] = {}
        self._kick = asyncio.Event()
        self._has_begun = False

    def kick(self) -> None:
        """What is wanted has changed, or what may be spent: look again."""
        self._kick.set()

    async def run(self) -> None:
        """Until cancelled."""
        clock, owner = self._clock, self._owner
        try:
            while True:
                self._kick.clear()
                now = clock.monotonic()
                # Asked anew each time: the client that lent its poller may have left.
                poller = owner.poller()
                self._look(owner.poll_wanted() if poller else {}, now)
                call = self._schedule.next()
                if call is None or poller is None:
                    await self._rest(now + self._schedule.base_s)
                elif (at := max(call.at_s, self._budget.free_at(now))) > now:
                    owner.poll_planned(Call(at, call.n_symbols))
                    await self._rest(at)
                else:
                    await self._poll(poller, now)
        finally:
            self._budget.leave(owner.cluster, self.kick)

    def _look(self, wanted: dict[str, set[Kind]], now: float) -> None:
        if wanted is self._wanted:
            return
        self._wanted = wanted
        self._schedule.want(wanted, now)
        if wanted:
            self._budget.join(self._owner.cluster, len(wanted), self.kick)
        else:
            self._budget.leave(self._owner.cluster, self.kick)

    async def _poll(self, poller: Poller, now: float) -> None:
        owner = self._owner
        self._budget.spend(now)
        batch = self._schedule.take(now)
        if not self._has_begun:
            self._has_begun = True
            owner.polling_begins()
        try:
            frame = await poller.poll(owner.cluster, batch)
        except MassiveLabError as error:
            self._schedule.failed(error.retry_after_s if isinstance(error, RateLimited) else None)
            owner.poll_failed(error)
            return
        self._schedule.answered(snapshot_seen(frame))
        owner.polled(len(batch), snapshot_events(frame, self._wanted, self._clock.now_ns()))

    async def _rest(self, until: float) -> None:
        """Until an instant, or a kick."""
        # Under the worker's own name: who looks at a clock's sleepers sees that the worker is one of them.
        task = asyncio.current_task()
        timer = asyncio.create_task(self._clock.sleep_until(until), name=task.get_name() if task else None)
        kick = asyncio.create_task(self._kick.wait())
        try:
            await asyncio.wait({timer, kick}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()
            kick.cancel()
            await asyncio.gather(timer, kick, return_exceptions=True)
