"""One socket per cluster and key in a process, whoever asks: readers come and go, the upstream sees the union.

Everything here runs on the loop thread. The rules are in `refs`, `feed`, `routes` and `polling`; this file joins them.
"""

from __future__ import annotations

import itertools
import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import polars as pl

from massive_lab import telemetry as t
from massive_lab.clock import Clock
from massive_lab.config import ProxyToken, Secret
from massive_lab.decode.stream import Message, Status
from massive_lab.errors import MassiveLabError, TransportError
from massive_lab.live.beyond import Beyond
from massive_lab.live.desk import Desk
from massive_lab.live.gaps import Filler, Gaps
from massive_lab.live.outcomes import Closed, Outcome
from massive_lab.live.policy import Policy
from massive_lab.live.poll.budget import Budget
from massive_lab.live.poll.fallback import Fallback
from massive_lab.live.poll.polling import Poller
from massive_lab.live.readers import HubReader, Listener, bare
from massive_lab.live.refs import Book
from massive_lab.live.routes import Routes, Sink
from massive_lab.live.steward import Steward, in_regular_hours
from massive_lab.live.tasks import Tasks
from massive_lab.live.topics import Topic
from massive_lab.live.views import status_row, topic_frame
from massive_lab.live.watch import Outage, Watch
from massive_lab.live.wire.feed import Connector, Feed, Socket
from massive_lab.live.wire.intake import Intake
from massive_lab.live.wire.machine import Recovery
from massive_lab.live.wire.refusal import Refusal
from massive_lab.live.wire.taps import HeardClock, RestEar, Tap
from massive_lab.transports.websocket import connect
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
    budget : Budget, optional
        What polling may spend; shared by the hubs of a client.
    jitter : callable, optional
        Numbers in ``[0, 1)`` for the back-off.
    market_open : callable, optional
        Awaited: whether silence at a UTC instant (ns) means something; default: the regular session of the US exchanges.
    connector : callable, optional
        Opens the socket; a replay brings its own.
    is_synthetic : bool
        Whether what comes is of a market of its own time, which is unknown until the first event.

    Attributes
    ----------
    book : Book
        Who wants what, and what the server holds.
    gaps : Gaps
        What was missed, and what became of it.
    watch : Watch
        Outages, silent topics, warnings.
    refusal : Refusal
        Why the server will not have us now, if so.
    beyond : Beyond
        What the server tells of itself.
    is_closed : bool
    taps : list of Tap
        Hear every byte in and out, in order.
    heard : (bytes, sequence of Message)
        The newest frame and all that was read from it: while a sink is flushed, what its streamed events came in.
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
        budget: Budget | None = None,
        jitter: Callable[[], float] | None = None,
        market_open: Callable[[int], Awaitable[bool]] = in_regular_hours,
        connector: Connector = connect,
        is_synthetic: bool = False,
    ) -> None:
        self.cluster: Cluster = cluster
        self.taps: list[Tap] = []
        self.clock = clock = HeardClock(clock, cluster, self.taps)
        self._jitter = jitter or random.SystemRandom().random
        self._connector = connector
        self._market_open = market_open
        self.policy = policy or Policy()
        self.book = Book(cluster, self.policy, answers_late=isinstance(key, ProxyToken))
        self.routes = Routes()
        self._intake = Intake()
        self.feed = Feed(
            cluster, url, key, self, clock=clock, policy=self.policy, jitter=self._draw, connector=self._connect
        )
        self._telemetries: list[t.Telemetry] = []
        self.desk = Desk(self)
        self.refusal = Refusal(self)
        requests = itertools.count(1)
        self.tasks = Tasks(
            f"massive_lab {cluster}", self.refusal.fault, lambda name: RestEar(cluster, self.taps, requests, name)
        )
        self.steward = Steward(self, self._ask_market)
        self.watch = Watch(self, self.policy, is_synthetic=is_synthetic)
        self.gaps = Gaps(self)
        self.fallback = Fallback(self, self.policy, [poller] if poller else [], budget)
        self.is_closed = False
        self.heard: tuple[bytes, Sequence[Message]] = b"", ()
        self._since_ns = clock.now_ns()
        self.errors: deque[MassiveLabError] = deque(maxlen=_KEPT)
        self.beyond = Beyond(self)
        self.counts = {"frames": 0, "events": 0, "bytes": 0, "quarantined": 0, "reconnects": 0, "polls": 0, "sent": 0}

    # ---- who listens, who polls

    def join(self, telemetry: t.Telemetry, poller: Poller | None = None, filler: Filler | None = None) -> None:
        """A client joins: it hears what happens; its poller and its filler may serve everybody."""
        self._telemetries.append(telemetry)
        if poller is not None:
            self.fallback.pollers.append(poller)
        if filler is not None:
            self.gaps.fillers.append(filler)

    def leave(self, telemetry: t.Telemetry, poller: Poller | None = None, filler: Filler | None = None) -> None:
        """Undo one `join`."""
        self._telemetries.remove(telemetry)
        if poller is not None:
            self.fallback.pollers.remove(poller)
        if filler is not None:
            self.gaps.fillers.remove(filler)

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

    # ---- what comes from outside, told to the taps

    def _draw(self) -> float:
        number = self._jitter()
        for tap in self.taps:
            tap.drew(self.cluster, number)
        return number

    async def _connect(self, url: str, /, **limits: float | None) -> Socket:
        socket = await self._connector(url, **limits)  # type: ignore[arg-type]
        for tap in self.taps:
            tap.opened(self.cluster)
        return socket

    async def _ask_market(self, at_ns: int) -> bool:
        is_open = await self._market_open(at_ns)
        for tap in self.taps:
            tap.market(self.cluster, is_open)
        return is_open

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
            When the connection cannot hold another topic of this sort.
        """
        reader = self.desk.open(topic, tuple(sinks), listener or Listener(), name, caller)
        self.tasks.start("steward", self.steward.run)
        if not self.feed.machine.is_over:
            self.tasks.start("feed", self.feed.run)
        self.steward.kick()
        return reader

    def close_reader(self, reader: HubReader) -> None:
        """Stop reading. The topic lingers upstream when this was its last reader. Idempotent."""
        if reader.is_open:
            self.desk.close(reader)
            self.steward.kick()

    def act(self, outcomes: Iterable[Outcome]) -> None:
        """Do and tell what the book says."""
        self.desk.act(outcomes)

    # ---- what the feed hands up

    def frame(self, data: bytes) -> Sequence[Status]:
        """Decode, dispatch and count one frame; gives back its control messages."""
        now_ns = self.clock.now_ns()
        for tap in self.taps:
            tap.received(self.cluster, data)
        messages = self._intake.take(data)
        self.heard = data, messages
        if self.gaps.is_online:
            messages = self.gaps.heard(self.fallback.without_repeats(messages), now_ns)
        touched, others = self.routes.dispatch(messages, now_ns)
        n_events = len(messages) - len(others)
        self.deliver(touched)
        if not self.book.is_settled and touched:
            for route in touched:
                self.act(self.book.data_wire(route.wire))
        by_topic = self.routes.finish(touched, len(data), n_events)
        counts = self.counts
        counts["frames"] += 1
        counts["events"] += n_events
        counts["bytes"] += len(data)
        if self._is_heard():
            self.emit(t.FrameReceived(self.now(), self.cluster, n_events, len(data), by_topic))
        for fault in self._intake.take_faults():
            counts["quarantined"] += 1
            self.emit(t.EventQuarantined(self.now(), self.cluster, fault.reason, fault.excerpt))
        return [message for message in others if isinstance(message, Status)] if others else ()

    def deliver(self, touched: Iterable[Any]) -> None:
        for sink, wire in {sink: route.wire for route in touched for sink in route.sinks}.items():
            if n_dropped := sink.flush():
                self.desk.tell_dropped(sink, wire, n_dropped)

    def answer(self, status: Status) -> None:
        """A control message after the handshake."""
        self.beyond.hear(status)
        self.act(self.book.status(status.status, status.message))
        self.steward.kick()

    def sent_auth(self) -> None:
        for tap in self.taps:
            tap.sent(self.cluster, "auth", ())
        self.emit(t.WireSent(self.now(), self.cluster, "auth", ()))

    def online(self, recovery: Recovery | None) -> None:
        """The socket is authenticated: ask for everything wanted."""
        self.book.online()
        self.fallback.end()
        self.fallback.live_at = at = self.now()
        self.refusal.end()
        for tap in self.taps:
            tap.online(self.cluster)
        if recovery is not None:
            cause = self.watch.outages.last_cause or ""
            self.watch.online(recovery.attempt)
            if self.gaps.was_online:
                self.counts["reconnects"] += 1
                n_topics = len(self.book.wanted)
                self.emit(t.Reconnected(at, self.cluster, recovery.outage_s, recovery.attempt, n_topics, cause))
        self.gaps.online()
        self.steward.kick()

    def offline(self, error: TransportError) -> None:
        """The socket is gone; what is wanted stays wanted."""
        for tap in self.taps:
            tap.offline(self.cluster, error)
        self.gaps.offline(error)
        self.beyond.forget()
        self.watch.offline(error.message)
        self.keep(error)
        self.book.offline()
        self.steward.kick()

    def evicted(self, error: TransportError) -> None:
        """Another connection holds the cluster: REST serves what it can until the lease is over."""
        self.refusal.begin(error, for_good=False)

    def over(self, error: TransportError) -> None:
        """The server will not have us. REST serves what it can; what is wanted stays wanted, for `retry`."""
        self.refusal.begin(error, for_good=True)

    def keep(self, error: MassiveLabError) -> None:
        """An error for ``live.errors``."""
        self.errors.append(bare(error))

    def changed(self) -> None:
        """Tell what the machine went through, and act on it."""
        machine = self.feed.machine
        changes, machine.changes[:] = list(machine.changes), []
        for change in changes:
            self._since_ns = self.clock.now_ns()
            self.emit(t.FeedStateChanged(self.now(), self.cluster, change.previous, change.state, change.reason))
            if change.state == "live":
                self.fallback.end()
                self.fallback.live_at = self.now()
        self.steward.kick()

    # ---- life

    async def retry(self, key: Secret | None = None) -> None:
        """Try again now; see `massive_lab.live.wire.refusal.Refusal.retry`."""
        if not self.is_closed:
            await self.refusal.retry(key)

    @property
    def final_error(self) -> TransportError | None:
        """Why the feed is over, until somebody asks for another attempt."""
        return self.refusal.error if self.refusal.is_for_good else None

    @property
    def readers(self) -> list[HubReader]:
        """All that are open."""
        return list(self.desk.readers.values())

    async def aclose(self) -> None:
        """Close the socket and end every task. Idempotent."""
        self.is_closed = True
        self.fallback.end()
        self.feed.machine.close()
        await self.tasks.aclose()
        for reader in self.readers:
            self.desk.forget(reader)
        book, self.book = self.book, Book(self.cluster, self.policy)
        self.act([Closed(topic) for topic in book.wanted])
        self.changed()
        for tap in list(self.taps):
            tap.closed(self.cluster)

    # ---- what is known

    @property
    def state(self) -> str:
        """``idle``, ``connecting``, ``authenticating``, ``live``, ``stale``, ``polling``, ``evicted`` or ``closed``."""
        return self.feed.machine.state

    @property
    def wanted(self) -> tuple[Topic, ...]:
        """Topics with readers, or lingering."""
        return self.book.wanted

    def is_confirmed(self, topic: Topic) -> bool:
        return self.book.state(topic) == "confirmed"

    def topics(self) -> pl.DataFrame:
        """One row per wanted topic; see `massive_lab.live.views.topic_frame`."""
        return topic_frame(self.cluster, self.book, self.routes, self.callers)

    def callers(self, topic: Topic) -> list[str | None]:
        """Who reads a topic: ``file:line`` or the cell, for each reader in the order they came."""
        return [self.desk.readers[reader_id].caller for reader_id in self.book.readers(topic)]

    def streamed(self) -> set[str]:
        """Symbols with a confirmed topic, while the socket serves."""
        return {topic.symbol for topic in self.book.wanted if self.is_confirmed(topic)} if self.state == "live" else set()

    def outages(self) -> list[Outage]:
        """The outages so far, the one that lasts included."""
        return self.watch.outages.rows(self.now(), self.feed.machine.attempt)

    def status(self) -> dict[str, Any]:
        """The row of this cluster in ``live.status()``."""
        return {
            **status_row(self),
            "state": self.state,
            "since": self._since_ns,
            "topics": len(self.book.wanted),
            "readers": len(self.desk.readers),
            "unknown": self._intake.n_unknown,
            **self.fallback.status(),
        }
