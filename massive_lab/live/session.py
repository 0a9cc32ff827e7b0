"""What ``lab.live([...])`` gives: topics of one user, opened at once and closed together."""

from __future__ import annotations

import asyncio
import sys
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterable, Sequence
from types import FrameType
from typing import Any, Self, cast

import polars as pl

from massive_lab.clock import Clock
from massive_lab.config import Settings
from massive_lab.decode.stream import IndexValue, MinuteBar, Quote, SecondBar, Trade
from massive_lab.errors import ClosedError, InvalidRequest, MassiveLabError, SubscriptionFailed, Timeout, TransportError
from massive_lab.live.hub import TOPIC_COLUMNS, HubReader, Listener
from massive_lab.live.mailbox import Mailbox, Overflow
from massive_lab.live.policy import Policy
from massive_lab.live.polling import Poller
from massive_lab.live.reader import Reader
from massive_lab.live.registry import Lease, acquire
from massive_lab.live.tables import RollingTable
from massive_lab.live.topics import Topic, kind_of, topics_for
from massive_lab.schema.symbols import Symbol
from massive_lab.telemetry import Telemetry
from massive_lab.transports.runner import Runner
from massive_lab.typing import Cluster

__all__ = ["Live"]

_TS = pl.Datetime("ns", "UTC")
_STATUS_COLUMNS = {
    "cluster": pl.String(),
    "state": pl.String(),
    "since": _TS,
    **dict.fromkeys(
        ("topics", "readers", "frames", "events", "bytes", "quarantined", "unknown", "reconnects", "polls", "sent"),
        pl.Int64(),
    ),
    "last_error": pl.String(),
}
_GAP_COLUMNS = {"cluster": pl.String(), "topic": pl.String(), "start": _TS, "end": _TS}


class _Core(Listener):
    """The part that the loop thread may hold on to, so that a forgotten `Live` can be collected and closed."""

    def __init__(
        self,
        settings: Settings,
        runner: Runner,
        telemetry: Telemetry,
        clock: Clock,
        poller: Poller | None,
        topics: Sequence[Topic],
        policy: Policy,
        caller: str | None,
    ) -> None:
        self.runner = runner
        self.topics = tuple(topics)
        self.policy = policy
        self.tables = {
            channel: RollingTable(kind_of(channel), max_rows=policy.table_rows)
            for channel in dict.fromkeys(topic.channel for topic in topics)
        }
        self.leases: dict[Cluster, Lease] = {}
        self.failures: dict[Topic, MassiveLabError] = {}
        self.is_closed = False
        self.broken: Exception | None = None
        self._settings = settings
        self._telemetry = telemetry
        self._clock = clock
        self._poller = poller
        self._caller = caller
        self._pending = set(self.topics)
        self._settled = asyncio.Event()
        self._life = asyncio.Lock()
        self._ended = threading.Event()
        self._readers: list[HubReader] = []
        self._mailboxes: dict[Mailbox, list[HubReader]] = {}

    async def start(self) -> None:
        try:
            await self._open_all()
        except Exception as error:
            # Whoever waits is told at once; the runner logs it too.
            self.broken = error
            self._settled.set()
            raise

    async def _open_all(self) -> None:
        async with self._life:
            for cluster in dict.fromkeys(topic.cluster for topic in self.topics):
                if self.is_closed:
                    return
                lease = await acquire(
                    self._settings,
                    cluster,
                    clock=self._clock,
                    telemetry=self._telemetry,
                    poller=self._poller,
                    policy=self.policy,
                )
                self.leases[cluster] = lease
                for topic in (topic for topic in self.topics if topic.cluster == cluster):
                    self._open(topic)

    def _open(self, topic: Topic) -> None:
        hub = self.leases[topic.cluster].hub
        try:
            reader = hub.open(topic, [self.tables[topic.channel]], self, name="live", caller=self._caller)
        except SubscriptionFailed as error:
            self.failed(topic, error)
        else:
            self._readers.append(reader)

    def confirmed(self, topic: Topic) -> None:
        self._settle(topic)

    def failed(self, topic: Topic, error: MassiveLabError) -> None:
        self.failures[topic] = error
        self._settle(topic)

    def _settle(self, topic: Topic) -> None:
        self._pending.discard(topic)
        if not self._pending:
            self._settled.set()

    async def wait(self) -> None:
        await self._settled.wait()
        if self.broken is not None:
            raise self.broken
        for error in list(self.failures.values()):
            # A refused key or plan is clearer than its effect on one topic.
            raise error.__cause__ if isinstance(error.__cause__, TransportError) else error
        if self.is_closed:
            raise ClosedError("The live session was closed.")

    def waiting_for(self) -> list[str]:
        return sorted(topic.wire for topic in set(self._pending))

    async def listen(self, mailbox: Mailbox, topics: tuple[Topic, ...], listener: Listener) -> None:
        async with self._life:
            if self.is_closed:
                mailbox.close()
                return
            opened = self._mailboxes.setdefault(mailbox, [])
            for topic in topics:
                if (error := self.failures.get(topic)) is not None:
                    listener.failed(topic, error)
                    continue
                hub = self.leases[topic.cluster].hub
                try:
                    opened.append(hub.open(topic, [mailbox], listener, name=mailbox.name, caller=self._caller))
                except SubscriptionFailed as late:
                    listener.failed(topic, late)

    async def unlisten(self, mailbox: Mailbox) -> None:
        for reader in self._mailboxes.pop(mailbox, []):
            self.leases[reader.topic.cluster].hub.close_reader(reader)

    async def aclose(self) -> None:
        self.is_closed = True
        async with self._life:
            for mailbox in list(self._mailboxes):
                mailbox.close()
                await self.unlisten(mailbox)
            for reader in self._readers:
                self.leases[reader.topic.cluster].hub.close_reader(reader)
            self._readers.clear()
            self._settled.set()
            for lease in self.leases.values():
                await lease.release()
            self._ended.set()

    async def topic_rows(self) -> pl.DataFrame:
        own = {(topic.cluster, topic.wire) for topic in self.topics}
        frames = [lease.hub.topics() for lease in self.leases.values()]
        whole = pl.concat([pl.DataFrame(schema=TOPIC_COLUMNS), *frames])
        return whole.filter([pair in own for pair in whole.select("cluster", "topic").iter_rows()])

    async def status_rows(self) -> pl.DataFrame:
        rows = [lease.hub.status() for lease in self.leases.values()]
        return pl.DataFrame(rows, schema=_STATUS_COLUMNS, orient="row")

    async def gap_rows(self) -> pl.DataFrame:
        own = {(topic.cluster, topic.wire) for topic in self.topics}
        rows = [
            (gap.cluster, wire, gap.start_ns, gap.end_ns)
            for lease in self.leases.values()
            for gap in lease.hub.gaps
            for wire in gap.topics
            if (gap.cluster, wire) in own
        ]
        return pl.DataFrame(rows, schema=_GAP_COLUMNS, orient="row")


class Live:
    """Live events of some symbols. Returns at once; connecting, subscribing and reconnecting happen behind it.

    Parameters
    ----------
    settings : Settings
    runner : Runner
        The loop thread.
    telemetry : Telemetry
    clock : Clock
    poller : Poller or None
        Stands in by REST while a socket is down; None: nothing does.
    symbols : sequence of Symbol
    channels : iterable of str, optional
        See `massive_lab.live.topics.topics_for`.
    policy : Policy, optional

    Raises
    ------
    InvalidRequest
        For a channel that exists nowhere, or no symbol.
    """

    def __init__(
        self,
        settings: Settings,
        runner: Runner,
        telemetry: Telemetry,
        clock: Clock,
        poller: Poller | None,
        symbols: Sequence[Symbol],
        channels: Iterable[str] | None = None,
        *,
        policy: Policy | None = None,
    ) -> None:
        topics = topics_for(symbols, channels)
        if not topics:
            raise InvalidRequest("The list of symbols is empty.", hint="Give at least one, for example ['AAPL'].")
        self.symbols = tuple(symbol.text for symbol in symbols)
        self._is_sandbox = settings.sandbox
        self._runner = runner
        self._core = _Core(settings, runner, telemetry, clock, poller, topics, policy or Policy(), _caller())
        runner.spawn(self._core.start(), name="live session")
        # Closing at exit is the runner's work; this is for a session that is forgotten in a notebook.
        self._finalizer = weakref.finalize(self, _abandon, self._core)
        self._finalizer.atexit = False

    # ---- readers

    def trades(self, symbol: str | None = None, *, limit: int | None = None, overflow: Overflow = "drop_oldest") -> Reader[Trade]:
        """Trades of one symbol, or of all. See `Reader`.

        Parameters
        ----------
        symbol : str, optional
        limit : int, optional
            Events the reader may fall behind while it iterates; default 100,000.
        overflow : {"drop_oldest", "error", "conflate"}
            See `massive_lab.live.mailbox`.

        Raises
        ------
        InvalidRequest
            When the session has no such topic.
        """
        return cast("Reader[Trade]", self._reader(("T",), symbol, limit, overflow))

    def quotes(self, symbol: str | None = None, *, limit: int | None = None, overflow: Overflow = "drop_oldest") -> Reader[Quote]:
        """Best bids and offers of one symbol, or of all. As `trades`."""
        return cast("Reader[Quote]", self._reader(("Q",), symbol, limit, overflow))

    def values(
        self, symbol: str | None = None, *, limit: int | None = None, overflow: Overflow = "drop_oldest"
    ) -> Reader[IndexValue]:
        """Index values of one symbol, or of all. As `trades`."""
        return cast("Reader[IndexValue]", self._reader(("V",), symbol, limit, overflow))

    def bars(
        self,
        symbol: str | None = None,
        *,
        channel: str | None = None,
        limit: int | None = None,
        overflow: Overflow = "drop_oldest",
    ) -> Reader[SecondBar | MinuteBar]:
        """Bars of one symbol, or of all: of a minute (``channel="AM"``, default where subscribed) or of a second (``"A"``)."""
        channels = (channel,) if channel else ("AM", "A")
        return cast("Reader[SecondBar | MinuteBar]", self._reader(channels, symbol, limit, overflow))

    def _reader(self, channels: Sequence[str], symbol: str | None, limit: int | None, overflow: Overflow) -> Reader[Any]:
        core = self._core
        for channel in channels:
            topics = tuple(t for t in core.topics if t.channel == channel and symbol in (None, t.symbol))
            if topics:
                bound = core.policy.mailbox_events if limit is None else limit
                return Reader(core, core.tables[channel], topics, symbol, limit=bound, overflow=overflow)
        asked = "/".join(channels) + (f".{symbol}" if symbol else "")
        raise InvalidRequest(
            f"This session has no topic {asked}.", hint=f"It has {', '.join(topic.wire for topic in core.topics[:10])}."
        )

    # ---- what is known

    def topics(self) -> pl.DataFrame:
        """The session's topics: ``cluster topic readers state since messages bytes last_event duplicates_avoided``.

        ``readers`` counts all of the process, not of this session alone.
        """
        return self._runner.call(self._core.topic_rows())

    def status(self) -> pl.DataFrame:
        """One row per cluster: its state, since when, and counts of the shared connection since it was made."""
        return self._runner.call(self._core.status_rows())

    def gaps(self) -> pl.DataFrame:
        """Spans in which nothing was received: ``cluster topic start end``, UTC."""
        return self._runner.call(self._core.gap_rows())

    @property
    def errors(self) -> tuple[MassiveLabError, ...]:
        """What went wrong so far: topics that were refused, connections that broke, polls that failed."""
        told = [error for lease in list(self._core.leases.values()) for error in list(lease.hub.errors)]
        return (*list(self._core.failures.values()), *told)

    def wait_live(self, timeout: float | None = None) -> Self:
        """Wait until every topic is confirmed by the server.

        Raises
        ------
        Timeout
            After `timeout` seconds; names the topics still open.
        SubscriptionFailed, Unauthorized, NotEntitled, UpstreamError
            When a topic, or the whole connection, was refused.
        """
        try:
            self._runner.call(self._core.wait(), timeout)
        except Timeout:
            raise self._late(timeout) from None
        return self

    async def await_live(self) -> Self:
        """As `wait_live`, from any event loop; bound it with ``asyncio.timeout``."""
        await self._runner.acall(self._core.wait())
        return self

    def _late(self, timeout_s: float | None) -> Timeout:
        states = ", ".join(f"{cluster} is {lease.hub.state}" for cluster, lease in self._core.leases.items())
        waiting = self._core.waiting_for()
        shown = ", ".join(waiting[:5]) + (f" and {len(waiting) - 5} more" if len(waiting) > 5 else "")
        text = f"{shown} not confirmed within {timeout_s or 0:g} s; {states or 'nothing is open'}."
        return Timeout(text, hint="See live.errors.")

    # ---- life

    def close(self) -> None:
        """Close every reader and, with the last session that uses them, the sockets. Idempotent."""
        self._finalizer.detach()
        if self._core.is_closed and self._core._ended.is_set():
            return
        if self._runner.in_loop_thread:
            self._runner.submit(self._core.aclose())
        else:
            self._runner.call(self._core.aclose())

    async def aclose(self) -> None:
        """As `close`, from any event loop."""
        self._finalizer.detach()
        if not self._core._ended.is_set():
            await self._runner.acall(self._core.aclose())

    @property
    def closer(self) -> Callable[[], Coroutine[Any, Any, None]]:
        """What closes this session, on the runner's loop and any number of times, without keeping the session itself alive.

        A client that holds it can wait for the orderly end of sessions that its user has forgotten.
        """
        return self._core.aclose

    @property
    def is_closed(self) -> bool:
        return self._core.is_closed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        label = "SANDBOX " if self._is_sandbox else ""
        if self.is_closed:
            state = "closed"
        else:
            states = {cluster: lease.hub.state for cluster, lease in list(self._core.leases.items())}
            state = ", ".join(f"{cluster} {word}" for cluster, word in states.items()) or "connecting"
        shown = ", ".join(self.symbols[:5]) + (", ..." if len(self.symbols) > 5 else "")
        return f"<{label}Live {shown}: {len(self._core.topics)} topics, {state}>"


def _abandon(core: _Core) -> None:
    if core.is_closed:
        return
    try:
        core.runner.submit(core.aclose())
    except ClosedError:
        core.is_closed = True  # the loop thread is gone, and every socket with it


def _caller() -> str | None:
    """``file:line`` of the first frame outside the library; the cell number in a notebook."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "massive_lab":
        frame = frame.f_back
    if frame is None:
        return None
    name = frame.f_code.co_filename
    if "ipykernel" in name and isinstance(cells := frame.f_globals.get("In"), list):
        return f"In[{len(cells) - 1}]:{frame.f_lineno}"
    return f"{name.rpartition('/')[2]}:{frame.f_lineno}"
