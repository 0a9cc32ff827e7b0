"""Where readers of a hub come and go, and are told what became of their topics."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import TYPE_CHECKING

from massive_lab import telemetry as t
from massive_lab.live.outcomes import Closed, Confirmed, Denied, Opened, Outcome
from massive_lab.live.readers import HubReader, Listener, denial
from massive_lab.live.routes import Sink
from massive_lab.live.topics import Topic

if TYPE_CHECKING:
    from massive_lab.live.hub import Hub

__all__ = ["Desk"]


class Desk:
    """The readers of one hub; on the loop thread.

    Attributes
    ----------
    readers : dict of str to HubReader
        The open ones by id, in the order they came.
    """

    def __init__(self, hub: Hub) -> None:
        self.readers: dict[str, HubReader] = {}
        self._ids = itertools.count(1)
        self._hub = hub

    def open(self, topic: Topic, sinks: tuple[Sink, ...], listener: Listener, name: str, caller: str | None) -> HubReader:
        """A reader comes."""
        hub = self._hub
        reader = HubReader(f"{name}#{next(self._ids)}", topic, sinks, listener, caller, hub.clock.now_ns())
        outcomes = hub.book.open(topic, reader.id)
        self.readers[reader.id] = reader
        hub.routes.open(topic, hub.clock.now_ns())
        hub.routes.attach(topic, reader.sinks)
        hub.emit(t.ReaderOpened(hub.now(), hub.cluster, topic.wire, reader.id, caller))
        already = hub.is_confirmed(topic) and Confirmed(topic) not in outcomes
        hub.watch.joined(reader)
        self.act(outcomes)
        if already:
            reader.listener.confirmed(topic)
        hub.refusal.tell(reader)
        return reader

    def close(self, reader: HubReader) -> None:
        """A reader leaves."""
        hub = self._hub
        self.forget(reader)
        self.act(hub.book.close(reader.topic, reader.id, hub.now()))

    def forget(self, reader: HubReader) -> None:
        """Send a reader nothing more."""
        hub = self._hub
        reader.is_open = False
        self.readers.pop(reader.id, None)
        hub.routes.detach(reader.topic, reader.sinks)
        hub.watch.left(reader)
        hub.emit(t.ReaderClosed(hub.now(), hub.cluster, reader.topic.wire, reader.id, reader.n_dropped))

    def act(self, outcomes: Iterable[Outcome]) -> None:
        """Do and tell what the book says."""
        hub = self._hub
        now = hub.now()
        for outcome in outcomes:
            topic = outcome.topic
            if not isinstance(outcome, Confirmed):
                hub.fallback.topics_changed()
            if isinstance(outcome, Opened):
                hub.watch.opened(topic)
                hub.emit(t.TopicOpened(now, hub.cluster, topic.wire))
            elif isinstance(outcome, Confirmed):
                hub.watch.confirmed(topic)
                hub.gaps.confirmed(topic)
                hub.emit(t.TopicConfirmed(now, hub.cluster, topic.wire))
                for reader_id in hub.book.readers(topic):
                    self.readers[reader_id].listener.confirmed(topic)
            elif isinstance(outcome, Closed):
                hub.routes.close(topic)
                hub.watch.closed(topic)
                hub.gaps.closed(topic)
                hub.emit(t.TopicClosed(now, hub.cluster, topic.wire))
            else:
                self._tell_denied(outcome)

    def _tell_denied(self, denied: Denied) -> None:
        hub = self._hub
        hub.emit(t.SubscriptionDenied(hub.now(), hub.cluster, denied.topic.wire, denied.reason))
        for reader_id in denied.readers:
            reader = self.readers[reader_id]
            self.forget(reader)
            reader.listener.failed(denied.topic, denial(denied))

    def tell_dropped(self, sink: Sink, wire: str, n_dropped: int) -> None:
        """A sink lost events by its own rule."""
        hub = self._hub
        reader = next((reader for reader in self.readers.values() if sink in reader.sinks), None)
        if reader is not None:
            reader.n_dropped += n_dropped
            hub.emit(t.EventDropped(hub.now(), hub.cluster, wire, reader.id, n_dropped))
