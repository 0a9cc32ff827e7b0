"""Where the socket of one cluster stands, as a machine without I/O or clock.

::

    idle -> connecting -> authenticating -> live <-> stale
                ^                            |        |
                +------ back-off ------------+--------+      any end nobody here asked for is an outage, code 1000 too
    polling: shown while the socket is down and REST stands in
    down:    the same, but the last poll failed: nobody serves
    evicted: another connection holds the cluster: one attempt after each lease, so that two owners never fight
    closed:  by us, or until a `retry`: key refused, plan without sockets, attempts used up
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from massive_lab.live.policy import Backoff, Policy

__all__ = ["Change", "FeedMachine", "FeedState", "Recovery"]

FeedState = Literal["idle", "connecting", "authenticating", "live", "stale", "polling", "down", "evicted", "closed"]
_Phase = Literal["idle", "connecting", "authenticating", "live", "stale", "waiting", "evicted", "refused", "closed"]


@dataclass(frozen=True, slots=True)
class Change:
    """The state shown to users changed."""

    previous: FeedState
    state: FeedState
    reason: str


@dataclass(frozen=True, slots=True)
class Recovery:
    """An outage is over."""

    outage_s: float
    attempt: int


class FeedMachine:
    """Where a feed stands. All times are monotonic seconds given by the caller.

    Attributes
    ----------
    changes : list of Change
        What happened since the caller last emptied it.
    attempt : int
        Attempts since the socket was last authenticated.
    stale_s : float
        Silence that means something, in seconds; set it as what is subscribed changes.

    Examples
    --------
    >>> machine = FeedMachine("stocks", Policy())
    >>> machine.connecting(); machine.opened(); machine.authenticated(1.0)
    >>> machine.lost(20.0, "closed with code 1000"); machine.state, machine.poll_at
    ('connecting', 20.05)
    >>> machine.connecting(); machine.opened(); machine.authenticated(21.0)
    Recovery(outage_s=1.0, attempt=1)
    """

    def __init__(self, cluster: str, policy: Policy) -> None:
        self._policy = policy
        self.stale_s = policy.stale_s[cluster]
        self._backoff = Backoff(policy.backoff_base_s, policy.backoff_cap_s, policy.stable_s)
        self._phase: _Phase = "idle"
        self._is_polling = False
        self._is_failing = False
        self._is_evicted = False
        self.attempt = 0
        self._live_since = 0.0
        self._lost_at: float | None = None
        self.last_frame = 0.0
        self.changes: list[Change] = []

    @property
    def state(self) -> FeedState:
        """What a user is shown."""
        if self._is_polling and self._phase in ("connecting", "authenticating", "waiting", "refused"):
            return "down" if self._is_failing else "polling"
        if self._phase == "refused":
            return "closed"
        return "connecting" if self._phase == "waiting" else self._phase

    @property
    def is_live(self) -> bool:
        return self._phase in ("live", "stale")

    @property
    def is_shaking_hands(self) -> bool:
        """The socket is open, and not yet authenticated."""
        return self._phase == "authenticating"

    @property
    def is_over(self) -> bool:
        """No socket will be tried again, unless `reopen` is called."""
        return self._phase in ("refused", "closed")

    def connecting(self) -> None:
        self.attempt += 1
        self._go("connecting", "opening the socket")

    def opened(self) -> None:
        self._go("authenticating", "the socket is open")

    def authenticated(self, now: float) -> Recovery | None:
        """The handshake is done; says what outage this ends, if any."""
        recovery = None if self._lost_at is None else Recovery(now - self._lost_at, self.attempt)
        self.attempt = 0
        self._is_evicted = False
        self._live_since = self.last_frame = now
        self._lost_at = None
        self._go("live", "authenticated", polling=False)
        return recovery

    def heard(self, now: float) -> None:
        """A frame came while stale."""
        self.last_frame = now
        if self._phase == "stale":
            self._lost_at = None
            self._go("live", "data again", polling=False)

    def lost(self, now: float, reason: str) -> None:
        """The socket ended or could not be opened, and nobody here asked for that."""
        if self.is_live:
            self._backoff.lived(now - self._live_since)
        if self._lost_at is None:
            self._lost_at = now
        # Once evicted, whatever ends an attempt: the next one waits for the lease.
        self._go("evicted" if self._is_evicted else "waiting", reason)

    def retry_s(self, jitter: float) -> float | None:
        """Seconds to the next attempt; None when the attempts of this outage are used up."""
        if self._is_evicted:
            return self._policy.lease_s
        limit = self._policy.max_attempts
        if limit is not None and self.attempt >= limit:
            return None
        return self._backoff.next_s(jitter)

    def step_down(self, now: float, reason: str, *, evicted: bool) -> None:
        """The server will not have us: no further attempt, or none before the lease of the other owner is over."""
        if self._lost_at is None:
            self._lost_at = now
        self._is_evicted = evicted
        self._go("evicted" if evicted else "refused", reason)

    def reopen(self, now: float) -> None:
        """Somebody asks for attempts after all, from the first: with another key, or because the cause is gone."""
        if self._lost_at is None:
            self._lost_at = now
        self.attempt = 0
        self._is_evicted = False
        self._backoff.attempt = 0
        self._go("waiting", "opened again")

    def close(self) -> None:
        self._lost_at = None
        self._go("closed", "closed by the client", polling=False)

    @property
    def lost_at(self) -> float | None:
        """When the outage that lasts began."""
        return self._lost_at

    @property
    def poll_at(self) -> float | None:
        """When polling is due to stand in; None while the socket serves or polling runs."""
        if self._lost_at is None or self._is_polling or self._phase == "closed":
            return None
        return self._lost_at + self._policy.grace_s

    def polling(self, now: float) -> float:
        """The first poll goes out; seconds since the loss."""
        self._is_failing = False
        self._go(self._phase, "REST stands in", polling=True)
        return now - (now if self._lost_at is None else self._lost_at)

    def polled(self, error: str | None) -> None:
        """A poll was answered, or failed with an error: polling that fails serves nobody, and is not shown as if it did."""
        previous = self.state
        self._is_failing = error is not None
        if self.state != previous:
            self.changes.append(Change(previous, self.state, error or "REST answers"))

    @property
    def silence_at(self) -> float | None:
        """When silence will mean something; None while there is no socket."""
        if self._phase == "live":
            return self.last_frame + self.stale_s
        if self._phase == "stale":
            return self.last_frame + self.stale_s * self._policy.stale_drop_factor
        return None

    def silent(self, now: float) -> bool:
        """The time of `silence_at` has come with data expected: True when the socket should be dropped."""
        if self._phase == "live":
            self._lost_at = now
            self._go("stale", f"nothing received for {now - self.last_frame:.0f} s")
            return False
        return self._phase == "stale"

    def _go(self, phase: _Phase, reason: str, *, polling: bool | None = None) -> None:
        previous = self.state
        self._phase = phase
        if polling is not None:
            self._is_polling = polling
        if self.state != previous:
            self.changes.append(Change(previous, self.state, reason))
