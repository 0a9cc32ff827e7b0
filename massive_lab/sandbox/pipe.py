"""The bytes between a socket and the server library.

`Tap` is the protocol the socket sees, `Pipe` the transport the server library sees; between them lie two links, one for
each direction, where faults act.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Any

from massive_lab.sandbox.faults.book import Direction, FaultBook, Hit
from massive_lab.sandbox.faults.toxics import End, Toxic
from massive_lab.sandbox.link import Link

__all__ = ["Pipe", "Tap"]

_HIGH_WATER = 256 * 1024
_LINGER_S = 5.0
_RST = struct.pack("ii", 1, 0)


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
