"""What was missed while a socket was down, and its repair: the shell around `massive_lab.live.stitch.stitcher.Stitcher`.

After an outage one task asks REST for each topic that is still read, and delivers what the stream has not, in the order of
the exchange and marked ``backfill``. Lost again, the task is cancelled and the gaps stay open until the next return.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

from massive_lab import telemetry as t
from massive_lab.decode.stream import Event, Message
from massive_lab.errors import MassiveLabError, TransportError
from massive_lab.live.routes import Sink
from massive_lab.live.stitch.events import to_events
from massive_lab.live.stitch.span import Request, Span
from massive_lab.live.stitch.stitcher import Stitcher
from massive_lab.live.topics import Topic, covers
from massive_lab.loaders.backfill import Filled
from massive_lab.typing import Cluster

if TYPE_CHECKING:
    from massive_lab.live.hub import Hub

__all__ = ["Filler", "Gaps"]


class Filler(Protocol):
    """What the stitch asks of REST; `massive_lab.loaders.backfill.Backfiller` is one."""

    async def fill(
        self, cluster: Cluster, channel: str, symbol: str, start_ns: int, end_ns: int, *, max_rows: int
    ) -> Filled:
        """The rows of one topic in ``[start_ns, end_ns)``, UTC."""
        ...


class Gaps:
    """The outages of one hub.

    Attributes
    ----------
    fillers : list of Filler
        The REST clients of those who use the hub; the first serves all.
    is_online, was_online : bool
        Whether the socket serves now; whether it ever did.
    """

    def __init__(self, hub: Hub) -> None:
        self.fillers: list[Filler] = []
        self.is_online = False
        self.was_online = False
        self._hub = hub
        self._stitcher = Stitcher(hub.policy, hub.routes.newest.get)
        self._task: asyncio.Task[None] | None = None
        self._gate = asyncio.Semaphore(hub.policy.stitch_parallel)

    def heard(self, messages: list[Message], now_ns: int) -> list[Message]:
        """A frame came over the live socket; gives back what is to be delivered."""
        return self._stitcher.heard(messages, now_ns)

    def asked(self, topics: Iterable[Topic]) -> None:
        """The stream was asked for topics: it may begin with what REST has told of them, however long ago that was."""
        hub = self._hub
        told = [event for topic in topics for event in hub.routes.told_by_rest(topic)]
        hub.fallback.expect([event for event in told if event.source == "poll"])
        if filled := [event for event in told if event.source == "backfill"]:
            self._stitcher.expect(filled, hub.clock.now_ns())

    def polled(self, events: Sequence[Event], now_ns: int) -> None:
        """Events of a poll are delivered."""
        self._stitcher.told(events, now_ns)

    def offline(self, error: TransportError) -> None:
        """The socket is gone, or could not be opened again."""
        if not self.is_online:
            return
        self.is_online = False
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self._stitcher.lost(self._wanted(), error.message)
        self._tell()

    def online(self) -> None:
        """The socket is back."""
        hub = self._hub
        self.is_online = self.was_online = True
        ended = self._stitcher.returned(self._wanted(), hub.clock.now_ns(), self._unfillable)
        if ended:
            start_ns, end_ns = min(span.start_ns for span in ended), max(span.end_ns or 0 for span in ended)
            wires = tuple(span.topic.wire for span in ended)
            hub.emit(t.GapDetected(hub.now(), hub.cluster, wires, start_ns, end_ns))
        self._tell()
        if not self._stitcher.is_idle:
            self._task = hub.tasks.start("stitch", self._run, once=False)

    def confirmed(self, topic: Topic) -> None:
        """The stream brings a topic, or brings it again."""
        self._stitcher.confirmed(topic)

    def closed(self, topic: Topic) -> None:
        """A topic is no longer wanted."""
        self._stitcher.closed(topic)
        self._tell()

    def give_up(self, reason: str) -> None:
        """No gap is filled any more of those that wait."""
        self._stitcher.give_up_all(reason)
        self._tell()

    def rows(self) -> list[Span]:
        """The gaps so far, the last 10,000: one for each outage and topic."""
        return list(self._stitcher.rows)

    def exchange_ms(self, now_ns: int) -> int | None:
        """The exchange's time at a local instant, UTC ms; None before the first event."""
        return self._stitcher.exchange_ms(now_ns)

    def _wanted(self) -> dict[Topic, int]:
        hub = self._hub
        since = {topic: hub.routes.tally(topic) for topic in hub.book.wanted if hub.book.readers(topic)}
        return {topic: tally.since_ns for topic, tally in since.items() if tally is not None}

    def _unfillable(self, topic: Topic) -> str:
        if topic.is_wildcard:
            return "a wildcard names no symbol whose history could be asked for"
        if topic.kind == "values":
            return "REST keeps no history of index values; second bars have one"
        return "" if self.fillers else "there is no client to ask REST by"

    async def _run(self) -> None:
        hub = self._hub
        async with asyncio.TaskGroup() as group:
            while not self._stitcher.is_idle:
                for request in self._stitcher.due(hub.clock.now_ns()):
                    span = request.span
                    hub.emit(t.GapAsked(hub.now(), hub.cluster, span.topic.wire, span.attempts))
                    group.create_task(self._fill(request), name=f"massive_lab {hub.cluster} backfill")
                self._tell()
                await hub.clock.sleep(hub.policy.stitch_wait_s / 2)

    async def _fill(self, request: Request) -> None:
        hub, topic = self._hub, request.span.topic
        async with self._gate:
            if not self.fillers or not hub.book.readers(topic):
                self._stitcher.give_up(request.span, "nobody reads it any more")
            else:
                try:
                    filled = await self.fillers[0].fill(
                        hub.cluster, topic.channel, topic.symbol, request.start_ns, request.end_ns,
                        max_rows=hub.policy.stitch_max_rows,
                    )  # fmt: skip
                except MassiveLabError as error:
                    self._stitcher.failed(request, error, hub.clock.now_ns())
                else:
                    now_ns = hub.clock.now_ns()
                    rows = to_events(topic.channel, filled.frame)
                    cut = "" if filled.is_whole else filled.reason
                    self._deliver(request.span, self._stitcher.answered(request, rows, now_ns, cut=cut), now_ns)
        self._tell()
        hub.emit(t.GapAnswered(hub.now(), hub.cluster, topic.wire, request.span.attempts))

    def _deliver(self, span: Span, events: list[Event], now_ns: int) -> None:
        if not events:
            return
        hub = self._hub
        touched = hub.routes.dispatch_late(events, now_ns, self._late_sinks(span))
        hub.deliver(touched)
        hub.routes.finish(touched, 0, len(events))

    def _late_sinks(self, span: Span) -> dict[Sink, int]:
        """Sinks of readers that were opened after the gap began, and since when, by the exchange's clock."""
        readers = [reader for reader in self._hub.readers if covers(reader.topic, span.topic)]
        late = [reader for reader in readers if reader.opened_ns > span.start_ns]
        if not late:
            return {}
        # A sink that was there before by another reader is not late.
        early = {sink for reader in readers if reader.opened_ns <= span.start_ns for sink in reader.sinks}
        opened: dict[Sink, int] = {}
        for reader in late:
            for sink in set(reader.sinks) - early:
                opened[sink] = min(opened.get(sink, reader.opened_ns), reader.opened_ns)
        return {sink: self._stitcher.exchange_ms(since_ns) or 0 for sink, since_ns in opened.items()}

    def _tell(self) -> None:
        hub = self._hub
        for span in self._stitcher.take_ended():
            hub.emit(
                t.GapFilled(
                    hub.now(), hub.cluster, span.topic.wire, span.state, span.n_events, span.n_duplicates, span.reason
                )
            )
