"""The WebSocket as a pipe of bytes: open, read, write, close, with this library's errors.

The only home of the `websockets` library. Nothing is parsed here and nothing reconnects here; what an end of the
connection means is decided in `massive_lab.live.wire.feed`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Mapping
from typing import Literal
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as _open
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from massive_lab._version import __version__
from massive_lab.errors import (
    ConnectionLost,
    InvalidRequest,
    NotEntitled,
    RateLimited,
    Timeout,
    TransportError,
    Unauthorized,
    UpstreamError,
)

__all__ = ["Connection", "connect"]

_MAX_FRAME_BYTES = 16 * 2**20
_QUEUED_FRAMES = 256


class _WithoutFrames(logging.LoggerAdapter[logging.Logger]):
    """At DEBUG the WebSocket library logs every frame and header, and one of the frames is the key."""

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802  logging's name
        return level > logging.DEBUG and super().isEnabledFor(level)


_LOGGER = _WithoutFrames(logging.getLogger("massive_lab.websocket"))


class Connection:
    """An open socket. One task reads, any task writes.

    Attributes
    ----------
    close_code : int or None
        The code of the peer's or our close frame once the socket has ended; 1006 when there was none.
    close_reason : str
    """

    __slots__ = ("_name", "_ws", "close_code", "close_reason")

    def __init__(self, ws: ClientConnection, name: str) -> None:
        self._ws = ws
        self._name = name
        self.close_code: int | None = None
        self.close_reason = ""

    async def recv(self) -> bytes:
        """The next message as it came, whole. Cancelling loses nothing.

        Raises
        ------
        ConnectionLost
            When the socket has ended, however politely.
        """
        try:
            return await self._ws.recv(decode=False)
        except ConnectionClosed as closed:
            raise self._lost(closed) from closed

    async def send(self, text: str) -> None:
        """Send one text message.

        Raises
        ------
        ConnectionLost
            When the socket has ended.
        """
        try:
            await self._ws.send(text)
        except ConnectionClosed as closed:
            raise self._lost(closed) from closed

    async def close(self, code: int = 1000) -> None:
        """Say goodbye and wait, within bounds, for the answer. Idempotent; when cancelled it cuts the connection instead."""
        try:
            await self._ws.close(code)
        except asyncio.CancelledError:
            # The loop may be about to end: a socket that nobody waits for any more must not outlive it.
            self._ws.transport.abort()
            raise

    def _lost(self, closed: ConnectionClosed) -> ConnectionLost:
        frame = closed.rcvd or closed.sent
        self.close_code = frame.code if frame else 1006
        self.close_reason = frame.reason if frame else ""
        if closed.rcvd is None and closed.sent is None:
            how = "without a close frame"
        else:
            side = "by the server" if closed.rcvd and closed.rcvd_then_sent is not False else "by this side"
            how = f"{side} with code {self.close_code}" + (f" ({self.close_reason})" if self.close_reason else "")
        return ConnectionLost(f"The connection to {self._name} ended {how}.")


async def connect(
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    open_timeout_s: float = 5.0,
    close_timeout_s: float = 2.0,
    ping_interval_s: float | None = 30.0,
    ping_timeout_s: float | None = 15.0,
    max_frame_bytes: int = _MAX_FRAME_BYTES,
    compression: Literal["deflate"] | None = None,
) -> Connection:
    """Open a WebSocket.

    Parameters
    ----------
    url : str
        ``ws://`` or ``wss://`` with host and path only: a key never travels in an address.
    headers : mapping, optional
        Further request headers. No ``Origin`` is ever sent.
    open_timeout_s : float
        For name look-up, TCP, TLS and the upgrade together.
    close_timeout_s : float
        How long `Connection.close` waits for the peer.
    ping_interval_s, ping_timeout_s : float or None
        A ping goes out each interval; no answer within the timeout ends the connection. None switches it off.
    max_frame_bytes : int
        A larger message ends the connection with code 1009.
    compression : {"deflate"}, optional
        None offers no compression: inflating costs more than a local link saves.

    Raises
    ------
    Timeout
        No upgrade within `open_timeout_s`.
    ConnectionLost
        The host cannot be reached, TLS failed, or the peer hung up during the upgrade.
    Unauthorized, NotEntitled, RateLimited, UpstreamError
        The upgrade was answered 401, 403, 429, or anything else that is not 101.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss") or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise InvalidRequest("A WebSocket address is ws[s]://host[:port]/path without user, query or fragment.")
    name = f"{parts.hostname}{parts.path}"
    try:
        ws = await _open(
            url,
            additional_headers=dict(headers or {}),
            user_agent_header=f"massive_lab/{__version__}",
            compression=compression,
            open_timeout=open_timeout_s,
            close_timeout=close_timeout_s,
            ping_interval=ping_interval_s,
            ping_timeout=ping_timeout_s,
            max_size=max_frame_bytes,
            max_queue=_QUEUED_FRAMES,
            logger=_LOGGER,
            proxy=None if _is_loopback(parts.hostname) else True,
        )
    except InvalidStatus as refused:
        raise _refused(refused.response.status_code, name) from refused
    except TimeoutError as late:
        raise Timeout(f"{name} did not open a WebSocket within {open_timeout_s:g} s.") from late
    except InvalidURI as bad:
        raise InvalidRequest(f"{name} is not a WebSocket address.") from bad
    except (OSError, EOFError, InvalidHandshake, ConnectionClosed) as broken:
        raise ConnectionLost(
            f"{name} could not be reached: {type(broken).__name__}.",
            hint="Check the address, the network and the proxy settings.",
        ) from broken
    return Connection(ws, name)


def _refused(status: int, name: str) -> TransportError:
    text = f"{name} refused the WebSocket with HTTP {status}."
    if status == 401:
        return Unauthorized(text, hint="Check MASSIVE_API_KEY, or the token of the gateway.")
    if status == 403:
        return NotEntitled(text, hint="The plan does not include this feed.")
    if status == 429:
        return RateLimited(text)
    return UpstreamError(text, status=status)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
