"""Telemetry, added up.

`Recording` is the pure fold of events into counters; `Recorder` is the hook around it: a lock, a condition that waiters
sleep on, and the name of the phase to which what happens now belongs.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import singledispatchmethod
from typing import TypeVar

from massive_lab import telemetry as t
from massive_lab.errors import Timeout

__all__ = ["EndpointTally", "LoaderTally", "Recorder", "Recording", "TopicTally"]

R = TypeVar("R")
_BACKFILL = "backfill"
"""What the causes of calls that fill a gap begin with, and the phase to which they are counted."""
Topic = tuple[str, str]
"""Cluster and topic: ``("stocks", "T.SPY")``."""


@dataclass(slots=True)
class EndpointTally:
    """What one REST endpoint cost. `elapsed_s` has one entry for each attempt that got an answer."""

    attempts: int = 0
    unsent: int = 0
    """Attempts that ended before their request was on the wire: no server can have counted them."""
    ok: int = 0
    bytes: int = 0
    retries: int = 0
    coalesced: int = 0
    cache_hits: int = 0
    throttled: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    elapsed_s: list[float] = field(default_factory=list)

    @property
    def errors(self) -> int:
        """Attempts that brought no usable answer."""
        return self.attempts - self.ok


@dataclass(slots=True)
class LoaderTally:
    """What one kind of loader call brought."""

    calls: int = 0
    rows: int = 0
    pages: int = 0
    failed: int = 0


@dataclass(slots=True)
class TopicTally:
    """One topic: who asked, what went upstream for it, what came back."""

    readers: int = 0
    """Readers ever opened."""
    open_readers: int = 0
    peak_readers: int = 0
    opened: int = 0
    confirmed: int = 0
    closed: int = 0
    denied: int = 0
    subscribes: int = 0
    """Subscribe params sent on the wire for it."""
    unsubscribes: int = 0
    events: int = 0
    dropped: int = 0


@dataclass(slots=True)
class Recording:
    """Counters of a run. `apply` folds one event in; nothing here reads a clock or takes a lock.

    Examples
    --------
    >>> recording = Recording()
    >>> recording.apply(t.RequestDone(0.0, "chain", "chain", 200, "ok", 512, 0.01, 1), phase="options")
    >>> recording.endpoints["chain"].attempts, recording.calls["options", "chain"]
    (1, 1)
    """

    endpoints: dict[str, EndpointTally] = field(default_factory=dict)
    loaders: dict[str, LoaderTally] = field(default_factory=dict)
    topics: dict[Topic, TopicTally] = field(default_factory=dict)
    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    """REST attempts by (phase, endpoint)."""
    frames: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    """Decoded events by cluster, status messages included."""
    bytes: Counter[str] = field(default_factory=Counter)
    wire: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Control messages by (cluster, action)."""
    polls: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Fallback polls by (cluster, endpoint)."""
    polled_at_s: dict[str, list[float]] = field(default_factory=dict)
    """Times of the polls by cluster, on the recorded clock."""
    polled_symbols: Counter[tuple[str, str]] = field(default_factory=Counter)
    planned: dict[str, t.PollPlanned] = field(default_factory=dict)
    """The next poll that each cluster has announced, while it polls."""
    quarantined: Counter[str] = field(default_factory=Counter)
    gaps: list[t.GapDetected] = field(default_factory=list)
    open_gaps: set[Topic] = field(default_factory=set)
    """Gaps that have ended and are not decided yet."""
    asked: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Questions to REST for gaps, by (cluster, channel)."""
    asking: Counter[str] = field(default_factory=Counter)
    """Of these, those under way, by cluster."""
    states: list[t.FeedStateChanged] = field(default_factory=list)
    fallbacks: list[t.FallbackStarted] = field(default_factory=list)
    fallbacks_over: list[t.FallbackStopped] = field(default_factory=list)
    reconnects: list[t.Reconnected] = field(default_factory=list)
    callers: Counter[str] = field(default_factory=Counter)
    """Readers by the line of code that asked."""
    n_events: int = 0

    def endpoint(self, name: str) -> EndpointTally:
        """The tally of an endpoint, begun when it is first asked for."""
        return self.endpoints.setdefault(name, EndpointTally())

    def topic(self, cluster: str, topic: str) -> TopicTally:
        """The tally of a topic, begun when it is first asked for."""
        return self.topics.setdefault((cluster, topic), TopicTally())

    @property
    def requests(self) -> int:
        """REST attempts, all endpoints."""
        return sum(tally.attempts for tally in self.endpoints.values())

    def polls_of(self, cluster: str) -> int:
        """Fallback polls of a cluster, all endpoints."""
        return sum(n for (name, _), n in self.polls.items() if name == cluster)

    def events_of(self, cluster: str) -> int:
        """Data events of a cluster, status messages left out."""
        return sum(tally.events for (name, _), tally in self.topics.items() if name == cluster)

    def state_of(self, cluster: str) -> str | None:
        """The last state the feed of a cluster announced; None before the first."""
        return next((change.state for change in reversed(self.states) if change.cluster == cluster), None)

    def apply(self, event: t.Event, *, phase: str = "") -> None:
        """Add one event. Kinds this version does not know are counted in `n_events` only."""
        self.n_events += 1
        if isinstance(event, t.RequestDone):
            # Who fills a gap does so when the time has come, whatever is done meanwhile.
            self.calls[_BACKFILL if event.cause.startswith(f"{_BACKFILL}:") else phase, event.endpoint] += 1
        self._fold(event)

    @singledispatchmethod
    def _fold(self, event: t.Event) -> None:
        """Kinds without a counter of their own."""

    @_fold.register
    def _(self, event: t.RequestDone) -> None:
        tally = self.endpoint(event.endpoint)
        tally.attempts += 1
        tally.unsent += not event.sent
        tally.ok += event.outcome == "ok"
        tally.bytes += event.n_bytes
        tally.outcomes[event.outcome] += 1
        if event.status is not None:
            tally.statuses[event.status] += 1
            tally.elapsed_s.append(event.elapsed_s)

    @_fold.register
    def _(self, event: t.RequestCoalesced) -> None:
        self.endpoint(event.endpoint).coalesced += 1

    @_fold.register
    def _(self, event: t.CacheHit) -> None:
        self.endpoint(event.endpoint).cache_hits += 1

    @_fold.register
    def _(self, event: t.RetryScheduled) -> None:
        self.endpoint(event.endpoint).retries += 1

    @_fold.register
    def _(self, event: t.ThrottleWait) -> None:
        self.endpoint(event.endpoint).throttled += 1

    @_fold.register
    def _(self, event: t.LoadDone) -> None:
        tally = self.loaders.setdefault(event.loader, LoaderTally())
        tally.calls += 1
        tally.rows += event.n_rows
        tally.pages += event.n_pages
        tally.failed += event.outcome != "ok"

    @_fold.register
    def _(self, event: t.ReaderOpened) -> None:
        tally = self.topic(event.cluster, event.topic)
        tally.readers += 1
        tally.open_readers += 1
        tally.peak_readers = max(tally.peak_readers, tally.open_readers)
        if event.caller:
            self.callers[event.caller] += 1

    @_fold.register
    def _(self, event: t.ReaderClosed) -> None:
        # Drops are told by EventDropped as they happen; the total here would count them twice.
        self.topic(event.cluster, event.topic).open_readers -= 1

    @_fold.register
    def _(self, event: t.TopicOpened) -> None:
        self.topic(event.cluster, event.topic).opened += 1

    @_fold.register
    def _(self, event: t.TopicConfirmed) -> None:
        self.topic(event.cluster, event.topic).confirmed += 1

    @_fold.register
    def _(self, event: t.TopicClosed) -> None:
        self.topic(event.cluster, event.topic).closed += 1

    @_fold.register
    def _(self, event: t.SubscriptionDenied) -> None:
        self.topic(event.cluster, event.topic).denied += 1

    @_fold.register
    def _(self, event: t.WireSent) -> None:
        self.wire[event.cluster, event.action] += 1
        for topic in event.topics:
            tally = self.topic(event.cluster, topic)
            tally.subscribes += event.action == "subscribe"
            tally.unsubscribes += event.action == "unsubscribe"

    @_fold.register
    def _(self, event: t.FrameReceived) -> None:
        self.frames[event.cluster] += 1
        self.events[event.cluster] += event.n_events
        self.bytes[event.cluster] += event.n_bytes
        for topic, n in event.by_topic:
            self.topic(event.cluster, topic).events += n

    @_fold.register
    def _(self, event: t.EventDropped) -> None:
        self.topic(event.cluster, event.topic).dropped += event.n_dropped

    @_fold.register
    def _(self, event: t.EventQuarantined) -> None:
        self.quarantined[event.cluster] += 1

    @_fold.register
    def _(self, event: t.GapDetected) -> None:
        self.gaps.append(event)

        self.open_gaps.update((event.cluster, topic) for topic in event.topics)

    @_fold.register
    def _(self, event: t.GapAsked) -> None:
        self.asked[event.cluster, event.topic.partition(".")[0]] += 1
        self.asking[event.cluster] += 1

    @_fold.register
    def _(self, event: t.GapAnswered) -> None:
        self.asking[event.cluster] -= 1

    @_fold.register
    def _(self, event: t.GapFilled) -> None:
        self.open_gaps.discard((event.cluster, event.topic))

    @_fold.register
    def _(self, event: t.FeedStateChanged) -> None:
        self.states.append(event)

    @_fold.register
    def _(self, event: t.Reconnected) -> None:
        self.reconnects.append(event)

    @_fold.register
    def _(self, event: t.FallbackStarted) -> None:
        self.fallbacks.append(event)

    @_fold.register
    def _(self, event: t.FallbackStopped) -> None:
        self.fallbacks_over.append(event)
        self.planned.pop(event.cluster, None)

    @_fold.register
    def _(self, event: t.PollPlanned) -> None:
        self.planned[event.cluster] = event

    @_fold.register
    def _(self, event: t.PollTick) -> None:
        self.polls[event.cluster, event.endpoint] += 1
        self.polled_at_s.setdefault(event.cluster, []).append(event.at_s)
        self.polled_symbols[event.cluster, event.endpoint] += event.n_symbols


class Recorder:
    """A telemetry hook that keeps a `Recording`; safe to call from any thread.

    Examples
    --------
    >>> hub = t.Telemetry()
    >>> recorder = Recorder()
    >>> remove = hub.add(recorder)
    >>> with recorder.phase("live"):
    ...     hub.emit(t.ReaderOpened(0.0, "stocks", "T.SPY", "r1"))
    >>> recorder.read(lambda r: r.topics["stocks", "T.SPY"].readers)
    1
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._recording = Recording()
        self._phase = ""

    def __call__(self, event: t.Event, /) -> None:
        """Take one event."""
        with self._changed:
            self._recording.apply(event, phase=self._phase)
            self._changed.notify_all()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Attribute what happens inside to `name`."""
        with self._changed:
            before, self._phase = self._phase, name
        try:
            yield
        finally:
            with self._changed:
                self._phase = before

    def read(self, look: Callable[[Recording], R]) -> R:
        """Evaluate `look` while nothing changes. It must not keep a reference to what it is given."""
        with self._changed:
            return look(self._recording)

    def wait_for(self, condition: Callable[[Recording], bool], what: str, *, timeout_s: float = 30.0) -> None:
        """Sleep until `condition` holds; it is looked at after every event.

        Raises
        ------
        Timeout
            When it does not hold within `timeout_s` of wall time; the text says `what` was waited for.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: condition(self._recording), timeout_s):
                raise Timeout(f"Waited {timeout_s:g} s for {what}, which did not happen.")
