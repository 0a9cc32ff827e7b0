"""One socket per cluster and key in a process, whoever asks: readers come and go, the upstream sees the union.

Everything here runs on the loop thread. The rules are in `refs`, `feed`, `routes` and `polling`; this file joins them.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import random
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from massive_lab import telemetry as t
from massive_lab.clock import Clock
from massive_lab.config import Secret
from massive_lab.decode.stream import Event, Message, Notice, Status, StreamDecoder
from massive_lab.errors import ConnectionLost, MassiveLabError, SubscriptionFailed, TransportError, UpstreamError
from massive_lab.live import refs
from massive_lab.live.feed import Feed, Recovery
from massive_lab.live.policy import Policy
from massive_lab.live.polling import Poller, PollMemory, PollWorker, wanted_kinds
from massive_lab.live.routes import Routes, Sink
from massive_lab.live.topics import Kind, Topic, poll_kind
from massive_lab.schema.session import phase_at
from massive_lab.typing import Cluster

__all__ = ["Gap", "Hub", "HubReader", "Listener"]

_log = logging.getLogger("massive_lab.live")
_KEPT = 1_000
_MEMORY_S = 30.0
_TS = pl.Datetime("ns", "UTC")


@dataclass(frozen=True, slots=True)
class Gap:
    """Nothing was received between the two UTC instants (ns)."""

    cluster: Cluster
    topics: tuple[str, ...]
    start_ns: int
    end_ns: int


class Listener:
    """What the owner of a reader wants to hear; all on the loop thread. The defaults do nothing."""

    def confirmed(self, topic: Topic) -> None:
        """The topic is live."""

    def failed(self, topic: Topic, error: MassiveLabError) -> None:
        """The topic is lost to this reader, which is closed."""


@dataclass(slots=True, eq=False)
class HubReader:
    """One reader of one topic."""

    id: str
    topic: Topic
    sinks: tuple[Sink, ...]
    listener: Listener
    caller: str | None
    is_open: bool = True
    n_dropped: int = 0


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
        self._clock = clock
        self._policy = policy or Policy()
        self._pollers: list[Poller] = [poller] if poller else []
        self._market_open = market_open or _in_regular_session
        self._book = refs.Book(cluster, self._policy)
        self._routes = Routes()
        self._decoder = StreamDecoder()
        self._feed = Feed(
            cluster, url, key, self, clock=clock, policy=self._policy, jitter=jitter or random.SystemRandom().random
        )
        self._telemetries: list[t.Telemetry] = []
        self._readers: dict[str, HubReader] = {}
        self._ids = itertools.count(1)
        self._memory = PollMemory()
        self._kick = asyncio.Event()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._poll_task: asyncio.Task[None] | None = None
        self._polls_before: int | None = None
        self._last_frame_ns: int | None = None
        self._gap_from_ns: int | None = None
        self._is_online = False
        self._live_at = 0.0
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
            self._pollers.append(poller)

    def leave(self, telemetry: t.Telemetry, poller: Poller | None = None) -> None:
        """Undo one `join`."""
        self._telemetries.remove(telemetry)
        if poller is not None:
            self._pollers.remove(poller)

    def _emit(self, event: t.Event) -> None:
        if len(self._telemetries) == 1:
            self._telemetries[0].emit(event)
            return
        for listener in dict.fromkeys(map(_ById, self._telemetries)):
            listener.telemetry.emit(event)

    def _is_heard(self) -> bool:
        for telemetry in self._telemetries:  # noqa: SIM110  called for each frame; a loop is three times faster than any()
            if telemetry.has_hooks:
                return True
        return False

    def _now(self) -> float:
        return self._clock.monotonic()

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
        if self.final_error is not None and not self._can_poll(topic):
            raise _failure(topic, self.final_error)
        reader = HubReader(f"{name}#{next(self._ids)}", topic, tuple(sinks), listener or Listener(), caller)
        outcomes = self._book.open(topic, reader.id)
        self._readers[reader.id] = reader
        self._routes.open(topic, self._clock.now_ns())
        self._routes.attach(topic, reader.sinks)
        self._emit(t.ReaderOpened(self._now(), self.cluster, topic.wire, reader.id, caller))
        already = self._book.state(topic) == "confirmed" and refs.Confirmed(topic) not in outcomes
        self._act(outcomes)
        if already:
            reader.listener.confirmed(topic)
        self._start("steward", self._steward)
        if not self._feed.machine.is_over:
            self._start("feed", self._feed.run)
        self._kick.set()
        return reader

    def close_reader(self, reader: HubReader) -> None:
        """Stop reading. The topic lingers upstream when this was its last reader. Idempotent."""
        if not reader.is_open:
            return
        self._forget(reader)
        self._act(self._book.close(reader.topic, reader.id, self._now()))
        self._kick.set()

    def _forget(self, reader: HubReader) -> None:
        reader.is_open = False
        self._readers.pop(reader.id, None)
        self._routes.detach(reader.topic, reader.sinks)
        self._emit(t.ReaderClosed(self._now(), self.cluster, reader.topic.wire, reader.id, reader.n_dropped))

    def _act(self, outcomes: Iterable[refs.Outcome], cause: TransportError | None = None) -> None:
        now = self._now()
        for outcome in outcomes:
            wire = outcome.topic.wire
            if isinstance(outcome, refs.Opened):
                self._emit(t.TopicOpened(now, self.cluster, wire))
            elif isinstance(outcome, refs.Confirmed):
                self._emit(t.TopicConfirmed(now, self.cluster, wire))
                for reader_id in self._book.readers(outcome.topic):
                    self._readers[reader_id].listener.confirmed(outcome.topic)
            elif isinstance(outcome, refs.Closed):
                self._routes.close(outcome.topic)
                self._emit(t.TopicClosed(now, self.cluster, wire))
            else:
                self._tell_denied(outcome, cause)

    def _tell_denied(self, denied: refs.Denied, cause: TransportError | None) -> None:
        self._emit(t.SubscriptionDenied(self._now(), self.cluster, denied.topic.wire, denied.reason))
        for reader_id in denied.readers:
            reader = self._readers[reader_id]
            self._forget(reader)
            error = _failure(denied.topic, cause) if cause else _denial(denied)
            reader.listener.failed(denied.topic, error)

    # ---- the steward: lingers, answers, what to send, when to poll, what silence means

    async def _steward(self) -> None:
        while True:
            self._kick.clear()
            now = self._now()
            self._act(self._book.tick(now))
            await self._say()
            machine = self._feed.machine
            if machine.poll_at is not None and machine.poll_at <= now:
                self._begin_polling()
            if machine.silence_at is not None and machine.silence_at <= now:
                await self._mind_silence(now)
            due = (self._book.deadline, self._poll_due(), machine.silence_at)
            await self._wait(min((at for at in due if at is not None), default=None))

    def _poll_due(self) -> float | None:
        return self._feed.machine.poll_at if self._pollers and wanted_kinds(self._book.wanted) else None

    async def _wait(self, until: float | None) -> None:
        if until is None:
            await self._kick.wait()
            return
        kicked = asyncio.ensure_future(self._kick.wait())
        timer = asyncio.ensure_future(self._clock.sleep(max(0.0, until - self._now())))
        try:
            await asyncio.wait({kicked, timer}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            kicked.cancel()
            timer.cancel()
            await asyncio.gather(kicked, timer, return_exceptions=True)

    async def _say(self) -> None:
        while (send := self._book.next_send(self._now())) is not None:
            wires = tuple(topic.wire for topic in send.topics)
            try:
                await self._feed.send(json.dumps({"action": send.action, "params": ",".join(wires)}))
            except ConnectionLost:
                return  # the reader of the socket sees the same loss and tells it
            self.counts["sent"] += 1
            self._emit(t.WireSent(self._now(), self.cluster, send.action, wires))

    async def _mind_silence(self, now: float) -> None:
        machine = self._feed.machine
        expected = bool(self._book.held) and await asyncio.to_thread(self._market_open, self._clock.now_ns())
        if machine.silence_at is None or machine.silence_at > now:
            return  # data came while the calendar was asked
        if not expected:
            machine.last_frame = now  # quiet by right: look again after another interval
        elif machine.silent(now):
            await self._feed.drop()
        self.changed()

    # ---- polling

    def _can_poll(self, topic: Topic) -> bool:
        return bool(self._pollers) and poll_kind(topic) is not None

    def _begin_polling(self) -> None:
        if self._pollers and wanted_kinds(self._book.wanted) and self._poll_task is None:
            worker = PollWorker(self, self._clock, self._policy)
            self._poll_task = self._start(f"polling {next(self._ids)}", worker.run)

    def _end_polling(self) -> None:
        if self._poll_task is not None:
            self._poll_task.cancel()
            self._poll_task = None
            if self._polls_before is not None:
                n_polls = self.counts["polls"] - self._polls_before
                self._polls_before = None
                self._emit(t.FallbackStopped(self._now(), self.cluster, n_polls))

    def poller(self) -> Poller | None:
        """Whose REST client serves the next round."""
        return self._pollers[0] if self._pollers else None

    def poll_wanted(self) -> dict[str, set[Kind]]:
        """Symbols and kinds the poll worker asks for now."""
        return wanted_kinds(self._book.wanted)

    def polling_begins(self) -> None:
        """The first poll goes out."""
        self._polls_before = self.counts["polls"]
        since = self._feed.machine.polling(self._now())
        n_topics = sum(poll_kind(topic) is not None for topic in self._book.wanted)
        self._emit(t.FallbackStarted(self._now(), self.cluster, since, n_topics))
        self.changed()

    def polled(self, n_symbols: int, events: list[Event]) -> None:
        """One call was answered."""
        self.counts["polls"] += 1
        fresh = self._memory.news(events, self._routes.newest)
        n_changed = len({event.symbol for event in fresh})
        self._emit(t.PollTick(self._now(), self.cluster, "snapshot", n_symbols, n_changed))
        touched, _ = self._routes.dispatch(fresh, self._clock.now_ns())
        self._deliver(touched)
        self._routes.finish(touched, 0, len(fresh))

    def poll_failed(self, error: MassiveLabError) -> None:
        """A call failed; the next one comes later."""
        self.counts["polls"] += 1
        self.errors.append(error)

    # ---- what the feed hands up

    def frame(self, data: bytes) -> Sequence[Status]:
        """Decode, dispatch and count one frame; gives back its control messages."""
        messages = self._decoder.decode(data)
        if self._memory and self._is_online:
            messages = self._without_repeats(messages)
        now_ns = self._clock.now_ns()
        touched, others = self._routes.dispatch(messages, now_ns)
        n_events = len(messages) - len(others)
        self._deliver(touched)
        if not self._book.is_settled and touched:
            for route in touched:
                self._act(self._book.data_wire(route.wire))
        by_topic = self._routes.finish(touched, len(data), n_events)
        self._last_frame_ns = now_ns
        counts = self.counts
        counts["frames"] += 1
        counts["events"] += n_events
        counts["bytes"] += len(data)
        if self._is_heard():
            self._emit(t.FrameReceived(self._now(), self.cluster, n_events, len(data), by_topic))
        for fault in self._decoder.take_faults():
            counts["quarantined"] += 1
            self._emit(t.EventQuarantined(self._now(), self.cluster, fault.reason, fault.excerpt))
        return _statuses(others) if others else ()

    def _without_repeats(self, messages: list[Message]) -> list[Message]:
        # The first streamed event after an outage may be what the last poll has told already.
        if self._now() - self._live_at > _MEMORY_S:
            self._memory = PollMemory()
            return messages
        return [m for m in messages if isinstance(m, Status | Notice) or not self._memory.already_said(m)]

    def _deliver(self, touched: Iterable[Any]) -> None:
        for sink, wire in {sink: route.wire for route in touched for sink in route.sinks}.items():
            if n_dropped := sink.flush():
                self._tell_dropped(sink, wire, n_dropped)

    def _tell_dropped(self, sink: Sink, wire: str, n_dropped: int) -> None:
        reader = next((r for r in self._readers.values() if sink in r.sinks), None)
        if reader is not None:
            reader.n_dropped += n_dropped
            self._emit(t.EventDropped(self._now(), self.cluster, wire, reader.id, n_dropped))

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
        self._emit(t.WireSent(self._now(), self.cluster, "auth", ()))

    def online(self, recovery: Recovery | None) -> None:
        """The socket is authenticated: ask for everything wanted."""
        self._book.online()
        self._end_polling()
        self._is_online = True
        self._live_at = self._now()
        if recovery is not None and self._gap_from_ns is not None:
            wires = tuple(topic.wire for topic in self._book.wanted)
            self.counts["reconnects"] += 1
            self._emit(t.Reconnected(self._live_at, self.cluster, recovery.outage_s, recovery.attempt, len(wires)))
            gap = Gap(self.cluster, wires, self._gap_from_ns, self._clock.now_ns())
            self.gaps.append(gap)
            self._emit(t.GapDetected(self._live_at, self.cluster, wires, gap.start_ns, gap.end_ns))
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
        lost = [topic for topic in self._book.wanted if not self._can_poll(topic)]
        self._act(self._book.fail_all(error.message, lost), error)

    def changed(self) -> None:
        """Tell what the machine went through, and act on it."""
        machine = self._feed.machine
        changes, machine.changes[:] = list(machine.changes), []
        for change in changes:
            self._since_ns = self._clock.now_ns()
            self._emit(t.FeedStateChanged(self._now(), self.cluster, change.previous, change.state, change.reason))
            if change.state == "live":
                self._end_polling()
        self._kick.set()

    # ---- life

    def _start(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
        task = self._tasks.get(name)
        if task is None:
            task = asyncio.get_running_loop().create_task(work(), name=f"massive_lab {self.cluster} {name}")
            task.add_done_callback(self._ended)
            self._tasks[name] = task
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        if "polling" in task.get_name():
            self._tasks = {name: kept for name, kept in self._tasks.items() if kept is not task}
        if task.cancelled() or (error := task.exception()) is None:
            return
        _log.error("%s ended with an error", task.get_name(), exc_info=error)
        wrapped = ConnectionLost(f"{task.get_name()} failed: {type(error).__name__}.", hint="This is a fault; see the log.")
        wrapped.__cause__ = error
        self.errors.append(wrapped)
        if "polling" not in task.get_name() and not self._is_closed:
            self.over(wrapped)

    async def aclose(self) -> None:
        """Close the socket and end every task. Idempotent."""
        self._is_closed = True
        self._end_polling()
        self._feed.machine.close()
        tasks, self._tasks = list(self._tasks.values()), {}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
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
        """One row per wanted topic.

        Returns
        -------
        polars.DataFrame
            ``cluster topic readers state since messages bytes last_event duplicates_avoided``. ``since`` and
            ``last_event`` are UTC ns; ``last_event`` is the event's own time, null before the first; ``bytes`` is the
            topic's share of its frames; ``duplicates_avoided`` counts openings that needed nothing from the server.
        """
        rows = []
        for topic in self._book.wanted:
            tally = self._routes.tally(topic)
            assert tally is not None
            last = tally.last.ts_event if tally.last else None
            rows.append((
                self.cluster, topic.wire, len(self._book.readers(topic)), self._book.state(topic), tally.since_ns,
                tally.n_messages, round(tally.n_bytes), last, self._book.avoided(topic),
            ))  # fmt: skip
        return pl.DataFrame(rows, schema=TOPIC_COLUMNS, orient="row")

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


TOPIC_COLUMNS = {
    "cluster": pl.String(),
    "topic": pl.String(),
    "readers": pl.Int64(),
    "state": pl.String(),
    "since": _TS,
    "messages": pl.Int64(),
    "bytes": pl.Int64(),
    "last_event": _TS,
    "duplicates_avoided": pl.Int64(),
}


class _ById:
    """A telemetry as a dictionary key: it is a plain dataclass and does not hash."""

    __slots__ = ("telemetry",)

    def __init__(self, telemetry: t.Telemetry) -> None:
        self.telemetry = telemetry

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ById) and other.telemetry is self.telemetry

    def __hash__(self) -> int:
        return id(self.telemetry)


def _statuses(others: Iterable[Message]) -> list[Status]:
    return [message for message in others if isinstance(message, Status)]


def _denial(denied: refs.Denied) -> SubscriptionFailed:
    hint = "The plan lacks this topic." if "not authorized" in denied.reason else "Check the topic and the plan."
    return SubscriptionFailed(denied.topic.wire, denied.reason, symbol=denied.topic.symbol, hint=hint)


def _failure(topic: Topic, cause: TransportError) -> SubscriptionFailed:
    error = SubscriptionFailed(topic.wire, cause.message.rstrip("."), symbol=topic.symbol, hint=cause.hint)
    error.__cause__ = cause
    return error


def _in_regular_session(now_ns: int) -> bool:
    return phase_at(now_ns) == "regular"
