"""The topics of all clients of one cluster on one upstream hub: who wants what, and who is told what became of it.

The hub (`massive_lab.live.hub`) is acquired with the first topic and given back when there has been none for a while. Each
topic has one reader on it, however many clients want it; queueing until the upstream is authenticated, trying again,
polling and backfilling are the hub's. What it says of a topic is passed on to exactly the clients that asked for it.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from massive_lab.clock import Clock
from massive_lab.config import Settings
from massive_lab.decode.stream import Event
from massive_lab.errors import MassiveLabError, SubscriptionFailed
from massive_lab.gateway.fanout import Client, Fanout, HubSink
from massive_lab.gateway.frames import status
from massive_lab.live.gaps import Filler
from massive_lab.live.hub import Hub
from massive_lab.live.policy import Policy
from massive_lab.live.poll.polling import Poller
from massive_lab.live.readers import HubReader, Listener
from massive_lab.live.registry import Lease, acquire
from massive_lab.live.topics import Topic
from massive_lab.live.wire.feed import Connector
from massive_lab.telemetry import Event as Told
from massive_lab.telemetry import FeedStateChanged, Telemetry
from massive_lab.transports.websocket import connect
from massive_lab.typing import Cluster

__all__ = ["Subscriber", "Subscriptions", "Upstream"]

_TURN = 50
"""Topics opened or closed on the hub in one turn of the loop."""
_SLICE = 1_000
"""Events of the past handed on at a time."""
_PATIENCE = 100
"""Hundredths of a second that clients are given for them."""
_TEXTS = {
    "upstream_lost": "the connection to the market data is lost and is being opened again",
    "upstream_polling": "the market data are polled by REST until the connection is back",
    "upstream_evicted": "another process holds the connection to the market data",
    "upstream_refused": "the market data server refuses the connection",
    "upstream_restored": "the connection to the market data is back",
    "upstream_stale": "the market data are silent",
}


class Subscriber(Client, Protocol):
    """A client that subscribes."""

    topics: dict[str, int]
    is_closing: bool

    def tell(self, *messages: bytes) -> None:
        """Send control messages, behind all that was sent before."""
        ...


@dataclass(frozen=True, slots=True)
class Upstream:
    """What it takes to reach the vendor."""

    settings: Settings
    clock: Clock
    telemetry: Telemetry
    poller: Poller | None = None
    filler: Filler | None = None
    policy: Policy = field(default_factory=Policy)
    idle_s: float = 5.0
    """How long the hub is kept without any topic."""
    connector: Callable[[Cluster], Connector] | None = None
    """Where the hub of a cluster gets its socket; None: from the vendor."""
    retry_s: float = 60.0
    """How often an upstream that refused for good is tried again, while somebody wants it."""


@dataclass(slots=True, eq=False)
class _Held:
    """A topic on the hub."""

    topic: Topic
    reader: HubReader | None = None
    clients: dict[Subscriber, None] = field(default_factory=dict)
    waiting: dict[Subscriber, None] = field(default_factory=dict)
    """Of those, who has not been told that it is live."""


class Subscriptions(Listener):
    """The desk of one cluster.

    Attributes
    ----------
    fanout : Fanout
    state : str
        Of the upstream, as `Hub.state`; ``idle`` while there is none.
    """

    def __init__(self, cluster: Cluster, upstream: Upstream) -> None:
        self.cluster: Cluster = cluster
        self.fanout = Fanout()
        self._upstream = upstream
        self._held: dict[str, _Held] = {}
        # Topics that nobody wants any more and that the hub has not been told of: they may be many at once.
        self._loose: dict[str, _Held] = {}
        self._reaper: asyncio.Task[None] | None = None
        self._n_joining = 0
        self._late: deque[Event] = deque()
        self._trickling: asyncio.Task[None] | None = None
        self._lease: Lease | None = None
        self._sink: HubSink | None = None
        self._life = asyncio.Lock()
        self._idle: asyncio.Task[None] | None = None
        self._retry: asyncio.Task[None] | None = None
        self._is_closed = False
        self._outage_ns: int | None = None
        self._told = ""
        self._forget = upstream.telemetry.add(self._hear)

    @property
    def state(self) -> str:
        return self._lease.hub.state if self._lease else "idle"

    @property
    def hub(self) -> Hub | None:
        return self._lease.hub if self._lease else None

    @property
    def n_topics(self) -> int:
        """Distinct topics that clients want."""
        return len(self._held) - len(self._loose)

    # ---- clients

    async def subscribe(self, client: Subscriber, topics: Iterable[Topic]) -> None:
        """Topics for a client, from now on. Each is confirmed to it once the upstream brings it."""
        self._n_joining += 1
        try:
            async with self._life:
                if self._is_closed:
                    return
                if self._lease is None:
                    await self._open()
                assert self._lease is not None
                hub = self._lease.hub
            for number, topic in enumerate(topics, start=1):
                if number % _TURN == 0:
                    await asyncio.sleep(0)  # a long list must not hold up the market
                if not self._may_join(hub, client):
                    return
                self._join(hub, client, topic)
        finally:
            self._n_joining -= 1
            self._rest()
        if self._told:
            client.tell(status(self._told, _TEXTS[self._told]))

    def _may_join(self, hub: Hub, client: Subscriber) -> bool:
        """Whether both are still there; other things happen between two turns."""
        return self.hub is hub and not client.is_closing

    def _join(self, hub: Hub, client: Subscriber, topic: Topic) -> None:
        wire = topic.wire
        self._loose.pop(wire, None)
        held = self._held.get(wire)
        if held is None:
            held = self._held[wire] = _Held(topic)
        if client not in held.clients:
            held.clients[client] = None
            client.topics[wire] = hub.clock.now_ns()
            self.fanout.changed(client)
        held.waiting[client] = None
        if held.reader is None:
            assert self._sink is not None
            try:
                # May confirm at once.
                held.reader = hub.open(topic, [self._sink], self, name="gateway")
            except SubscriptionFailed as error:
                self.failed(topic, error)
        elif hub.is_confirmed(topic):
            self.confirmed(topic)

    def unsubscribe(self, client: Subscriber, wire: str) -> bool:
        """End a topic for a client; False when it did not have it."""
        if client.topics.pop(wire, None) is None:
            return False
        self.fanout.changed(client)
        self._part(client, wire)
        return True

    def leave(self, client: Subscriber) -> None:
        """End everything for a client."""
        self.fanout.leave(client)
        wires = list(client.topics)
        client.topics.clear()
        for wire in wires:
            self._part(client, wire)

    def _part(self, client: Subscriber, wire: str) -> None:
        held = self._held.get(wire)
        if held is None:
            return  # closed meanwhile
        held.clients.pop(client, None)
        held.waiting.pop(client, None)
        if not held.clients:
            self._loose[wire] = held
            if self._reaper is None and not self._is_closed:
                self._reaper = asyncio.get_running_loop().create_task(self._reap(), name=f"gateway {self.cluster} topics")

    async def _reap(self) -> None:
        """Tell the hub of topics that nobody wants any more, some in each turn."""
        try:
            while self._loose and self._lease is not None:
                for wire in list(itertools.islice(self._loose, _TURN)):
                    held = self._loose.pop(wire)
                    del self._held[wire]
                    if held.reader is not None:
                        self._lease.hub.close_reader(held.reader)
                await asyncio.sleep(0)
        finally:
            self._reaper = None
            self._rest()

    def _rest(self) -> None:
        """Nobody wants anything: the hub is kept for a while."""
        if not (self._held or self._n_joining or self._is_closed or self._idle) and self._lease is not None:
            self._idle = asyncio.get_running_loop().create_task(self._end_idle(), name=f"gateway {self.cluster} idle")

    # ---- what the hub says

    def confirmed(self, topic: Topic) -> None:
        held = self._held.get(topic.wire)
        if held is None:
            return
        waiting, held.waiting = held.waiting, {}
        message = status("success", f"subscribed to: {topic.wire}")
        for client in waiting:
            client.tell(message)

    def failed(self, topic: Topic, error: MassiveLabError) -> None:
        held = self._held.pop(topic.wire, None)
        if held is None:
            return
        self._loose.pop(topic.wire, None)
        reason = error.reason if isinstance(error, SubscriptionFailed) else "refused"
        message = status("subscription_failed", f"subscription failed: {topic.wire}: {reason[:200]}")
        for client in list(held.clients):
            client.topics.pop(topic.wire, None)
            self.fanout.changed(client)
            client.tell(message)

    def refused(self, error: MassiveLabError) -> None:  # noqa: ARG002  (the same for all)
        if self._retry is None and not self._is_closed:
            self._retry = asyncio.get_running_loop().create_task(self._try_again(), name=f"gateway {self.cluster} retry")

    def _hear(self, event: Told, /) -> None:
        if not isinstance(event, FeedStateChanged) or event.cluster != self.cluster or self._lease is None:
            return
        was_up = event.previous in ("live", "stale")
        told = self._told
        if event.state == "live":
            self._say("upstream_restored" if told else "", ends=True)
        elif event.state in ("polling", "evicted", "stale"):
            self._say(f"upstream_{event.state}")
        elif event.state == "closed":
            self._say("upstream_refused")
        elif was_up or (event.state == "down" and told):
            self._say("upstream_lost")
        if was_up and event.state not in ("live", "stale"):
            self._outage_ns = self._upstream.clock.now_ns()

    def _say(self, name: str, *, ends: bool = False) -> None:
        if not name or name == self._told:
            return
        self._told = "" if ends else name
        message = status(name, _TEXTS[name])
        clients = dict.fromkeys(client for held in self._held.values() for client in held.clients)
        for client in clients:
            client.tell(message)

    def _since_ms(self, wanted_ns: int) -> int | None:
        """From when on, by the exchange's clock, what was missed is due to a client."""
        if self._outage_ns is None or wanted_ns <= self._outage_ns or self._lease is None:
            return None
        return self._lease.hub.gaps.exchange_ms(wanted_ns) or 0

    def _missed(self, events: Sequence[Event]) -> None:
        self._late.extend(events)
        if len(self._late) <= _SLICE and self._trickling is None:
            self._hand_late()
        elif self._trickling is None:
            self._trickling = asyncio.get_running_loop().create_task(self._trickle(), name=f"gateway {self.cluster} late")

    def _hand_late(self) -> None:
        part = [self._late.popleft() for _ in range(min(_SLICE, len(self._late)))]
        self.fanout.publish_late(part, self._since_ms)

    async def _trickle(self) -> None:
        """A long outage of a busy market, some at a time: nobody is called slow for what came all at once."""
        try:
            while self._late:
                self._hand_late()
                for _ in range(_PATIENCE):
                    await self._upstream.clock.sleep(0.01)
                    if not self.fanout.is_behind:
                        break
        finally:
            self._trickling = None

    # ---- life

    async def _open(self) -> None:
        upstream = self._upstream
        lease = await acquire(
            upstream.settings, self.cluster, clock=upstream.clock, telemetry=upstream.telemetry,
            poller=upstream.poller, filler=upstream.filler, policy=upstream.policy,
            connector=upstream.connector(self.cluster) if upstream.connector else connect,
        )  # fmt: skip
        self._lease = lease
        self._told, self._outage_ns = "", None
        self._sink = HubSink(self.fanout, lambda: lease.hub.heard, self._missed)

    async def _end_idle(self) -> None:
        try:
            await self._upstream.clock.sleep(self._upstream.idle_s)
            async with self._life:
                if not self._held and not self._n_joining and self._lease is not None:
                    lease, self._lease, self._sink = self._lease, None, None
                    await lease.release()
        finally:
            self._idle = None

    async def _try_again(self) -> None:
        """What refused us for good may have been mended on the other side."""
        try:
            while self._lease is not None and self._lease.hub.final_error is not None:
                await self._upstream.clock.sleep(self._upstream.retry_s)
                if self._held:
                    await self._lease.hub.retry()
                    await self._upstream.clock.sleep(self._upstream.policy.open_s + self._upstream.policy.auth_s)
        finally:
            self._retry = None

    async def aclose(self) -> None:
        """Give the hub back. Clients are the caller's to close. Idempotent."""
        self._is_closed = True
        self._forget()
        tasks = [task for task in (self._idle, self._retry, self._reaper, self._trickling) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        async with self._life:
            lease, self._lease, self._sink = self._lease, None, None
            if lease is not None:
                await lease.release()
            self._held.clear()
            self._loose.clear()
