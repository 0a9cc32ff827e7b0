"""The connection to NATS: publish, subscribe, and the store of leases in JetStream. The only home of the NATS library.

Nothing is kept for later: while there is no connection, whoever publishes is told so, and whoever subscribes is told that
messages may have been lost as soon as the connection ends, a subscription falls behind, or the connection is back.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error, SlowConsumerError
from nats.js.api import KeyValueConfig, StorageType
from nats.js.errors import BucketNotFoundError, KeyNotFoundError, KeyWrongLastSequenceError, NotFoundError
from nats.js.kv import KeyValue

from massive_lab.config import Secret
from massive_lab.errors import ConfigError
from massive_lab.gateway.bus.messages import BusDown

__all__ = ["Bus", "Conflict", "Handler", "Unsubscribe", "heed_cancellation"]

_log = logging.getLogger("massive_lab.gateway.bus")
_FAULTS = (Error, OSError, asyncio.TimeoutError, EOFError)
_PENDING_BYTES = 16 * 2**20
_PENDING_MESSAGES = 65_536
_BUCKET = "massive_leases"
# An epoch is the second in which the store was made, and the revision: room for a decade of renewals, within 62 bits.
_SHIFT = 30

Handler = Callable[[bytes], None]
Unsubscribe = Callable[[], Awaitable[None]]


class Conflict(Exception):
    """The record has another revision than was expected."""


def heed_cancellation() -> None:
    """Raise when the running task was cancelled, and whoever it waited for has dropped that.

    The library does so in places, and up to Python 3.11 `asyncio.wait_for`, of which it is full, whenever an answer and the
    cancellation come together. A task that works in a loop asks at its head, or it might never end.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


class Bus:
    """One connection of a process, shared by its clusters.

    Parameters
    ----------
    url : str
        ``nats://[user:password@]host:port`` or ``tls://...``; a comma parts several servers of one cluster. It may hold a
        password, and is never told.
    timeout_s : float
        For opening, and for each answer of the store.
    replicas : int
        Copies of the store; one for a single server, three for a cluster.

    Attributes
    ----------
    name : str
        Of this process on the bus, drawn anew in each life.
    n_slow : int
        How often a subscription fell behind.
    n_opened : int
        Connections opened so far. One that the server has refused for good is replaced, and with it all subscriptions.
    """

    def __init__(self, url: str, *, timeout_s: float = 1.0, replicas: int = 1) -> None:
        servers = [part.strip() for part in url.split(",")]
        if not all(server.startswith(("nats://", "tls://")) for server in servers):
            raise ConfigError("The bus is not an address of NATS.", hint="Give nats://host:4222; several with commas.")
        self._servers = Secret(",".join(servers))
        self._timeout_s = timeout_s
        self._copies = replicas
        self.name = secrets.token_hex(8)
        self.n_opened = 0
        self.n_slow = 0
        self._client: Client | None = None
        self._kv: KeyValue | None = None
        self._born = 0
        self._opening = asyncio.Lock()
        self._breaks: list[Callable[[str, bool], None]] = []

    @property
    def is_up(self) -> bool:
        """Whether there is a connection now."""
        return self._client is not None and self._client.is_connected

    def on_break(self, told: Callable[[str, bool], None]) -> Callable[[], None]:
        """Be told why messages may have been lost, and whether the whole connection is concerned; returns what ends that."""
        self._breaks.append(told)
        return lambda: self._breaks.remove(told)

    async def open(self) -> None:
        """Connect, if that has not been done. The connection then comes back by itself.

        Raises
        ------
        BusDown
            When nobody answers in time.
        """
        async with self._opening:
            if self._client is not None and not self._client.is_closed:
                return
            self._client = self._kv = None
            client = Client()
            try:
                await asyncio.wait_for(
                    client.connect(
                        self._servers.reveal().split(","),
                        name=f"massive-lab {self.name}",
                        error_cb=self._error,
                        disconnected_cb=self._disconnected,
                        reconnected_cb=self._reconnected,
                        allow_reconnect=True,
                        max_reconnect_attempts=-1,
                        reconnect_time_wait=0.1,  # type: ignore[arg-type] # it only sleeps for it
                        connect_timeout=max(1, round(self._timeout_s)),
                        ping_interval=2,
                        max_outstanding_pings=2,
                    ),
                    self._timeout_s,
                )
            except _FAULTS as error:
                await self._discard(client)
                raise BusDown(f"The bus does not answer: {type(error).__name__}.") from error
            except asyncio.CancelledError:
                await self._discard(client)
                raise
            self._client = client
            self.n_opened += 1

    async def _discard(self, client: Client) -> None:
        try:
            await asyncio.wait_for(client.close(), self._timeout_s)
        except _FAULTS as error:
            _log.debug("a connection that was not opened could not be closed: %s", type(error).__name__)

    async def aclose(self) -> None:
        """Close the connection. Idempotent."""
        client, self._client, self._kv = self._client, None, None
        self._breaks.clear()
        if client is not None:
            await self._discard(client)

    # ---- what the library tells

    async def _error(self, error: Exception) -> None:
        if isinstance(error, SlowConsumerError):
            self.n_slow += 1
            self._broken("a subscription fell behind", whole=False)
        elif isinstance(error, _FAULTS):
            # The text of the library's errors may have the address, and with it a password.
            _log.debug("the bus reports %s", type(error).__name__)
        else:
            _log.error("bus: a message could not be taken", exc_info=error)
            self._broken("a message could not be taken", whole=False)

    async def _disconnected(self) -> None:
        self._kv = None
        self._broken("the connection to the bus ended")

    async def _reconnected(self) -> None:
        self._kv = None
        self._broken("the connection to the bus was opened again")

    def _broken(self, why: str, *, whole: bool = True) -> None:
        _log.info("bus: %s", why)
        for told in list(self._breaks):
            told(why, whole)

    # ---- messages

    def _connected(self) -> Client:
        if self._client is None or not self._client.is_connected:
            raise BusDown("There is no connection to the bus.")
        return self._client

    async def publish(self, subject: str, data: bytes) -> None:
        """Send to all who subscribe.

        Raises
        ------
        BusDown
        """
        client = self._connected()
        try:
            await client.publish(subject, data)
        except _FAULTS as error:
            raise BusDown(f"The bus did not take a message: {type(error).__name__}.") from error

    async def flush(self) -> None:
        """Wait until the server has what was published and subscribed.

        Raises
        ------
        BusDown
        """
        client = self._connected()
        try:
            await client.flush(timeout=max(1, round(self._timeout_s)))
        except _FAULTS as error:
            raise BusDown(f"The bus does not answer: {type(error).__name__}.") from error

    async def subscribe(self, subject: str, handler: Handler) -> Unsubscribe:
        """Hear a subject, also after the connection was lost and found again; returns what ends that.

        Raises
        ------
        BusDown
        """
        client = self._connected()

        async def heard(message: Msg) -> None:
            handler(message.data)

        try:
            subscription = await client.subscribe(
                subject, cb=heard, pending_bytes_limit=_PENDING_BYTES, pending_msgs_limit=_PENDING_MESSAGES
            )
        except _FAULTS as error:
            raise BusDown(f"The bus did not take a subscription: {type(error).__name__}.") from error

        async def end() -> None:
            await self._end(subscription)

        return end

    async def _end(self, subscription: Subscription) -> None:
        try:
            await subscription.unsubscribe()
        except _FAULTS as error:
            _log.debug("a subscription could not be ended: %s", type(error).__name__)

    # ---- the store

    async def _store(self) -> KeyValue:
        if self._kv is None:
            js = self._connected().jetstream(timeout=self._timeout_s)
            try:
                kv = await js.key_value(_BUCKET)
            except (BucketNotFoundError, NotFoundError):
                config = KeyValueConfig(
                    bucket=_BUCKET, history=1, storage=StorageType.FILE, replicas=self._copies, max_value_size=4_096
                )
                kv = await js.create_key_value(config)
            status = await kv.status()
            created = status.stream_info.created
            # A bus that has lost its store counts revisions from 1 again: epochs must not.
            self._born = int(created.timestamp()) if created is not None else 0
            self._kv = kv
        return self._kv

    async def read(self, name: str) -> tuple[bytes, int] | None:
        """A record and its revision; None when there is none.

        Raises
        ------
        BusDown
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                entry = await (await self._store()).get(name)
        except KeyNotFoundError:
            return None
        except _FAULTS as error:
            self._kv = None
            raise BusDown(f"The store of leases does not answer: {type(error).__name__}.") from error
        return entry.value or b"", self._epoch(entry.revision)

    async def write(self, name: str, data: bytes, last: int) -> int:
        """Write a record if its revision is still `last` (0: there is none); gives the new revision.

        Raises
        ------
        Conflict
            It is another.
        BusDown
            Nobody knows whether it was done.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                kv = await self._store()
                if last and last >> _SHIFT != self._born:
                    raise Conflict("the store is another one")
                revision = await (kv.update(name, data, last & (1 << _SHIFT) - 1) if last else kv.create(name, data))
        except KeyWrongLastSequenceError as error:
            raise Conflict("another revision") from error
        except _FAULTS as error:
            self._kv = None
            raise BusDown(f"The store of leases does not answer: {type(error).__name__}.") from error
        return self._epoch(revision)

    def _epoch(self, revision: int | None) -> int:
        return self._born << _SHIFT | (revision or 0)
