"""One topic's share of an outage: from what was last delivered to what came first after the return."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from massive_lab.decode.stream import Bar, Event, MinuteBar, SecondBar
from massive_lab.live.policy import Policy
from massive_lab.live.stitch.keys import Bag, Key
from massive_lab.live.stitch.merge import missing_bars, missing_ticks
from massive_lab.live.topics import Topic

__all__ = ["BAR_LAG_MS", "GapState", "Request", "Span"]

_MS = 1_000_000
BAR_LAG_MS = 3_000
"""A bar is published this long after its end at the latest; a second bar takes about two seconds."""

_FULL = 1_000

GapState: TypeAlias = Literal["open", "filling", "filled", "partial", "unfilled"]


@dataclass(frozen=True, slots=True)
class Request:
    """What to ask of REST: ``[start_ns, end_ns)``, UTC, by the exchange's clock."""

    span: Span
    start_ns: int
    end_ns: int


@dataclass(slots=True, eq=False)
class Span:
    """A gap of one topic, and what is known around it.

    Attributes
    ----------
    start_ns, end_ns : int
        Local UTC ns of the last frame before the loss, and of the return: of the socket at first, and of the topic once it is
        confirmed again. `end_ns` is None while the socket is down.
    is_served : bool
        Whether the topic is confirmed since the return.
    lo_ms, hi_ms : int or None
        The exchange's times, both included, between which rows are looked for. `lo_ms` is None while no event has told the
        exchange's time; `hi_ms` until the stream has been back for a moment.
    known_ms : int
        A bar that starts earlier was delivered, also where it is not in `before`.
    before, since : list of Event
        Delivered in that range: before the return or by REST; and streamed since the return.
    """

    topic: Topic
    key: Key
    start_ns: int
    cause: str
    lo_ms: int | None
    before: list[Event] = field(default_factory=list)
    since: list[Event] = field(default_factory=list)
    hi_ms: int | None = None
    known_ms: int = -1
    end_ns: int | None = None
    state: GapState = "open"
    reason: str = ""
    n_events: int = 0
    n_duplicates: int = 0
    limit: str = ""
    attempts: int = 0
    retry_ns: int = 0
    is_asking: bool = False
    is_served: bool = False
    _first_ns: int | None = None
    _newest_ms: int = -1
    _asked_ms: int = 0
    _full_at: int = _FULL

    @property
    def is_over(self) -> bool:
        return self.state in ("filled", "partial", "unfilled")

    # ---- the socket

    def lost(self) -> bool:
        """The socket is gone again; False when the end of this span is known, so that a new one must begin."""
        self.is_asking = self.is_served = False
        self.attempts = self.retry_ns = 0
        self.state = "open"
        if self.hi_ms is None and self._first_ns is not None:
            # It was back too briefly to say where it came in: the two outages are one.
            self.hi_ms = self._newest_ms if self._newest_ms >= 0 else None
        if self.hi_ms is not None:
            return False
        self.end_ns = None
        return True

    def returned(self, now_ns: int) -> None:
        """The socket is back."""
        self.state = "filling"
        if self.end_ns is None:
            self.end_ns = now_ns
        self.retry_ns = 0

    def served(self, now_ns: int) -> None:
        """The topic is confirmed again: up to here the stream may have missed something."""
        self.is_served = True
        self.end_ns = now_ns

    # ---- what is delivered

    def told(self, event: Event, max_ms: int) -> None:
        """Something was delivered that the stream did not bring.

        Parameters
        ----------
        event : Event
        max_ms : int
            The longest span that is fetched: in a long outage, what was polled earlier is of no use.
        """
        if (self.lo_ms is None or event.ms >= self.lo_ms) and (self.hi_ms is None or event.ms <= self.hi_ms):
            self.before.append(event)
            if len(self.before) > self._full_at:
                self.before = [known for known in self.before if known.ms >= event.ms - max_ms]
                self._full_at = max(_FULL, 2 * len(self.before))

    def streamed(self, event: Event, now_ns: int, wait_ns: int) -> None:
        """An event of the stream since the return."""
        ms = event.ms
        if self.lo_ms is not None and ms < self.lo_ms:
            return
        if self.hi_ms is None:
            if self._first_ns is None:
                self._first_ns = now_ns
            elif now_ns - self._first_ns >= wait_ns:
                self.hi_ms = self._newest_ms
        if self.hi_ms is not None and ms > self.hi_ms:
            return
        self.since.append(event)
        self._newest_ms = max(self._newest_ms, ms)

    # ---- the fill

    def due_ns(self, policy: Policy) -> int | None:
        """When to ask REST, local UTC ns; None while it is being asked, or the stream does not bring the topic."""
        if self.is_over or self.is_asking or self.state == "open" or self.end_ns is None:
            return None
        if self.attempts:
            return self.retry_ns
        settled = self.end_ns + round(policy.stitch_settle_s * 1e9)
        if self._first_ns is None:
            return settled if self.is_served else None
        return min(settled, self._first_ns + round(policy.stitch_wait_s * 1e9))

    def ask(self, exchange_ms: int, max_ms: int) -> Request:
        """Begin an attempt.

        Parameters
        ----------
        exchange_ms : int
            The exchange's time now.
        max_ms : int
            The longest span that is fetched.
        """
        assert self.lo_ms is not None, "a span whose place is unknown cannot be asked for"
        self.attempts += 1
        self.is_asking = True
        self._asked_ms = exchange_ms
        if self.hi_ms is None and self.since:
            self.hi_ms = self._newest_ms
        end_ms = exchange_ms if self.hi_ms is None else self.hi_ms
        if end_ms - self.lo_ms > max_ms:
            missed_s = (end_ms - self.lo_ms) / 1000
            self.limit = f"only the last {max_ms / 1000:,.0f} of {missed_s:,.0f} s were fetched"
            self.lo_ms = end_ms - max_ms
        # Nothing has come since the return: whatever REST has is asked for, and the estimate need not be exact.
        spare_ms = 3_600_000 if self.hi_ms is None else 1
        return Request(self, self.lo_ms * _MS, (end_ms + spare_ms) * _MS)

    def merge(self, rows: Sequence[Event]) -> tuple[list[Event], bool]:
        """What of an answer was not delivered yet, and whether the history reaches past the return.

        It does when it holds anything that the stream has brought since. Where the stream has brought nothing, that cannot
        be told, and the time that has passed since the return must do.
        """
        lo, hi = self.lo_ms or 0, self.hi_ms
        rows = [row for row in rows if row.ms >= lo and (hi is None or row.ms <= hi)]
        self.is_asking = False
        missing: list[Event]
        if issubclass(self.key[0], Bar):
            bars, before, since = _bars(rows), _bars(self.before), _bars(self.since)
            # Up to a streamed bar all are made; after that, only those that were when the question was put.
            closed_ms = self._asked_ms - BAR_LAG_MS if hi is None else hi + 60_000
            missing = [*missing_bars(bars, before, since, closed_ms, self.known_ms)]
            reached = not since or any(row.ms >= min(bar.ms for bar in since) for row in rows)
        else:
            missing = missing_ticks(rows, [*self.before, *self.since])
            told = Bag(self.since)
            reached = not self.since or any(told.take(row) for row in rows)
        self.n_duplicates = len(rows) - len(missing)
        self.n_events += len(missing)
        return missing, reached

    def end(self, state: GapState, reason: str = "") -> None:
        """Nothing more is tried."""
        self.state, self.reason = state, reason
        self.is_asking = False
        self.before, self.since = [], []


def _bars(events: Sequence[Event]) -> list[SecondBar | MinuteBar]:
    return [event for event in events if isinstance(event, SecondBar | MinuteBar)]
