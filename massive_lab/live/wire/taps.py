"""What a hub tells whoever records it: all that came to it from outside, and what it said.

The clock and the REST client are heard through the hub too: `HeardClock` tells of readings that are kept, `RestEar` of the
requests that the hub's own tasks make, by whichever client.
"""

from __future__ import annotations

import itertools
from typing import Protocol

from massive_lab.clock import Clock
from massive_lab.errors import TransportError
from massive_lab.transports.http import Answer
from massive_lab.typing import Cluster

__all__ = ["HeardClock", "RestEar", "Tap"]


class Tap(Protocol):
    """Hears a hub, in order, on the loop thread. It must not block, and must not raise."""

    def opened(self, cluster: Cluster) -> None:
        """A socket is open; the handshake begins."""
        ...

    def received(self, cluster: Cluster, data: bytes) -> None:
        """One frame as it came; the last reading of the clock is its time of receipt."""
        ...

    def sent(self, cluster: Cluster, action: str, wires: tuple[str, ...]) -> None:
        """A control message: ``auth`` (told without the key), ``subscribe`` or ``unsubscribe``."""
        ...

    def online(self, cluster: Cluster) -> None:
        """The handshake is done."""
        ...

    def offline(self, cluster: Cluster, error: TransportError) -> None:
        """The connection ended or could not be opened."""
        ...

    def closed(self, cluster: Cluster) -> None:
        """The hub is closed: this is the last thing it tells."""
        ...

    def read(self, cluster: Cluster, utc_ns: int) -> None:
        """The clock was read."""
        ...

    def drew(self, cluster: Cluster, number: float) -> None:
        """A random number of the back-off."""
        ...

    def market(self, cluster: Cluster, is_open: bool) -> None:
        """The calendar was asked, and this is its answer."""
        ...

    def asked(self, cluster: Cluster, number: int, target: str, cause: str) -> None:
        """A REST request on behalf of the hub; numbers count up."""
        ...

    def answered(self, cluster: Cluster, number: int, answer: Answer) -> None:
        """Its answer, of any status."""
        ...

    def failed(self, cluster: Cluster, number: int, error: BaseException) -> None:
        """It has none: an error, or nobody waited for it any more."""
        ...


class HeardClock:
    """A clock whose readings of UTC are told; otherwise the clock it was made of.

    Examples
    --------
    >>> from massive_lab.clock import ManualClock
    >>> HeardClock(ManualClock(start_ns=5), "stocks", []).now_ns()
    5
    """

    __slots__ = ("_clock", "_cluster", "_taps", "monotonic", "sleep", "sleep_until")

    def __init__(self, clock: Clock, cluster: Cluster, taps: list[Tap]) -> None:
        self._clock = clock
        self._cluster: Cluster = cluster
        self._taps = taps
        # As they are: only what is kept must be the same again.
        self.monotonic = clock.monotonic
        self.sleep = clock.sleep
        self.sleep_until = clock.sleep_until

    def now_ns(self) -> int:
        now_ns = self._clock.now_ns()
        for tap in self._taps:
            tap.read(self._cluster, now_ns)
        return now_ns

    def unheard_ns(self) -> int:
        """UTC ns, told to nobody."""
        return self._clock.now_ns()


class RestEar:
    """Hears the requests made by one task of a hub, and by the tasks it starts, and tells the hub's taps."""

    __slots__ = ("_cluster", "_numbers", "_taps", "task")

    def __init__(self, cluster: Cluster, taps: list[Tap], numbers: itertools.count[int], task: str) -> None:
        self.task = task
        self._cluster: Cluster = cluster
        self._taps = taps
        self._numbers = numbers

    def asked(self, target: str, cause: str) -> int:
        number = next(self._numbers)
        for tap in self._taps:
            tap.asked(self._cluster, number, target, cause)
        return number

    def answered(self, number: int, answer: Answer) -> None:
        for tap in self._taps:
            tap.answered(self._cluster, number, answer)

    def failed(self, number: int, error: BaseException) -> None:
        for tap in self._taps:
            tap.failed(self._cluster, number, error)
