"""Orderly admission of connections: after a restart a thousand clients come back at once, some of them without back-off.

A bucket lets a burst through and then a steady rate. Who comes too early gets a place in a bounded waiting room, which is
a moment at which to go on; who finds it full is told when to come back, each at another moment, so that the crowd is spread
and not postponed. Pure: the caller brings the time and does the waiting.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["Admission", "Admit", "Hold", "Refuse", "Verdict"]

_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Admit:
    """Go on now."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Wait, then go on without asking again.

    Attributes
    ----------
    seconds : float
    at_ns : int
        The place taken; for `Admission.leave`.
    """

    seconds: float
    at_ns: int


@dataclass(frozen=True, slots=True)
class Refuse:
    """No place. Close, and ask to come back after `retry_after` whole seconds."""

    seconds: float

    @property
    def retry_after(self) -> int:
        return max(1, math.ceil(self.seconds))


Verdict: TypeAlias = Admit | Hold | Refuse


class Admission:
    """The door.

    Parameters
    ----------
    rate_per_s : float
        Connections a second in the long run.
    burst : int
        How many may come at once when nobody came for a while.
    waiting : int
        Places in the waiting room.
    max_retry_s : float
        The longest time anybody is told to stay away.

    Notes
    -----
    In any t seconds at most ``burst + rate_per_s * t`` connections go on.

    Examples
    --------
    >>> door = Admission(rate_per_s=10, burst=1, waiting=2)
    >>> [type(door.ask(0.0)).__name__ for _ in range(4)]
    ['Admit', 'Hold', 'Hold', 'Refuse']
    >>> door.ask(5.0)
    Admit()
    """

    def __init__(
        self, rate_per_s: float = 100.0, burst: int = 50, waiting: int = 500, *, max_retry_s: float = 60.0
    ) -> None:
        if not (0 < rate_per_s < math.inf) or burst < 1 or waiting < 0 or max_retry_s <= 0:
            raise ValueError(f"rate and burst are positive: {rate_per_s}, {burst}, {waiting}, {max_retry_s}")
        # Rounded up, so that the rate is never exceeded.
        self._gap_ns = math.ceil(_NS / rate_per_s)
        self._slack_ns = (burst - 1) * self._gap_ns
        self._waiting = waiting
        self._room_ns = waiting * self._gap_ns
        self._max_retry_ns = round(max_retry_s * _NS)
        self._next_ns: int | None = None
        self._retry_ns = 0
        self._latest_ns = 0
        self._given_back: list[int] = []
        self._held: set[int] = set()
        self._held_order: list[int] = []

    @property
    def n_waiting(self) -> int:
        """Places of the waiting room that were taken when somebody last asked."""
        return len(self._held)

    def ask(self, now_s: float) -> Verdict:
        """What a connection that comes now must do."""
        now_ns = self._advance(now_s)
        at_ns = self._place(now_ns)
        if at_ns is None:
            return self._refuse(now_ns)
        if at_ns <= now_ns:
            return Admit()
        self._held.add(at_ns)
        return Hold((at_ns - now_ns) / _NS, at_ns)

    def leave(self, hold: Hold, now_s: float) -> None:
        """A client that was waiting hung up: somebody else may have its place. Harmless when called twice or late."""
        self._advance(now_s)
        if hold.at_ns in self._held:
            self._held.discard(hold.at_ns)
            heapq.heappush(self._given_back, hold.at_ns)

    def _advance(self, now_s: float) -> int:
        now_ns = self._latest_ns = max(self._latest_ns, round(now_s * _NS))
        while self._held_order and self._held_order[0] <= now_ns:
            self._held.discard(heapq.heappop(self._held_order))
        while self._given_back and self._given_back[0] <= now_ns:
            heapq.heappop(self._given_back)  # its moment has passed unused
        return now_ns

    def _place(self, now_ns: int) -> int | None:
        """The moment at which this client goes on; None when the room is full."""
        if self._next_ns is None:
            self._next_ns = now_ns - self._slack_ns
        following = max(self._next_ns, now_ns - self._slack_ns)
        if following > now_ns:
            if self._given_back:
                return heapq.heappop(self._given_back)
            if following - now_ns > self._room_ns or len(self._held) >= self._waiting:
                return None
            # Once for each place, however often it is given back and taken again.
            heapq.heappush(self._held_order, following)
        self._next_ns = following + self._gap_ns
        return following

    def _refuse(self, now_ns: int) -> Refuse:
        # Behind the waiting room, one gap apart; who would come later than the longest time starts the next round.
        assert self._next_ns is not None
        self._retry_ns = max(self._retry_ns, self._next_ns) + self._gap_ns
        if self._retry_ns - now_ns > self._max_retry_ns:
            self._retry_ns = min(self._next_ns, now_ns + self._max_retry_ns - self._gap_ns) + self._gap_ns
        return Refuse((self._retry_ns - now_ns) / _NS)
