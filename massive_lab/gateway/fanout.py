"""From one upstream event to all clients that want it: encoded once, cut once, framed once for each set of topics.

Clients with the same topics form a group. For each frame of the vendor's the events are assigned to groups by one look-up
each; a group that wants all of them gets the vendor's bytes as they are, any other gets the bytes of its items cut out and
joined. The frame is built once for a group and handed to each of its clients. Nothing is parsed into fields and written
again, so no field of the vendor's is lost, known or not.

Pure: clients are told what to send by a call, and do their own waiting.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from massive_lab.decode.stream import Event, Message
from massive_lab.gateway.frames import array, encode_event, text_frame
from massive_lab.live.routes import EVENT_TYPES
from massive_lab.live.stitch.keys import moment_ms

__all__ = ["Batch", "Client", "Counts", "Fanout", "HubSink"]

_CHANNEL_OF = {event_type: channel for channel, event_type in EVENT_TYPES.items()}
_MAX_WHOLE = 1_000_000
_ROUTES = 50_000
"""Symbols whose groups are remembered; wildcards may bring many."""


class Client(Protocol):
    """Who gets events. The same object must not be equal to another."""

    @property
    def topics(self) -> Mapping[str, int]:
        """Wire names of what it wants, and when (UTC ns) it began to."""
        ...

    @property
    def is_behind(self) -> bool:
        """Whether something waits for it already."""
        ...

    def offer(self, batch: Batch) -> None:
        """Take the events of one frame. It must not block, and must not raise."""
        ...


class Batch:
    """The events of one group in one upstream frame.

    Attributes
    ----------
    events : sequence of Event
    items : sequence of bytes
        The JSON text of each.
    frame : bytes
        Ready for the wire; empty where it would be more than a client may read, and the items have to be queued.
    """

    __slots__ = ("events", "frame", "items")

    def __init__(self, events: Sequence[Event], items: Sequence[bytes], whole: bytes | None = None) -> None:
        self.events = events
        self.items = items
        payload = array(items) if whole is None else whole
        self.frame = text_frame(payload) if len(payload) < _MAX_WHOLE else b""


class _Group:
    """Clients that want the same."""

    __slots__ = ("clients", "picked", "wires")

    def __init__(self, wires: frozenset[str]) -> None:
        self.wires = wires
        self.clients: dict[Client, None] = {}
        self.picked: list[int] = []


@dataclass(slots=True)
class Counts:
    """Totals since the start."""

    events: int = 0
    """That came from upstream."""
    delivered: int = 0
    """Events times the clients they were handed to."""
    frames: int = 0
    """Handed to clients."""


class Fanout:
    """The clients of one cluster and what each wants.

    Examples
    --------
    >>> class Printer:
    ...     topics = {"T.AAPL": 0}
    ...     def offer(self, batch): print(batch.items)
    >>> from massive_lab.decode.stream import Trade
    >>> fanout, trade = Fanout(), Trade("AAPL", 1, 5.0, source="poll")
    >>> fanout.changed(Printer())
    >>> fanout.publish([trade], [encode_event(trade)])
    [b'{"ev":"T","sym":"AAPL","t":1,"p":5,"src":"poll"}']
    """

    def __init__(self) -> None:
        self.counts = Counts()
        self._groups: dict[frozenset[str], _Group] = {}
        self._group_of: dict[Client, _Group] = {}
        self._by_wire: dict[str, dict[_Group, None]] = {}
        self._routes: dict[type, dict[str, tuple[_Group, ...]]] = {event_type: {} for event_type in _CHANNEL_OF}
        self._changed: dict[Client, None] = {}

    @property
    def n_groups(self) -> int:
        """Distinct sets of topics."""
        self._regroup()
        return len(self._groups)

    @property
    def is_behind(self) -> bool:
        """Whether something waits for any client."""
        return any(client.is_behind for client in self._group_of)

    def changed(self, client: Client) -> None:
        """What a client wants has changed; known once more is published, however often it changed until then."""
        self._changed[client] = None

    def leave(self, client: Client) -> None:
        """Send a client nothing more."""
        self._changed.pop(client, None)
        self._move(client, None)

    def publish(self, events: Sequence[Event], items: Sequence[bytes], whole: bytes | None = None) -> None:
        """Hand on events with the JSON text of each; `whole` is the array of all of them, where there is one."""
        if self._changed:
            self._regroup()
        self.counts.events += len(events)
        touched: list[_Group] = []
        routes = self._routes
        for number, event in enumerate(events):
            groups = routes[type(event)].get(event.symbol)
            if groups is None:
                groups = self._find(event)
            for group in groups:
                if not group.picked:
                    touched.append(group)
                group.picked.append(number)
        for group in touched:
            picked, group.picked = group.picked, []
            if len(picked) == len(events):
                batch = Batch(events, items, whole)
            else:
                batch = Batch([events[number] for number in picked], [items[number] for number in picked])
            self._hand(list(group.clients), batch)

    def publish_late(self, events: Sequence[Event], since_ms: Callable[[int], int | None]) -> None:
        """Hand on events of the past. A client gets none that is older than its wish for them.

        Parameters
        ----------
        since_ms : callable
            The exchange's time (UTC ms) from which on a topic wanted since a UTC instant (ns) is due; None: all is.
        """
        self._regroup()
        items = [encode_event(event) for event in events]
        picked: dict[Client, list[int]] = {}
        for number, event in enumerate(events):
            wires = f"{_CHANNEL_OF[type(event)]}.{event.symbol}", f"{_CHANNEL_OF[type(event)]}.*"
            for group in self._find(event):
                for client in group.clients:
                    wanted = min(client.topics[wire] for wire in wires if wire in client.topics)
                    since = since_ms(wanted)
                    if since is None or moment_ms(event) >= since:
                        picked.setdefault(client, []).append(number)
        for client, numbers in picked.items():
            batch = Batch([events[number] for number in numbers], [items[number] for number in numbers])
            self._hand([client], batch)

    def _hand(self, clients: Sequence[Client], batch: Batch) -> None:
        self.counts.delivered += len(batch.events) * len(clients)
        self.counts.frames += len(clients)
        for client in clients:
            client.offer(batch)

    def _find(self, event: Event) -> tuple[_Group, ...]:
        kind = type(event)
        channel = _CHANNEL_OF[kind]
        single, wide = self._by_wire.get(f"{channel}.{event.symbol}", {}), self._by_wire.get(f"{channel}.*", {})
        known = self._routes[kind]
        if len(known) >= _ROUTES:
            known.clear()
        # A group that wants both the single and the wildcard gets the event once.
        found = known[event.symbol] = tuple(dict.fromkeys((*single, *wide)))
        return found

    def _regroup(self) -> None:
        changed, self._changed = self._changed, {}
        for client in changed:
            self._move(client, frozenset(client.topics) or None)

    def _move(self, client: Client, wires: frozenset[str] | None) -> None:
        old = self._group_of.pop(client, None)
        if old is not None:
            del old.clients[client]
            if not old.clients:
                self._drop(old)
        if wires is None:
            return
        group = self._groups.get(wires)
        if group is None:
            group = self._groups[wires] = _Group(wires)
            for wire in wires:
                self._by_wire.setdefault(wire, {})[group] = None
            self._forget_routes()
        group.clients[client] = None
        self._group_of[client] = group

    def _drop(self, group: _Group) -> None:
        del self._groups[group.wires]
        for wire in group.wires:
            groups = self._by_wire[wire]
            del groups[group]
            if not groups:
                del self._by_wire[wire]
        self._forget_routes()

    def _forget_routes(self) -> None:
        for routes in self._routes.values():
            routes.clear()


class HubSink:
    """Where a hub's events end: one sink for all topics of the cluster, which hands each frame's events to the fan-out.

    Parameters
    ----------
    fanout : Fanout
    heard : callable
        ``Hub.heard``: the newest frame and what was read from it.
    late : callable
        Takes what was missed and fetched: it may be more than clients can be given at once.
    """

    def __init__(
        self,
        fanout: Fanout,
        heard: Callable[[], tuple[bytes, Sequence[Message]]],
        late: Callable[[Sequence[Event]], None],
    ) -> None:
        self.inbox: list[Event] = []
        self._fanout = fanout
        self._heard = heard
        self._late = late
        self._decoder = msgspec.json.Decoder(list[msgspec.Raw])

    def flush(self) -> int:
        """Hand on what the hub has put into the inbox. Nothing is dropped here."""
        events = self.inbox[:]
        # The hub holds on to this very list.
        self.inbox.clear()
        if not events:
            return 0
        frame, messages = self._heard()
        places = _places(events, messages)
        if places is not None:
            self._streamed(events, places, frame, len(messages))
            return 0
        if events[0].source == "backfill":
            self._late(events)
        else:
            self._fanout.publish(events, [encode_event(event) for event in events])
        return 0

    def _streamed(self, events: list[Event], places: Sequence[int], frame: bytes, n_messages: int) -> None:
        items = self._cut(frame)
        if len(items) != n_messages:
            # Something in it could not be read, so that it is not known which text is whose.
            self._fanout.publish(events, [encode_event(event) for event in events])
        elif len(events) == n_messages:
            self._fanout.publish(events, items, frame)
        else:
            self._fanout.publish(events, [items[place] for place in places])

    def _cut(self, frame: bytes) -> list[bytes]:
        """The text of each item of a frame; nothing where it is not JSON by the letter."""
        try:
            if not frame.isascii():
                frame.decode()  # fields that nobody reads are not looked at by the parser
            return [bytes(item) for item in self._decoder.decode(frame)]
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return []


def _places(events: Sequence[Event], messages: Sequence[Message]) -> Sequence[int] | None:
    """Where in a frame events stand, which are in its order; None when they are not of it: polled or backfilled."""
    if len(events) == len(messages) and events[0] is messages[0]:
        return range(len(events))
    places = []
    at = 0
    for event in events:
        while at < len(messages) and messages[at] is not event:
            at += 1
        if at == len(messages):
            return None
        places.append(at)
        at += 1
    return places
