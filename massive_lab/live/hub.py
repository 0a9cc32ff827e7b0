"""One socket per cluster and key in a process, whoever asks: readers come and go, the upstream sees the union.

Everything here runs on the loop thread. The rules are in `refs`, `feed`, `routes` and `polling`; this file joins them.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import polars as pl

from massive_lab import telemetry as t
from massive_lab.clock import Clock
from massive_lab.config import Secret
from massive_lab.decode.stream import Status, StreamDecoder
from massive_lab.errors import ConnectionLost, MassiveLabError, Timeout, TransportError, UpstreamError
from massive_lab.live import refs
from massive_lab.live.fallback import Fallback
from massive_lab.live.feed import Feed, Recovery, within
from massive_lab.live.policy import Policy
from massive_lab.live.polling import Poller
from massive_lab.live.readers import Gap, HubReader, Listener, denial, failure
from massive_lab.live.routes import Routes, Sink
from massive_lab.live.tasks import Tasks
from massive_lab.live.topics import Topic
from massive_lab.live.views import topic_frame
from massive_lab.schema.session import phase_at
from massive_lab.typing import Cluster

__all__ = ["Hub"]

_KEPT = 1_000


class Hub:
    """The subscription system of one cluster and key.

    Parameters
    ----------
    cluster : {"stocks", "options", "indices"}
    url : str
        ``ws[s]://host/cluster``.
    key : Secret
    clock : Clock
    policy : Policy
    poller : Poller, optional
        Without one there is no fallback.
    jitter : callable, optional
        Numbers in ``[0, 1)`` for the back-off.
    market_open : callable, optional
        Whether silence at a UTC instant (ns) means something; default: the regular session of the US exchanges.
    """

    def __init__(
        self,
        cluster: Cluster,
        url: str,
        key: Secret,
        *,
        clock: Clock,
        policy: Policy | None = None,
        poller: Poller | None = None,
        jitter: Callable[[], float] | None = None,
        market_open: Callable[[int], bool] | None = None,
    ) -> None:
        self.cluster: Cluster = cluster
        self.clock = clock
        self._policy = policy or Policy()
        self._market_open = market_open or (lambda now_ns: phase_at(now_ns) == "regular")
        self._book = refs.Book(cluster, self._policy)
        self.routes = Routes()
        self._decoder = StreamDecoder()
        self._feed = Feed(
            cluster, url, key, self, clock=clock, policy=self._policy, jitter=jitter or random.SystemRandom().random
        )
        self._telemetries: list[t.Telemetry] = []
        self._readers: dict[str, HubReader] = {}
        self.ids = itertools.count(1)
        self._kick = asyncio.Event()
        self.tasks = Tasks(f"massive_lab {cluster}", self._failed)
        self._last_frame_ns: int | None = None
        self._gap_from_ns: int | None = None
        self._is_online = False
        self.fallback = Fallback(self, self._policy, [poller] if poller else [])
        self._is_closed = False
        self._since_ns = clock.now_ns()
        self.gaps: deque[Gap] = deque(maxlen=_KEPT)
        self.errors: deque[MassiveLabError] = deque(maxlen=_KEPT)
        self.final_error: TransportError | None = None
        self.counts = {"frames": 0, "events": 0, "bytes": 0, "quarantined": 0, "reconnects": 0, "polls": 0, "sent": 0}

    # ---- who listens, who polls

    def join(self, telemetry: t.Telemetry, poller: Poller | None = None) -> None:
        """A client joins: it hears what happens, and its poller may serve everybody."""
        self._telemetries.append(telemetry)
        if poller is not None:
            self.fallback.pollers.append(poller)

    def leave(self, telemetry: t.Telemetry, poller: Poller | None = None) -> None:
        """Undo one `join`."""
        self._telemetries.remove(telemetry)
        if poller is not None:
            self.fallback.pollers.remove(poller)

    def emit(self, event: t.Event) -> None:
        if len(self._telemetries) == 1:
            self._telemetries[0].emit(event)
            return
        # By identity: a client that joined twice hears once.
        for telemetry in {id(telemetry): telemetry for telemetry in self._telemetries}.values():
            telemetry.emit(event)

    def _is_heard(self) -> bool:
        return bool([1 for telemetry in self._telemetries if telemetry.has_hooks])

    def now(self) -> float:
        return self.clock.monotonic()

    # ---- readers

    def open(
        self,
        topic: Topic,
        sinks: Iterable[Sink],
        listener: Listener | None = None,
        *,
        name: str = "reader",
        caller: str | None = None,
    ) -> HubReader:
        """Read a topic from now on. Returns at once: confirmation and failure are told to the listener.

        Raises
        ------
        SubscriptionFailed
            When the connection cannot hold another topic of this sort, or the feed is over for good.
        """
        if self.final_error is not None and not self.fallback.can_serve(topic):
            raise failure(topic, self.final_error)
        reader = HubReader(f"{name}#{next(self.ids)}", topic, tuple(sinks), listener or Listener(), caller)
        outcomes = self._book.open(topic, reader.id)
        self._readers[reader.id] = reader
        self.routes.open(topic, self.clock.now_ns())
        self.routes.attach(topic, reader.sinks)
        self.emit(t.ReaderOpened(self.now(), self.cluster, topic.wire, reader.id, caller))
        already = self._book.state(topic) == "confirmed" and refs.Confirmed(topic) not in outcomes
        self._act(outcomes)
        if already:
            reader.listener.confirmed(topic)
        self.tasks.start("steward", self._steward)
        if not self._feed.machine.is_over:
            self.tasks.start("feed", self._feed.run)
        self._kick.set()
        return reader

    def close_reader(self, reader: HubReader) -> None:
        """Stop reading. The topic lingers upstream when this was its last reader. Idempotent."""
        if not reader.is_open:
            return
        self._forget(reader)
        self._act(self._book.close(reader.topic, reader.id, self.now()))
        self._kick.set()

    def _forget(self, reader: HubReader) -> None:
        reader.is_open = False
        self._readers.pop(reader.id, None)
        self.routes.detach(reader.topic, reader.sinks)
        self.emit(t.ReaderClosed(self.now(), self.cluster, reader.topic.wire, reader.id, reader.n_dropped))

    def _act(self, outcomes: Iterable[refs.Outcome], cause: TransportError | None = None) -> None:
        now = self.now()
        for outcome in outcomes:
            wire = outcome.topic.wire
            if isinstance(outcome, refs.Opened):
                self.emit(t.TopicOpened(now, self.cluster, wire))
            elif isinstance(outcome, refs.Confirmed):
                self.emit(t.TopicConfirmed(now, self.cluster, wire))
                for reader_id in self._book.readers(outcome.topic):
                    self._readers[reader_id].listener.confirmed(outcome.topic)
            elif isinstance(outcome, refs.Closed):
                self.routes.close(outcome.topic)
                self.emit(t.TopicClosed(now, self.cluster, wire))
            else:
                self._tell_denied(outcome, cause)

    def _tell_denied(self, denied: refs.Denied, cause: TransportError | None) -> None:
        self.emit(t.SubscriptionDenied(self.now(), self.cluster, denied.topic.wire, denied.reason))
        for reader_id in denied.readers:
            reader = self._readers[reader_id]
            self._forget(reader)
            error = failure(denied.topic, cause) if cause else denial(denied)
            reader.listener.failed(denied.topic, error)

    # ---- the steward: lingers, answers, what to send, when to poll, what silence means

    async def _steward(self) -> None:
        while True:
            self._kick.clear()
            now = self.now()
            self._act(self._book.tick(now))
            await self._say()
            machine = self._feed.machine
            if machine.poll_at is not None and machine.poll_at <= now:
                self.fallback.begin()
            if machine.silence_at is not None and machine.silence_at <= now:
                await self._mind_silence(now)
            poll_at = machine.poll_at if self.fallback.has_work() else None
            due = (self._book.deadline, poll_at, machine.silence_at)
            await self._wait(min((at for at in due if at is not None), default=None))

    def polling_since(self) -> float:
        """Tell the machine that the first poll goes out; seconds since the loss."""
        return self._feed.machine.polling(self.now())

    async def _wait(self, until: float | None) -> None:
        if until is None:
            await self._kick.wait()
            return
        with contextlib.suppress(Timeout):
            await within(self.clock, self._kick.wait(), until)

    async def _say(self) -> None:
        while (send := self._book.next_send(self.now())) is not None:
            wires = tuple(topic.wire for topic in send.topics)
            try:
                await self._feed.send(json.dumps({"action": send.action, "params": ",".join(wires)}))
            except ConnectionLost:
                return  # the reader of the socket sees the same loss and tells it
            self.counts["sent"] += 1
            self.emit(t.WireSent(self.now(), self.cluster, send.action, wires))

    async def _mind_silence(self, now: float) -> None:
        machine = self._feed.machine
        expected = bool(self._book.held) and await asyncio.to_thread(self._market_open, self.clock.now_ns())
        if machine.silence_at is None or machine.silence_at > now:
            return  # data came while the calendar was asked
        if not expected:
            machine.last_frame = now  # quiet by right: look again after another interval
        elif machine.silent(now):
            await self._feed.drop()
        self.changed()

    # ---- what the feed hands up

    def frame(self, data: bytes) -> Sequence[Status]:
        """Decode, dispatch and count one frame; gives back its control messages."""
        messages = self._decoder.decode(data)
        messages = self.fallback.without_repeats(messages) if self._is_online else messages
        now_ns = self.clock.now_ns()
        touched, others = self.routes.dispatch(messages, now_ns)
        n_events = len(messages) - len(others)
        self.deliver(touched)
        if not self._book.is_settled and touched:
            for route in touched:
                self._act(self._book.data_wire(route.wire))
        by_topic = self.routes.finish(touched, len(data), n_events)
        self._last_frame_ns = now_ns
        counts = self.counts
        counts["frames"] += 1
        counts["events"] += n_events
        counts["bytes"] += len(data)
        if self._is_heard():
            self.emit(t.FrameReceived(self.now(), self.cluster, n_events, len(data), by_topic))
        for fault in self._decoder.take_faults():
            counts["quarantined"] += 1
            self.emit(t.EventQuarantined(self.now(), self.cluster, fault.reason, fault.excerpt))
        return [message for message in others if isinstance(message, Status)] if others else ()

    def deliver(self, touched: Iterable[Any]) -> None:
        for sink, wire in {sink: route.wire for route in touched for sink in route.sinks}.items():
            if n_dropped := sink.flush():
                self._tell_dropped(sink, wire, n_dropped)

    def _tell_dropped(self, sink: Sink, wire: str, n_dropped: int) -> None:
        reader = next((r for r in self._readers.values() if sink in r.sinks), None)
        if reader is not None:
            reader.n_dropped += n_dropped
            self.emit(t.EventDropped(self.now(), self.cluster, wire, reader.id, n_dropped))

    def answer(self, status: Status) -> None:
        """A control message after the handshake."""
        if status.status in ("slow_consumer", "force_disconnect"):
            self.errors.append(
                UpstreamError(
                    f"The {self.cluster} server will disconnect: {status.status} ({status.message}).",
                    status=1008,
                    hint="The connection is opened again and everything subscribed anew.",
                )
            )
        self._act(self._book.status(status.status, status.message))
        self._kick.set()

    def sent_auth(self) -> None:
        self.emit(t.WireSent(self.now(), self.cluster, "auth", ()))

    def online(self, recovery: Recovery | None) -> None:
        """The socket is authenticated: ask for everything wanted."""
        self._book.online()
        self.fallback.end()
        self._is_online = True
        self.fallback.live_at = at = self.now()
        if recovery is not None and self._gap_from_ns is not None:
            wires = tuple(topic.wire for topic in self._book.wanted)
            self.counts["reconnects"] += 1
            self.emit(t.Reconnected(at, self.cluster, recovery.outage_s, recovery.attempt, len(wires)))
            gap = Gap(self.cluster, wires, self._gap_from_ns, self.clock.now_ns())
            self.gaps.append(gap)
            self.emit(t.GapDetected(at, self.cluster, wires, gap.start_ns, gap.end_ns))
        self._kick.set()

    def offline(self, error: TransportError) -> None:
        """The socket is gone; what is wanted stays wanted."""
        if self._is_online:
            self._gap_from_ns = self._last_frame_ns
            self._is_online = False
        self.errors.append(error)
        self._book.offline()
        self._kick.set()

    def over(self, error: TransportError) -> None:
        """The server will not have us. REST serves what it can; the readers of the rest are told."""
        self.final_error = error
        for reader in self._readers.values():
            reader.listener.refused(error)
        lost = [topic for topic in self._book.wanted if not self.fallback.can_serve(topic)]
        self._act(self._book.fail_all(error.message, lost), error)

    def changed(self) -> None:
        """Tell what the machine went through, and act on it."""
        machine = self._feed.machine
        changes, machine.changes[:] = list(machine.changes), []
        for change in changes:
            self._since_ns = self.clock.now_ns()
            self.emit(t.FeedStateChanged(self.now(), self.cluster, change.previous, change.state, change.reason))
            if change.state == "live":
                self.fallback.end()
        self._kick.set()

    # ---- life

    def _failed(self, name: str, error: BaseException) -> None:
        wrapped = ConnectionLost(f"{self.cluster} {name} failed: {type(error).__name__}.", hint="This is a fault; see the log.")
        wrapped.__cause__ = error
        self.errors.append(wrapped)
        if name != "polling" and not self._is_closed:
            self.over(wrapped)

    async def aclose(self) -> None:
        """Close the socket and end every task. Idempotent."""
        self._is_closed = True
        self.fallback.end()
        self._feed.machine.close()
        await self.tasks.aclose()
        for reader in list(self._readers.values()):
            self._forget(reader)
        book, self._book = self._book, refs.Book(self.cluster, self._policy)
        self._act([refs.Closed(topic) for topic in book.wanted])
        self.changed()

    # ---- what is known

    @property
    def state(self) -> str:
        """``idle``, ``connecting``, ``authenticating``, ``live``, ``stale``, ``polling``, ``evicted`` or ``closed``."""
        return self._feed.machine.state

    @property
    def wanted(self) -> tuple[Topic, ...]:
        """Topics with readers, or lingering."""
        return self._book.wanted

    def is_confirmed(self, topic: Topic) -> bool:
        return self._book.state(topic) == "confirmed"

    def topics(self) -> pl.DataFrame:
        """One row per wanted topic; see `massive_lab.live.views.topic_frame`."""
        return topic_frame(self.cluster, self._book, self.routes)

    def status(self) -> dict[str, Any]:
        """The row of this cluster in ``live.status()``."""
        last = self.final_error or (self.errors[-1] if self.errors else None)
        return {
            "cluster": self.cluster,
            "state": self.state,
            "since": self._since_ns,
            "topics": len(self._book.wanted),
            "readers": len(self._readers),
            **self.counts,
            "unknown": sum(self._decoder.unknown.values()),
            "last_error": str(last) if last else None,
        }
