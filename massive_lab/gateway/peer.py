"""The sending half of one client's WebSocket: straight to the transport while it takes, into a bounded outbox while not.

A frame is built once for many clients, so it is written to the transport as it is, by its public `write`. aiohttp writes
its own frames (pings, pongs, close) whole and in the same loop turn, without compression, so that frames never mix. While
the transport is full, items wait in the outbox, where quotes and values are thinned; `drain` of the response's writer
tells when it takes again.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence
from typing import Any

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from massive_lab.clock import Clock
from massive_lab.gateway.fanout import Batch
from massive_lab.gateway.frames import array, status, text_frame
from massive_lab.gateway.grants import Grant
from massive_lab.gateway.outbox import Outbox, conflation_key

__all__ = ["COME_BACK", "RESTART", "STAY_AWAY", "Peer"]

STAY_AWAY = 1000
"""The official client ends on it, without another attempt."""
COME_BACK = 1008
"""The official client connects again on it, and so does the vendor's server use it for slow readers."""
RESTART = 1012

_HIGH, _LOW = 64 * 1024, 16 * 1024
_CHUNK = 64 * 1024
_PART = 500
_CLOSE_S = 2.0
# Bytes the kernel takes beyond what is under way to the peer: what waits there can neither be thinned nor counted.
_UNSENT = 128 * 1024


class Peer:
    """One accepted connection.

    Attributes
    ----------
    grant : Grant or None
        None until it has authenticated.
    topics : dict of str to int
        What it subscribes, and since when (UTC ns).
    is_closing : bool
        Nothing more is sent to it.
    """

    def __init__(
        self,
        response: web.WebSocketResponse,
        writer: AbstractStreamWriter,
        request: web.BaseRequest,
        outbox: Outbox,
        clock: Clock,
        on_closing: Callable[[Peer, int], None],
    ) -> None:
        assert request.transport is not None
        self.grant: Grant | None = None
        self.topics: dict[str, int] = {}
        self.is_closing = False
        self.outbox = outbox
        self._response = response
        self._writer = writer
        self._transport = request.transport
        self._protocol = request.protocol
        self._clock = clock
        self._on_closing = on_closing
        self._pump: asyncio.Task[None] | None = None
        self._close: asyncio.Task[None] | None = None
        self._transport.set_write_buffer_limits(high=_HIGH, low=_LOW)
        _limit_unsent(self._transport.get_extra_info("socket"))

    @property
    def is_behind(self) -> bool:
        return bool(self.outbox)

    # ---- what is sent

    def offer(self, batch: Batch) -> None:
        """Events of one upstream frame; see `massive_lab.gateway.fanout.Client`."""
        if self.is_closing:
            return
        if batch.frame and not self.outbox and not self._protocol.writing_paused:
            self._transport.write(batch.frame)
            return
        now = self._clock.monotonic()
        for event, item in zip(batch.events, batch.items, strict=True):
            self.outbox.put(item, conflation_key(event), now)
        self._waits(now)

    def tell(self, *messages: bytes) -> None:
        """Control messages in one frame, behind everything sent before."""
        if self.is_closing:
            return
        if not self.outbox and not self._protocol.writing_paused:
            self._transport.write(text_frame(array(messages)))
            return
        now = self._clock.monotonic()
        for message in messages:
            self.outbox.put(message, None, now)
        self._waits(now)

    async def tell_all(self, messages: Sequence[bytes]) -> None:
        """Many control messages, in frames that every client reads, and no faster than it takes them."""
        for start in range(0, len(messages), _PART):
            self.tell(*messages[start : start + _PART])
            if self._pump is not None:
                await asyncio.wait([self._pump])

    def _waits(self, now: float) -> None:
        self.check(now)
        if self._pump is None and not self.is_closing:
            self._pump = asyncio.get_running_loop().create_task(self._drain(), name="gateway outbox")

    async def _drain(self) -> None:
        try:
            while self.outbox and not self.is_closing:
                # Raises when the connection is lost; whoever reads it learns that as well.
                await self._writer.drain()
                if self.outbox and not self.is_closing:
                    self._transport.write(text_frame(self.outbox.pull(_CHUNK)))
                    await asyncio.sleep(0)
        except ConnectionError:
            self.outbox.clear()
        finally:
            self._pump = None

    def check(self, now: float) -> None:
        """Close when it is too far behind."""
        overrun = self.outbox.overrun(now, self.n_unsent)
        if overrun is not None and not self.is_closing:
            why = "too many bytes wait" if overrun == "bytes" else "what waits is too old"
            self.close(COME_BACK, f"slow consumer: {why}", status("slow_consumer", f"You read too slowly: {why}."))

    @property
    def n_unsent(self) -> int:
        """Bytes that were handed to the transport and not yet taken by the kernel."""
        return self._transport.get_write_buffer_size()

    # ---- the end

    def close(self, code: int, reason: str, *last: bytes) -> None:
        """End the connection: last words, close frame, and the socket soon after, whatever the client does."""
        if self.is_closing:
            return
        self.outbox.clear()
        if last and not self._transport.is_closing():
            self._transport.write(text_frame(array(last)))
        self.is_closing = True
        self._close = asyncio.get_running_loop().create_task(self._end(code, reason), name="gateway close")
        self._on_closing(self, code)

    async def _end(self, code: int, reason: str) -> None:
        try:
            with contextlib.suppress(TimeoutError, ConnectionError):
                async with asyncio.timeout(_CLOSE_S):
                    await self._response.close(code=code, message=reason.encode()[:120], drain=False)
        finally:
            self._transport.abort()

    async def ended(self) -> None:
        """The connection is over: stop what still sends. Called once by whoever reads it."""
        was_closing, self.is_closing = self.is_closing, True
        self.outbox.clear()
        tasks: list[asyncio.Task[Any]] = [task for task in (self._pump, self._close) if task is not None]
        if self._pump is not None:
            self._pump.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if not was_closing:
            self._on_closing(self, self._response.close_code or 1006)
        if self.n_unsent:
            # A peer that is gone without a word would hold these bytes until the kernel gives up.
            self._transport.abort()


def _limit_unsent(connection: socket.socket | None) -> None:
    option = getattr(socket, "TCP_NOTSENT_LOWAT", 25)
    if connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
        # Not every system has it; it only makes the bound tighter.
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, option, _UNSENT)
