"""One WebSocket connection: carries out the session's effects, applies faults to frames, and counts what left."""

from __future__ import annotations

import asyncio
import struct
from collections import Counter
from collections.abc import Callable

from massive_lab.sandbox.counts import ConnectionCount, Counts
from massive_lab.sandbox.faults.book import FaultBook, Hit
from massive_lab.sandbox.faults.stream import STAGES, Close, Duplicate, Ending, Malformed, Mute, Reorder
from massive_lab.sandbox.faults.toxics import Down
from massive_lab.sandbox.pipe import Pipe
from massive_lab.sandbox.ws.feed import Feed
from massive_lab.sandbox.ws.session import MAX_CONNECTIONS_TEXT, Admit, Cut, Effect, Hold, Say, Session, status
from massive_lab.sandbox.ws.topics import split_param

__all__ = ["EVENTS_PER_FRAME", "Connection", "frame"]

EVENTS_PER_FRAME = 500
"""Items of at most a few hundred bytes each: far below the 1 MB at which clients give up."""

_ECHO_S = 2.0
_SHARE_S = 0.25
"""How long confirmations wait for events to share a frame with, while events flow."""


def frame(opcode: int, payload: bytes) -> bytes:
    r"""One unmasked, unfragmented WebSocket frame.

    Examples
    --------
    >>> frame(1, b"[]")
    b'\x81\x02[]'
    """
    size = len(payload)
    if size < 126:
        return struct.pack("!BB", 0x80 | opcode, size) + payload
    if size < 65_536:
        return struct.pack("!BBH", 0x80 | opcode, 126, size) + payload
    return struct.pack("!BBQ", 0x80 | opcode, 127, size) + payload


class Connection:
    """A connection after its upgrade.

    Parameters
    ----------
    pipe : Pipe
        Where frames are written.
    session, feed, book
        The rules, the events and the faults.
    counts : Counts
    count : ConnectionCount
        The counters of this connection.
    max_buffer_bytes : int
        Bytes a client may leave unread before it is cut as a slow consumer.
    on_admit : callable
        Told when the account is known, to enforce its number of connections.
    spared : set of str
        Ids of faults that have been decided in favour of this connection.
    """

    def __init__(
        self,
        pipe: Pipe,
        session: Session,
        feed: Feed,
        book: FaultBook,
        counts: Counts,
        count: ConnectionCount,
        *,
        labels: frozenset[str],
        max_buffer_bytes: int,
        on_admit: Callable[[Connection], None],
        spared: set[str],
    ) -> None:
        self.id = count.id
        self.pipe = pipe
        self.session = session
        self.count = count
        self.labels = labels
        self._feed = feed
        self._book = book
        self._counts = counts
        self._max_buffer_bytes = max_buffer_bytes
        self._on_admit = on_admit
        self._ending = False
        self._sharing: list[bytes] = []
        self._n_event_frames = 0
        self._held_back: tuple[bytes, Counter[str]] | None = None
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._spared = spared
        self._loop = asyncio.get_running_loop()

    # the feed's side

    def since(self, topic: str) -> int | None:
        return None if self._ending else self.session.since(topic)

    def send_events(self, items: list[tuple[str, bytes]]) -> None:
        """Send events in as few frames as the vendor's batching allows, through the armed faults."""
        quiet = len(self._book) == 0
        if not quiet:
            self._flush_sharing()
        if not quiet and self._book.armed(Mute):
            items = self._unmuted(items)
        for at in range(0, len(items), EVENTS_PER_FRAME):
            if self._ending:
                return
            batch = items[at : at + EVENTS_PER_FRAME]
            payload = b"[" + b",".join(item for _, item in batch) + b"]"
            topics = Counter(topic for topic, _ in batch)
            self._n_event_frames += 1
            if quiet:
                self._flush_held_back()
                statuses, self._sharing = self._sharing, []
                if statuses:
                    payload = b"[" + b",".join(statuses) + b"," + payload[1:]
                self._write(payload, topics, statuses=len(statuses))
            else:
                self._write_faulty(payload, topics)
        if self.pipe.n_buffered_bytes > self._max_buffer_bytes:
            self._write(b"[" + status("slow_consumer", "Slow consumer: send buffer exceeded.") + b"]", statuses=1)
            self.cut("slow_consumer")

    def _unmuted(self, items: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
        muted = {
            topic
            for topic in sorted({topic for topic, _ in items})
            if self._book.draw(Mute, {topic, split_param(topic)[0] + ".*"}) is not None
        }
        return [item for item in items if item[0] not in muted] if muted else items

    def _write_faulty(self, payload: bytes, topics: Counter[str]) -> None:
        labels = self.labels | topics.keys() | {split_param(topic)[0] + ".*" for topic in topics}
        if self._book.draw(Mute, self.labels) is not None:
            return
        broken = self._book.draw(Malformed, labels)
        if broken is not None:
            payload, topics = broken.kind.frame(broken.rng, payload), Counter()
        if self._held_back is None and self._book.draw(Reorder, labels) is not None:
            self._held_back = payload, topics
            return
        self._write(payload, topics)
        if self._book.draw(Duplicate, labels) is not None:
            self._write(payload, topics)
        self._flush_held_back()

    def _flush_held_back(self) -> None:
        if self._held_back is not None:
            held, self._held_back = self._held_back, None
            self._write(*held)

    # the client's side

    def perform(self, effects: list[Effect]) -> None:
        """Carry out what a message brought about."""
        for effect in effects:
            if isinstance(effect, Say):
                self._say(effect.statuses)
            elif isinstance(effect, Cut):
                self.cut(effect.reason)
            elif isinstance(effect, Admit):
                self.count.account = effect.account.name
                self._on_admit(self)
            elif isinstance(effect, Hold):
                self._feed.hold(effect.param, effect.since_ns)
            else:
                self._feed.release(effect.param)
        self.check_endings()

    def _say(self, statuses: tuple[bytes, ...]) -> None:
        """Send statuses at once or, as the vendor does, in one frame with the events that come next."""
        self._sharing.extend(statuses)
        if self._n_event_frames and self._feed.is_running and len(self._book) == 0:
            self._loop.call_later(_SHARE_S, self._flush_sharing)
        else:
            self._flush_sharing()

    def _flush_sharing(self) -> None:
        if self._sharing:
            statuses, self._sharing = self._sharing, []
            self._write(b"[" + b",".join(statuses) + b"]", statuses=len(statuses))

    def evict(self) -> None:
        """One connection too many: say so and close with 1008."""
        self._flush_sharing()
        self._write(b"[" + status("max_connections", MAX_CONNECTIONS_TEXT) + b"]", statuses=1)
        self.close(1008, "", by="max_connections")

    def close(self, code: int, reason: str, *, by: str) -> None:
        """Close frame, then TCP when the client has echoed it, or soon."""
        if self._ending:
            return
        self._flush_sharing()
        self._end(by)
        self.pipe.write(frame(8, struct.pack("!H", code) + reason.encode()[:120]))
        self._loop.call_later(_ECHO_S, self.pipe.cut)

    def cut(self, by: str) -> None:
        """TCP ends without a close frame."""
        self._flush_sharing()
        self._end(by)
        self.pipe.cut()

    def reset(self, by: str) -> None:
        """RST."""
        self._end(by)
        self.pipe.reset()

    def client_closed(self, code: int | None) -> None:
        """Echo the client's close frame, or take its echo of ours, and finish."""
        if not self._ending:
            self._end("client")
            self.pipe.write(frame(8, b"" if code is None else struct.pack("!H", code)))
        self.pipe.cut()

    def gone(self) -> None:
        """The connection is lost, whoever ended it."""
        self._end("fault" if self.pipe.ended_by_fault else "client")
        for timer in self._timers.values():
            timer.cancel()

    # faults on the connection's life

    def faults_changed(self) -> None:
        """Attach and detach what acts on bytes, release a held frame, start and stop endings."""
        self.pipe.refresh(self._book)
        if not self._book.armed(Reorder) and not self._ending:
            self._flush_held_back()
        self.check_endings()

    def check_endings(self) -> None:
        """Start the faults that end this connection, once it has reached their stage."""
        if self._ending:
            return
        armed = {fault.id: fault for fault in self._book.faults() if isinstance(fault.kind, Ending | Down)}
        for name in [name for name in self._timers if name not in armed]:
            self._timers.pop(name).cancel()
        self._spared &= armed.keys()
        reached = STAGES.index(self.session.stage)
        early = {
            name
            for name, fault in armed.items()
            if isinstance(fault.kind, Ending) and STAGES.index(fault.kind.stage) > reached
        }
        known = early | self._timers.keys() | self._spared
        for down in self._book.draw_all(Down, self.labels - {"*"}, "down", known):
            if isinstance(down, Hit):
                self.reset("fault")
                return
            self._spared.add(down)
        for hit in self._book.draw_all(Ending, self.labels, "down", known):
            if isinstance(hit, Hit):
                self._timers[hit.fault.id] = self._loop.call_later(hit.kind.after_s, self._strike, hit.kind)
            else:
                self._spared.add(hit)

    def _strike(self, kind: Ending) -> None:
        if isinstance(kind, Close):
            self.close(kind.code, kind.reason, by="fault")
        else:
            self.cut("fault")

    def _end(self, by: str) -> None:
        if not self._ending:
            self._ending = True
            self.count.ended_by = by

    def _write(self, payload: bytes, topics: Counter[str] | None = None, *, statuses: int = 0) -> None:
        if self._ending:
            return
        self.pipe.write(frame(1, payload))
        self.pipe.down.mark(lambda: self._count_frame(len(payload), topics, statuses))

    def _count_frame(self, size: int, topics: Counter[str] | None, statuses: int) -> None:
        n_events = topics.total() if topics else 0
        cluster = self._counts.cluster(self.session.cluster)
        for count in (self.count, cluster):
            count.frames += 1
            count.events += n_events
            count.statuses += statuses
            count.sent_bytes += size
        if topics:
            cluster.topics.update(topics)
