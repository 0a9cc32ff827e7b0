"""The WebSocket side of the gateway: the vendor's protocol, served to many on one upstream connection per cluster.

A connection goes through a door (`admission`), is greeted, authenticates by a proxy token (or came with an ephemeral one in
its address), and subscribes. A refused token is answered on the open socket and never by an HTTP error, because the official
client would try again for ever. Closing codes tell a client whether to come back: 1000 no, any other yes.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
from aiohttp import WSMsgType, web

from massive_lab.clock import Clock
from massive_lab.config import Settings
from massive_lab.gateway.admission import Admission, Hold, Refuse
from massive_lab.gateway.config import GatewaySettings
from massive_lab.gateway.control import MAX_MESSAGE, MAX_TOPICS, Ask, Auth, Bad, read_control, topics_of
from massive_lab.gateway.fanout import Counts
from massive_lab.gateway.frames import status
from massive_lab.gateway.grants import Grant, Refused, Rotation
from massive_lab.gateway.headers import SECURITY, Cors
from massive_lab.gateway.outbox import Outbox
from massive_lab.gateway.peer import RESTART, STAY_AWAY, Peer
from massive_lab.gateway.subscriptions import Subscriptions, Upstream
from massive_lab.gateway.tokens import TokenBook
from massive_lab.live.gaps import Filler
from massive_lab.live.policy import Policy
from massive_lab.live.poll.polling import Poller
from massive_lab.live.topics import Topic
from massive_lab.live.wire.feed import Connector
from massive_lab.telemetry import Telemetry
from massive_lab.typing import Cluster

__all__ = ["Sockets", "add_websocket_routes"]

AUTH_S = 10.0
HEARTBEAT_S = 30.0
_SWEEP_S = 1.0
_BAD_LIMIT = 100
"""Messages that make no sense before the connection is ended."""

# Its one message is a warning that quotes the subprotocols a client asks for, where browsers put tokens.
logging.getLogger("aiohttp.websocket").setLevel(logging.ERROR)

_CLIENTS_OWN = 3000
"""Closing codes from here on are for clients to choose. They count as one: thousands of labels are not theirs to make."""

MetricsHook = Callable[[str, str], None]
"""``(what, label)``: ``opened``/cluster, ``closed``/code, ``auth_refused``/reason, ``not_admitted``/cluster."""


class Sockets:
    """All WebSocket clients of one gateway.

    Parameters
    ----------
    settings : GatewaySettings
    upstream : Settings
        Where the vendor is, and the key.
    tokens : TokenBook
    admission : Admission
    clock : Clock
    telemetry : Telemetry
        Hears what the hubs do.
    poller, filler : optional
        REST, where a socket is lost; see `massive_lab.loaders.snapshots.SnapshotPoller` and
        `massive_lab.loaders.backfill.Backfiller`.
    metrics_hook : callable, optional
        Told of what is rare; totals are in `counts`.

    Attributes
    ----------
    n_clients : int
    closed : Counter
        Connections that ended, by code.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        upstream: Settings,
        tokens: TokenBook,
        admission: Admission,
        clock: Clock,
        telemetry: Telemetry,
        metrics_hook: MetricsHook | None = None,
        *,
        poller: Poller | None = None,
        filler: Filler | None = None,
        policy: Policy | None = None,
        idle_s: float = 5.0,
        connector: Callable[[Cluster], Connector] | None = None,
        auth_s: float = AUTH_S,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.closed: Counter[int] = Counter()
        self.n_conflated = 0
        self._tokens = tokens
        self._admission = admission
        self._cors = Cors(settings.web_origins)
        self._hook = metrics_hook or _unheard
        self._auth_s = auth_s
        self._heartbeat_s = heartbeat_s
        reach = Upstream(upstream, clock, telemetry, poller, filler, policy or Policy(), idle_s, connector)
        self.clusters = {cluster: Subscriptions(cluster, reach) for cluster in settings.clusters}
        self._peers: dict[Peer, Cluster] = {}
        self._is_draining = False
        self._sweeper: asyncio.Task[None] | None = None
        self._unlisten = tokens.listen(self._rotated)

    @property
    def n_clients(self) -> int:
        return len(self._peers)

    @property
    def n_waiting_bytes(self) -> int:
        """Of all clients: what could not be sent yet."""
        return sum(peer.outbox.n_bytes + peer.n_unsent for peer in self._peers)

    def counts(self, cluster: Cluster) -> Counts:
        return self.clusters[cluster].fanout.counts

    def n_of(self, cluster: Cluster) -> int:
        return sum(each == cluster for each in self._peers.values())

    # ---- one connection

    def handler(self, cluster: Cluster) -> Callable[[web.Request], Any]:
        """The aiohttp handler of ``/{cluster}`` and ``/ws/{cluster}``."""

        async def handle(request: web.Request) -> web.StreamResponse:
            return await self._serve(request, cluster)

        return handle

    async def _serve(self, request: web.Request, cluster: Cluster) -> web.StreamResponse:
        refusal = await self._door(request, cluster)
        if refusal is not None:
            return refusal
        response = web.WebSocketResponse(
            heartbeat=self._heartbeat_s, compress=False, max_msg_size=MAX_MESSAGE, timeout=2.0
        )
        try:
            writer = await response.prepare(request)
        except ConnectionError:
            return _refusal(503, "The connection is gone.")  # nobody reads this
        if request.transport is None or writer is None:
            return response
        outbox = Outbox(self.settings.queue_bytes, self.settings.queue_age_s)
        peer = Peer(response, writer, request, outbox, self.clock, self._ended)
        self._peers[peer] = cluster
        self._hook("opened", cluster)
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().create_task(self._sweep(), name="gateway sweep")
        try:
            peer.tell(status("connected", "Connected Successfully", **({"sandbox": True} if self.settings.sandbox else {})))
            await self._converse(response, peer, cluster, request.query.getall("token", []))
        finally:
            self.clusters[cluster].leave(peer)
            await peer.ended()
            self.n_conflated += outbox.n_conflated
            del self._peers[peer]
        return response

    async def _door(self, request: web.Request, cluster: Cluster) -> web.Response | None:
        """Why a connection is not even opened."""
        if not self._cors.may_upgrade(request.headers.getall("Origin", [])):
            return _refusal(403, "This origin may not connect.")
        # Of a handshake beyond ASCII aiohttp makes an error of its own.
        handshake = [text for name, text in request.headers.items() if name.lower().startswith("sec-websocket-")]
        is_ascii = all(text.isascii() for text in handshake)
        if not is_ascii or not web.WebSocketResponse(compress=False).can_prepare(request):
            return _refusal(426, "This path serves WebSockets.", Upgrade="websocket")
        if self._is_draining:
            return _refusal(503, "The gateway is stopping.", **{"Retry-After": "5"})
        verdict = self._admission.ask(self.clock.monotonic())
        if isinstance(verdict, Refuse):
            self._hook("not_admitted", cluster)
            return _refusal(503, "Too many connections at once.", **{"Retry-After": str(verdict.retry_after)})
        if isinstance(verdict, Hold):
            try:
                await self.clock.sleep(verdict.seconds)
            except asyncio.CancelledError:
                self._admission.leave(verdict, self.clock.monotonic())
                raise
            if self._is_draining:
                return _refusal(503, "The gateway is stopping.", **{"Retry-After": "5"})
        return None

    async def _converse(self, response: web.WebSocketResponse, peer: Peer, cluster: Cluster, query: list[str]) -> None:
        if query:
            found = self._tokens.check(query[0] if len(query) == 1 else None, cluster, self._now_s())
            self._authenticate(peer, cluster, found)
        n_bad = 0
        deadline = asyncio.get_running_loop().create_task(self._await_auth(peer), name="gateway auth")
        try:
            while not peer.is_closing:
                message = await response.receive()
                if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                    return  # closed, by whomever
                control = read_control(message.data)
                if isinstance(control, Bad):
                    n_bad += 1
                    peer.tell(status("error", control.text))
                    if n_bad >= _BAD_LIMIT:
                        peer.close(STAY_AWAY, "too many messages that make no sense")
                elif isinstance(control, Auth):
                    if peer.grant is None:
                        self._authenticate(peer, cluster, self._tokens.find(control.token.reveal(), self._now_s()))
                    else:
                        peer.tell(_AUTHENTICATED)
                elif peer.grant is None:
                    peer.tell(status("auth_required", "not authenticated"))
                else:
                    await self._ask(peer, peer.grant, cluster, control)
        finally:
            deadline.cancel()
            await asyncio.wait([deadline])

    async def _await_auth(self, peer: Peer) -> None:
        await self.clock.sleep(self._auth_s)
        if peer.grant is None:
            self._hook("auth_refused", "timeout")
            peer.close(STAY_AWAY, "no authentication", status("auth_timeout", "No authentication request received."))

    def _authenticate(self, peer: Peer, cluster: Cluster, found: Grant | Refused) -> None:
        if isinstance(found, Grant) and found.allows(cluster):
            peer.grant = found
            peer.tell(_AUTHENTICATED)
            return
        reason = found.reason if isinstance(found, Refused) else "other cluster"
        self._hook("auth_refused", reason)
        text = "authentication failed" if isinstance(found, Refused) else "Your plan doesn't include websocket access."
        peer.close(STAY_AWAY, "authentication failed", status("auth_failed", text))

    async def _ask(self, peer: Peer, grant: Grant, cluster: Cluster, control: Ask) -> None:
        desk = self.clusters[cluster]
        topics: list[Topic] = []
        n_unknown = n_denied = 0
        for number, topic in enumerate(topics_of(cluster, control.wires)):
            if number % 100 == 99:
                await asyncio.sleep(0)  # a long list must not hold up the market
            if topic is None:
                n_unknown += 1
            elif control.action == "subscribe" and not grant.allows_topic(cluster, topic.wire):
                n_denied += 1
            else:
                topics.append(topic)
        if n_unknown:
            peer.tell(status("error", f"{n_unknown} of {len(control.wires)} params are no topic of {cluster}"))
        if n_denied:
            # One for each, which names none, as the vendor does.
            await peer.tell_all([status("error", "not authorized")] * n_denied)
        if control.action == "unsubscribe":
            ended = [topic for topic in topics if desk.unsubscribe(peer, topic.wire)]
            await peer.tell_all([status("success", f"unsubscribed to: {topic.wire}") for topic in ended])
        elif len(peer.topics) + len([topic for topic in topics if topic.wire not in peer.topics]) > MAX_TOPICS:
            peer.tell(status("error", f"too many topics: {MAX_TOPICS} are the most"))
        elif topics:
            await desk.subscribe(peer, topics)
            if peer.grant is not None and peer.grant is not grant and not peer.is_closing:
                self._change(peer, peer.grant)  # the token was changed meanwhile

    def _ended(self, peer: Peer, code: int) -> None:
        self.clusters[self._peers[peer]].leave(peer)
        code = min(code, _CLIENTS_OWN)
        self.closed[code] += 1
        self._hook("closed", str(code))

    # ---- all connections

    def _now_s(self) -> float:
        return self.clock.now_ns() / 1e9

    def _rotated(self, rotation: Rotation) -> None:
        for peer in list(self._peers):
            if peer.grant is None:
                continue
            if peer.grant.id in rotation.revoked:
                self._take_back(peer)
            elif peer.grant.id in rotation.changed:
                self._change(peer, self._tokens.grant(peer.grant.id))

    def _take_back(self, peer: Peer) -> None:
        peer.close(STAY_AWAY, "the token is no longer valid", status("auth_failed", "the token is no longer valid"))

    def _change(self, peer: Peer, grant: Grant | None) -> None:
        cluster = self._peers[peer]
        if grant is None or not grant.allows(cluster):
            self._take_back(peer)
            return
        peer.grant = grant
        for wire in [wire for wire in peer.topics if not grant.allows_topic(cluster, wire)]:
            self.clusters[cluster].unsubscribe(peer, wire)
            peer.tell(status("subscription_failed", f"subscription failed: {wire}: not authorized"))

    async def _sweep(self) -> None:
        """Ends what is too old: queues, and connections whose token has expired."""
        while True:
            await self.clock.sleep(_SWEEP_S)
            now, now_s = self.clock.monotonic(), self._now_s()
            for peer in list(self._peers):
                peer.check(now)
                if peer.grant is not None and peer.grant.is_over(now_s):
                    self._take_back(peer)

    async def drain(self, deadline_s: float) -> None:
        """Let nobody in, and send everybody away, spread over most of the time, so that they do not return all at once."""
        self._is_draining = True
        peers = list(self._peers)
        pause_s = min(0.05, 0.8 * deadline_s / max(1, len(peers)))
        for peer in peers:
            peer.close(RESTART, "the gateway restarts")
            await self.clock.sleep(pause_s)

    async def aclose(self) -> None:
        """Close every connection and give the hubs back. Idempotent."""
        self._is_draining = True
        self._unlisten()
        for peer in list(self._peers):
            peer.close(RESTART, "the gateway restarts")
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
        await asyncio.gather(*(peer.ended() for peer in list(self._peers)))
        for desk in self.clusters.values():
            await desk.aclose()


def _unheard(what: str, label: str) -> None: ...


_AUTHENTICATED = status("auth_success", "authenticated")


def add_websocket_routes(app: web.Application, sockets: Sockets) -> None:
    """Mount ``/stocks``, ``/options``, ``/indices`` and ``/ws/{cluster}`` of the clusters that are served."""
    for cluster in sockets.settings.clusters:
        handler = sockets.handler(cluster)
        app.router.add_get(f"/{cluster}", handler, allow_head=False)
        app.router.add_get(f"/ws/{cluster}", handler, allow_head=False)


def _refusal(code: int, text: str, **headers: str) -> web.Response:
    body = msgspec.json.encode({"status": "ERROR", "error": text})
    return web.Response(status=code, body=body, headers={"Content-Type": "application/json", **SECURITY, **headers})
