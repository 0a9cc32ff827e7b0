"""One term of a leader: holds the upstream by a hub of its own, subscribes the union of what replicas read, publishes it.

No message leaves after the lease has run out by this machine's clock, whatever else has stopped by then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from massive_lab.clock import Clock
from massive_lab.decode.stream import Event
from massive_lab.errors import MassiveLabError, NotEntitled, Timeout, TransportError, Unauthorized
from massive_lab.gateway.bus.elector import Ending
from massive_lab.gateway.bus.interest import Interests
from massive_lab.gateway.bus.messages import (
    MAX_BYTES,
    BusDown,
    Events,
    Heads,
    Interest,
    Malformed,
    Message,
    State,
    Subjects,
    Told,
    chunks,
    decode,
    encode,
    pack,
)
from massive_lab.gateway.bus.nats import Bus, heed_cancellation
from massive_lab.gateway.bus.policy import BusPolicy
from massive_lab.gateway.frames import encode_event
from massive_lab.live.hub import Hub
from massive_lab.live.readers import HubReader, Listener
from massive_lab.live.routes import EVENT_TYPES
from massive_lab.live.topics import Topic
from massive_lab.live.wire.feed import within
from massive_lab.live.wire.handshake import Evicted
from massive_lab.telemetry import Event as Happening
from massive_lab.telemetry import FeedStateChanged, Telemetry

__all__ = ["Leader"]

_CHANNEL_OF = {kind: channel for channel, kind in EVENT_TYPES.items()}
_BREATH = 64
_DENIED_CHUNK = 500


class _Outlet:
    """The one sink of all topics."""

    def __init__(self, take: Callable[[list[Event]], None]) -> None:
        self.inbox: list[Event] = []
        self._take = take

    def flush(self) -> int:
        self._take(self.inbox)
        self.inbox.clear()
        return 0


class Leader(Listener):
    """Leads one epoch.

    Parameters
    ----------
    bus : Bus
    subjects : Subjects
    epoch : int
    hub : Hub
        Of the upstream; closed at the end.
    clock : Clock
    policy : BusPolicy
    may_speak : callable
        Whether the lease of this epoch still runs.
    set_aside : callable
        Told of each message that could not be read.

    Attributes
    ----------
    hub : Hub
    interests : Interests
        Who reads what.
    """

    def __init__(
        self,
        bus: Bus,
        subjects: Subjects,
        epoch: int,
        hub: Hub,
        *,
        clock: Clock,
        policy: BusPolicy,
        may_speak: Callable[[], bool],
        set_aside: Callable[[bytes, str], None],
    ) -> None:
        self._bus = bus
        self._subjects = subjects
        self._epoch = epoch
        self.hub = hub
        self._clock = clock
        self._policy = policy
        self._may_speak = may_speak
        self._set_aside = set_aside
        self._outlet = _Outlet(self._take)
        self._telemetry = Telemetry()
        self._telemetry.add(self._heard)
        self._news = asyncio.Event()
        self._dirty = asyncio.Event()
        self._pending: dict[str, list[Event]] = {}
        self._n_pending = 0
        self._heads: dict[str, int] = {}
        self._moved: dict[str, int] = {}
        self._open: dict[str, HubReader] = {}
        self._denied: dict[str, str] = {}
        self._tell: dict[str, None] = {}
        self._is_changed = True
        self._is_followed = False
        self._alone_since = self._live_at = clock.monotonic()
        self.interests = Interests(policy.dead_s)

    # ---- what comes up from the hub

    def _heard(self, event: Happening, /) -> None:
        if type(event) is FeedStateChanged:
            self._is_changed = True
            self._news.set()

    def _take(self, events: list[Event]) -> None:
        pending = self._pending
        for event in events:
            wire = f"{_CHANNEL_OF[type(event)]}.{event.symbol}"
            pending.setdefault(wire, []).append(event)
        self._n_pending += len(events)
        self._dirty.set()

    def confirmed(self, topic: Topic) -> None:
        self._tell[topic.wire] = None
        self._news.set()

    def failed(self, topic: Topic, error: MassiveLabError) -> None:
        self._open.pop(topic.wire, None)
        self._deny(topic.wire, getattr(error, "reason", "") or error.message)

    def _deny(self, wire: str, reason: str) -> None:
        self._denied[wire] = reason[:200]
        self._tell[wire] = None
        self._news.set()

    # ---- what comes from the replicas

    def _interest(self, data: bytes) -> None:
        try:
            message = decode(data)
            if not isinstance(message, Interest):
                raise Malformed("no interest")
        except Malformed as error:
            self._set_aside(data, str(error))
            return
        if self.interests.heard(message, self._clock.monotonic()):
            self._tell.update(dict.fromkeys(self.interests.topics(message.replica)))
            self._is_followed = False
            self._news.set()
        elif message.is_leaving:
            self._is_followed = False
            self._news.set()

    def _follow(self) -> None:
        """Subscribe what is read now, and leave what is not."""
        union = self.interests.union
        for wire in [wire for wire in self._open if wire not in union]:
            self.hub.close_reader(self._open.pop(wire))
        for wire in [wire for wire in self._denied if wire not in union]:
            del self._denied[wire]
        for wire in sorted(union):
            if wire in self._open or wire in self._denied:
                continue
            try:
                topic = Topic.parse(self._subjects.cluster, wire)
                self._open[wire] = self.hub.open(topic, [self._outlet], self, name="bus")
            except MassiveLabError as error:
                self._deny(wire, getattr(error, "reason", "") or error.message)

    # ---- life

    async def run(self) -> Ending:
        """Lead; returns when there is no point in going on."""
        bus, hub, clock = self._bus, self.hub, self._clock
        hub.join(self._telemetry)
        pump = asyncio.ensure_future(self._pump())
        pump.add_done_callback(lambda _: self._news.set())
        end = None
        try:
            end = await bus.subscribe(self._subjects.interest, self._interest)
            # First everybody drops what older leaders say, then the upstream is opened.
            await self._state("connecting")
            await bus.flush()
            hub.tasks.start("steward", hub.steward.run)
            hub.tasks.start("feed", hub.feed.run)
            beat_at = clock.monotonic()
            while True:
                heed_cancellation()
                self._news.clear()
                now = clock.monotonic()
                if not self._may_speak():
                    return Ending("the lease has run out")
                if pump.done():
                    return pump.result()
                if self.interests.expire(now) or not self._is_followed:
                    self._is_followed = True
                    self._follow()
                await self._say_answers()
                if self._is_changed or now >= beat_at:
                    self._is_changed = False
                    await self._state("live" if hub.state in ("live", "stale") else "connecting")
                if now >= beat_at:
                    beat_at = now + self._policy.beat_s
                    await self._say_heads()
                if (ending := await self._ending(now)) is not None:
                    return ending
                try:
                    await within(clock, self._news.wait(), beat_at)
                except Timeout:
                    continue
        except BusDown as error:
            return Ending(error.message)
        finally:
            pump.cancel()
            await asyncio.gather(pump, return_exceptions=True)
            if end is not None:
                await end()
            refused = hub.refusal.error
            hub.leave(self._telemetry)
            # The upstream is closed before the others are told: two of them would evict each other.
            await hub.aclose()
            await self._say_over(refused)

    async def _ending(self, now: float) -> Ending | None:
        hub, policy = self.hub, self._policy
        if (error := hub.refusal.error) is not None:
            if isinstance(error, Evicted):
                return Ending("evicted: another program holds the connection", policy.rest_s)
            return Ending(f"refused: {type(error).__name__}", policy.refused_s)
        if hub.state in ("live", "stale"):
            self._live_at = now
        elif now - self._live_at >= policy.upstream_s and len(self.interests.replicas) > 1:
            return Ending("the upstream cannot be reached from here", pause_s=policy.upstream_s)
        if self._n_pending > policy.pending_events:
            return Ending("the bus is too slow for the upstream")
        if self.interests.replicas:
            self._alone_since = now
        elif now - self._alone_since >= policy.idle_s:
            return Ending("nobody reads anything")
        return None

    async def _pump(self) -> Ending:
        n = 0
        while True:
            heed_cancellation()
            await self._dirty.wait()
            self._dirty.clear()
            pending, self._pending, self._n_pending = self._pending, {}, 0
            for wire, events in pending.items():
                channel, _, symbol = wire.partition(".")
                subject = self._subjects.wire(channel, symbol)
                for raw in pack([encode_event(event) for event in events]):
                    if len(bytes(raw)) > MAX_BYTES - 1024:
                        self._set_aside(bytes(raw), "an event too long for the bus")
                        continue
                    sequence = self._heads.get(wire, 0) + 1
                    try:
                        await self._publish(subject, Events(self._epoch, sequence, wire, raw))
                    except BusDown as error:
                        return Ending(error.message)
                    self._heads[wire] = self._moved[wire] = sequence
                    n += 1
                    if n % _BREATH == 0:
                        await asyncio.sleep(0)

    # ---- what is said

    async def _publish(self, subject: str, message: Message) -> None:
        if not self._may_speak():
            raise BusDown("The lease has run out.")
        await self._bus.publish(subject, encode(message))

    async def _state(self, state: str, why: str = "") -> None:
        message = State(self._epoch, self._bus.name, state, why[:300], self.interests.lacks[:100])
        await self._publish(self._subjects.leader, message)

    async def _say_over(self, error: TransportError | None) -> None:
        if not self._may_speak():
            return
        is_refused = isinstance(error, Unauthorized | NotEntitled)
        try:
            await self._state("refused" if is_refused else "over", "plan" if isinstance(error, NotEntitled) else "")
        except BusDown:
            return  # silence says the same, a little later

    async def _say_answers(self) -> None:
        tell, self._tell = self._tell, {}
        confirmed = [wire for wire in tell if wire in self._open and self.hub.is_confirmed(self._open[wire].topic)]
        for part in chunks(confirmed):
            await self._publish(self._subjects.leader, Told(self._epoch, part))
        await self._say_denied(wire for wire in tell if wire in self._denied)

    async def _say_denied(self, wires: Iterable[str]) -> None:
        for part in chunks(wires, _DENIED_CHUNK):
            await self._publish(
                self._subjects.leader, Told(self._epoch, [], {wire: self._denied[wire] for wire in part})
            )

    async def _say_heads(self) -> None:
        moved, self._moved = self._moved, {}
        for part in chunks(moved.items()) if moved else [[]]:
            await self._publish(self._subjects.leader, Heads(self._epoch, dict(part)))
