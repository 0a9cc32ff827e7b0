"""A replica of one cluster: opens sockets that the bus feeds, runs for the lease, and leads when it has it.

`Replica` is a `massive_lab.live.wire.feed.Connector`, so that the hub of a replica is the hub of one process::

    bus = Bus("nats://127.0.0.1:4222")
    replica = Replica(bus, settings, "stocks", clock=clock)
    hub = Hub("stocks", url, settings.api_key, clock=clock, connector=replica)
    ...
    await hub.aclose(); await replica.aclose(); await bus.aclose()
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from massive_lab.clock import Clock
from massive_lab.config import Secret, Settings
from massive_lab.errors import ConnectionLost, NotEntitled, Timeout, Unauthorized
from massive_lab.gateway.bus.elector import Elector, Ending
from massive_lab.gateway.bus.fence import Fence
from massive_lab.gateway.bus.leader import Leader
from massive_lab.gateway.bus.lease import Lease
from massive_lab.gateway.bus.messages import (
    BusDown,
    Heads,
    Interest,
    Malformed,
    State,
    Subjects,
    Told,
    chunks,
    decode,
    encode,
)
from massive_lab.gateway.bus.nats import Bus, Handler, Unsubscribe, heed_cancellation
from massive_lab.gateway.bus.policy import BusPolicy
from massive_lab.gateway.bus.socket import BusSocket
from massive_lab.live.hub import Hub
from massive_lab.live.policy import Policy
from massive_lab.live.tasks import Tasks
from massive_lab.live.topics import Topic
from massive_lab.live.wire.feed import within
from massive_lab.typing import Cluster

__all__ = ["Replica"]

_log = logging.getLogger("massive_lab.gateway.bus")
_KEPT = 100
_EXCERPT = 200


class Replica:
    """One cluster of one process on the bus. Everything runs on the loop that first opens a socket.

    Parameters
    ----------
    bus : Bus
    settings : Settings
        Key and address of the upstream. The key does not leave the process but towards that address.
    cluster : {"stocks", "options", "indices"}
    clock : Clock
    policy : Policy, optional
        Of the upstream's hub.
    bus_policy : BusPolicy, optional
        The same in all replicas.
    make_hub : callable, optional
        Makes the hub of the upstream for each term; default: one of `settings`, without polling and stitching.

    Attributes
    ----------
    counts : Counter
        Of messages by verdict (``take``, ``seen``, ``old``, ``newer``, ``hole``), ``malformed`` ones, and sockets ``ended``.
    aside : deque of (reason, excerpt)
        The last 100 messages that could not be read.
    """

    def __init__(
        self,
        bus: Bus,
        settings: Settings,
        cluster: Cluster,
        *,
        clock: Clock,
        policy: Policy | None = None,
        bus_policy: BusPolicy | None = None,
        make_hub: Callable[[], Hub] | None = None,
    ) -> None:
        self.cluster: Cluster = cluster
        self.bus_policy = bus_policy or BusPolicy()
        self.fence = Fence()
        self.counts: Counter[str] = Counter()
        self.aside: deque[tuple[str, str]] = deque(maxlen=_KEPT)
        self.leader: Leader | None = None
        self.state: State | None = None
        self._bus = bus
        self._ws_url = settings.ws_url
        self._clock = clock
        self._subjects = Subjects(settings.ws_url, settings.api_key, cluster)
        self._make_hub = make_hub or (
            lambda: Hub(
                cluster, f"{settings.ws_url}/{cluster}", settings.api_key, clock=clock, policy=policy,
                is_synthetic=settings.sandbox,
            )
        )  # fmt: skip
        lease_s = self.bus_policy.lease_s
        self._lease = Lease(bus.name, lease_s, self.bus_policy.skew)
        self.elector = Elector(bus, self._subjects.lease, self._lease, lease_s, clock, self._lead)
        self._socket: BusSocket | None = None
        self._n_asking = 0
        self._wanted_at = 0.0
        self._heard_at = 0.0
        self._version = 0
        self._is_stale = True
        self._beat = asyncio.Event()
        self._changed = asyncio.Event()
        self._starting = asyncio.Lock()
        self._tasks = Tasks(f"massive_lab {cluster} bus", self._failed)
        self._n_opened = 0
        self._end_leader: Unsubscribe | None = None
        self._end_break: Callable[[], None] | None = None

    # ---- the connector

    async def __call__(
        self,
        url: str,  # noqa: ARG002  the address is the upstream's, and the leader's business
        /,
        *,
        open_timeout_s: float,
        ping_interval_s: float | None,  # noqa: ARG002
        ping_timeout_s: float | None,  # noqa: ARG002
    ) -> BusSocket:
        """A socket, once a leader has the upstream.

        Raises
        ------
        ConnectionLost
            The bus is down, or no leader has an upstream in time.
        Unauthorized, NotEntitled
            The vendor has refused the key.
        """
        until = self._clock.monotonic() + open_timeout_s
        self._n_asking += 1
        try:
            await self._start()
            heed_cancellation()
            self.elector.want(True)
            self._beat.set()
            while True:
                state = self._fresh_state()
                if state is not None and state.state == "live":
                    break
                if state is not None and state.state == "refused":
                    self.state = None
                    raise self._refusal(state.why)
                self._changed.clear()
                try:
                    await within(self._clock, self._changed.wait(), until)
                except Timeout:
                    raise ConnectionLost(f"No replica has the {self.cluster} upstream.") from None
        finally:
            self._n_asking -= 1
            self._wanted_at = self._clock.monotonic()
        if self._socket is not None:
            self._socket.end("another socket was opened")
        self.fence.restart()
        self._socket = BusSocket(self, self.bus_policy.queue_bytes)
        return self._socket

    def _refusal(self, why: str) -> Unauthorized | NotEntitled:
        if why == "plan":
            return NotEntitled(
                f"The plan does not include the {self.cluster} WebSocket.", hint="The key itself is good; see the plan."
            )
        return Unauthorized(f"The {self.cluster} server refused the key.", hint="Check MASSIVE_API_KEY.")

    def _fresh_state(self) -> State | None:
        silent_s = self._clock.monotonic() - self._heard_at
        return self.state if silent_s < self.bus_policy.lease_s else None

    async def _start(self) -> None:
        async with self._starting:
            await self._bus.open()
            if self._end_break is None:
                self._end_break = self._bus.on_break(self._broken)
            if self._n_opened != self._bus.n_opened:
                self._end_leader = await self._bus.subscribe(self._subjects.leader, self._from_leader)
                self._n_opened = self._bus.n_opened
            self._tasks.start("beat", self._breathe)
            self._tasks.start("elector", self.elector.run)

    def _failed(self, name: str, error: BaseException) -> None:
        # A fault, and logged. The hub comes back, and starts the task again.
        if self._socket is not None:
            self._socket.end(f"{name} failed: {type(error).__name__}")

    async def aclose(self) -> None:
        """Leave the bus: the lease is given back, and the others need not wait. Idempotent."""
        await self._tasks.aclose()
        if self._socket is not None:
            await self._socket.close()
        if self._end_leader is not None:
            try:
                await self._announce(is_leaving=True)
                await self._bus.flush()
            except BusDown:
                _log.debug("bus: left without a word")
        if self._end_leader is not None:
            await self._end_leader()
            self._end_leader = None
        if self._end_break is not None:
            self._end_break()
            self._end_break = None

    # ---- leading

    async def _lead(self, epoch: int) -> Ending:
        def may_speak() -> bool:
            term = self._lease.term
            return term is not None and term.epoch == epoch and self._lease.is_leader(self._clock.monotonic())

        self.leader = leader = Leader(
            self._bus, self._subjects, epoch, self._make_hub(), clock=self._clock, policy=self.bus_policy,
            may_speak=may_speak, set_aside=self.set_aside,
        )  # fmt: skip
        try:
            return await leader.run()
        finally:
            self.leader = None

    @property
    def is_leader(self) -> bool:
        return self.leader is not None

    # ---- what comes from the bus

    def _broken(self, why: str, whole: bool) -> None:
        if self._socket is not None:
            self._socket.end(why)
        if whole:
            self.state = None
            self.elector.broken()
        self._is_stale = True

    def _from_leader(self, data: bytes) -> None:
        try:
            message = decode(data)
            if not isinstance(message, State | Told | Heads):
                raise Malformed("no message of a leader")
        except Malformed as error:
            self.set_aside(data, str(error))
            return
        verdict = self.fence.hear(message.epoch)
        if verdict == "old":
            self.counts["old"] += 1
            return
        if verdict == "newer":
            self.counts["newer"] += 1
            self.newer()
        self._heard_at = self._clock.monotonic()
        if isinstance(message, State):
            self._take_state(message)
        elif self._socket is not None and isinstance(message, Told):
            self._socket.told(message)
        elif self._socket is not None and isinstance(message, Heads) and (lost := self.fence.late(message.heads)):
            self.counts["hole"] += 1
            self._socket.end(f"messages of {lost[0]} are missing")

    def _take_state(self, state: State) -> None:
        self.state = state
        if state.state != "live" and self._socket is not None:
            self._socket.end(f"the upstream is {state.state}")
        if state.state == "over":
            self._lease_is_free_soon()
        if self._bus.name in state.lacks:
            self._is_stale = True
            self._beat.set()
        self._changed.set()

    def _lease_is_free_soon(self) -> None:
        # Whoever gives the lease back says so just before: look at once, not at the next quarter of it.
        self._lease.hint(self._clock.monotonic() + self.bus_policy.lease_s / 50)
        self.elector.kick()

    def newer(self) -> None:
        """Another leader spoke: it has to be asked for everything."""
        if self._socket is not None:
            self._socket.end("another replica leads")
        self.state = None
        self._is_stale = True
        self._beat.set()

    def set_aside(self, data: bytes, why: str) -> None:
        """Count a message that cannot be read, and keep its beginning."""
        self.counts["malformed"] += 1
        self.aside.append((why, data[:_EXCERPT].decode("utf-8", "replace")))

    # ---- what the socket asks

    async def subscribe(self, topic: Topic, handler: Handler) -> Unsubscribe:
        return await self._bus.subscribe(self._subjects.events(topic), handler)

    def is_key(self, key: Secret) -> bool:
        return Subjects(self._ws_url, key, self.cluster).base == self._subjects.base

    def interest_changed(self) -> None:
        self._version += 1
        self._is_stale = True
        self._beat.set()

    def ended(self, socket: BusSocket) -> None:
        if self._socket is socket:
            self._socket = None
            self._wanted_at = self._clock.monotonic()

    # ---- the beat

    async def _breathe(self) -> None:
        clock, policy = self._clock, self.bus_policy
        beat_at = clock.monotonic()
        while True:
            heed_cancellation()
            self._beat.clear()
            now = clock.monotonic()
            if self._socket is not None and now - self._heard_at >= policy.lease_s:
                self._socket.end("the leader says nothing")
            if self._socket is not None or self._n_asking:
                self._wanted_at = now
            wants = now - self._wanted_at < policy.idle_s
            if wants != self._lease.wants:
                self.elector.want(wants)
                self._is_stale = wants
                await self._try_announce(is_leaving=not wants)
            elif wants and (self._is_stale or now >= beat_at):
                await self._try_announce()
            if now >= beat_at:
                beat_at = now + policy.beat_s
            try:
                await within(clock, self._beat.wait(), beat_at)
            except Timeout:
                continue

    async def _try_announce(self, *, is_leaving: bool = False) -> None:
        try:
            await self._announce(is_leaving=is_leaving)
        except BusDown:
            self._is_stale = True

    async def _announce(self, *, is_leaving: bool = False) -> None:
        name, version, is_full = self._bus.name, self._version, self._is_stale and not is_leaving
        if not is_full:
            await self._say(Interest(name, version, is_leaving=is_leaving))
            return
        self._is_stale = False
        topics = list(self._socket.topics) if self._socket is not None else []
        parts = list(chunks(topics)) or [[]]
        for i, part in enumerate(parts):
            await self._say(Interest(name, version, i, len(parts), part))

    async def _say(self, message: Interest) -> None:
        await self._bus.publish(self._subjects.interest, encode(message))

    # ---- what is known

    def status(self) -> dict[str, Any]:
        """For health checks and metrics: no name of a topic, no key, no address."""
        state = self._fresh_state()
        return {
            "cluster": self.cluster,
            "bus": self._bus.is_up,
            "is_leader": self.is_leader,
            "epoch": self.fence.epoch,
            "upstream": state.state if state else "unknown",
            "terms": self.elector.n_terms,
            "replicas": len(self.leader.interests.replicas) if self.leader else None,
            **{name: self.counts[name] for name in ("take", "seen", "old", "newer", "hole", "malformed", "ended")},
        }
