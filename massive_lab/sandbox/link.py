"""One direction of one connection, with faults in between.

Without faults bytes pass straight through; with faults the link keeps the appointments their stages make.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass

from massive_lab.sandbox.faults.toxics import End, Stage

__all__ = ["Link"]

Mark = Callable[[], None]


@dataclass(frozen=True, slots=True)
class _Ending:
    """The end of the connection, and the fault that brings it."""

    fault_id: str
    how: End


class Link:
    """One direction of one connection.

    Parameters
    ----------
    loop : asyncio.AbstractEventLoop
    sink : callable
        Takes the bytes that have passed.
    end : callable
        Ends the connection.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sink: Callable[[bytes], None], end: Callable[[End], None]
    ) -> None:
        self._loop = loop
        self._sink = sink
        self._end = end
        self._stages: dict[str, Stage] = {}
        self._spared: set[str] = set()
        self._queue: deque[tuple[float, bytes | _Ending | Mark]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._last_due = 0.0
        self._idle: list[asyncio.Future[None]] = []
        self.n_queued_bytes = 0
        self.broken = False
        """Ended, or bytes were dropped: marks after that never come true."""

    @property
    def decided(self) -> set[str]:
        """Ids of faults that have been decided for this connection."""
        return self._spared | set(self._stages)

    def attach(self, fault_id: str, stage: Stage | None) -> None:
        """Add a stage, or remember (with None) that the fault spares this connection."""
        if stage is None:
            self._spared.add(fault_id)
            return
        self._stages[fault_id] = stage
        self._enqueue(
            [
                (due, item if isinstance(item, bytes) else _Ending(fault_id, item))
                for due, item in stage.start(self._loop.time())
            ]
        )

    def keep_only(self, fault_ids: Collection[str]) -> None:
        """Detach all other stages: what they hold is handed on, and what they dropped ends the connection."""
        gone = [name for name in self._stages if name not in fault_ids]
        self._spared.intersection_update(fault_ids)
        lost = any(self._stages.pop(name).lost for name in gone)
        if lost and not self.broken:
            self._finish(End.RESET)
        elif gone:
            self._queue = deque(
                (due if isinstance(item, _Ending) else 0.0, item)
                for due, item in self._queue
                if not isinstance(item, _Ending) or item.fault_id in self._stages
            )
            self._last_due = 0.0
            self._arm()

    def end_answer(self) -> None:
        """Detach all stages but those that act when the connection closes."""
        self.keep_only({name for name, stage in self._stages.items() if stage.ends})

    @property
    def waits_for_close(self) -> bool:
        """Whether some stage acts only when the connection closes."""
        return any(stage.ends for stage in self._stages.values())

    def write(self, data: bytes) -> None:
        if self.broken:
            return
        if not self._stages and not self._queue:
            self._sink(data)
            return
        items: list[tuple[float, bytes | _Ending]] = [(self._loop.time(), data)]
        for name, stage in self._stages.items():
            passed: list[tuple[float, bytes | _Ending]] = []
            for due, item in items:
                if isinstance(item, bytes):
                    fed = stage.feed(due, item)
                    passed.extend((at, out if isinstance(out, bytes) else _Ending(name, out)) for at, out in fed)
                else:
                    passed.append((due, item))
            items = passed
        self._enqueue(items)

    def mark(self, callback: Mark) -> None:
        """Call back once everything written so far has passed; never, when some of it was dropped."""
        if self.broken or any(stage.lost for stage in self._stages.values()):
            return
        if not self._queue:
            callback()
            return
        self._queue.append((self._last_due, callback))

    def close_with(self, close: Mark) -> None:
        """Call `close` once everything written has passed and no stage holds the close back."""
        due = max(self._loop.time(), self._last_due if self._queue else 0.0)
        for stage in self._stages.values():
            due = stage.closing(due)
        if self.broken or (not self._queue and due <= self._loop.time()):
            close()
            return
        self._last_due = due
        self._queue.append((due, close))
        self._arm()

    async def drained(self) -> None:
        """Return once nothing is held back, or the link has ended."""
        while not self.broken and (self._queue or any(stage.lost for stage in self._stages.values())):
            idle = self._loop.create_future()
            self._idle.append(idle)
            await idle

    def stop(self) -> None:
        """The connection is gone: drop everything."""
        self.broken = True
        self._queue.clear()
        self.n_queued_bytes = 0
        self._stages.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wake()

    def _enqueue(self, items: list[tuple[float, bytes | _Ending]]) -> None:
        for due, item in items:
            if isinstance(item, bytes):
                self._last_due = max(self._last_due, due)
                self.n_queued_bytes += len(item)
                self._queue.append((self._last_due, item))
            else:
                self._queue.append((max(due, self._last_due), item))
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._run()

    def _run(self) -> None:
        self._timer = None
        while self._queue and not self.broken:
            due, item = self._queue[0]
            if due > self._loop.time():
                self._timer = self._loop.call_at(due, self._run)
                return
            self._queue.popleft()
            if isinstance(item, bytes):
                self.n_queued_bytes -= len(item)
                self._sink(item)
            elif isinstance(item, _Ending):
                self._finish(item.how)
                return
            else:
                item()
        self._wake()

    def _finish(self, how: End) -> None:
        self.stop()
        self._end(how)

    def _wake(self) -> None:
        idle, self._idle = self._idle, []
        for waiter in idle:
            if not waiter.done():
                waiter.set_result(None)
