"""Time in a replay: it stands still while there is anything to do, and moves to whatever is next when there is not."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import defaultdict, deque

from massive_lab.clock import first_ns
from massive_lab.transports.http import ear

__all__ = ["HubClock", "ReplayClock"]

# How much later than its cause a reading may have been made: decoding a large answer takes its time.
_WITHIN_NS = {"feed": 50_000_000, "steward": 50_000_000}
_WITHIN_OTHER_NS = 1_000_000_000
# A poll that was under way when recording began is asked for again a little later than it was, and answered at once.
_LATE_NS = {"polling": 1_000_000_000}


class ReplayClock:
    """Moved by the player alone. UTC follows the capture, from record to record.

    Examples
    --------
    >>> clock = ReplayClock(1_000_000_000, 5)
    >>> clock.move(2_500_000_000)
    >>> clock.monotonic(), clock.now_ns()
    (2.5, 1500000005)
    """

    def __init__(self, mono_ns: int, utc_ns: int) -> None:
        self.mono_ns = mono_ns
        self._utc_ns = utc_ns
        self._order = itertools.count()
        self._sleepers: list[tuple[int, int, str, asyncio.Future[None]]] = []

    def now_ns(self) -> int:
        return self._utc_ns

    def monotonic(self) -> float:
        return self.mono_ns / 1e9

    async def sleep(self, delay_s: float) -> None:
        await self._sleep_to(self.mono_ns + round(delay_s * 1e9))

    async def sleep_until(self, at_s: float) -> None:
        await self._sleep_to(first_ns(at_s))

    async def _sleep_to(self, when_ns: int) -> None:
        if when_ns <= self.mono_ns:
            await asyncio.sleep(0)
            return
        task = asyncio.current_task()
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (when_ns, next(self._order), task.get_name() if task else "", future))
        await future

    # ---- the player's side

    def move(self, mono_ns: int, utc_ns: int | None = None) -> None:
        """Time goes on, to a timer or to a record; it never goes back, but UTC is what the record says."""
        ahead_ns = max(0, mono_ns - self.mono_ns)
        self.mono_ns += ahead_ns
        self._utc_ns = self._utc_ns + ahead_ns if utc_ns is None else utc_ns

    def next_ns(self) -> int | None:
        """When the next sleeper is due."""
        while self._sleepers and self._sleepers[0][3].done():
            heapq.heappop(self._sleepers)
        return self._sleepers[0][0] if self._sleepers else None

    def wake(self) -> None:
        """Wake who is due, in order."""
        while self._sleepers and self._sleepers[0][0] <= self.mono_ns:
            _wake(heapq.heappop(self._sleepers)[3])

    def hurry(self, task: str) -> None:
        """Wake the sleepers of one task before their time: what they wait for has come."""
        for _, _, name, future in self._sleepers:
            if name == task:
                _wake(future)


class HubClock:
    """The clock of one hub: as the player's, and UTC as each task of the hub read it when it was recorded.

    Attributes
    ----------
    pinned_ns : int or None
        What the next reading gives: the time of receipt of a frame.
    """

    def __init__(self, clock: ReplayClock) -> None:
        self._clock = clock
        self._readings: defaultdict[str, deque[tuple[int, int, int]]] = defaultdict(deque)
        self._n_polls = 0
        self.pinned_ns: int | None = None
        self.monotonic = clock.monotonic
        self.sleep = clock.sleep
        self.sleep_until = clock.sleep_until

    def expect(self, task: str, mono_ns: int, utc_ns: int, *, n_polls: int = 0) -> None:
        """A task will read the clock, after so many polls have been answered."""
        if task:
            self._readings[task].append((mono_ns, utc_ns, n_polls if task == "polling" else 0))

    def polled(self) -> None:
        """A poll was answered: what the worker reads from here on, it reads because of that."""
        self._n_polls += 1

    def now_ns(self) -> int:
        if self.pinned_ns is not None:
            pinned_ns, self.pinned_ns = self.pinned_ns, None
            return pinned_ns
        task = getattr(ear.get(), "task", "")
        readings = self._readings.get(task)
        if readings:
            now_ns = self._clock.mono_ns
            n_polls = self._n_polls if task == "polling" else 0
            oldest_ns = now_ns - _LATE_NS.get(task, 0)
            while readings and (readings[0][0] < oldest_ns or readings[0][2] < n_polls):
                readings.popleft()
            within_ns = _WITHIN_NS.get(task, _WITHIN_OTHER_NS)
            if readings and readings[0][0] - now_ns <= within_ns and readings[0][2] == n_polls:
                return readings.popleft()[1]
        return self._clock.now_ns()


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
