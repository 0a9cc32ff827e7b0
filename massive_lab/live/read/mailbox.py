"""A bounded queue between the loop thread and one reader, whatever thread or loop that reader lives in.

The loop thread appends a frame's events to `Mailbox.inbox` and calls `Mailbox.flush` once; a waiting reader is woken once
per frame, not once per event. A mailbox is bounded in events, in bytes and in age, and never waits for its reader. What
happens when the reader is too slow is stated when the mailbox is made:

============ ===================================================================================
rule         when a bound is passed
============ ===================================================================================
drop_oldest  the oldest events go, and are counted
close        the reader gets what is queued, then `SlowReader`
latest       only the newest event of each symbol is kept; never for trades, where each one counts
============ ===================================================================================

Bytes are those of `EVENT_BYTES`, one figure per kind of event: what such an event with its usual fields holds in memory.
The age of an event runs from its arrival here on the injected clock; it is looked at whenever events come or go.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import warnings
from collections import deque
from collections.abc import Callable
from typing import Literal, TypeAlias, get_args

from massive_lab.clock import Clock, SystemClock
from massive_lab.decode.stream import Event, IndexValue, MinuteBar, Quote, SecondBar, Trade
from massive_lab.errors import InvalidRequest, SlowReader, Timeout

__all__ = ["EVENT_BYTES", "EventsDropped", "Mailbox", "Overflow"]

_LOOK_UP_S = 0.25

Overflow: TypeAlias = Literal["drop_oldest", "close", "latest"]

EVENT_BYTES: dict[type, int] = {Trade: 600, Quote: 600, SecondBar: 550, MinuteBar: 550, IndexValue: 250}
"""Bytes that an event of a type is taken to hold."""
_OTHER_BYTES = max(EVENT_BYTES.values())


class EventsDropped(UserWarning):
    """A reader fell behind its bound and lost events by the rule it was opened with."""


class Mailbox:
    """The queue of one reader.

    Parameters
    ----------
    name : str
        Shown in `SlowReader`.
    limit : int
        Events held at most.
    overflow : {"drop_oldest", "close", "latest"}
    max_bytes : int, optional
        Bytes held at most, by `EVENT_BYTES`. One event is held whatever its size.
    max_age_s : float, optional
        An event that has waited longer than this passes the bound.
    clock : Clock, optional
        What the age is measured on.
    tell : callable, optional
        Gets a text at the first loss, and then at each tenfold of it, on the reader's side; default: an `EventsDropped`
        warning where the reader stands.

    Attributes
    ----------
    inbox : list
        Written by the loop thread alone, emptied by `flush`.
    n_dropped : int
        Events lost by the rule so far. Superseded events are not lost: see `n_superseded`.
    n_superseded : int
        Events that a newer one of the same symbol replaced, by the rule ``latest``.
    keeps_newest_only : bool
        Whether events of the past are not worth sending here.

    Examples
    --------
    >>> box = Mailbox("demo", limit=2, overflow="close")
    >>> box.inbox.extend([Trade("A", 1, 5.0), Trade("A", 2, 5.0), Trade("A", 3, 5.0)]); box.flush()
    1
    >>> box.get().ms, box.get().ms, box.n_dropped
    (1, 2, 1)
    >>> box.get()
    Traceback (most recent call last):
    massive_lab.errors.SlowReader: Reader demo fell behind: 1 events were dropped. Read faster, or allow drop_oldest or latest.
    """

    def __init__(
        self,
        name: str,
        *,
        limit: int = 100_000,
        overflow: Overflow = "drop_oldest",
        max_bytes: int | None = None,
        max_age_s: float | None = None,
        clock: Clock | None = None,
        tell: Callable[[str], object] | None = None,
    ) -> None:
        if limit < 1:
            raise InvalidRequest(f"A mailbox of {limit} events holds nothing.", hint="Give 1 or more.")
        if max_bytes is not None and max_bytes < 1:
            raise InvalidRequest(f"A mailbox of {max_bytes} bytes holds nothing.", hint="Give 1 or more, or None.")
        if max_age_s is not None and not max_age_s > 0:
            raise InvalidRequest(f"max_age_s is {max_age_s}.", hint="Give a number of seconds above 0, or None.")
        if overflow not in get_args(Overflow):
            raise InvalidRequest(f"overflow is {overflow!r}.", hint=f"Use one of {', '.join(get_args(Overflow))}.")
        self.name = name
        self.inbox: list[Event] = []
        self.n_dropped = 0
        self.n_superseded = 0
        self.keeps_newest_only = overflow == "latest"
        self._limit = limit
        self._max_bytes = math.inf if max_bytes is None else max_bytes
        self._max_age_s = math.inf if max_age_s is None else max_age_s
        self._clock = clock or SystemClock()
        self._tell = tell or _warn
        self._overflow = overflow
        self._queue: deque[Event] = deque()
        self._arrivals: deque[list[float]] = deque()  # of the queue: [monotonic seconds, events left of that flush]
        self._newest: dict[tuple[type, str], tuple[float, Event]] = {}
        self._n_bytes = 0
        self._n_untold = 0  # dropped while reading, for the next flush to tell
        self._n_told = 0
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)
        self._waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._is_closed = False
        self._error: BaseException | None = None

    # ---- the loop thread's side

    def flush(self) -> int:
        """Hand the inbox over and wake the reader; returns how many events were dropped since the last time."""
        batch = self.inbox.copy()
        self.inbox.clear()
        if not batch:
            return 0
        with self._lock:
            if not self._is_closed:
                self._take(batch)
            dropped, self._n_untold = self._n_untold, 0
            self._wake()
        return dropped

    def _take(self, batch: list[Event]) -> None:
        now = self._clock.monotonic()
        self._expire(now, n_coming=len(batch))
        if self._is_closed:
            return
        if self._overflow == "latest":
            for event in batch:
                # Taken out and put in again, so that the order is that of the last change.
                if self._newest.pop((type(event), event.symbol), None) is not None:
                    self.n_superseded += 1
                    self._n_bytes -= _size(event)
                self._newest[type(event), event.symbol] = now, event
                self._n_bytes += _size(event)
        else:
            self._queue.extend(batch)
            self._arrivals.append([now, len(batch)])
            self._n_bytes += sum(map(_size, batch))
        n_out = 0
        while self._is_over():
            self._pop(newest=self._overflow == "close")
            n_out += 1
        if n_out:
            self._lose(n_out)
            if self._overflow == "close":
                self._end_slow()

    def _is_over(self) -> bool:
        n = len(self._queue) + len(self._newest)
        return n > self._limit or (self._n_bytes > self._max_bytes and n > 1)

    def _expire(self, now: float, n_coming: int = 0) -> None:
        """Act on what has waited too long."""
        n_out = 0
        while (since := self._oldest_at()) is not None and now - since > self._max_age_s:
            if self._overflow == "close":
                self._lose(n_coming)
                self._end_slow()
                return
            self._pop()
            n_out += 1
        self._lose(n_out)

    def _oldest_at(self) -> float | None:
        if self._arrivals:
            return self._arrivals[0][0]
        # In order of the last change, so the first has waited longest.
        return self._newest[next(iter(self._newest))][0] if self._newest else None

    def _lose(self, n: int) -> None:
        self.n_dropped += n
        self._n_untold += n

    def _end_slow(self) -> None:
        self._end(SlowReader(self.name, self.n_dropped, hint="Read faster, or allow drop_oldest or latest."))

    def close(self, error: BaseException | None = None) -> None:
        """No more events. The reader still gets what is queued, then `error` or the end. Idempotent, from any thread."""
        with self._lock:
            if not self._is_closed:
                self._end(error)
            self._wake()

    def tell_once(self, error: BaseException | None) -> None:
        """Raise an error to the reader once, after what is queued, and go on: nothing comes for now. None takes it back."""
        with self._lock:
            if not self._is_closed:
                self._error = error
                self._wake()

    def discard(self) -> None:
        """As `close`, and what is queued is not delivered either."""
        with self._lock:
            self._end(None)
            self._queue.clear()
            self._arrivals.clear()
            self._newest.clear()
            self._n_bytes = 0
            self._wake()

    def _end(self, error: BaseException | None) -> None:
        self._is_closed = True
        self._error = error

    def _wake(self) -> None:
        self._arrived.notify_all()
        waiters, self._waiters = self._waiters, []
        for loop, future in waiters:
            # A reader's loop may close at any moment; who waited on it is gone, and the others must still be woken.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_resolve, future)

    # ---- the reader's side

    def __len__(self) -> int:
        with self._lock:
            return len(self._queue) + len(self._newest)

    @property
    def n_bytes(self) -> int:
        """Bytes held now, by `EVENT_BYTES`."""
        return self._n_bytes

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
        if self.n_dropped:
            self._announce()
        with self._lock:
            # Mostly there is one, and then nothing is reckoned.
            event = self._next()
        if event is not None:
            return event
        clock = SystemClock()
        deadline = math.inf if timeout is None else clock.monotonic() + timeout
        while True:
            with self._lock:
                # In pieces: a signal may come just before the thread lies down, or be given to another thread, and then
                # wakes nobody; so Ctrl-C is heard when the thread next looks up.
                while not self._arrived.wait_for(
                    self._is_ready, max(0.0, min(deadline - clock.monotonic(), _LOOK_UP_S))
                ):
                    if clock.monotonic() >= deadline:
                        raise Timeout(f"No event for {self.name} within {timeout:g} s.")
                event = self._next()
                if event is not None or self._is_closed or self._error is not None:
                    return self._or_end(event)

    async def aget(self) -> Event | None:
        """As `get`, from any event loop; cancelling the wait loses nothing."""
        self._announce()
        while True:
            with self._lock:
                event = self._next()
                if event is not None or self._is_closed or self._error is not None:
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
        return bool(self._queue or self._newest or self._is_closed or self._error)

    def _next(self) -> Event | None:
        if self._max_age_s < math.inf and not self._is_closed and (since := self._oldest_at()) is not None:
            now = self._clock.monotonic()
            if now - since > self._max_age_s:
                self._expire(now)
        return self._pop()

    def _pop(self, *, newest: bool = False) -> Event | None:
        event = None
        if self._queue:
            end = -1 if newest else 0
            event = self._queue.pop() if newest else self._queue.popleft()
            arrival = self._arrivals[end]
            arrival[1] -= 1
            if not arrival[1]:
                del self._arrivals[end]
        elif self._newest:
            event = self._newest.pop(next(iter(self._newest)))[1]
        if event is not None:
            self._n_bytes -= _size(event)
        return event

    def _or_end(self, event: Event | None) -> Event | None:
        if event is None and self._error is not None:
            error, self._error = self._error, None
            raise error
        return event

    def _announce(self) -> None:
        # Before anything is taken: where warnings are errors, no event is lost by one.
        n = self.n_dropped
        if n and self._overflow != "close" and n >= 10 * self._n_told:
            self._n_told = n
            self._tell(f"Reader {self.name} fell behind: {n} events were dropped so far.")


def _warn(text: str) -> None:
    # Past this function, `_announce`, `get` or `aget`, and the step of the reader.
    warnings.warn(text, EventsDropped, stacklevel=5)


def _size(event: Event) -> int:
    return EVENT_BYTES.get(type(event), _OTHER_BYTES)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
