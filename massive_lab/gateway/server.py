"""The HTTP server's edge: what does not speak proper HTTP, too slowly or too much of it, is told so in fixed words.

aiohttp parses; here is what it leaves to its users: a deadline for the head of a request, answers to malformed requests
that repeat nothing of them, and a log that does not quote them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web_protocol import RequestHandler

from massive_lab.gateway.headers import REQUEST_ID, SECURITY, new_request_id
from massive_lab.gateway.logs import log, tell
from massive_lab.gateway.metrics import Metrics

__all__ = ["Edge", "problem"]

HEAD_S = 10.0
KEEPALIVE_S = 75.0
MAX_HEAD_LINE = 16_384
MAX_FIELD = 8_192
MAX_FIELDS = 64

_QUIET = logging.getLogger("massive_lab.gateway.aiohttp")


def problem(status: int, text: str, request_id: str, headers: dict[str, str] | None = None) -> web.Response:
    """An error as the vendor writes them, with a fixed text."""
    kind, field = ("NOT_AUTHORIZED", "message") if status == HTTPStatus.FORBIDDEN else ("ERROR", "error")
    body = msgspec.json.encode({"status": kind, "request_id": request_id, field: text})
    ours = {**SECURITY, "Content-Type": "application/json", REQUEST_ID: request_id}
    return web.Response(status=status, body=body, headers={**ours, **(headers or {})})


class Edge(web.Server):
    """Makes a protocol for each connection.

    Parameters
    ----------
    handler : callable
        Answers a request.
    head_s : float
        Within so many seconds of its first byte the head of a request must be there.
    extra : dict
        Headers put on every answer, whatever it is.

    Attributes
    ----------
    silent_s : float
        Within so many seconds a connection must send its first byte.
    """

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        metrics: Metrics,
        *,
        head_s: float = HEAD_S,
        extra: dict[str, str] | None = None,
    ) -> None:
        super().__init__(handler, request_factory=self._request)
        self.metrics = metrics
        self.head_s = head_s
        self.silent_s = KEEPALIVE_S
        self.extra = {"Server": "massive_lab", **(extra or {})}
        self._options: dict[str, Any] = {
            "access_log": None,
            # What it would log are the bytes of malformed requests.
            "logger": _QUIET,
            "keepalive_timeout": KEEPALIVE_S,
            "lingering_time": 2.0,
            "max_line_size": MAX_HEAD_LINE,
            "max_field_size": MAX_FIELD,
            "max_headers": MAX_FIELDS,
            # A compressed request is refused, not inflated.
            "auto_decompress": False,
        }

    def _request(self, message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
        return _Request(message, payload, protocol, writer, task, protocol._loop, headers=self.extra)

    def retire(self) -> None:
        """End every connection that waits for a request, and the others with their answer; WebSockets are left alone."""
        for connection in self.connections:
            if connection._upgraded:
                continue
            if connection._waiter is not None and not connection._waiter.done():
                connection.force_close()
            else:
                connection.close()

    def __call__(self) -> RequestHandler:
        return _Connection(self, asyncio.get_running_loop(), self._options)


class _Request(web.BaseRequest):
    def __init__(self, *parts: Any, headers: dict[str, str]) -> None:
        super().__init__(*parts)
        self._headers_back = headers

    async def _prepare_hook(self, response: web.StreamResponse) -> None:
        response.headers.update(self._headers_back)


class _Connection(RequestHandler):
    __slots__ = ("_edge", "_head_timer", "_is_silent")

    def __init__(self, edge: Edge, loop: asyncio.AbstractEventLoop, options: dict[str, Any]) -> None:
        super().__init__(edge, loop=loop, **options)
        self._edge = edge
        self._head_timer: asyncio.TimerHandle | None = None
        self._is_silent = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        # aiohttp counts from the end of a request: who never sends one would stay for ever.
        self._head_timer = self._loop.call_later(self._edge.silent_s, self._too_slow)

    def data_received(self, data: bytes) -> None:
        if self._is_silent:
            self._is_silent = False
            self._stop_timer()
        super().data_received(data)
        if self._waiter is None or self._waiter.done() or self._upgraded or self._messages:
            self._stop_timer()
        elif self._head_timer is None:
            # Bytes, and still no request: from here on the clock runs, however many more single bytes come.
            self._head_timer = self._loop.call_later(self._edge.head_s, self._too_slow)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002  it quotes the request
    ) -> web.StreamResponse:
        """Answer what could not be parsed or handled; the connection ends with it."""
        request_id = new_request_id()
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            # Ours: with its traceback, which the log's filter goes over.
            log.error("unhandled", exc_info=exc, extra={"fields": {"request_id": request_id}})
            kind, text = "error", "The gateway failed"
        elif isinstance(exc, LineTooLong):
            status, kind, text = 431, "too large", "The head of the request is too large"
        else:
            kind, text = "malformed", "The request is malformed"
            tell("malformed request", level=logging.DEBUG, request_id=request_id, kind=type(exc).__name__)
        self._edge.metrics.broken(kind)
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun")
        response = problem(status, text, request_id)
        response.force_close()
        return response

    def log_exception(self, *_: Any, **kw: Any) -> None:
        error = kw.get("exc_info")
        tell("connection failed", level=logging.WARNING, kind=type(error).__name__)

    def _too_slow(self) -> None:
        self._head_timer = None
        if self.transport is None or self._waiter is None or self._waiter.done():
            return
        self._edge.metrics.broken("too slow")
        self.transport.write(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        self.force_close()

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
