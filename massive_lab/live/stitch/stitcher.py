r"""The stitch of one cluster as a pure machine: told what is delivered and when the socket goes and comes, it says what to ask
of REST, and what of the answers is to be delivered.

::

    open --the socket is back--> filling --REST reaches past the return--> filled
      ^                             |  \--bounded, or never seen to reach so far--> partial
      +--------lost again-----------+   \--no history, not in the plan, no answer--> unfilled
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence

from massive_lab.decode.stream import Bar, Event, Message, MinuteBar, Notice, Status
from massive_lab.errors import InvalidRequest, MassiveLabError, NotEntitled, RateLimited, Unauthorized, UnknownSymbol
from massive_lab.live.policy import Policy
from massive_lab.live.routes import EVENT_TYPES
from massive_lab.live.stitch.keys import Bag, Key, key_of
from massive_lab.live.stitch.span import BAR_LAG_MS, GapState, Request, Span
from massive_lab.live.stitch.tail import Tail
from massive_lab.live.topics import Topic

__all__ = ["Stitcher"]

_MS = 1_000_000
_KEPT = 10_000
_HELD = 16
_POLLED = 2_000
"""Polls of a topic that was first asked for in an outage: more than fit into the longest span that is fetched."""
_REPEAT_MS = 10_000
_REPEAT_NS = 30_000_000_000
_FINAL = (NotEntitled, Unauthorized, InvalidRequest, UnknownSymbol)


class Stitcher:
    """The gaps of one cluster.

    All times called ``now_ns`` are local UTC ns; the exchange's own time is inferred from the events.

    Parameters
    ----------
    policy : Policy
    newest : callable
        The newest event that was delivered of a type and symbol, or None.
    """

    def __init__(self, policy: Policy, newest: Callable[[Key], Event | None]) -> None:
        self._policy = policy
        self._newest = newest
        self._margin_ms = round(policy.stitch_margin_s * 1000)
        self._wait_ns = round(policy.stitch_wait_s * 1e9)
        self._max_ms = round(policy.stitch_max_s * 1000)
        self._tail = Tail(self._margin_ms + BAR_LAG_MS, policy.stitch_tail_events)
        self._live: dict[Key, list[Span]] = {}
        self._last_ns = 0
        self._is_online = False
        self._repeats: dict[Key, Bag] = {}
        self._repeats_until_ns = 0
        self._meanwhile: dict[Key, deque[Event]] = {}
        self._at_loss: dict[Key, list[Event]] = {}
        self._unserved: dict[Topic, Span] = {}
        self._ended: list[Span] = []
        self.rows: deque[Span] = deque(maxlen=_KEPT)
        """Every gap so far, the last 10,000, in the order they began."""

    # ---- what is delivered

    def heard(self, messages: list[Message], now_ns: int) -> list[Message]:
        """A frame of the live stream; gives back what of it a fill has not told already."""
        self._last_ns = now_ns
        if self._repeats:
            messages = self._without_repeats(messages, now_ns)
        self._tail.append(messages, now_ns)
        if self._live:
            for message in messages:
                if not isinstance(message, Status | Notice):
                    for span in self._live.get(key_of(message), ()):
                        span.streamed(message, now_ns, self._wait_ns)
        return messages

    def told(self, events: Sequence[Event], now_ns: int) -> None:
        """Polled or filled events are delivered."""
        self._tail.add(events, now_ns)
        for event in events:
            key = key_of(event)
            for span in self._live.get(key, ()):
                span.told(event, self._max_ms)
            if not self._is_online and key not in self._live:
                self._meanwhile.setdefault(key, deque(maxlen=_POLLED)).append(event)

    def expect(self, newest: Iterable[Event], now_ns: int) -> None:
        """The stream is about to begin anew for topics of which a fill has told these."""
        if now_ns > self._repeats_until_ns:
            self._repeats.clear()
        self._expect_repeats([event for event in newest if key_of(event) not in self._repeats], now_ns)

    def _without_repeats(self, messages: list[Message], now_ns: int) -> list[Message]:
        if now_ns > self._repeats_until_ns:
            self._repeats.clear()
            return messages
        kept: list[Message] = []
        for message in messages:
            if not isinstance(message, Status | Notice):
                bag = self._repeats.get(key_of(message))
                if bag is not None and bag.take(message):
                    continue
            kept.append(message)
        return kept

    # ---- the socket

    def lost(self, wanted: Mapping[Topic, int], cause: str) -> None:
        """The socket is gone.

        Parameters
        ----------
        wanted : mapping of Topic to int
            Topics with readers, and since when they are (UTC ns).
        cause : str
        """
        if not self._is_online:
            return
        self._is_online = False
        self._unserved.clear()
        held = self._at_loss = self._tail.by_key()
        still_open = {span.key for spans in self._live.values() for span in spans if span.lost()}
        for topic, since_ns in wanted.items():
            key = EVENT_TYPES[topic.channel], topic.symbol
            if key not in still_open:
                self._begin(self._span(topic, key, since_ns, held.get(key, []), cause))

    def _span(self, topic: Topic, key: Key, since_ns: int, held: list[Event], cause: str) -> Span:
        high_ms = self._tail.high_ms
        start_ns = max(self._last_ns, since_ns)
        if high_ms is None:
            return Span(topic, key, start_ns, cause, None)
        is_bar = issubclass(key[0], Bar)
        span_ms = 0 if not is_bar else 60_000 if key[0] is MinuteBar else 1_000
        lo_ms = high_ms - self._margin_ms - (span_ms + BAR_LAG_MS if is_bar else 0)
        asked_ms = (self._tail.exchange_ms(since_ns) or 0) - span_ms + is_bar
        if asked_ms > lo_ms:
            # Nothing from before it was asked for: from its first event on, or from the asking where there was none.
            lo_ms = max(lo_ms, held[0].ms if held else asked_ms)
        if self._tail.is_cut and not is_bar:
            known = held[0] if held else self._newest(key)
            if known is not None:
                lo_ms = max(lo_ms, known.ms + 1)
        last = self._newest(key) if is_bar else None
        held = [*held, last] if last is not None else held
        known_ms = last.ms if last is not None else -1
        before = [event for event in held if event.ms >= lo_ms]
        return Span(topic, key, start_ns, cause, lo_ms, before=before, known_ms=known_ms)

    def _begin(self, span: Span) -> None:
        self.rows.append(span)
        spans = self._live.setdefault(span.key, [])
        spans.append(span)
        if len(spans) > _HELD:
            self.give_up(spans[0], "the socket was lost again before it could be filled, too often")

    def returned(self, wanted: Mapping[Topic, int], now_ns: int, unfillable: Callable[[Topic], str]) -> list[Span]:
        """The socket is back; gives the gaps that end here.

        Parameters
        ----------
        wanted : mapping of Topic to int
            As for `lost`. What was first asked for meanwhile has a gap from then on.
        now_ns : int
        unfillable : callable
            Why a topic cannot be filled, or an empty text.
        """
        was_lost = bool(self._last_ns) and not self._is_online
        self._is_online = True
        self._last_ns = now_ns
        if not was_lost:
            return []
        cause = next((span.cause for span in reversed(self.rows)), "")
        for topic, since_ns in wanted.items():
            key = EVENT_TYPES[topic.channel], topic.symbol
            if not any(span.end_ns is None for span in self._live.get(key, ())):
                self._begin(self._asked_meanwhile(topic, key, since_ns, cause))
        self._meanwhile.clear()
        self._at_loss = {}
        ended = []
        for span in [span for spans in self._live.values() for span in spans]:
            if span.end_ns is None:
                ended.append(span)
                self._unserved[span.topic] = span
            span.returned(now_ns)
            if span.topic not in wanted:
                self._end(span, "unfilled", "nobody reads it any more")
            elif reason := unfillable(span.topic):
                self._end(span, "unfilled", reason)
        return ended

    def confirmed(self, topic: Topic) -> None:
        """The server brings a topic again."""
        if (span := self._unserved.pop(topic, None)) is not None:
            span.served(self._last_ns)

    def closed(self, topic: Topic) -> None:
        """A topic is no longer wanted. What waited for its confirmation waits in vain."""
        if (span := self._unserved.pop(topic, None)) is not None and not span.is_asking:
            self.give_up(span, "nobody reads it any more")

    def _asked_meanwhile(self, topic: Topic, key: Key, since_ns: int, cause: str) -> Span:
        asked_ms = self._tail.exchange_ms(since_ns)
        is_bar = issubclass(key[0], Bar)
        span_ms = 0 if not is_bar else 60_000 if key[0] is MinuteBar else 1_000
        lo_ms = None if asked_ms is None else asked_ms - span_ms + is_bar
        # What a wildcard had brought by the loss, and what polls have told while there was no gap yet.
        brought = [event for event in self._at_loss.get(key, []) if lo_ms is None or event.ms >= lo_ms]
        return Span(topic, key, since_ns, cause, lo_ms, before=[*brought, *self._meanwhile.get(key, ())])

    # ---- the fill

    def exchange_ms(self, now_ns: int) -> int | None:
        """The exchange's time at a local instant, UTC ms; None before the first event."""
        return self._tail.exchange_ms(now_ns)

    def give_up(self, span: Span, reason: str) -> None:
        """A gap is not worth another attempt."""
        if not span.is_over:
            self._end(span, "partial" if span.n_events else "unfilled", reason)

    def give_up_all(self, reason: str) -> None:
        """No gap is worth another attempt."""
        for span in [span for spans in self._live.values() for span in spans]:
            self.give_up(span, reason)

    def take_ended(self) -> list[Span]:
        """The gaps for which nothing more is tried, since the last call."""
        ended, self._ended = self._ended, []
        return ended

    @property
    def is_idle(self) -> bool:
        """Whether no gap waits for anything."""
        return not self._live

    def due(self, now_ns: int) -> list[Request]:
        """What to ask of REST now. Each is answered by `answered` or `failed`, unless the socket is lost before."""
        requests = []
        for span in [span for spans in self._live.values() for span in spans]:
            at_ns = span.due_ns(self._policy)
            if at_ns is None or at_ns > now_ns:
                continue
            now_ms = self._tail.exchange_ms(now_ns)
            if now_ms is None:
                self._end(span, "unfilled", "no event has told the exchange's time")
                continue
            if span.lo_ms is None:
                span.lo_ms = self._tail.exchange_ms(span.start_ns)
            requests.append(span.ask(now_ms, self._max_ms))
        return requests

    def answered(self, request: Request, rows: Sequence[Event], now_ns: int, *, cut: str = "") -> list[Event]:
        """What of an answer is to be delivered, in the order of the exchange; it counts as delivered from here on.

        Parameters
        ----------
        cut : str
            Why the answer is not whole; empty when it is.
        """
        span = request.span
        missing, reached = span.merge(rows)
        self.told(missing, now_ns)
        self._expect_repeats(missing, now_ns)
        if cut:
            self._end(span, "partial", cut)
        elif reached:
            self._end(span, "partial" if span.limit else "filled", span.limit)
        else:
            self._again(span, now_ns, "the history of REST has not reached past the return")
        return missing

    def failed(self, request: Request, error: MassiveLabError, now_ns: int) -> None:
        """There was no answer."""
        request.span.is_asking = False
        if isinstance(error, _FINAL):
            self.give_up(request.span, error.message)
        else:
            wait_s = error.retry_after_s if isinstance(error, RateLimited) else None
            self._again(request.span, now_ns, error.message, wait_s or 0.0)

    def _again(self, span: Span, now_ns: int, reason: str, wait_s: float = 0.0) -> None:
        policy = self._policy
        if span.attempts >= policy.stitch_attempts:
            self.give_up(span, reason)
            return
        delay_s = min(policy.stitch_backoff_cap_s, policy.stitch_wait_s * 2.0 ** min(span.attempts, 16))
        span.retry_ns = now_ns + round(max(delay_s, wait_s) * 1e9)

    def _end(self, span: Span, state: GapState, reason: str) -> None:
        span.end(state, reason)
        self._ended.append(span)
        spans = self._live[span.key]
        spans.remove(span)
        if not spans:
            del self._live[span.key]

    def _expect_repeats(self, filled: Iterable[Event], now_ns: int) -> None:
        """The stream may be about to bring what REST told first. A bar brought again replaces, so that does no harm."""
        ticks = [event for event in filled if not isinstance(event, Bar)]
        if not ticks:
            return
        recent_ms = max(event.ms for event in ticks) - _REPEAT_MS
        for event in ticks:
            if event.ms >= recent_ms:
                self._repeats.setdefault(key_of(event), Bag()).add(event)
        self._repeats_until_ns = now_ns + _REPEAT_NS
