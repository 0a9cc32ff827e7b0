"""What happened, as data: frozen events handed to hooks.

Lower layers emit, upper layers listen; nobody reaches down for a counter, so measuring adds no second code path. Every
event has ``at_s``, the monotonic time of the emitting clock in seconds. No event holds a key or a full URL.

A hook is any callable that takes an event. It runs on the thread that emits (usually the loop thread), so it must be
quick; an exception in a hook is logged once per hook and counted in `Telemetry.n_hook_errors`, never raised into the
code that is being observed.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Protocol

__all__ = [
    "CALLER",
    "CacheHit",
    "DuplicateWork",
    "Event",
    "EventDropped",
    "EventQuarantined",
    "FallbackStarted",
    "FallbackStopped",
    "FeedStateChanged",
    "FrameReceived",
    "GapAnswered",
    "GapAsked",
    "GapDetected",
    "GapFilled",
    "Hook",
    "LoadDone",
    "PollPaced",
    "PollPlanned",
    "PollTick",
    "ReaderClosed",
    "ReaderOpened",
    "Reconnected",
    "RequestCoalesced",
    "RequestDone",
    "RetryScheduled",
    "SubscriptionDenied",
    "Telemetry",
    "ThrottleWait",
    "TopicClosed",
    "TopicConfirmed",
    "TopicOpened",
    "TopicSilent",
    "WireSent",
]

_log = logging.getLogger("massive_lab.telemetry")

CALLER: ContextVar[str | None] = ContextVar("massive_lab caller", default=None)
"""Whose code the running call is for; set where the user's thread enters the library, and carried along by the loop."""


@dataclass(frozen=True, slots=True)
class Event:
    """Base of all events."""

    at_s: float


@dataclass(frozen=True, slots=True)
class RequestDone(Event):
    """One REST attempt ended, however it ended: each attempt yields exactly one of these."""

    endpoint: str
    """Name from `massive_lab.schema.endpoints`."""
    cause: str
    """The loader or topic that asked."""
    status: int | None
    """HTTP status; None when no answer came."""
    outcome: str
    """``ok``, ``http_error``, ``timeout``, ``connection``, ``cancelled``."""
    n_bytes: int
    """Body bytes on the wire, before inflating."""
    elapsed_s: float
    attempt: int
    """1 for the first try."""
    request_id: str | None = None
    """The vendor's id."""
    sent: bool = True
    """Whether the request itself was handed to the network. Where it is False (no connection, or cancelled before one was
    there) no server can have counted it."""


@dataclass(frozen=True, slots=True)
class RequestCoalesced(Event):
    """A request was answered by an identical one already in flight; nothing was sent for it."""

    endpoint: str
    cause: str


@dataclass(frozen=True, slots=True)
class CacheHit(Event):
    """A request was answered from a local cache; nothing was sent for it."""

    endpoint: str
    cause: str


@dataclass(frozen=True, slots=True)
class RetryScheduled(Event):
    """A failed attempt will be repeated after `delay_s`."""

    endpoint: str
    reason: str
    delay_s: float
    attempt: int
    """The attempt that failed."""


@dataclass(frozen=True, slots=True)
class ThrottleWait(Event):
    """A request waited for the local call budget."""

    endpoint: str
    wait_s: float


@dataclass(frozen=True, slots=True)
class LoadDone(Event):
    """One loader call ended."""

    loader: str
    symbols: tuple[str, ...]
    n_rows: int
    n_pages: int
    elapsed_s: float
    outcome: str
    """``ok``, ``error`` or ``cancelled``."""
    caller: str | None = None
    """``file:line`` or cell of the user's code that asked, where it can be told."""
    requests: tuple[str, ...] = ()
    """What was asked for, first pages only: short digests of path and query, the same for the same request."""


@dataclass(frozen=True, slots=True)
class ReaderOpened(Event):
    """Somebody asked for a topic. `caller` is ``file:line`` of the user's code, where it can be told."""

    cluster: str
    topic: str
    reader: str
    caller: str | None = None


@dataclass(frozen=True, slots=True)
class ReaderClosed(Event):
    cluster: str
    topic: str
    reader: str
    n_dropped: int


@dataclass(frozen=True, slots=True)
class TopicOpened(Event):
    """The first reader came: the topic is now wanted upstream."""

    cluster: str
    topic: str


@dataclass(frozen=True, slots=True)
class TopicConfirmed(Event):
    """The server confirmed the subscription."""

    cluster: str
    topic: str


@dataclass(frozen=True, slots=True)
class TopicClosed(Event):
    """The last reader is gone and the topic is no longer wanted upstream."""

    cluster: str
    topic: str


@dataclass(frozen=True, slots=True)
class SubscriptionDenied(Event):
    cluster: str
    topic: str
    reason: str


@dataclass(frozen=True, slots=True)
class WireSent(Event):
    """A control message went up the socket. For ``auth`` the topics are empty: the key is never recorded."""

    cluster: str
    action: str
    topics: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FrameReceived(Event):
    """One WebSocket frame was read and decoded."""

    cluster: str
    n_events: int
    n_bytes: int
    by_topic: tuple[tuple[str, int], ...] = ()
    """Events per topic, e.g. ``(("T.AAPL", 3),)``; status events are not in it."""


@dataclass(frozen=True, slots=True)
class EventDropped(Event):
    """A bounded reader overflowed and lost events by its stated rule."""

    cluster: str
    topic: str
    reader: str
    n_dropped: int


@dataclass(frozen=True, slots=True)
class EventQuarantined(Event):
    """A frame or event could not be decoded and was set aside; the socket lives on."""

    cluster: str
    reason: str
    excerpt: str


@dataclass(frozen=True, slots=True)
class GapDetected(Event):
    """Nothing was received for `cluster` between the two UTC instants (ns); listed until filled."""

    cluster: str
    topics: tuple[str, ...]
    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class GapAsked(Event):
    """REST is about to be asked for the gap of one topic: one call, and another for each further page."""

    cluster: str
    topic: str
    attempt: int


@dataclass(frozen=True, slots=True)
class GapAnswered(Event):
    """What was asked by `GapAsked` has come or failed; not told where the socket was lost before."""

    cluster: str
    topic: str
    attempt: int


@dataclass(frozen=True, slots=True)
class GapFilled(Event):
    """What became of the gap of one topic, once nothing more is tried."""

    cluster: str
    topic: str
    state: str
    """``filled``, ``partial`` or ``unfilled``."""
    n_events: int
    """Delivered from the history of REST."""
    n_duplicates: int
    """Rows of the last answer that had been delivered already."""
    reason: str
    """Why it is not filled; empty when it is."""


@dataclass(frozen=True, slots=True)
class FeedStateChanged(Event):
    cluster: str
    previous: str
    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class Reconnected(Event):
    cluster: str
    outage_s: float
    attempt: int
    n_topics: int
    cause: str = ""
    """What ended the connection before."""


@dataclass(frozen=True, slots=True)
class FallbackStarted(Event):
    """REST polling took over. `since_loss_s` runs from the loss of the socket to the first poll being sent."""

    cluster: str
    since_loss_s: float
    n_topics: int


@dataclass(frozen=True, slots=True)
class FallbackStopped(Event):
    cluster: str
    n_polls: int


@dataclass(frozen=True, slots=True)
class PollTick(Event):
    """One batched poll was sent on behalf of all readers of a cluster."""

    cluster: str
    endpoint: str
    n_symbols: int
    n_changed: int
    """Symbols whose answer differed from the last one; only these are handed on."""


@dataclass(frozen=True, slots=True)
class PollPlanned(Event):
    """The next poll of a cluster is due at `due_at_s` of the emitting clock; a later plan before that replaces this one."""

    cluster: str
    due_at_s: float
    n_symbols: int


@dataclass(frozen=True, slots=True)
class PollPaced(Event):
    """How often each polled symbol's turn comes, when it is first known and when it changes.

    Degraded while `interval_s` is longer than `wanted_s`: the plan's budget does not allow more.
    """

    cluster: str
    n_symbols: int
    calls_per_round: int
    """Calls in which every symbol is asked for once."""
    interval_s: float
    wanted_s: float
    """The interval of the class in an open market."""


@dataclass(frozen=True, slots=True)
class TopicSilent(Event):
    """A confirmed topic brought nothing for so long of regular hours; told once per topic."""

    cluster: str
    topic: str
    silent_s: float


@dataclass(frozen=True, slots=True)
class DuplicateWork(Event):
    """The same thing was asked for twice; each finding is told once."""

    kind: str
    """``same_topic``, ``single_beside_wildcard``, ``poll_beside_stream`` or ``repeated_load``."""
    what: str
    callers: tuple[str, ...]
    n: int
    cluster: str = ""


class Hook(Protocol):
    """Anything that can be called with an event."""

    def __call__(self, event: Event, /) -> None: ...


class _Registration:
    __slots__ = ("failed", "hook")

    def __init__(self, hook: Hook) -> None:
        self.hook = hook
        self.failed = False


@dataclass(slots=True, eq=False)
class Telemetry:
    """An ordered set of hooks; each client owns one.

    Examples
    --------
    >>> seen = []
    >>> telemetry = Telemetry()
    >>> remove = telemetry.add(seen.append)
    >>> telemetry.emit(TopicOpened(0.0, "stocks", "T.AAPL"))
    >>> remove(); telemetry.emit(TopicClosed(1.0, "stocks", "T.AAPL"))
    >>> [type(event).__name__ for event in seen]
    ['TopicOpened']
    """

    _hooks: tuple[_Registration, ...] = ()
    n_hook_errors: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    @property
    def has_hooks(self) -> bool:
        """Whether anybody listens: what is costly to tell need not be told to nobody."""
        return bool(self._hooks)

    def add(self, hook: Hook) -> Callable[[], None]:
        """Add a hook; returns the function that removes it. A hook added twice is called twice and removed one by one."""
        # A cell of its own tells two registrations of one hook apart. A new tuple each time, so that `emit` on another
        # thread iterates over a stable one without the lock.
        cell = _Registration(hook)
        with self._lock:
            self._hooks = (*self._hooks, cell)

        def remove() -> None:
            with self._lock:
                self._hooks = tuple(other for other in self._hooks if other is not cell)

        return remove

    def emit(self, event: Event) -> None:
        for cell in self._hooks:
            try:
                cell.hook(event)
            except Exception:  # noqa: BLE001  a hook must not break what it observes
                with self._lock:
                    self.n_hook_errors += 1
                    first, cell.failed = not cell.failed, True
                if first:
                    _log.exception(
                        "telemetry hook %r failed on %s; further failures are only counted",
                        cell.hook,
                        type(event).__name__,
                    )
