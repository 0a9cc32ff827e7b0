"""A call budget that holds in every window, as the server's counter sees it.

A bucket that refills steadily lets almost twice its size through one window of the server's clock. Here each token comes
back exactly one period after it was taken, so no window of that length, wherever it starts, holds more than the limit.
What the bucket cannot know is how long a call travels: one that is under way for longer than those after it can still
push the server's own window over the limit, and is then answered 429 and repeated.
"""

from __future__ import annotations

from collections import deque

__all__ = ["TokenBucket"]


class TokenBucket:
    """At most `capacity` calls in any `period_s` seconds.

    Pure: the caller brings the time, waits, and keeps order.

    Examples
    --------
    >>> bucket = TokenBucket(2, 60.0)
    >>> [bucket.reserve(now) for now in (0.0, 1.0, 2.0, 3.0)]
    [0.0, 0.0, 58.0, 58.0]
    """

    __slots__ = ("_taken", "capacity", "period_s")

    def __init__(self, capacity: int, period_s: float) -> None:
        if capacity < 1 or period_s <= 0:
            raise ValueError(f"capacity must be at least 1 and period_s positive: {capacity}, {period_s}")
        self.capacity = capacity
        self.period_s = period_s
        self._taken: deque[float] = deque(maxlen=capacity)

    def reserve(self, now_s: float) -> float:
        """Take the next free slot; returns the seconds to wait until it may be used."""
        at = now_s if len(self._taken) < self.capacity else max(now_s, self._taken[0] + self.period_s)
        self._taken.append(at)
        return at - now_s
