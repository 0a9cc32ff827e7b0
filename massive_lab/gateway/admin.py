"""Health and metrics, on a port of their own that clients do not reach."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from massive_lab.gateway.headers import SECURITY, new_request_id
from massive_lab.gateway.metrics import Metrics
from massive_lab.gateway.server import problem

__all__ = ["Admin"]


class Admin:
    """``/healthz``, ``/readyz`` and ``/metrics``.

    Parameters
    ----------
    state : callable
        ``ready``, or why not: ``starting``, ``draining``. Being alive and being ready are two things: a gateway that drains
        must not be killed, and must get no new clients. An outage of the vendor changes neither: every replica has it.
    """

    def __init__(self, metrics: Metrics, state: Callable[[], str]) -> None:
        self._metrics = metrics
        self._state = state

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        if request.method not in ("GET", "HEAD"):
            return problem(405, "The method is not allowed", new_request_id(), {"Allow": "GET, HEAD"})
        match request.raw_path.partition("?")[0]:
            case "/healthz":
                return self._text(200, "ok\n")
            case "/readyz":
                state = self._state()
                return self._text(200 if state == "ready" else 503, f"{state}\n")
            case "/metrics":
                return self._text(200, self._metrics.text(), self._metrics.content_type)
            case _:
                return problem(404, "There is no such path", new_request_id())

    def _text(self, status: int, text: str, content_type: str = "text/plain; charset=utf-8") -> web.Response:
        return web.Response(status=status, body=text.encode(), headers={**SECURITY, "Content-Type": content_type})
