"""What waits for one client that reads slower than the market: bounded in bytes and in age, thinned where that is honest.

A quote or an index value that waits is replaced by the next of its symbol, a bar by a revision of the same bar; trades and
answers are never replaced and never dropped. What grows over a bound ends the connection, and the client is told. Pure.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Literal, TypeAlias

from massive_lab.decode.stream import Bar, Event, Trade
from massive_lab.gateway.frames import MAX_FRAME, array

__all__ = ["Outbox", "Overrun", "conflation_key"]

Overrun: TypeAlias = Literal["bytes", "age"]

_OVERHEAD = 1
"""The comma."""


def conflation_key(event: Event) -> Hashable | None:
    """Events with the same key replace each other while they wait; None: never.

    Examples
    --------
    >>> from massive_lab.decode.stream import Quote
    >>> conflation_key(Quote("AAPL", 1)) == conflation_key(Quote("AAPL", 2)), conflation_key(Trade("AAPL", 1, 5.0))
    (True, None)
    """
    if isinstance(event, Trade):
        return None
    if isinstance(event, Bar):
        return type(event), event.symbol, event.ms
    return type(event), event.symbol


class Outbox:
    """The queue of one client.

    Parameters
    ----------
    max_bytes : int
    max_age_s : float
        How long the oldest item may wait.

    Attributes
    ----------
    n_bytes : int
        Waiting now.
    n_conflated : int
        Items that were replaced before they were sent.

    Examples
    --------
    >>> outbox = Outbox(100, 10.0)
    >>> for number, key in enumerate(("q", None, "q")):
    ...     outbox.put(b"%d" % number, key, now=0.0)
    >>> outbox.pull(), outbox.n_conflated, len(outbox)
    (b'[2,1]', 1, 0)
    """

    __slots__ = ("_items", "_max_age_s", "_max_bytes", "_next", "n_bytes", "n_conflated")

    def __init__(self, max_bytes: int, max_age_s: float) -> None:
        self._max_bytes = max_bytes
        self._max_age_s = max_age_s
        self._items: OrderedDict[Hashable, tuple[bytes, float]] = OrderedDict()
        self._next = 0
        self.n_bytes = 0
        self.n_conflated = 0

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: bytes, key: Hashable | None, now: float) -> None:
        """Queue JSON text behind what waits, or in place of what has the same key."""
        since = now
        if key is None:
            key = self._next
            self._next += 1
        elif (old := self._items.get(key)) is not None:
            # It keeps the place and the age of what it replaces: a busy symbol must neither fall behind for ever nor
            # make a client that takes nothing look young.
            since = old[1]
            self.n_bytes -= len(old[0]) + _OVERHEAD
            self.n_conflated += 1
        self._items[key] = item, since
        self.n_bytes += len(item) + _OVERHEAD

    def pull(self, max_bytes: int = MAX_FRAME) -> bytes:
        """The oldest items as one JSON array of about `max_bytes` at most; at least one item."""
        items: list[bytes] = []
        size = 0
        while self._items and (not items or size + len(next(iter(self._items.values()))[0]) < max_bytes):
            item, _ = self._items.popitem(last=False)[1]
            items.append(item)
            size += len(item) + _OVERHEAD
        self.n_bytes -= size
        return array(items)

    def clear(self) -> None:
        self._items.clear()
        self.n_bytes = 0

    def overrun(self, now: float, n_unsent: int = 0) -> Overrun | None:
        """Which bound is passed, if one is. `n_unsent`: bytes that have left the queue and wait behind it."""
        if self._items and self.n_bytes + n_unsent > self._max_bytes:
            return "bytes"
        if self._items and now - next(iter(self._items.values()))[1] > self._max_age_s:
            return "age"
        return None
