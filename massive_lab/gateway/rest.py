"""REST as clients see it: the vendor's paths at the root, ours below ``/api/massive``, one way through for both.

A request is judged by its first line, then by its token, then by the limits; only then is anybody asked. What comes back is
the vendor's answer with the host of its addresses changed, or an error of ours with a fixed text. Nothing of the request is
ever repeated in an answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import msgspec
from aiohttp import web

from massive_lab.clock import Clock
from massive_lab.errors import ClosedError, TransportError
from massive_lab.gateway.bodies import BadBody, accepts_gzip, dress, may_hold_urls
from massive_lab.gateway.config import GatewaySettings
from massive_lab.gateway.headers import Cors, credential, new_request_id, public_base, to_client
from massive_lab.gateway.limits import Limits
from massive_lab.gateway.logs import tell
from massive_lab.gateway.metrics import Metrics
from massive_lab.gateway.openapi import document
from massive_lab.gateway.paths import Local, Refusal, Route, Upstream, route
from massive_lab.gateway.server import problem
from massive_lab.gateway.tokens import EPHEMERAL_S, Grant, Refused, TokenBook
from massive_lab.gateway.upstream import Fetched, meaning
from massive_lab.gateway.upstream import Upstream as Vendor
from massive_lab.typing import Cluster

__all__ = ["Rest", "SocketHandler"]

SocketHandler = Callable[[Any], Awaitable[web.StreamResponse]]

SEND_S = 120.0
_MAX_POST = 4_096
_POST_S = 10.0
_THREAD_FROM = 32 * 1024
"""Larger bodies are worked on beside the loop."""
_TOO_MANY = (
    "You've exceeded the maximum requests per minute of this gateway, please wait as the header Retry-After says"
)


class _TokenRequest(msgspec.Struct, forbid_unknown_fields=True):
    cluster: Cluster


@dataclass(slots=True)
class _Call:
    """One request on its way, as it is told of in the end."""

    request_id: str
    endpoint: str = "none"
    client: str | None = None
    source: str = "gateway"
    upstream_id: str | None = None


class Rest:
    """Answers every request of the public port.

    Parameters
    ----------
    sockets : mapping, optional
        Take over the WebSocket upgrades of their clusters.
    send_s : float
        How long a client may take to read an answer.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        book: TokenBook,
        limits: Limits,
        vendor: Vendor,
        metrics: Metrics,
        clock: Clock,
        sockets: Mapping[Cluster, SocketHandler] | None = None,
        *,
        send_s: float = SEND_S,
    ) -> None:
        self._settings = settings
        self._book = book
        self._limits = limits
        self._vendor = vendor
        self._metrics = metrics
        self._clock = clock
        self._sockets = sockets or {}
        self._send_s = send_s
        self._cors = Cors(settings.web_origins)
        self._openapi = msgspec.json.encode(document())
        self.is_draining = False
        self.n_active = 0
        self._quiet = asyncio.Event()
        self._quiet.set()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        where = route(request.method, _target(request.raw_path))
        serve: SocketHandler | None = None
        if isinstance(where, Local) and where.name == "ws" and where.cluster and _is_upgrade(request):
            serve = self._sockets.get(where.cluster)
        if serve is not None:
            return await serve(request)
        self.n_active += 1
        self._quiet.clear()
        try:
            return await self._handle(request, where)
        finally:
            self.n_active -= 1
            if not self.n_active:
                self._quiet.set()

    async def quiet(self) -> None:
        """Return once no request is being answered."""
        await self._quiet.wait()

    async def _handle(self, request: web.BaseRequest, where: Route) -> web.StreamResponse:
        started = self._clock.monotonic()
        call = _Call(new_request_id())
        response = await self._answer(request, where, call)
        if call.endpoint != "preflight":
            cors = self._cors.answer(request.headers.get("Origin"))
            response.headers.update({**cors, "Vary": f"{cors['Vary']}, Accept-Encoding"})
        is_broken = response.status == 400 and call.source == "gateway"
        if self.is_draining or request.can_read_body or is_broken:
            # What follows a body that nobody reads, or a line that makes no sense, must not be taken for a request.
            response.force_close()
        sent = await self._send(request, response)
        elapsed_s = self._clock.monotonic() - started
        n_bytes = len(response.body) if isinstance(response.body, bytes) else 0
        self._metrics.answered(call.endpoint, call.client, response.status, elapsed_s, n_bytes)
        tell(
            "request",
            level=logging.INFO if response.status < 500 else logging.WARNING,
            request_id=call.request_id,
            client=call.client or "-",
            endpoint=call.endpoint,
            status=response.status,
            bytes=n_bytes,
            seconds=round(elapsed_s, 6),
            source=call.source if sent else "not taken",
            upstream_request_id=call.upstream_id or "-",
        )
        return response

    async def _send(self, request: web.BaseRequest, response: web.Response) -> bool:
        """Whether the client took the answer. Sent from here, so that one who never reads is not waited for for ever."""
        try:
            async with asyncio.timeout(self._send_s):
                await response.prepare(request)
                await response.write_eof()
        except TimeoutError:
            self._metrics.broken("not taken")
            if request.transport is not None:
                request.transport.abort()
            return False
        except ConnectionError:
            return False
        return True

    async def _answer(self, request: web.BaseRequest, where: Route, call: _Call) -> web.Response:
        if isinstance(where, Refusal):
            self._metrics.refused("path")
            return problem(where.status, where.message, call.request_id, dict(where.headers))
        if isinstance(where, Local) and where.name == "preflight":
            return self._preflight(request, where, call)
        hosts = request.headers.getall("Host", [])
        public = public_base(request.scheme, hosts[0] if len(hosts) == 1 else None, self._settings.public_url)
        if public is None or (request.method == "GET" and request.can_read_body):
            self._metrics.refused("path")
            return problem(400, "The request is malformed", call.request_id)
        call.endpoint = where.endpoint if isinstance(where, Upstream) else where.name
        if isinstance(where, Local) and where.name == "openapi":
            return web.Response(body=self._openapi, headers=to_client({}, call.request_id))
        if isinstance(where, Local) and where.name == "ws" and where.cluster not in self._settings.clusters:
            return problem(404, "This gateway does not serve that cluster", call.request_id)
        if isinstance(where, Local) and where.name == "ws":
            return problem(426, "This path is for WebSocket connections", call.request_id, {"Upgrade": "websocket"})
        grant = self._enter(request, where, call)
        if isinstance(grant, web.Response):
            return grant
        if isinstance(where, Local):
            return await self._mint(request, where, grant, public, call)
        return await self._fetch(request, where, public, call)

    # who asks, and whether there is room

    def _enter(self, request: web.BaseRequest, where: Upstream | Local, call: _Call) -> Grant | web.Response:
        token = credential(request.headers, where.key)
        grant = self._book.find(None if token is None else token.reveal(), self._clock.now_ns() / 1e9)
        if isinstance(grant, Refused):
            self._metrics.refused(grant.reason)
            return problem(401, grant.text, call.request_id, {"WWW-Authenticate": "Bearer"})
        call.client = grant.name
        if token is not None and isinstance(where, Upstream) and token.reveal() in unquote(where.target):
            # Under a name that no credential has, or as part of a value: it would go up.
            self._metrics.refused("path")
            return problem(400, "The token stands where no token belongs", call.request_id)
        wait = self._limits.take(grant.name, self._clock.monotonic(), limit=grant.calls_per_minute)
        if wait is None:
            return grant
        self._metrics.refused(f"limit {wait.scope}")
        return problem(429, _TOO_MANY, call.request_id, {"Retry-After": str(wait.retry_after)})

    def _preflight(self, request: web.BaseRequest, where: Local, call: _Call) -> web.Response:
        call.endpoint = "preflight"
        asked = request.headers
        found = self._cors.preflight(
            asked.get("Origin"),
            asked.get("Access-Control-Request-Method"),
            asked.get("Access-Control-Request-Headers"),
            allowed=where.methods,
        )
        headers = {**to_client({}, call.request_id), **found.headers}
        del headers["Content-Type"]
        return web.Response(status=found.status, headers=headers)

    # the vendor's answers

    async def _fetch(self, request: web.BaseRequest, where: Upstream, public: str, call: _Call) -> web.Response:
        found: Fetched | TransportError | ClosedError
        try:
            found = await self._vendor.fetch(where.target, where.endpoint)
        except (TransportError, ClosedError) as error:
            found = error
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            found = ClosedError("The gateway is closing.")
        back: dict[str, str] = {}
        if isinstance(found, Fetched):
            call.source = found.source
            back = to_client(found.headers, call.request_id)
            call.upstream_id = back.get("X-Upstream-Request-Id")
        ours = meaning(found)
        if ours is None:
            assert isinstance(found, Fetched)
            try:
                body, gzipped = await self._dress(request, where, found, public)
            except BadBody as error:
                ours = 502, str(error)
            else:
                if gzipped:
                    back["Content-Encoding"] = "gzip"
                return web.Response(status=found.status, body=body, headers=back)
        kept: dict[str, str] = {name: back[name] for name in ("Retry-After", "X-Upstream-Request-Id") if name in back}
        return problem(*ours, call.request_id, kept)

    async def _dress(
        self, request: web.BaseRequest, where: Upstream, found: Fetched, public: str
    ) -> tuple[bytes, bool]:
        looks_in = found.status == 200 and found.content_type == "application/json" and may_hold_urls(where.endpoint)
        accepts = accepts_gzip(",".join(request.headers.getall("Accept-Encoding", [])))
        base = self._vendor.base if looks_in else None

        def work() -> tuple[bytes, bool]:
            return dress(found.body, gzipped=found.gzipped, upstream_base=base, public_base=public, accepts=accepts)

        return work() if len(found.body) < _THREAD_FROM else await asyncio.to_thread(work)

    # tokens for one connection

    async def _mint(
        self, request: web.BaseRequest, where: Local, grant: Grant, public: str, call: _Call
    ) -> web.Response:
        cluster = where.cluster
        if request.can_read_body or cluster is None:
            body = await _read_post(request)
            if isinstance(body, Refusal):
                return problem(body.status, body.message, call.request_id)
            try:
                asked = msgspec.json.decode(body, type=_TokenRequest).cluster if body or cluster is None else cluster
            except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
                return problem(400, 'The body must be {"cluster": "stocks"}, "options" or "indices"', call.request_id)
            if cluster not in (None, asked):
                return problem(400, "The query and the body name two clusters", call.request_id)
            cluster = asked
        if cluster not in self._settings.clusters:
            return problem(404, "This gateway does not serve that cluster", call.request_id)
        token = self._book.mint(grant, cluster, self._clock.now_ns() / 1e9)
        if isinstance(token, Refused):
            self._metrics.refused(token.reason)
            status = 403 if token.reason == "other cluster" else 401
            text = "You are not entitled to this cluster" if status == 403 else token.text
            return problem(status, text, call.request_id)
        answer = {
            "status": "OK",
            "request_id": call.request_id,
            "token": token.reveal(),
            "cluster": cluster,
            "expires_in": int(EPHEMERAL_S),
            "url": f"{public.replace('http', 'ws', 1)}/ws/{cluster}",
        }
        return web.Response(body=msgspec.json.encode(answer), headers=to_client({}, call.request_id))


async def _read_post(request: web.BaseRequest) -> bytes | Refusal:
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        return Refusal(415, "The body must not be compressed")
    if (request.content_length or 0) > _MAX_POST:
        return Refusal(413, "The body is too large")
    body = bytearray()
    try:
        async with asyncio.timeout(_POST_S):
            while chunk := await request.content.readany():
                body += chunk
                if len(body) > _MAX_POST:
                    return Refusal(413, "The body is too large")
    except TimeoutError:
        return Refusal(408, "The body did not come in time")
    return bytes(body)


def _target(raw: str) -> str:
    # The official client puts its paths behind a base that may end in a slash.
    return raw[1:] if raw.startswith("//") else raw


def _is_upgrade(request: web.BaseRequest) -> bool:
    headers: Mapping[str, str] = request.headers
    return request.method == "GET" and headers.get("Upgrade", "").strip().lower() == "websocket"
