"""One feed per cluster and delay: it makes the events of all wanted topics once, and hands them to every reader.

Events are made ahead of time in a worker thread, topic by topic, and released on the event loop when virtual time
reaches them. A paused clock releases nothing; a jump releases everything up to its end before it returns, in steps that
depend on virtual time alone, so that frames are the same in every run.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections import Counter, deque
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from massive_lab.sandbox.api import MarketData
from massive_lab.sandbox.clock import VirtualClock
from massive_lab.sandbox.ws.encode import Event, events
from massive_lab.sandbox.ws.topics import fits_cluster, split_param
from massive_lab.schema.session import trading_date
from massive_lab.typing import AssetClass

__all__ = ["Feed", "Reader"]

_T = TypeVar("_T")

_TICK_S = 0.1
_AHEAD_NS = 1_000_000_000
_STEP_NS = 10_000_000_000
"""At most this much virtual time is made and released at once."""

Released = list[tuple[int, str, int, bytes]]
"""Publication time, topic, place within the topic, JSON; sorted."""


class Reader(Protocol):
    """A connection, as the feed sees it."""

    def since(self, topic: str) -> int | None: ...

    def send_events(self, items: list[tuple[str, bytes]]) -> None: ...


@dataclass(slots=True)
class _Source:
    """Events of one topic, made up to `made_ns` and released up to the queue's head."""

    made_ns: int
    queue: deque[Event] = field(default_factory=deque)


class Feed:
    """The events of one cluster, on time or 15 minutes late.

    Parameters
    ----------
    market : MarketData
        Used from `executor` only.
    clock : VirtualClock
    cluster : {"stocks", "options", "indices"}
    delay_ns : int
        How far behind the clock this feed publishes.
    executor : Executor
        One worker thread, shared by all feeds.
    """

    def __init__(
        self, market: MarketData, clock: VirtualClock, cluster: AssetClass, delay_ns: int, executor: Executor
    ) -> None:
        self._market = market
        self._clock = clock
        self._cluster: AssetClass = cluster
        self._delay_ns = delay_ns
        self._executor = executor
        self._readers: list[Reader] = []
        self._held: Counter[str] = Counter()
        self._new: deque[tuple[str, int]] = deque()
        self._expanded: dict[str, dt.date] = {}
        self._sources: dict[str, _Source] = {}
        self._targets: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._wake = asyncio.Event()
        self._released_ns = 0

    def now_ns(self) -> int:
        """Virtual time of this feed."""
        return self._clock.now_ns() - self._delay_ns

    @property
    def n_topics(self) -> int:
        return len(self._held)

    @property
    def is_running(self) -> bool:
        """Whether events come by themselves, without a jump."""
        return not self._clock.paused

    def join(self, reader: Reader) -> None:
        self._readers.append(reader)

    def leave(self, reader: Reader, held: Iterable[str]) -> None:
        self._readers.remove(reader)
        for param in held:
            self.release(param)

    def hold(self, param: str, since_ns: int) -> None:
        if not self._held:
            self._released_ns = since_ns
        self._held[param] += 1
        if self._held[param] == 1:
            self._new.append((param, since_ns))
            self._wake.set()

    def release(self, param: str) -> None:
        self._held[param] -= 1
        if self._held[param] > 0:
            return
        del self._held[param]
        self._expanded.pop(param, None)
        for topic in [topic for topic in self._sources if self._covers(param, topic)]:
            if not any(
                self._covers(other, topic) for other in (topic, split_param(topic)[0] + ".*") if other in self._held
            ):
                del self._sources[topic]

    def skip(self) -> None:
        """Pass over everything published before now."""
        self._released_ns = now_ns = self.now_ns()
        for source in self._sources.values():
            source.made_ns = max(source.made_ns, now_ns)
            while source.queue and source.queue[0][0] < now_ns:
                source.queue.popleft()

    def poke(self) -> None:
        """The clock has changed its pace."""
        self._wake.set()

    async def settle(self, end_ns: int) -> None:
        """Return when everything published before `end_ns` (this feed's time) has been sent."""
        done = asyncio.get_running_loop().create_future()
        self._targets.append((end_ns, done))
        self._wake.set()
        await done

    async def run(self) -> None:
        """Make and release events until cancelled."""
        try:
            while True:
                await self._wait()
                if self._targets:
                    end_ns, done = self._targets[0]
                    await self._advance(end_ns)
                    self._targets.popleft()
                    if not done.done():
                        done.set_result(None)
                elif self._held and not self._clock.paused:
                    await self._advance(self.now_ns())
        finally:
            for _, done in self._targets:
                done.cancel()

    async def _wait(self) -> None:
        if self._targets:
            return
        running = bool(self._held) and not self._clock.paused
        self._wake.clear()
        try:
            async with asyncio.timeout(_TICK_S if running else None):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _advance(self, end_ns: int) -> None:
        while self._held and self._released_ns < end_ns:
            await self._admit()
            # On a grid of virtual time, so that where one step ends does not depend on when it was asked for.
            step = min(end_ns, (self._released_ns // _STEP_NS + 1) * _STEP_NS)
            await self._make(step)
            if self._new:
                continue
            self._send(self._take(step))
            self._released_ns = step

    async def _admit(self) -> None:
        """Give every newly wanted topic its source; a wildcard is spelt out again on each new day."""
        today = trading_date(self.now_ns())
        renewed = [(param, self.now_ns()) for param, day in self._expanded.items() if day != today]
        wanted = [*self._new, *renewed]
        self._new.clear()
        for param, since_ns in wanted:
            prefix, symbol = split_param(param)
            symbols = [symbol]
            if symbol == "*":
                symbols = await self._off_loop(lambda: self._market.universe(self._cluster, self.now_ns()))
                self._expanded[param] = today
            if param not in self._held:
                self._expanded.pop(param, None)
                continue
            for each in symbols:
                self._sources.setdefault(f"{prefix}.{each}", _Source(max(since_ns, self._released_ns)))

    async def _make(self, end_ns: int) -> None:
        ahead = 0 if self._clock.paused else int(_AHEAD_NS * max(1.0, self._clock.speed))
        jobs = [
            (topic, source, source.made_ns, end_ns + ahead)
            for topic, source in self._sources.items()
            if source.made_ns < end_ns
        ]
        if not jobs:
            return

        def work() -> list[list[Event]]:
            return [self._events(topic, start, end) for topic, _, start, end in jobs]

        for (_, source, _, end), made in zip(jobs, await self._off_loop(work), strict=True):
            source.queue.extend(made)
            source.made_ns = end

    def _events(self, topic: str, start_ns: int, end_ns: int) -> list[Event]:
        prefix, symbol = split_param(topic)
        if not fits_cluster(self._cluster, symbol) or not self._market.knows(symbol, end_ns):
            return []
        return events(self._market, self._cluster, prefix, symbol, start_ns, end_ns)

    def _take(self, end_ns: int) -> Released:
        released: Released = []
        for topic, source in self._sources.items():
            queue = source.queue
            while queue and queue[0][0] < end_ns:
                ts, item = queue.popleft()
                released.append((ts, topic, len(released), item))
        released.sort()
        return released

    def _send(self, released: Released) -> None:
        if not released:
            return
        topics = {entry[1] for entry in released}
        for reader in list(self._readers):
            since = {topic: start for topic in topics if (start := reader.since(topic)) is not None}
            if since:
                reader.send_events([(topic, item) for ts, topic, _, item in released if ts >= since.get(topic, ts + 1)])

    def _covers(self, param: str, topic: str) -> bool:
        prefix, symbol = split_param(param)
        return topic == param or (symbol == "*" and split_param(topic)[0] == prefix)

    async def _off_loop(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)
