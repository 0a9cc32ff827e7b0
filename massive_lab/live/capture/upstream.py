"""The server of a replay: connections open, bring frames and end as they did, whenever the feed asks for them."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from massive_lab import errors
from massive_lab.errors import ConnectionLost, MassiveLabError, TransportError
from massive_lab.live.capture.clocks import HubClock
from massive_lab.live.wire.handshake import Evicted

__all__ = ["Upstream", "error_of"]


def error_of(told: dict[str, Any]) -> MassiveLabError:
    """An error again, as `massive_lab.live.capture.record.told_error` told it.

    Examples
    --------
    >>> error_of({"type": "Timeout", "message": "No answer.", "hint": "", "request_id": None})
    Timeout('No answer.')
    """
    kind = Evicted if told["type"] == "Evicted" else getattr(errors, told["type"], ConnectionLost)
    context = {name: told[name] for name in ("hint", "request_id") if told.get(name)}
    context |= {name: told[name] for name in ("status", "retry_after_s") if name in told}
    try:
        error = kind(told["message"], **context)
    except TypeError:  # an error with other arguments, which nobody behind a transport sees
        error = ConnectionLost(told["message"])
    return error if isinstance(error, MassiveLabError) else ConnectionLost(told["message"])


class _Connection:
    """One connection, as `massive_lab.live.wire.feed.Socket` has it."""

    def __init__(self, clock: HubClock) -> None:
        self._clock = clock
        self._frames: deque[tuple[bytes, int]] = deque()
        self._end: TransportError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.is_given_up = False

    async def recv(self) -> bytes:
        while not self._frames:
            if self._end is not None:
                raise self._end
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        data, self._clock.pinned_ns = self._frames.popleft()
        return data

    async def send(self, text: str) -> None:
        """Nobody hears it; what was answered then comes by itself."""

    async def close(self, code: int = 1000) -> None:  # noqa: ARG002
        # Of a mute connection that is dropped the reader hears when the recorded one did.
        self.is_given_up = self._waiter is None or self._waiter.done()

    def bring(self, data: bytes, utc_ns: int) -> None:
        self._frames.append((data, utc_ns))
        self._wake()

    def end(self, error: TransportError) -> None:
        self._end = error
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Upstream:
    """The connections of one hub, one after the other. What was recorded is told to it; the feed connects to it.

    Attributes
    ----------
    is_awaited : bool
        Whether the feed waits for a connection now.
    """

    def __init__(self, clock: HubClock) -> None:
        self._clock = clock
        self._current: _Connection | None = None
        self._ready: deque[_Connection | TransportError] = deque()
        self._waiter: asyncio.Future[None] | None = None

    async def __call__(self, _url: str, /, **_limits: float | None) -> _Connection:
        while not self._ready:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        found = self._ready.popleft()
        if isinstance(found, TransportError):
            raise found
        return found

    @property
    def is_awaited(self) -> bool:
        return self._waiter is not None and not self._waiter.done()

    @property
    def is_pending(self) -> bool:
        """Whether something waits for the feed to connect."""
        return bool(self._ready)

    def opened(self) -> None:
        """A connection was opened."""
        self._current = _Connection(self._clock)
        self._offer(self._current)

    def frame(self, data: bytes, utc_ns: int) -> None:
        """A frame came."""
        if self._current is None:
            self.opened()  # the beginning of this connection is missing in the capture
        assert self._current is not None
        self._current.bring(data, utc_ns)

    def offline(self, error: TransportError) -> None:
        """The connection ended, or could not be opened. What the feed has found out by itself is not told to it again."""
        current, self._current = self._current, None
        if current is None:
            self._offer(error)
        elif not current.is_given_up:
            current.end(error)

    def _offer(self, found: _Connection | TransportError) -> None:
        self._ready.append(found)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
