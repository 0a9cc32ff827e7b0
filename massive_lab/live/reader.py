"""What a user reads with: a frame at any time, or one event after the other, in a thread or in any event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Generic, Protocol, Self, TypeVar, cast

import polars as pl

from massive_lab.decode.stream import Event
from massive_lab.errors import ClosedError, InvalidRequest, MassiveLabError
from massive_lab.live.mailbox import Mailbox, Overflow
from massive_lab.live.readers import Listener
from massive_lab.live.tables import RollingTable
from massive_lab.live.topics import Topic
from massive_lab.transports.runner import Runner

__all__ = ["Reader", "ReaderHost"]

E = TypeVar("E", bound=Event)


class ReaderHost(Protocol):
    """What a reader asks of the session it belongs to."""

    @property
    def runner(self) -> Runner: ...
    async def listen(self, mailbox: Mailbox, topics: tuple[Topic, ...], listener: Listener) -> None: ...
    async def unlisten(self, mailbox: Mailbox) -> None: ...


class _Ender(Listener):
    """Ends a mailbox once every topic it was for is lost."""

    def __init__(self, mailbox: Mailbox, topics: tuple[Topic, ...]) -> None:
        self._mailbox = mailbox
        self._left = set(topics)

    def failed(self, topic: Topic, error: MassiveLabError) -> None:
        self._left.discard(topic)
        if not self._left:
            self._mailbox.close(error)


class Reader(Generic[E]):
    """Events of one kind, of one symbol or of all of a session. Made by ``live.trades()`` and its sisters.

    Iterating starts with the events that come after the first step, waits for the next one, and ends when the reader or its
    session is closed. `frame` shows the rolling table, which runs from the opening of the session on, whether or not anybody
    iterates.

    Attributes
    ----------
    name : str
    """

    def __init__(
        self,
        host: ReaderHost,
        table: RollingTable,
        topics: tuple[Topic, ...],
        symbol: str | None,
        *,
        limit: int,
        overflow: Overflow,
        session: object = None,
    ) -> None:
        if overflow == "conflate" and table.kind == "trades":
            raise InvalidRequest("Trades are not conflated: each one counts.", hint="Use drop_oldest or error.")
        self.name = f"{table.kind}({symbol or '*'})"
        self._host = host
        self._session = session  # held: a session that nobody holds is closed
        self._table = table
        self._topics = topics
        self._symbol = symbol
        self._mailbox = Mailbox(self.name, limit=limit, overflow=overflow)
        self._is_listening = False
        self._is_closed = False

    def frame(self) -> pl.DataFrame:
        """The rolling table as it stands, as `massive_lab.live.tables.RollingTable.frame` has it. Also after closing."""
        return self._table.frame(self._symbol)

    @property
    def last(self) -> E | None:
        """The newest event by event time, or None before the first."""
        if self._symbol is not None:
            return cast("E | None", self._table.last.get(self._symbol))
        newest = max(dict(self._table.last).values(), key=lambda event: (event.ms, event.ts_recv), default=None)
        return cast("E | None", newest)

    @property
    def n_dropped(self) -> int:
        """Events this reader lost to its bound."""
        return self._mailbox.n_dropped

    @property
    def is_closed(self) -> bool:
        return self._is_closed or self._mailbox.is_closed

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
            await self._host.runner.acall(self._listen())
        event = await self._mailbox.aget()
        if event is None:
            raise StopAsyncIteration
        return cast("E", event)

    def _claims_start(self) -> bool:
        if self._is_listening or self._is_closed:
            return False
        self._is_listening = True
        return True

    def _begin(self) -> None:
        if self._claims_start():
            self._host.runner.call(self._listen())

    async def _listen(self) -> None:
        await self._host.listen(self._mailbox, self._topics, _Ender(self._mailbox, self._topics))

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
        return f"Reader({self.name}, {len(self._mailbox)} waiting, {self.n_dropped} dropped)"
