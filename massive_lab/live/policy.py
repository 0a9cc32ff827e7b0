"""Every number of the live system in one place, and the back-off that follows from them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from massive_lab.schema.plans import MAX_SNAPSHOT_TICKERS

__all__ = ["Backoff", "Policy"]

_POLL_S = {"stocks": 4.0, "options": 2.0, "indices": 5.0}
_POLL_MOVE = {"stocks": 2e-4, "options": 1.5e-3, "indices": 1e-4}
_STALE_S = {"stocks": 30.0, "options": 120.0, "indices": 30.0}


@dataclass(frozen=True, slots=True)
class Policy:
    """How patient the live system is. All durations in seconds."""

    linger_s: float = 1.0
    """A topic nobody reads any more stays upstream this long."""
    ack_s: float = 5.0
    """An answer to a subscribe or unsubscribe takes no longer."""
    unsubscribe_attempts: int = 3
    """Unanswered unsubscribes before they are spaced out, up to `unsubscribe_cap_s`; they end only with an answer."""
    unsubscribe_cap_s: float = 60.0
    batch_topics: int = 200
    """Topics in one control message."""
    connected_s: float = 5.0
    auth_s: float = 5.0
    open_s: float = 5.0
    ping_s: float = 30.0
    ping_timeout_s: float = 15.0
    backoff_base_s: float = 0.25
    backoff_cap_s: float = 30.0
    stable_s: float = 10.0
    """A connection that lived this long clears the count of attempts."""
    max_attempts: int | None = None
    """Attempts in one outage before the feed gives up; None: it never does."""
    grace_s: float = 0.05
    """From the loss of a socket to the first REST poll."""
    poll_s: Mapping[str, float] = field(default_factory=lambda: dict(_POLL_S))
    """Seconds between two polls of a symbol of a class, while its market is open and its price moves as usual."""
    poll_closed_s: float = 12.0
    """The same while its market is closed; no interval is longer, but for want of calls."""
    poll_fastest: float = 0.75
    """Interval of a symbol that moves much more than usual, as a multiple of `poll_s`; none is shorter."""
    poll_calm: float = 1.5
    """Interval of a symbol that moves much less than usual, as a multiple of `poll_s`."""
    poll_unchanged: float = 1.25
    """Each answer that brings no new price stretches the interval by this."""
    poll_slowest: float = 2.0
    """Up to this multiple of `poll_s`."""
    poll_move: Mapping[str, float] = field(default_factory=lambda: dict(_POLL_MOVE))
    """The usual move within `poll_s`, as a fraction of the price; half and twice of it are calm and wild."""
    poll_batch: int = MAX_SNAPSHOT_TICKERS
    poll_share: float = 0.8
    """The part of the plan's calls that polling may use."""
    poll_thrift: int = 40
    """Calls a minute of all clusters together for each `poll_batch` symbols begun."""
    poll_error_cap_s: float = 60.0
    """Failing polls are spaced out up to this."""
    stale_s: Mapping[str, float] = field(default_factory=lambda: dict(_STALE_S))
    """Silence on a socket with confirmed topics, in regular hours, that makes a feed stale."""
    stale_drop_factor: float = 3.0
    """Silence of this many times `stale_s` counts as an outage."""
    minute_bar_stale_s: float = 150.0
    """As `stale_s`, where minute bars are all that is subscribed."""
    silent_topic_s: float = 120.0
    """A confirmed topic without one event for so long of regular hours is warned about."""
    lease_s: float = 300.0
    """After an eviction the cluster is left to its other owner this long before the next attempt."""
    duplicate_s: float = 60.0
    """Window in which calls by REST that repeat each other, or what is streamed, are duplicates."""
    duplicate_polls: int = 3
    """So many of them for a streamed symbol within the window are reported."""
    mailbox_events: int = 100_000
    """Default bound of a reader, in events."""
    mailbox_bytes: int | None = 64 * 2**20
    """Default bound of a reader, in bytes as `massive_lab.live.read.mailbox.EVENT_BYTES` counts them; None: no bound."""
    mailbox_age_s: float | None = 600.0
    """Default bound of a reader: how long its oldest event may wait; None: no bound."""
    table_rows: int = 200_000
    """Default bound of each rolling table."""
    table_s: float | None = 86_400.0
    """Rows of a rolling table older than this before its newest leave; None: only `table_rows` bounds it."""
    stitch_margin_s: float = 2.0
    """The history is asked for from this long before a loss, by the exchange's clock: events may have come out of order."""
    stitch_wait_s: float = 0.5
    """From the first event after a return to the first question to REST, whose copy may lag; doubled for each further one."""
    stitch_settle_s: float = 6.0
    """A topic that is silent after a return is asked for after this; longer than `ack_s`."""
    stitch_attempts: int = 8
    """Questions for a gap before REST is taken not to know it."""
    stitch_backoff_cap_s: float = 15.0
    stitch_max_s: float = 1_800.0
    """Of a longer gap only the last part is fetched."""
    stitch_max_rows: int = 200_000
    """Ticks of one topic fetched for a gap at most, the newest."""
    stitch_parallel: int = 4
    """Topics asked for at a time."""
    stitch_tail_events: int = 50_000
    """Events held to know, at a loss, what was delivered."""

    def with_(self, **changes: object) -> Policy:
        """A copy with some fields changed."""
        return replace(self, **changes)  # type: ignore[arg-type]


@dataclass(slots=True)
class Backoff:
    """Delays before the attempts of an outage: doubling, jittered, and cleared only by a stable connection.

    The jitter comes from outside as a number in ``[0, 1)``, so a seeded source makes the schedule repeatable.

    Examples
    --------
    >>> backoff = Backoff(base_s=1.0, cap_s=5.0, stable_s=10.0)
    >>> [backoff.next_s(1.0) for _ in range(4)]
    [1.0, 2.0, 4.0, 5.0]
    >>> backoff.lived(9.9); backoff.attempt
    4
    >>> backoff.lived(10.0); backoff.attempt
    0
    """

    base_s: float
    cap_s: float
    stable_s: float
    attempt: int = 0

    def next_s(self, jitter: float) -> float:
        """Count an attempt; seconds to wait before it: between half and all of the doubled base."""
        self.attempt += 1
        return min(self.cap_s, self.base_s * 2.0 ** min(self.attempt - 1, 32)) * (0.5 + jitter / 2)

    def lived(self, seconds: float) -> None:
        """Tell how long the last connection was live."""
        if seconds >= self.stable_s:
            self.attempt = 0
