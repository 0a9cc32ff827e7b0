"""From an event to the inboxes that want it, in one dictionary look-up. Pure; used by the loop thread alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from massive_lab.decode.stream import Event, IndexValue, Message, MinuteBar, Quote, SecondBar, Trade
from massive_lab.live.stitch.keys import moment_ms
from massive_lab.live.topics import Topic

__all__ = ["EVENT_TYPES", "Routes", "Sink", "Tally"]

EVENT_TYPES: dict[str, type] = {"T": Trade, "Q": Quote, "A": SecondBar, "AM": MinuteBar, "V": IndexValue}
_CHANNEL_OF = {event_type: channel for channel, event_type in EVENT_TYPES.items()}
_STRAYS = 10_000


class Sink(Protocol):
    """Where events end: a mailbox or a rolling table."""

    inbox: list[Event]

    def flush(self) -> int:
        """Take the inbox over; how many events were dropped for it."""
        ...


class Tally:
    """What came for one topic."""

    __slots__ = ("last", "n_bytes", "n_messages", "since_ns", "sinks")

    def __init__(self, since_ns: int) -> None:
        self.since_ns = since_ns
        self.n_messages = 0
        self.n_bytes = 0.0
        self.last: Event | None = None
        self.sinks: dict[Sink, int] = {}


class _Route:
    __slots__ = ("inboxes", "last", "ms", "n", "sinks", "tallies", "wire")

    def __init__(self, wire: str) -> None:
        self.wire = wire
        self.n = 0
        self.ms = -1
        self.last: Event | None = None
        self.tallies: tuple[Tally, ...] = ()
        self.sinks: tuple[Sink, ...] = ()
        self.inboxes: tuple[list[Event], ...] = ()


class Routes:
    """The topics of one cluster and who gets their events.

    Examples
    --------
    >>> routes, topic = Routes(), Topic("stocks", "T", "AAPL")
    >>> routes.open(topic, now_ns=0)
    >>> touched, others = routes.dispatch([Trade("AAPL", 1, 5.0), Trade("MSFT", 1, 5.0)], ts_recv=7)
    >>> routes.finish(touched, n_bytes=200, n_events=2)
    (('T.AAPL', 1), ('T.MSFT', 1))
    >>> routes.tally(topic).n_messages, routes.newest[Trade, "AAPL"].ts_recv
    (1, 7)
    """

    def __init__(self) -> None:
        self._by_type: dict[type, dict[str, _Route]] = {event_type: {} for event_type in _CHANNEL_OF}
        self._tallies: dict[tuple[type, str], Tally] = {}
        self.newest = _Newest(self._by_type)

    def open(self, topic: Topic, now_ns: int) -> None:
        """Begin to count a topic."""
        key = EVENT_TYPES[topic.channel], topic.symbol
        if key not in self._tallies:
            self._tallies[key] = Tally(now_ns)
            self._renew(topic)

    def close(self, topic: Topic) -> None:
        """Forget a topic, its counts and its sinks."""
        event_type = EVENT_TYPES[topic.channel]
        self._tallies.pop((event_type, topic.symbol), None)
        self._renew(topic)
        routes = self._by_type[event_type]
        for symbol in [s for s, route in routes.items() if not route.tallies] if topic.is_wildcard else [topic.symbol]:
            if symbol in routes and not routes[symbol].tallies:
                del routes[symbol]

    def attach(self, topic: Topic, sinks: Iterable[Sink]) -> None:
        """Send the events of an open topic to these too. Attached twice, a sink still gets each event once."""
        held = self._tallies[EVENT_TYPES[topic.channel], topic.symbol].sinks
        for sink in sinks:
            held[sink] = held.get(sink, 0) + 1
        self._renew(topic)

    def detach(self, topic: Topic, sinks: Iterable[Sink]) -> None:
        """Undo one `attach`; nothing when the topic is gone."""
        tally = self._tallies.get((EVENT_TYPES[topic.channel], topic.symbol))
        if tally is None:
            return
        for sink in sinks:
            left = tally.sinks.get(sink, 0) - 1
            if left > 0:
                tally.sinks[sink] = left
            else:
                tally.sinks.pop(sink, None)
        self._renew(topic)

    def tally(self, topic: Topic) -> Tally | None:
        """The counts of a topic."""
        return self._tallies.get((EVENT_TYPES[topic.channel], topic.symbol))

    def told_by_rest(self, topic: Topic) -> list[Event]:
        """The newest event of each symbol of a topic, where it did not come by the stream."""
        routes = self._by_type[EVENT_TYPES[topic.channel]]
        found = routes.values() if topic.is_wildcard else filter(None, [routes.get(topic.symbol)])
        return [route.last for route in found if route.last is not None and route.last.source != "stream"]

    def last_streamed(self) -> Event | None:
        """Of the newest events of all symbols, the one the stream brought last."""
        newest: Event | None = None
        for routes in self._by_type.values():
            for route in routes.values():
                event = route.last
                if event is None or event.source != "stream":
                    continue
                if newest is None or (event.ts_recv, event.ms) > (newest.ts_recv, newest.ms):
                    newest = event
        return newest

    def _renew(self, topic: Topic) -> None:
        event_type = EVENT_TYPES[topic.channel]
        routes = self._by_type[event_type]
        if topic.is_wildcard:
            for symbol, route in routes.items():
                self._wire_up(event_type, symbol, route)
        elif topic.symbol in routes:
            self._wire_up(event_type, topic.symbol, routes[topic.symbol])

    def _wire_up(self, event_type: type, symbol: str, route: _Route) -> None:
        found = (self._tallies.get((event_type, symbol)), self._tallies.get((event_type, "*")))
        route.tallies = tuple(tally for tally in found if tally is not None)
        # A sink that wants both the single and the wildcard gets the event once.
        route.sinks = tuple(dict.fromkeys(sink for tally in route.tallies for sink in tally.sinks))
        route.inboxes = tuple(sink.inbox for sink in route.sinks)

    def _resolve(self, event_type: type, symbol: str) -> _Route:
        routes = self._by_type[event_type]
        route = _Route(f"{_CHANNEL_OF[event_type]}.{symbol}")
        self._wire_up(event_type, symbol, route)
        if not route.tallies and len(routes) >= _STRAYS:
            for stray in [s for s, known in routes.items() if not known.tallies]:
                del routes[stray]
        routes[symbol] = route
        return route

    def dispatch(self, messages: Iterable[Message], ts_recv: int) -> tuple[list[_Route], list[Message]]:
        """Put the events of one frame into the inboxes, in order.

        Returns
        -------
        touched, others
            The routes that got events, for `finish`; and what is no event: statuses and notices.
        """
        by_type = self._by_type
        touched: list[_Route] = []
        others: list[Message] = []
        for message in messages:
            # An event that nobody has asked for yet, or a message that is no event, costs a look-up more.
            try:
                route = by_type[type(message)][message.symbol]  # type: ignore[union-attr, index]
            except KeyError:
                if type(message) not in by_type:
                    others.append(message)
                    continue
                route = self._resolve(type(message), message.symbol)  # type: ignore[union-attr, arg-type]
            event: Event = message  # type: ignore[assignment]
            event.ts_recv = ts_recv
            if not route.n:
                touched.append(route)
            route.n += 1
            if event.ms >= route.ms:
                route.ms = event.ms
                route.last = event
            for inbox in route.inboxes:
                inbox.append(event)
        return touched, others

    def dispatch_late(self, events: Iterable[Event], ts_recv: int, since_ms: Mapping[Sink, int]) -> list[_Route]:
        """As `dispatch`, for events of the past, which replace nothing newer.

        Parameters
        ----------
        events : iterable of Event
        ts_recv : int
        since_ms : mapping of Sink to int
            Sinks that came late, and the exchange's time (UTC ms) from which on they get anything.
        """
        touched: list[_Route] = []
        for event in events:
            kind = type(event)
            route = self._by_type[kind].get(event.symbol) or self._resolve(kind, event.symbol)
            event.ts_recv = ts_recv
            if not route.n:
                touched.append(route)
            route.n += 1
            for sink in route.sinks:
                # Who keeps the newest only has no use for what is older than that.
                is_stale = event.ms < route.ms and getattr(sink, "keeps_newest_only", False)
                if not is_stale and moment_ms(event) >= since_ms.get(sink, 0):
                    sink.inbox.append(event)
            # Of rows of one instant the last is the newest; what the stream brought in it stays.
            if event.ms > route.ms or (event.ms == route.ms and route.last is not None and route.last.source == "backfill"):
                route.ms = event.ms
                route.last = event
        return touched

    def finish(self, touched: Iterable[_Route], n_bytes: int, n_events: int) -> tuple[tuple[str, int], ...]:
        """Book a frame's counts; events per topic of the wire. Bytes are shared out by events."""
        each = n_bytes / n_events if n_events else 0.0
        counts = []
        for route in touched:
            n, route.n = route.n, 0
            counts.append((route.wire, n))
            for tally in route.tallies:
                tally.n_messages += n
                tally.n_bytes += n * each
                tally.last = route.last
        return tuple(counts)


class _Newest:
    """A view: the newest event of (type, symbol), whatever its source."""

    def __init__(self, by_type: dict[type, dict[str, _Route]]) -> None:
        self._by_type = by_type

    def get(self, key: tuple[type, str]) -> Event | None:
        route = self._by_type[key[0]].get(key[1])
        return route.last if route else None

    def __getitem__(self, key: tuple[type, str]) -> Event:
        event = self.get(key)
        if event is None:
            raise KeyError(key)
        return event

    def __iter__(self) -> Iterator[tuple[type, str]]:
        return ((kind, s) for kind, routes in self._by_type.items() for s, route in routes.items() if route.last)
