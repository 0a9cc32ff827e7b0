"""Every number of the live system in one place, and the schedules that follow from them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from massive_lab.schema.plans import MAX_SNAPSHOT_TICKERS

__all__ = ["Backoff", "Policy", "batches", "poll_interval_s"]

_POLL_S = {"stocks": 4.0, "options": 2.0, "indices": 5.0}
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
    """Seconds between two polls of a class while its market is open."""
    poll_closed_s: float = 12.0
    poll_batch: int = MAX_SNAPSHOT_TICKERS
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
    """Default bound of a reader, in bytes as `massive_lab.live.mailbox.EVENT_BYTES` counts them; None: no bound."""
    mailbox_age_s: float | None = 600.0
    """Default bound of a reader: how long its oldest event may wait; None: no bound."""
    table_rows: int = 200_000
    """Default bound of each rolling table."""
    table_s: float | None = 86_400.0
    """Rows of a rolling table older than this before its newest leave; None: only `table_rows` bounds it."""

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


def poll_interval_s(policy: Policy, cluster: str, market_statuses: Iterable[str | None], failures: int = 0) -> float:
    """Seconds to the next poll of a cluster.

    Parameters
    ----------
    policy : Policy
    cluster : str
    market_statuses : iterable of str or None
        What the last answer said about each symbol's market. Only when all that say anything say ``closed`` is the
        market closed; before the first answer it counts as open.
    failures : int
        Polls that failed in a row.

    Examples
    --------
    >>> [poll_interval_s(Policy(), "options", s) for s in ([], ["closed"], ["closed", "open"])]
    [2.0, 12.0, 2.0]
    """
    known = {status for status in market_statuses if status}
    interval = policy.poll_closed_s if known == {"closed"} else policy.poll_s[cluster]
    if failures:
        # A slow schedule is never sped up by failing.
        interval = max(interval, min(policy.poll_error_cap_s, interval * 2.0 ** min(failures, 16)))
    return interval


def batches(symbols: Sequence[str], size: int = MAX_SNAPSHOT_TICKERS) -> list[list[str]]:
    """Symbols of one round of polling, at most `size` a call.

    Examples
    --------
    >>> [len(batch) for batch in batches(["A"] * 501)]
    [250, 250, 1]
    """
    return [list(symbols[i : i + size]) for i in range(0, len(symbols), size)]
