"""Accepts WebSocket connections, knows who is connected, and runs the feeds."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import random
from concurrent.futures import Executor

from aiohttp import WSMsgType, web

from massive_lab.sandbox.accounts import Accounts, Victim
from massive_lab.sandbox.api import MarketData
from massive_lab.sandbox.clock import VirtualClock
from massive_lab.sandbox.counts import ConnectionCount, Counts
from massive_lab.sandbox.faults.book import FaultBook, Hit
from massive_lab.sandbox.faults.stream import MaxConnections, NightlyDrop, RefuseUpgrade
from massive_lab.sandbox.faults.toxics import Down
from massive_lab.sandbox.pipe import Pipe
from massive_lab.sandbox.ws.connection import Connection
from massive_lab.sandbox.ws.feed import Feed
from massive_lab.sandbox.ws.session import Session
from massive_lab.sandbox.ws.topics import CLUSTERS
from massive_lab.schema.session import new_york_ns, trading_date
from massive_lab.typing import AssetClass

__all__ = ["DELAY_NS", "WsHost"]

_log = logging.getLogger(__name__)

DELAY_NS = 900_000_000_000
"""The delayed feed is 15 minutes behind."""


class WsHost:
    """All clusters, real-time and delayed.

    Parameters
    ----------
    label : dict
        Headers put on every answer.
    max_buffer_bytes : int
        Bytes a client may leave unread.
    auth_timeout_s : float
        Real seconds a connection may stay silent before it is sent away.
    seed : int
        Chooses the victim where an account's policy is ``random``.
    """

    def __init__(
        self,
        market: MarketData,
        clock: VirtualClock,
        executor: Executor,
        accounts: Accounts,
        book: FaultBook,
        counts: Counts,
        *,
        label: dict[str, str],
        max_buffer_bytes: int,
        auth_timeout_s: float,
        seed: int,
    ) -> None:
        self._clock = clock
        self._accounts = accounts
        self._book = book
        self._counts = counts
        self._label = label
        self._max_buffer_bytes = max_buffer_bytes
        self._auth_timeout_s = auth_timeout_s
        self._victims = random.Random(f"victims:{seed}")
        self._next_id = 1
        self._open: dict[int, Connection] = {}
        self.feeds: dict[tuple[AssetClass, bool], Feed] = {
            (cluster, delayed): Feed(market, clock, cluster, DELAY_NS if delayed else 0, executor)
            for cluster in CLUSTERS
            for delayed in (False, True)
        }
        self._nightly: asyncio.Task[None] | None = None

    @property
    def connections(self) -> list[Connection]:
        """Open connections, oldest first."""
        return list(self._open.values())

    def find(self, connection_id: int) -> Connection | None:
        return self._open.get(connection_id)

    async def settle(self) -> None:
        """Return when every feed has sent what was published until now."""
        await asyncio.gather(*(feed.settle(feed.now_ns()) for feed in self.feeds.values()))

    def skip(self) -> None:
        """Pass over what has been published since the feeds last sent."""
        for feed in self.feeds.values():
            feed.skip()

    def poke(self) -> None:
        for feed in self.feeds.values():
            feed.poke()

    def faults_changed(self) -> None:
        for connection in self.connections:
            connection.faults_changed()
        if self._book.armed(NightlyDrop) and self._nightly is None:
            self._nightly = asyncio.get_running_loop().create_task(self._drop_nightly())

    def stop(self) -> None:
        if self._nightly is not None:
            self._nightly.cancel()

    async def handle(
        self, request: web.BaseRequest, pipe: Pipe, cluster: AssetClass, *, delayed: bool
    ) -> web.StreamResponse:
        """Serve one upgrade request until its connection is gone."""
        number = self._next_id
        labels = frozenset(("*", "ws", cluster, "delayed" if delayed else "realtime", f"conn:{number}"))
        cluster_count = self._counts.cluster(cluster)
        # Scope * has been decided when the connection was accepted.
        decided = self._book.draw_all(Down, labels - {"*"}, "down")
        if any(isinstance(hit, Hit) for hit in decided):
            cluster_count.refused += 1
            pipe.reset()
            return web.Response(status=503)
        refusal = self._book.draw(RefuseUpgrade, labels)
        if refusal is not None:
            cluster_count.refused += 1
            return web.Response(status=refusal.kind.status, headers=self._label)
        socket = web.WebSocketResponse(compress=False, autoclose=False)
        socket.headers.update(self._label)
        if not socket.can_prepare(request):
            return web.Response(status=426, headers={**self._label, "Upgrade": "websocket"})
        self._next_id += 1
        cluster_count.opened += 1
        count = ConnectionCount(number, cluster, delayed)
        self._counts.connections[number] = count
        pipe.labels = labels
        pipe.refresh(self._book)
        feed = self.feeds[cluster, delayed]
        session = Session(
            cluster,
            delayed=delayed,
            accounts=self._accounts,
            book=self._book,
            count=lambda: self._counts.cluster(cluster),
            labels=labels,
            now_ns=feed.now_ns,
        )
        connection = Connection(
            pipe,
            session,
            feed,
            self._book,
            self._counts,
            count,
            labels=labels,
            max_buffer_bytes=self._max_buffer_bytes,
            on_admit=self._enforce_limit,
            spared={fault_id for fault_id in decided if isinstance(fault_id, str)},
        )
        self._open[number] = connection
        feed.join(connection)
        try:
            await socket.prepare(request)
            connection.perform(session.greet())
            await self._converse(socket, connection)
        except ConnectionError:
            _log.debug("Connection %d was lost during its upgrade.", number)
        finally:
            del self._open[number]
            connection.gone()
            feed.leave(connection, session.held)
            count.open = False
            self._counts.cluster(cluster).closed += 1
        return socket

    async def _converse(self, socket: web.WebSocketResponse, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        timer = loop.call_later(self._auth_timeout_s, self._time_auth_out, connection)
        try:
            while True:
                message = await socket.receive()
                if message.type in {WSMsgType.TEXT, WSMsgType.BINARY}:
                    connection.perform(connection.session.receive(message.data))
                elif message.type is WSMsgType.CLOSE:
                    connection.client_closed(message.data)
                    await connection.pipe.lost
                    return
                else:
                    # CLOSED, CLOSING or ERROR: the transport has gone, or the client broke the protocol.
                    connection.cut("client")
                    await connection.pipe.lost
                    return
        finally:
            timer.cancel()

    def _time_auth_out(self, connection: Connection) -> None:
        if connection.session.waits_for_auth:
            connection.perform(connection.session.auth_timed_out())
            connection.close(1008, "", by="auth_timeout")

    def _enforce_limit(self, newest: Connection) -> None:
        account = newest.session.account
        assert account is not None
        cluster = newest.session.cluster
        rivals = [
            connection
            for connection in self.connections
            if connection.session.account is not None
            and connection.session.account.key == account.key
            and connection.session.cluster == cluster
            and connection.count.ended_by is None
        ]
        policy: str = self._accounts.victim(account)
        n_excess = len(rivals) - account.connections(cluster)
        forced = self._book.draw(MaxConnections, newest.labels)
        if forced is not None:
            policy, n_excess = forced.kind.victim, max(1, n_excess)
        for _ in range(n_excess):
            victim = rivals.pop(self._victim_at(policy, len(rivals)))
            victim.evict()

    def _victim_at(self, policy: Victim | str, n: int) -> int:
        if policy == "random":
            return self._victims.randrange(n)
        return 0 if policy == "oldest" else n - 1

    async def _drop_nightly(self) -> None:
        """Cut connections whenever virtual time passes the hour of an armed nightly drop."""
        while kinds := [fault.kind for fault in self._book.faults() if isinstance(fault.kind, NightlyDrop)]:
            due_ns = min(self._next_ns(kind.at) for kind in kinds)
            await self._clock.sleep_until(due_ns)
            for connection in self.connections:
                if self._book.draw(NightlyDrop, connection.labels) is not None:
                    connection.cut("fault")
        self._nightly = None

    def _next_ns(self, at: str) -> int:
        time, now_ns = dt.time.fromisoformat(at), self._clock.now_ns()
        today = trading_date(now_ns)
        due_ns = new_york_ns(today, time.hour, time.minute)
        return due_ns if due_ns > now_ns else new_york_ns(today + dt.timedelta(days=1), time.hour, time.minute)
