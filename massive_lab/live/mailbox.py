"""A bounded queue between the loop thread and one reader, whatever thread or loop that reader lives in.

The loop thread appends a frame's events to `Mailbox.inbox` and calls `Mailbox.flush` once; a waiting reader is woken once
per frame, not once per event. What happens when the reader is too slow is stated when the mailbox is made:

============ ===================================================================================
rule         on overflow
============ ===================================================================================
drop_oldest  the oldest events go, and are counted
error        the reader gets what is queued, then `SlowReader`
conflate     only the newest event of each symbol is kept; never for trades, where each one counts
============ ===================================================================================
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections import deque
from typing import Literal, TypeAlias, get_args

from massive_lab.clock import SystemClock
from massive_lab.decode.stream import Event
from massive_lab.errors import InvalidRequest, SlowReader, Timeout

__all__ = ["Mailbox", "Overflow"]

_LOOK_UP_S = 0.25

Overflow: TypeAlias = Literal["drop_oldest", "error", "conflate"]


class Mailbox:
    """The queue of one reader.

    Parameters
    ----------
    name : str
        Shown in `SlowReader`.
    limit : int
        Events held at most.
    overflow : {"drop_oldest", "error", "conflate"}

    Attributes
    ----------
    inbox : list
        Written by the loop thread alone, emptied by `flush`.
    n_dropped : int
        Events lost by the rule so far. Conflated events are not lost but superseded: see `n_conflated`.

    Examples
    --------
    >>> box = Mailbox("demo", limit=2)
    >>> box.inbox.extend([1, 2, 3]); box.flush()
    1
    >>> box.get(), box.n_dropped
    (2, 1)
    """

    def __init__(self, name: str, *, limit: int = 100_000, overflow: Overflow = "drop_oldest") -> None:
        if limit < 1:
            raise InvalidRequest(f"A mailbox of {limit} events holds nothing.", hint="Give 1 or more.")
        if overflow not in get_args(Overflow):
            raise InvalidRequest(f"overflow is {overflow!r}.", hint=f"Use one of {', '.join(get_args(Overflow))}.")
        self.name = name
        self.inbox: list[Event] = []
        self.n_dropped = 0
        self.n_conflated = 0
        self._limit = limit
        self._overflow = overflow
        self._queue: deque[Event] = deque()
        self._newest: dict[tuple[type, str], Event] = {}
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)
        self._waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._is_closed = False
        self._error: BaseException | None = None

    # ---- the loop thread's side

    def flush(self) -> int:
        """Hand the inbox over and wake the reader; returns how many events this dropped."""
        batch = self.inbox.copy()
        self.inbox.clear()
        if not batch:
            return 0
        with self._lock:
            dropped = 0 if self._is_closed else self._take(batch)
            self.n_dropped += dropped
            self._wake()
        return dropped

    def _take(self, batch: list[Event]) -> int:
        if self._overflow == "conflate":
            for event in batch:
                # Taken out and put in again, so that the order is that of the last change.
                self.n_conflated += self._newest.pop((type(event), event.symbol), None) is not None
                self._newest[type(event), event.symbol] = event
            excess = len(self._newest) - self._limit
            for key in list(self._newest)[: max(0, excess)]:
                del self._newest[key]
            return max(0, excess)
        self._queue.extend(batch)
        excess = len(self._queue) - self._limit
        if excess <= 0:
            return 0
        if self._overflow == "error":
            for _ in range(excess):
                self._queue.pop()
            self._end(SlowReader(self.name, excess, hint="Read faster, or allow drop_oldest or conflate."))
        else:
            for _ in range(excess):
                self._queue.popleft()
        return excess

    def close(self, error: BaseException | None = None) -> None:
        """No more events. The reader still gets what is queued, then `error` or the end. Idempotent, from any thread."""
        with self._lock:
            if not self._is_closed:
                self._end(error)
            self._wake()

    def _end(self, error: BaseException | None) -> None:
        self._is_closed = True
        self._error = error

    def _wake(self) -> None:
        self._arrived.notify_all()
        waiters, self._waiters = self._waiters, []
        for loop, future in waiters:
            if not loop.is_closed():
                loop.call_soon_threadsafe(_resolve, future)

    # ---- the reader's side

    def __len__(self) -> int:
        with self._lock:
            return len(self._queue) + len(self._newest)

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    def get(self, timeout: float | None = None) -> Event | None:
        """Wait for the next event; None when the mailbox was closed without an error.

        Parameters
        ----------
        timeout : float, optional
            Seconds; None waits as long as it takes. Ctrl-C ends the wait and loses nothing.

        Raises
        ------
        Timeout
            When nothing came in time.
        SlowReader, SubscriptionFailed ...
            What the mailbox was closed with, once, after the queued events.
        """
        clock = SystemClock()
        deadline = math.inf if timeout is None else clock.monotonic() + timeout
        with self._lock:
            # In pieces: a signal may come just before the thread lies down, or be given to another thread, and then wakes
            # nobody; so Ctrl-C is heard when the thread next looks up.
            while not self._arrived.wait_for(self._is_ready, max(0.0, min(deadline - clock.monotonic(), _LOOK_UP_S))):
                if clock.monotonic() >= deadline:
                    raise Timeout(f"No event for {self.name} within {timeout:g} s.")
            return self._or_end(self._pop())

    async def aget(self) -> Event | None:
        """As `get`, from any event loop; cancelling the wait loses nothing."""
        while True:
            with self._lock:
                event = self._pop()
                if event is not None or self._is_closed:
                    return self._or_end(event)
                loop = asyncio.get_running_loop()
                future: asyncio.Future[None] = loop.create_future()
                self._waiters.append((loop, future))
            try:
                await future
            finally:
                with self._lock:
                    self._waiters = [waiter for waiter in self._waiters if waiter[1] is not future]

    def _is_ready(self) -> bool:
        return bool(self._queue or self._newest or self._is_closed)

    def _pop(self) -> Event | None:
        if self._queue:
            return self._queue.popleft()
        if self._newest:
            return self._newest.pop(next(iter(self._newest)))
        return None

    def _or_end(self, event: Event | None) -> Event | None:
        if event is None and self._error is not None:
            error, self._error = self._error, None
            raise error
        return event


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
