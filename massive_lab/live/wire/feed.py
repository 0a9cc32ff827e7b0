"""The shell around the socket of one cluster: it moves bytes, and does what `massive_lab.live.wire.machine` decides."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from massive_lab.clock import Clock
from massive_lab.config import Secret
from massive_lab.decode.stream import Status
from massive_lab.errors import ConnectionLost, NotEntitled, Timeout, TransportError, Unauthorized
from massive_lab.live.policy import Policy
from massive_lab.live.wire.handshake import Authenticated, Evicted, Handshake, Refused, SendAuth, eviction
from massive_lab.live.wire.machine import FeedMachine, Recovery
from massive_lab.transports.websocket import connect

__all__ = ["Connector", "Feed", "FeedOwner", "Socket", "within"]

T = TypeVar("T")


class Socket(Protocol):
    """An open connection; `massive_lab.transports.websocket.Connection` is one."""

    async def recv(self) -> bytes: ...
    async def send(self, text: str) -> None: ...
    async def close(self, code: int = 1000) -> None: ...


class Connector(Protocol):
    """Opens a connection, or raises a `TransportError`."""

    async def __call__(
        self, url: str, /, *, open_timeout_s: float, ping_interval_s: float | None, ping_timeout_s: float | None
    ) -> Socket: ...


class FeedOwner(Protocol):
    """What the shell hands up, always on the loop."""

    def frame(self, data: bytes) -> Sequence[Status]:
        """Take one frame whole; gives back the control messages in it."""
        ...

    def answer(self, status: Status) -> None:
        """An answer to a control message."""
        ...

    def sent_auth(self) -> None: ...
    def online(self, recovery: Recovery | None) -> None: ...
    def offline(self, error: TransportError) -> None: ...
    def evicted(self, error: TransportError) -> None: ...
    def over(self, error: TransportError) -> None: ...
    def changed(self) -> None:
        """The machine may have changes."""
        ...


async def within(clock: Clock, awaitable: Awaitable[T], until: float) -> T:
    """Await something up to an instant of the clock's `monotonic`; Timeout after that."""
    work = asyncio.ensure_future(awaitable)
    timer = asyncio.ensure_future(clock.sleep_until(until))
    try:
        await asyncio.wait({work, timer}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            return work.result()
        raise Timeout("Nothing came in time.")
    finally:
        work.cancel()
        timer.cancel()
        await asyncio.gather(work, timer, return_exceptions=True)


class _Final(Exception):
    """No further attempt can help."""

    def __init__(self, error: TransportError) -> None:
        super().__init__(str(error))
        self.error = error


class Feed:
    """Owns the socket of one cluster: reads at once, hands up, and comes back after every outage.

    Parameters
    ----------
    cluster : str
    url : str
        ``ws[s]://host/cluster``.
    key : Secret
    owner : FeedOwner
    clock : Clock
    policy : Policy
    jitter : callable
        A number in ``[0, 1)`` each time; seed it to repeat a schedule.
    connector : Connector
        Opens the socket.
    """

    def __init__(
        self,
        cluster: str,
        url: str,
        key: Secret,
        owner: FeedOwner,
        *,
        clock: Clock,
        policy: Policy,
        jitter: Callable[[], float],
        connector: Connector = connect,
    ) -> None:
        self._cluster = cluster
        self._url = url
        self._key = key
        self._owner = owner
        self._clock = clock
        self._policy = policy
        self._jitter = jitter
        self._connect = connector
        self._connection: Socket | None = None
        self.machine = FeedMachine(cluster, policy)

    async def run(self) -> None:
        """Attempts without end, or until the server says that there is no point."""
        while True:
            try:
                await self._attempt()
            except _Final as final:
                is_evicted = isinstance(final.error, Evicted)
                self.machine.step_down(self._clock.monotonic(), final.error.message, evicted=is_evicted)
                self._owner.offline(final.error)
                if not is_evicted:
                    self._end(final.error)
                    return
                self._owner.evicted(final.error)
            except TransportError as error:
                self.machine.lost(self._clock.monotonic(), error.message)
                self._owner.offline(error)
            self._owner.changed()
            delay_s = self.machine.retry_s(self._jitter())
            if delay_s is None:
                used_up = ConnectionLost(f"The {self._cluster} feed gave up after its last attempt.", hint="See live.retry().")
                self.machine.step_down(self._clock.monotonic(), used_up.message, evicted=False)
                self._end(used_up)
                return
            await self._clock.sleep(delay_s)

    def _end(self, error: TransportError) -> None:
        self._owner.over(error)
        self._owner.changed()

    @property
    def key(self) -> Secret:
        """What the next attempt authenticates with."""
        return self._key

    def use_key(self, key: Secret) -> None:
        """Authenticate with another key from the next attempt on."""
        self._key = key

    async def _attempt(self) -> None:
        self.machine.connecting()
        self._owner.changed()
        try:
            connection = await self._connect(
                self._url,
                open_timeout_s=self._policy.open_s,
                ping_interval_s=self._policy.ping_s,
                ping_timeout_s=self._policy.ping_timeout_s,
            )
        except (Unauthorized, NotEntitled) as refused:
            raise _Final(refused) from refused
        try:
            self.machine.opened()
            self._owner.changed()
            rest = await self._shake_hands(connection)
            self._connection = connection
            recovery = self.machine.authenticated(self._clock.monotonic())
            self._owner.online(recovery)
            self._owner.changed()
            self._take(rest)
            while True:
                data = await connection.recv()
                self.machine.last_frame = self._clock.monotonic()
                if self.machine.state == "stale":
                    self.machine.heard(self.machine.last_frame)
                    self._owner.changed()
                if statuses := self._owner.frame(data):
                    self._take(statuses)
        finally:
            self._connection = None
            await connection.close()

    async def _shake_hands(self, connection: Socket) -> Sequence[Status]:
        clock = self._clock
        machine = Handshake(
            self._cluster, self._key, clock.monotonic(), connected_s=self._policy.connected_s, auth_s=self._policy.auth_s
        )
        while True:
            try:
                data = await within(clock, connection.recv(), machine.deadline)
            except ConnectionLost:
                raise
            except Timeout:
                late = machine.tick(clock.monotonic())
                if late is None:
                    continue
                raise late.error from None
            statuses = self._owner.frame(data)
            for i, status in enumerate(statuses):
                action = machine.status(status.status, status.message, clock.monotonic())
                if isinstance(action, SendAuth):
                    await connection.send(action.text)
                    self._owner.sent_auth()
                elif isinstance(action, Authenticated):
                    return statuses[i + 1 :]
                elif isinstance(action, Refused):
                    if action.final:
                        raise _Final(action.error)
                    raise action.error

    def _take(self, statuses: Sequence[Status]) -> None:
        for status in statuses:
            if status.status == "max_connections":
                raise _Final(eviction(self._cluster))
            self._owner.answer(status)

    async def send(self, text: str) -> None:
        """Put a control message on the wire.

        Raises
        ------
        ConnectionLost
            When there is no connection; the book will ask again after the next handshake.
        """
        if self._connection is None:
            raise ConnectionLost(f"The {self._cluster} socket is not open.")
        await self._connection.send(text)

    async def drop(self) -> None:
        """End a mute connection; the reader sees the loss and starts over."""
        if self._connection is not None:
            await self._connection.close(1001)
