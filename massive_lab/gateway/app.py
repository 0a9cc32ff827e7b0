"""The gateway as a whole: what it is made of, in which order it starts, drains and ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from aiohttp import web

from massive_lab._version import __version__
from massive_lab.clock import Clock, SystemClock
from massive_lab.config import Settings
from massive_lab.errors import ClosedError, ConfigError
from massive_lab.gateway.admin import Admin
from massive_lab.gateway.admission import Admission
from massive_lab.gateway.config import GatewaySettings
from massive_lab.gateway.limits import Limits
from massive_lab.gateway.logs import Blotter, tell
from massive_lab.gateway.metrics import Metrics
from massive_lab.gateway.rest import Rest, SocketHandler
from massive_lab.gateway.server import HEAD_S, Edge
from massive_lab.gateway.tokens import TokenBook
from massive_lab.gateway.tokenwatch import TokenWatch
from massive_lab.gateway.upstream import Upstream
from massive_lab.gateway.ws import Sockets
from massive_lab.loaders.backfill import Backfiller
from massive_lab.loaders.session import Session
from massive_lab.loaders.snapshots import SnapshotPoller
from massive_lab.telemetry import Telemetry
from massive_lab.typing import Cluster

if TYPE_CHECKING:
    from massive_lab.gateway.bus.replicas import Replicas

__all__ = ["Gateway"]

LABEL = {"X-Massive-Lab": "SANDBOX"}
"""On every answer while the data are synthetic."""

_END_S = 2.0
_BACKLOG = 1024

_Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Gateway:
    """REST and WebSocket on one port, health and metrics on another. All methods run on one loop.

    Parameters
    ----------
    settings : GatewaySettings
    upstream : Settings
        The vendor, or a sandbox.
    blotter : Blotter, optional
        The filter of the log; it is told every secret there is.
    head_s : float
        How long the head of a request may take.

    Notes
    -----
    ::

        gateway = Gateway(read_gateway_settings(), read_settings())
        await gateway.start()
        ...
        await gateway.drain()
        await gateway.close()
    """

    def __init__(
        self,
        settings: GatewaySettings,
        upstream: Settings,
        *,
        clock: Clock | None = None,
        telemetry: Telemetry | None = None,
        blotter: Blotter | None = None,
        head_s: float = HEAD_S,
    ) -> None:
        self.settings = settings
        self.metrics = Metrics(sandbox=settings.sandbox)
        self.book = TokenBook(settings.tokens, settings.secret, audience=settings.audience, sandbox=settings.sandbox)
        clock = clock or SystemClock()
        telemetry = telemetry or Telemetry()
        label = LABEL if settings.sandbox else {}
        blotter = blotter or Blotter()
        blotter.learn((upstream.api_key, settings.secret, *(rule.token for rule in settings.tokens)))
        self._vendor = Upstream(upstream, telemetry, clock, self.metrics)
        # For the hubs: what a lost socket missed, and what is polled until it is back.
        self._session = Session(upstream, telemetry=telemetry, clock=clock)
        self._replicas: Replicas | None = None
        if settings.bus is not None:
            try:
                from massive_lab.gateway.bus.replicas import Replicas
            except ImportError:
                raise ConfigError(
                    "Replicas need nats-py, which is not installed.", hint="pip install 'massive_lab[bus]'."
                ) from None
            self._replicas = Replicas(settings.bus.reveal(), upstream, settings.clusters, clock=clock)
            blotter.learn((settings.bus,))
        self.sockets = Sockets(
            settings,
            upstream,
            self.book,
            Admission(),
            clock,
            telemetry,
            self._socket_event,
            poller=SnapshotPoller(self._session),
            filler=Backfiller(self._session),
            connector=None if self._replicas is None else self._replicas.connector,
        )
        limits = Limits(settings.calls_per_minute_token, settings.calls_per_minute_total)
        handlers: dict[Cluster, SocketHandler] = {each: self.sockets.handler(each) for each in settings.clusters}
        self._rest = Rest(settings, self.book, limits, self._vendor, self.metrics, clock, handlers)
        self._admin = Admin(self.metrics, lambda: self._state)
        self._edges = [Edge(each, self.metrics, head_s=head_s, extra=label) for each in self._handlers()]
        self._listeners: list[asyncio.Server] = []
        self._ports: list[int] = []
        self._watch: TokenWatch | None = None
        if settings.tokens_file is not None:
            forbidden = (upstream.api_key, settings.secret)
            self._watch = TokenWatch(settings.tokens_file, self.book, clock, self.metrics, blotter, forbidden)
        self._watching: asyncio.Task[None] | None = None
        self._state = "starting"
        self._upstream = upstream
        self._gauges()

    def __repr__(self) -> str:
        return f"<Gateway {'SANDBOX ' if self.settings.sandbox else ''}{self._state}>"

    def _handlers(self) -> list[_Handler]:
        return [self._rest.handle, self._admin.handle]

    def _socket_event(self, what: str, label: str) -> None:
        self.metrics.socket(what, label)
        tell(f"websocket {what.replace('_', ' ')}", which=label)

    def _gauges(self) -> None:
        sockets, replicas = self.sockets, self._replicas
        if replicas is not None:
            self.metrics.gauge("bus_connected", "1 while the bus is reached.", lambda: int(replicas.bus.is_up))
            self.metrics.gauge(
                "bus_led_clusters", "Clusters whose upstream this replica holds.", lambda: replicas.n_led
            )
        self.metrics.gauge("websocket_clients", "WebSocket clients now.", lambda: sockets.n_clients)
        self.metrics.gauge("websocket_queued_bytes", "What waits for slow clients.", lambda: sockets.n_waiting_bytes)
        self.metrics.gauge("upstream_in_flight_requests", "Asked and not answered.", lambda: self._vendor.n_in_flight)
        self.metrics.gauge("in_flight_requests", "REST requests being answered.", lambda: self._rest.n_active)
        self.metrics.gauge("tokens", "Names with a token in force.", lambda: len(self.book.names))

    @property
    def url(self) -> str:
        """Where REST is served."""
        return self._address(0, self.settings.host, "http")

    @property
    def ws_url(self) -> str:
        """Where WebSockets are served; add the cluster."""
        return self._address(0, self.settings.host, "ws")

    @property
    def admin_url(self) -> str:
        return self._address(1, self.settings.admin_host, "http")

    def _address(self, number: int, host: str, scheme: str) -> str:
        if number >= len(self._ports):
            raise ClosedError("The gateway does not listen.", hint="Start it first.")
        port = self._ports[number]
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

    async def start(self) -> None:
        """Listen.

        Raises
        ------
        ConfigError
            When a port cannot be had. Nothing is left open then.
        """
        settings = self.settings
        tell("starting", version=__version__, upstream=self._upstream.rest_url, websocket=self._upstream.ws_url)
        tell("serving", clusters=",".join(settings.clusters), tokens=",".join(self.book.names), bus=bool(self._replicas))
        places = ((settings.host, settings.port), (settings.admin_host, settings.admin_port))
        try:
            for edge, (host, port) in zip(self._edges, places, strict=True):
                listener = await _listen(edge, host, port)
                self._listeners.append(listener)
                self._ports.append(listener.sockets[0].getsockname()[1])
        except ConfigError:
            await self.close()
            raise
        if self._watch is not None:
            self._watching = asyncio.get_running_loop().create_task(self._watch.run(), name="gateway tokens")
        tell("listening", rest=self.url, websocket=f"{self.ws_url}/{{{','.join(settings.clusters)}}}")
        tell("listening", health=f"{self.admin_url}/healthz", metrics=f"{self.admin_url}/metrics")
        self._state = "ready"
        tell("ready")

    def reload_tokens(self) -> bool:
        """Read the file of tokens now; whether it is in force. False when there is none."""
        if self._watch is None:
            tell("tokens not changed", level=logging.WARNING, problems="They do not come from a file.")
            return False
        return self._watch.reload()

    async def drain(self) -> None:
        """Let nobody in any more; return once what is under way has ended, at the latest after ``drain_s``."""
        self._state = "draining"
        tell("draining", requests=self._rest.n_active, websockets=self.sockets.n_clients)
        self._rest.is_draining = True
        self._listeners[0].close()
        self._edges[0].retire()
        try:
            async with asyncio.timeout(self.settings.drain_s):
                await asyncio.gather(self._rest.quiet(), self.sockets.drain(self.settings.drain_s))
        except TimeoutError:
            tell("drained too slowly", level=logging.WARNING, requests=self._rest.n_active)

    async def close(self) -> None:
        """End everything; nothing of it runs when this returns."""
        self._state = "closed"
        for listener in self._listeners:
            listener.close()
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])
        await self.sockets.aclose()
        if self._replicas is not None:
            await self._replicas.aclose()
        await self._vendor.aclose()
        for edge in self._edges:
            await edge.shutdown(_END_S)
        await self._session.aclose()
        tell("stopped")


async def _listen(edge: Edge, host: str, port: int) -> asyncio.Server:
    try:
        return await asyncio.get_running_loop().create_server(edge, host, port, backlog=_BACKLOG)
    except OSError as error:
        raise ConfigError(
            f"The gateway cannot listen on {host}:{port}: {error.strerror or type(error).__name__}.",
            hint="Choose another port, or 0 for any free one.",
        ) from None
