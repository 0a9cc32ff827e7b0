"""Time as a dependency: the system clock, and one that tests move by hand.

Nothing else in the library reads the time or sleeps, so every schedule (retries, polling, staleness, back-off) can be
tested by moving a `ManualClock` instead of waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import threading
import time
from typing import Protocol, runtime_checkable

__all__ = ["Clock", "ManualClock", "SystemClock", "first_ns"]


@runtime_checkable
class Clock(Protocol):
    """What the library asks of time."""

    def now_ns(self) -> int:
        """UTC time in nanoseconds since the Unix epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back; the origin has no meaning."""
        ...

    async def sleep(self, delay_s: float) -> None:
        """Return once `delay_s` seconds of this clock have passed."""
        ...

    async def sleep_until(self, at_s: float) -> None:
        """Return once `monotonic` is `at_s` or later.

        A deadline that was computed from a moment ago is kept, however long the caller took to lie down.
        """
        ...


def first_ns(at_s: float) -> int:
    """The first nanosecond that reads as `at_s` seconds or later, so that who wakes on it does not find itself early.

    Examples
    --------
    >>> first_ns(1.5), first_ns(1024.05) / 1e9 >= 1024.05
    (1500000000, True)
    """
    ns = round(at_s * 1e9)
    while ns / 1e9 < at_s:
        ns += 1
    return ns


class SystemClock:
    """The machine's clock."""

    __slots__ = ()

    def now_ns(self) -> int:
        return time.time_ns()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(max(0.0, delay_s))

    async def sleep_until(self, at_s: float) -> None:
        await asyncio.sleep(max(0.0, at_s - time.monotonic()))


class ManualClock:
    """A clock that stands still until `advance` is called, from any thread.

    Parameters
    ----------
    start_ns : int
        UTC time at the start, in nanoseconds.

    Examples
    --------
    >>> clock = ManualClock(start_ns=0)
    >>> clock.advance(1.5)
    >>> clock.now_ns(), clock.monotonic()
    (1500000000, 1.5)
    """

    def __init__(self, start_ns: int = 0) -> None:
        self._start_ns = start_ns
        self._elapsed_ns = 0
        self._lock = threading.Lock()
        self._order = itertools.count()
        self._sleepers: list[tuple[int, int, asyncio.AbstractEventLoop, asyncio.Future[None]]] = []

    def now_ns(self) -> int:
        return self._start_ns + self._elapsed_ns

    def monotonic(self) -> float:
        return self._elapsed_ns / 1e9

    @property
    def n_sleeping(self) -> int:
        """Sleepers that have not been woken: what a test waits on before it moves the clock."""
        with self._lock:
            return sum(not future.done() for *_, future in self._sleepers)

    def next_wake_s(self) -> float | None:
        """Seconds until the next sleeper is due, or None when nobody sleeps."""
        with self._lock:
            due = [when for when, _, _, future in self._sleepers if not future.done()]
        return (min(due) - self._elapsed_ns) / 1e9 if due else None

    def advance(self, delta_s: float) -> None:
        """Move time forward and wake, in order of their deadlines, all sleepers that are due."""
        if delta_s < 0:
            raise ValueError(f"time does not go back: advance({delta_s})")
        with self._lock:
            self._elapsed_ns += round(delta_s * 1e9)
            due = []
            while self._sleepers and self._sleepers[0][0] <= self._elapsed_ns:
                due.append(heapq.heappop(self._sleepers))
        for _, _, loop, future in due:
            # A loop may close between any check and the call; whoever slept on it is gone, the others still wake.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_wake, future)

    async def sleep(self, delay_s: float) -> None:
        await self._sleep_to(self._elapsed_ns + round(delay_s * 1e9))

    async def sleep_until(self, at_s: float) -> None:
        await self._sleep_to(first_ns(at_s))

    async def _sleep_to(self, when_ns: int) -> None:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        with self._lock:
            is_due = when_ns <= self._elapsed_ns
            if not is_due:
                heapq.heappush(self._sleepers, (when_ns, next(self._order), loop, future))
        await (asyncio.sleep(0) if is_due else future)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
