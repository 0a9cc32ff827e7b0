"""What a user reads with: a frame at any time, or one event after the other, in a thread or in any event loop."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from dataclasses import dataclass, replace
from typing import Generic, Protocol, Self, TypeVar, cast

import polars as pl

from massive_lab.clock import Clock
from massive_lab.decode.stream import Event
from massive_lab.errors import ClosedError, InvalidRequest, MassiveLabError
from massive_lab.live.read.callbacks import Callback, OnError
from massive_lab.live.read.mailbox import Mailbox, Overflow
from massive_lab.live.read.tables import RollingTable
from massive_lab.live.readers import Listener
from massive_lab.live.topics import Topic
from massive_lab.transports.runner import Runner

__all__ = ["Bounds", "Reader", "ReaderHost"]

E = TypeVar("E", bound=Event)
_log = logging.getLogger("massive_lab.callbacks")


@dataclass(frozen=True, slots=True)
class Bounds:
    """How far a reader may fall behind, and what happens then; see `massive_lab.live.read.mailbox`."""

    limit: int
    max_bytes: int | None = None
    max_age_s: float | None = None
    overflow: Overflow = "drop_oldest"
    tell: Callable[[str], object] | None = None


class ReaderHost(Protocol):
    """What a reader asks of the session it belongs to."""

    callbacks: set[Callback]
    is_closed: bool
    is_sandbox: bool

    @property
    def runner(self) -> Runner: ...
    @property
    def clock(self) -> Clock: ...
    async def listen(self, mailbox: Mailbox, topics: tuple[Topic, ...], listener: Listener) -> None: ...
    async def unlisten(self, mailbox: Mailbox) -> None: ...


class _Ender(Listener):
    """Ends a mailbox once every topic it was for is lost."""

    def __init__(self, mailbox: Mailbox, topics: tuple[Topic, ...], *, is_patient: bool = False) -> None:
        self._mailbox = mailbox
        self._is_patient = is_patient
        self._left = set(topics)
        self._suspended: set[Topic] = set()

    def failed(self, topic: Topic, error: MassiveLabError) -> None:
        self._left.discard(topic)
        if not self._left:
            self._mailbox.close(error)

    def suspended(self, topic: Topic, error: MassiveLabError) -> None:
        # Whoever waits is told once, and reads on when the feed is back.
        self._suspended.add(topic)
        if not self._left <= self._suspended:
            return
        if self._is_patient:
            _log.warning("%s waits: %s", self._mailbox.name, error)
        else:
            self._mailbox.tell_once(error)

    def resumed(self) -> None:
        self._suspended.clear()
        self._mailbox.tell_once(None)


class Reader(Generic[E]):
    """Events of one kind, of one or some symbols or of all of a session. Made by ``live.trades()`` and its sisters.

    Iterating starts with the events that come after the first step, waits for the next one, and ends when the reader or its
    session is closed; `on` calls a function with each instead. `frame` shows the rolling table, which runs from the opening
    of the session on, whether or not anybody iterates.

    A reader that does not keep up loses events by its own rule and warns (`EventsDropped`); nobody else notices.

    Attributes
    ----------
    name : str
    """

    def __init__(
        self,
        host: ReaderHost,
        table: RollingTable,
        topics: tuple[Topic, ...],
        symbols: Collection[str] | None,
        bounds: Bounds,
        *,
        session: object = None,
    ) -> None:
        if bounds.overflow == "latest" and table.kind == "trades":
            raise InvalidRequest("Trades are not conflated: each one counts.", hint="Use drop_oldest or close.")
        self._symbols = None if symbols is None else tuple(dict.fromkeys(symbols))
        shown = (
            "*" if self._symbols is None else ", ".join(self._symbols[:3]) + (", ..." if len(self._symbols) > 3 else "")
        )
        self.name = f"{table.kind}({shown})"
        self._host = host
        self._session = session  # held: a session that nobody holds is closed
        self._table = table
        self._topics = topics
        self._bounds = bounds
        self._mailbox = Mailbox(
            self.name, limit=bounds.limit, overflow=bounds.overflow, max_bytes=bounds.max_bytes, max_age_s=bounds.max_age_s,
            clock=host.clock, tell=bounds.tell,
        )  # fmt: skip
        self._is_begun = False
        self._is_listening = False  # or may be: what is closed then
        self._is_closed = False
        self._is_patient = False  # a callback has nobody to tell at once, and outlasts an outage of the key

    # ---- what has come

    def frame(self) -> pl.DataFrame:
        """The rolling table as it stands, as `massive_lab.live.read.tables.RollingTable.frame` has it. Also after closing."""
        return self._table.frame(self._symbols)

    def last_frame(self) -> pl.DataFrame:
        """The newest row of each symbol, with how old it is.

        Returns
        -------
        polars.DataFrame
            The columns of `frame`, then ``staleness_s`` (how late it came: receipt less the time it speaks of) and ``age_s``
            (how long ago that time is now). A bar speaks of its close.
        """
        return self._table.last_frame(self._symbols, self._host.clock.now_ns())

    @property
    def last(self) -> E | None:
        """The newest event by event time, or None before the first."""
        known = self._table.last
        chosen = known.values() if self._symbols is None else [known[s] for s in self._symbols if s in known]
        return cast("E | None", max(chosen, key=lambda event: (event.ms, event.ts_recv), default=None))

    @property
    def staleness_s(self) -> float | None:
        """How late the newest event came, in seconds: its receipt less the time it speaks of. None before the first."""
        last = self.last
        return None if last is None else last.staleness_ns / 1e9

    # ---- one event after the other

    @property
    def n_dropped(self) -> int:
        """Events this reader lost to its bounds."""
        return self._mailbox.n_dropped

    @property
    def is_closed(self) -> bool:
        return self._is_closed or self._mailbox.is_closed

    def on(self, function: Callable[[E], object], *, on_error: OnError | None = None) -> Callback:
        """Call a function with each event from now on, in a thread of its own, until closed.

        Each call of `on` reads for itself: with its own queue, bounded as this reader's.

        Parameters
        ----------
        function : callable
            Takes one event; may block. A coroutine function is awaited.
        on_error : callable, optional
            Gets each exception of the function, which then goes on with the next event. Left out, the first one ends the
            callback, is logged, and is raised by its ``close()``.

        Returns
        -------
        Callback
            Keep it to ``close()`` it; the session keeps it running otherwise, and ends it when it is closed.

        Raises
        ------
        ClosedError
            When the reader or its session is closed.
        """
        if self.is_closed or self._host.is_closed:
            raise ClosedError(f"The reader {self.name} is closed.")
        bounds = replace(self._bounds, tell=_log.warning)
        own: Reader[E] = Reader(self._host, self._table, self._topics, self._symbols, bounds, session=self._session)
        callback = Callback(own, function, on_error)
        own._is_patient = True
        own._begin()
        callback.start()
        callbacks = self._host.callbacks
        callbacks.difference_update([ended for ended in list(callbacks) if not ended.is_running])
        callbacks.add(callback)
        return callback

    def get(self, timeout: float | None = None) -> E:
        """The next event.

        Parameters
        ----------
        timeout : float, optional
            Seconds; None waits as long as it takes.

        Raises
        ------
        Timeout
            When none came in time.
        ClosedError
            When the reader or its session was closed.
        SlowReader, SubscriptionFailed
            What ended the reader, once.
        """
        self._begin()
        event = self._mailbox.get(timeout)
        if event is None:
            raise ClosedError(f"The reader {self.name} is closed.")
        return cast("E", event)

    def __iter__(self) -> Iterator[E]:
        self._begin()
        return self

    def __next__(self) -> E:
        self._begin()
        event = self._mailbox.get()
        if event is None:
            raise StopIteration
        return cast("E", event)

    def __aiter__(self) -> AsyncIterator[E]:
        return self

    async def __anext__(self) -> E:
        if self._claims_start():
            try:
                await self._host.runner.acall(self._listen())
            except BaseException:
                self._is_begun = False
                raise
        event = await self._mailbox.aget()
        if event is None:
            raise StopAsyncIteration
        return cast("E", event)

    def _claims_start(self) -> bool:
        if self._is_begun or self._is_closed:
            return False
        self._is_begun = self._is_listening = True
        return True

    def _begin(self) -> None:
        if self._claims_start():
            try:
                self._host.runner.call(self._listen())
            except BaseException:
                # Ctrl-C, or a cancelled wait: perhaps nobody heard it, so the next step asks again.
                self._is_begun = False
                raise

    async def _listen(self) -> None:
        await self._host.listen(self._mailbox, self._topics, _Ender(self._mailbox, self._topics, is_patient=self._is_patient))

    @property
    def label(self) -> str:
        """What stands before the name where this is shown: whether the data are synthetic."""
        return "SANDBOX " if self._host.is_sandbox else ""

    # ---- life

    def discard(self) -> None:
        """Take no more, and forget what waits; `close` is still due. Never blocks."""
        self._mailbox.discard()

    def close(self) -> None:
        """Stop; whoever waits for the next event sees the end. Idempotent."""
        if self._is_closed:
            return
        self._is_closed = True
        self._mailbox.close()
        if self._is_listening:
            runner = self._host.runner
            if runner.in_loop_thread:
                runner.submit(self._host.unlisten(self._mailbox))
            else:
                runner.call(self._host.unlisten(self._mailbox))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed, " if self.is_closed or self._host.is_closed else ""
        return f"<{self.label}Reader {self.name}: {state}{len(self._mailbox)} waiting, {self.n_dropped} dropped>"
