"""What the hub of a replica takes for its connection to the vendor: the control protocol on this side, the bus on the other.

The key ends here: it is compared with the one that the bus was set up with, and goes nowhere.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter, deque
from typing import Protocol

from massive_lab.config import Secret
from massive_lab.errors import ConnectionLost, MassiveLabError
from massive_lab.gateway.bus.fence import Fence
from massive_lab.gateway.bus.messages import Events, Malformed, Told, decode, events_of
from massive_lab.gateway.bus.nats import Handler, Unsubscribe
from massive_lab.gateway.frames import array, status
from massive_lab.live.topics import Topic
from massive_lab.typing import Cluster

__all__ = ["BusSocket", "SocketOwner"]

_FRAME = 256 * 1024


class SocketOwner(Protocol):
    """The replica, as its socket sees it."""

    cluster: Cluster
    fence: Fence
    counts: Counter[str]

    async def subscribe(self, topic: Topic, handler: Handler) -> Unsubscribe: ...
    def is_key(self, key: Secret) -> bool: ...
    def interest_changed(self) -> None: ...
    def set_aside(self, data: bytes, why: str) -> None: ...
    def newer(self) -> None:
        """Another leader spoke."""
        ...

    def ended(self, socket: BusSocket) -> None: ...


class BusSocket:
    """A `massive_lab.live.wire.feed.Socket` that is fed by the bus. It ends with whatever may have cost a message.

    Parameters
    ----------
    owner : SocketOwner
    queue_bytes : int
        What may wait to be read.
    """

    def __init__(self, owner: SocketOwner, queue_bytes: int) -> None:
        self._owner = owner
        self._most = queue_bytes
        self._waiting: deque[tuple[bool, bytes]] = deque()
        self._size = 0
        self._news = asyncio.Event()
        self._error: ConnectionLost | None = None
        self._asked: dict[str, None] = {}
        self.topics: dict[str, Unsubscribe] = {}
        self._put(status("connected", "Connected Successfully"), is_event=False)

    # ---- towards the hub

    async def recv(self) -> bytes:
        """The next frame: what waits, up to a bound, in the order it came.

        Raises
        ------
        ConnectionLost
            Once messages may have been lost. What came before is handed out first.
        """
        while not self._waiting:
            if self._error is not None:
                raise self._error
            self._news.clear()
            await self._news.wait()
        is_event, item = self._waiting.popleft()
        items, size = [item], len(item)
        # The hub answers a control message before it takes the next, so each of those is a frame.
        while is_event and size < _FRAME and self._waiting and self._waiting[0][0]:
            item = self._waiting.popleft()[1]
            items.append(item)
            size += len(item)
        self._size -= size
        return array(items)

    async def send(self, text: str) -> None:
        """A control message of the hub.

        Raises
        ------
        ConnectionLost
        """
        if self._error is not None:
            raise self._error
        message = json.loads(text)
        action, params = message["action"], message["params"]
        if action == "auth":
            if self._owner.is_key(Secret(params)):
                self._put(status("auth_success", "authenticated"), is_event=False)
            else:
                self._put(status("auth_failed", "the replicas serve another key"), is_event=False)
        elif action == "subscribe":
            await self._subscribe([wire.strip() for wire in params.split(",")])
        elif action == "unsubscribe":
            for wire in params.split(","):
                await self._leave(wire.strip())
                self._put(status("success", f"unsubscribed to: {wire.strip()}"), is_event=False)
            self._owner.interest_changed()

    async def close(self, code: int = 1000) -> None:  # noqa: ARG002  there is nobody to tell it
        """Leave every topic. Idempotent."""
        self.end("closed by this side")
        self._owner.ended(self)
        while self.topics:
            await self._leave(next(iter(self.topics)))
        self._owner.interest_changed()

    async def _subscribe(self, wires: list[str]) -> None:
        for wire in wires:
            if wire in self.topics:
                continue
            try:
                topic = Topic.parse(self._owner.cluster, wire)
            except MassiveLabError as error:
                self._put(status("error", error.message), is_event=False)
                continue
            self._asked[wire] = None
            # First the events are heard, then they are asked for.
            self.topics[wire] = await self._owner.subscribe(topic, self._events)
        self._owner.interest_changed()

    async def _leave(self, wire: str) -> None:
        self._asked.pop(wire, None)
        end = self.topics.pop(wire, None)
        if end is None:
            return
        channel, _, symbol = wire.partition(".")
        if f"{channel}.*" not in self.topics:
            self._owner.fence.forget(channel, symbol)
        await end()

    # ---- from the bus

    def end(self, why: str) -> None:
        """Messages may have been lost: the hub will ask for everything again, and the stitch fills in. Idempotent."""
        if self._error is None:
            self._error = ConnectionLost(f"The {self._owner.cluster} feed of the bus ended: {why}.")
            self._owner.counts["ended"] += 1
            self._news.set()

    @property
    def is_open(self) -> bool:
        return self._error is None

    def told(self, message: Told) -> None:
        """The leader tells what became of topics."""
        for wire in message.confirmed:
            if wire in self._asked:
                del self._asked[wire]
                self._put(status("success", f"subscribed to: {wire}"), is_event=False)
        for wire, reason in message.denied.items():
            if wire in self._asked:
                del self._asked[wire]
                self._put(status("error", reason), is_event=False)
                asyncio.ensure_future(self._denied(wire))  # noqa: RUF006  ends by itself, and nothing depends on it
            elif wire in self.topics:
                self.end(f"{wire} is no longer served")

    async def _denied(self, wire: str) -> None:
        await self._leave(wire)
        self._owner.interest_changed()

    def _events(self, data: bytes) -> None:
        owner = self._owner
        if self._error is not None:
            return
        try:
            message = decode(data)
            if not isinstance(message, Events):
                raise Malformed("no events")
            payload = events_of(message)
        except Malformed as error:
            owner.set_aside(data, str(error))
            return
        if message.wire not in self.topics and f"{message.wire.partition('.')[0]}.*" not in self.topics:
            return
        verdict = owner.fence.take(message.wire, message.epoch, message.sequence)
        owner.counts[verdict] += 1
        if verdict == "newer":
            owner.newer()
        elif verdict == "hole":
            self.end(f"messages of {message.wire} are missing")
        elif verdict == "take" and payload:
            self._put(payload, is_event=True)

    def _put(self, item: bytes, *, is_event: bool) -> None:
        if self._error is not None:
            return
        self._waiting.append((is_event, item))
        self._size += len(item)
        self._news.set()
        if self._size > self._most:
            self.end("this replica is too slow for it")
