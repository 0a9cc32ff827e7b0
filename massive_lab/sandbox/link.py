"""The bytes between a socket and the server library, with faults in between.

`Tap` is the protocol the socket sees, `Pipe` the transport the server library sees. Each direction is a `Link`: without
faults it passes bytes straight through; with faults it keeps the appointments their stages make.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from massive_lab.sandbox.faults.book import Direction, FaultBook, Hit
from massive_lab.sandbox.faults.toxics import End, Stage, Toxic

__all__ = ["Link", "Pipe", "Tap"]

Mark = Callable[[], None]


@dataclass(frozen=True, slots=True)
class _Ending:
    """The end of the connection, and the fault that brings it."""

    fault_id: str
    how: End


_HIGH_WATER = 256 * 1024
_LINGER_S = 5.0
_RST = struct.pack("ii", 1, 0)


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


class Pipe(asyncio.Transport):
    """The transport handed to the server library."""

    def __init__(self, real: asyncio.Transport, tap: Tap, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.real = real
        self.labels: frozenset[str] = frozenset(("*", "rest"))
        """Scopes of this connection: faults on its bytes are looked up with these."""
        self.answer_labels: frozenset[str] | None = None
        """Scopes of the answer being written, while there is one."""
        self.on_sent: Callable[[bytes], None] | None = None
        """Given the bytes that go to the operating system."""
        self.ended_by_fault = False
        self.lost: asyncio.Future[None] = loop.create_future()
        """Done when the connection is gone."""
        self._loop = loop
        self._tap = tap
        self._closing = False
        self._paused = False
        self._real_paused = False
        self.down = Link(loop, self._sink_down, self._fault_ends)
        self.up = Link(loop, tap.deliver, self._fault_ends)

    @property
    def n_buffered_bytes(self) -> int:
        """Bytes written and not yet taken by the operating system."""
        return self.down.n_queued_bytes + (0 if self.real.is_closing() else self.real.get_write_buffer_size())

    def refresh(self, book: FaultBook) -> None:
        """Attach faults that have come into scope, detach those that have gone."""
        if self.lost.done():
            return
        directions: tuple[tuple[Link, Direction, frozenset[str] | None], ...] = (
            (self.down, "down", self.answer_labels if "rest" in self.labels else self.labels),
            (self.up, "up", self.labels),
        )
        for link, direction, labels in directions:
            link.keep_only({fault.id for fault in book.faults() if labels is None or fault.scope in labels})
            if labels is None or link.broken:
                continue
            for hit in book.draw_all(Toxic, labels, direction, link.decided):
                if isinstance(hit, Hit):
                    link.attach(hit.fault.id, hit.kind.stage(hit.rng))
                else:
                    link.attach(hit, None)

    def end_answer(self) -> None:
        """Detach what was attached for one answer, but for stages that wait for the close."""
        self.answer_labels = None
        self.on_sent = None
        self.down.end_answer()

    def cut(self) -> None:
        """Flush and close without any protocol's good-bye; a peer that does not read is reset after a while."""
        self.close()
        if not self.lost.done():
            self._loop.call_later(_LINGER_S, self.real.abort)

    def reset(self) -> None:
        """RST: the peer loses what it has not read."""
        if not self.real.is_closing():
            sock = self.real.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
        self._closing = True
        self.real.abort()

    # asyncio.Transport, as the server library uses it

    def write(self, data: Any) -> None:
        if self._closing:
            return
        self.down.write(bytes(data))
        self._check_water()

    def is_closing(self) -> bool:
        return self._closing or self.real.is_closing()

    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        self.down.close_with(self.real.close)

    def abort(self) -> None:
        self._closing = True
        self.real.abort()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.real.get_extra_info(name, default)

    def pause_reading(self) -> None:
        self.real.pause_reading()

    def resume_reading(self) -> None:
        self.real.resume_reading()

    def is_reading(self) -> bool:
        return self.real.is_reading()

    def get_write_buffer_size(self) -> int:
        return self.n_buffered_bytes

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.real.set_write_buffer_limits(high, low)

    def can_write_eof(self) -> bool:
        return False

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._tap.inner

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self._tap.inner = protocol

    def real_paused(self, paused: bool) -> None:
        self._real_paused = paused
        self._check_water()

    def _sink_down(self, data: bytes) -> None:
        if self.on_sent is not None:
            self.on_sent(data)
        self.real.write(data)
        if self._paused:
            self._check_water()

    def _check_water(self) -> None:
        full = self._real_paused or self.down.n_queued_bytes > _HIGH_WATER
        if full == self._paused:
            return
        self._paused = full
        if full:
            self._tap.inner.pause_writing()
        else:
            self._tap.inner.resume_writing()

    def _fault_ends(self, how: End) -> None:
        self.ended_by_fault = True
        if how is End.RESET:
            self.reset()
            return
        self._closing = True
        self.real.close()


class Tap(asyncio.Protocol):
    """The protocol of the accepted socket.

    Parameters
    ----------
    inner : asyncio.Protocol
        The server library's protocol.
    on_made : callable
        Told of the pipe before the server library is; may refuse the connection by resetting it.
    on_lost : callable
    """

    def __init__(
        self, inner: asyncio.Protocol, on_made: Callable[[Pipe], None], on_lost: Callable[[Pipe], None]
    ) -> None:
        self.inner = inner
        self._on_made = on_made
        self._on_lost = on_lost
        self.pipe: Pipe | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.pipe = Pipe(transport, self, asyncio.get_running_loop())
        self.inner.connection_made(self.pipe)
        self._on_made(self.pipe)

    def data_received(self, data: bytes) -> None:
        assert self.pipe is not None
        self.pipe.up.write(data)

    def deliver(self, data: bytes) -> None:
        """Bytes from the client that have passed the faults."""
        if self.pipe is not None and not self.pipe.lost.done():
            self.inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self.inner.eof_received()

    def pause_writing(self) -> None:
        if self.pipe is not None:
            self.pipe.real_paused(True)

    def resume_writing(self) -> None:
        if self.pipe is not None:
            self.pipe.real_paused(False)

    def connection_lost(self, exc: Exception | None) -> None:
        assert self.pipe is not None
        self.pipe.up.stop()
        self.pipe.down.stop()
        if not self.pipe.lost.done():
            self.pipe.lost.set_result(None)
        self._on_lost(self.pipe)
        self.inner.connection_lost(exc)
