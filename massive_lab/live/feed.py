"""The life of one cluster's socket: a machine that decides, and a shell that moves bytes.

::

    idle -> connecting -> authenticating -> live <-> stale
                ^                            |        |
                +------ back-off ------------+--------+      any end nobody here asked for is an outage, code 1000 too
    polling: shown while the socket is down and REST stands in
    evicted: the server gave the cluster to another connection; not retried
    closed:  by us, or for good: key refused, plan without sockets, attempts used up
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from massive_lab.clock import Clock
from massive_lab.config import Secret
from massive_lab.decode.stream import Status
from massive_lab.errors import ConnectionLost, NotEntitled, Timeout, TransportError, Unauthorized
from massive_lab.live.handshake import Authenticated, Evicted, Handshake, Refused, SendAuth, eviction
from massive_lab.live.policy import Backoff, Policy
from massive_lab.transports.websocket import connect

__all__ = ["Change", "Connector", "Feed", "FeedMachine", "FeedOwner", "FeedState", "Recovery", "Socket", "within"]

T = TypeVar("T")
FeedState = Literal["idle", "connecting", "authenticating", "live", "stale", "polling", "evicted", "closed"]
_Phase = Literal["idle", "connecting", "authenticating", "live", "stale", "waiting", "evicted", "refused", "closed"]


@dataclass(frozen=True, slots=True)
class Change:
    """The state shown to users changed."""

    previous: FeedState
    state: FeedState
    reason: str


@dataclass(frozen=True, slots=True)
class Recovery:
    """An outage is over."""

    outage_s: float
    attempt: int


class FeedMachine:
    """Where a feed stands. All times are monotonic seconds given by the caller.

    Attributes
    ----------
    changes : list of Change
        What happened since the caller last emptied it.

    Examples
    --------
    >>> machine = FeedMachine("stocks", Policy())
    >>> machine.connecting(); machine.opened(); machine.authenticated(1.0)
    >>> machine.lost(20.0, "closed with code 1000"); machine.state, machine.poll_at
    ('connecting', 20.05)
    >>> machine.connecting(); machine.opened(); machine.authenticated(21.0)
    Recovery(outage_s=1.0, attempt=1)
    """

    def __init__(self, cluster: str, policy: Policy) -> None:
        self._policy = policy
        self._stale_s = policy.stale_s[cluster]
        self._backoff = Backoff(policy.backoff_base_s, policy.backoff_cap_s, policy.stable_s)
        self._phase: _Phase = "idle"
        self._is_polling = False
        self._attempt = 0
        self._live_since = 0.0
        self._lost_at: float | None = None
        self.last_frame = 0.0
        self.changes: list[Change] = []

    @property
    def state(self) -> FeedState:
        """What a user is shown."""
        if self._phase == "refused":
            return "polling" if self._is_polling else "closed"
        if self._phase in ("connecting", "authenticating", "waiting") and self._is_polling:
            return "polling"
        return "connecting" if self._phase == "waiting" else self._phase

    @property
    def is_live(self) -> bool:
        return self._phase in ("live", "stale")

    @property
    def is_over(self) -> bool:
        """No socket will be tried again."""
        return self._phase in ("evicted", "refused", "closed")

    def connecting(self) -> None:
        self._attempt += 1
        self._go("connecting", "opening the socket")

    def opened(self) -> None:
        self._go("authenticating", "the socket is open")

    def authenticated(self, now: float) -> Recovery | None:
        """The handshake is done; says what outage this ends, if any."""
        recovery = None if self._lost_at is None else Recovery(now - self._lost_at, self._attempt)
        self._attempt = 0
        self._live_since = self.last_frame = now
        self._lost_at = None
        self._go("live", "authenticated", polling=False)
        return recovery

    def heard(self, now: float) -> None:
        """A frame came while stale."""
        self.last_frame = now
        if self._phase == "stale":
            self._lost_at = None
            self._go("live", "data again", polling=False)

    def lost(self, now: float, reason: str) -> None:
        """The socket ended or could not be opened, and nobody here asked for that."""
        if self.is_live:
            self._backoff.lived(now - self._live_since)
        if self._lost_at is None:
            self._lost_at = now
        self._go("waiting", reason)

    def retry_s(self, jitter: float) -> float | None:
        """Seconds to the next attempt; None when the attempts of this outage are used up."""
        limit = self._policy.max_attempts
        if limit is not None and self._attempt >= limit:
            return None
        return self._backoff.next_s(jitter)

    def step_down(self, now: float, reason: str, *, evicted: bool) -> None:
        """The server will not have us: no further attempt."""
        if self._lost_at is None:
            self._lost_at = now
        self._go("evicted" if evicted else "refused", reason)

    def close(self) -> None:
        self._lost_at = None
        self._go("closed", "closed by the client", polling=False)

    @property
    def poll_at(self) -> float | None:
        """When polling is due to stand in; None while the socket serves or polling runs."""
        if self._lost_at is None or self._is_polling or self._phase == "closed":
            return None
        return self._lost_at + self._policy.grace_s

    def polling(self, now: float) -> float:
        """The first poll goes out; seconds since the loss."""
        self._go(self._phase, "REST stands in", polling=True)
        return now - (now if self._lost_at is None else self._lost_at)

    @property
    def silence_at(self) -> float | None:
        """When silence will mean something; None while there is no socket."""
        if self._phase == "live":
            return self.last_frame + self._stale_s
        if self._phase == "stale":
            return self.last_frame + self._stale_s * self._policy.stale_drop_factor
        return None

    def silent(self, now: float) -> bool:
        """The time of `silence_at` has come with data expected: True when the socket should be dropped."""
        if self._phase == "live":
            self._lost_at = now
            self._go("stale", f"nothing received for {now - self.last_frame:.0f} s")
            return False
        return self._phase == "stale"

    def _go(self, phase: _Phase, reason: str, *, polling: bool | None = None) -> None:
        previous = self.state
        self._phase = phase
        if polling is not None:
            self._is_polling = polling
        if self.state != previous:
            self.changes.append(Change(previous, self.state, reason))


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
                self._down(final.error)
                return
            except TransportError as error:
                self.machine.lost(self._clock.monotonic(), error.message)
                self._owner.offline(error)
            self._owner.changed()
            delay_s = self.machine.retry_s(self._jitter())
            if delay_s is None:
                self._down(ConnectionLost(f"The {self._cluster} feed gave up after its last attempt."))
                return
            await self._clock.sleep(delay_s)

    def _down(self, error: TransportError) -> None:
        self.machine.step_down(self._clock.monotonic(), error.message, evicted=isinstance(error, Evicted))
        self._owner.offline(error)
        self._owner.over(error)
        self._owner.changed()

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
