"""When are two events the same print? REST, the stream and a poll tell different parts of one thing.

======== ===================================== ==============================================
kind     face: told by all, to the millisecond marks: compared where both know them
======== ===================================== ==============================================
trade    time, price, size                     exchange, sequence
quote    time, both prices, both sizes         both exchanges, sequence
======== ===================================== ==============================================

A poll knows no sequence, and the history of options may have lost it: 0 or absent means unknown. Prints are counted, not
collected: two prints that look the same are two.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

from massive_lab.decode.stream import Bar, Event, Quote, Trade

__all__ = ["Bag", "Key", "face", "key_of", "marks", "moment_ms"]

_MS = 1_000_000
Key: TypeAlias = tuple[type, str]
"""Type and symbol: what a topic of one symbol delivers."""
_Marks: TypeAlias = tuple[int | None, ...]


def key_of(event: Event) -> Key:
    return type(event), event.symbol


def moment_ms(event: Event) -> int:
    """When the exchange knew it, UTC ms: the time of a tick, the end of a bar."""
    return event.ts_close // _MS if isinstance(event, Bar) else event.ms


def face(event: Event) -> tuple[Any, ...]:
    """What every source tells of a print.

    Examples
    --------
    >>> face(Trade("AAPL", 1, 5.0, whole=2.0, source="poll", sub_ns=7)) == face(Trade("AAPL", 1, 5.0, decimal="2", sequence=9))
    True
    """
    if isinstance(event, Trade):
        return event.ms, event.price, event.size
    if isinstance(event, Quote):
        # A missing side is a price of 0 on the stream and null in frames.
        return (
            event.ms,
            event.bid_price or None,
            event.bid_size or None,
            event.ask_price or None,
            event.ask_size or None,
        )
    return (event.ms,)


def marks(event: Event) -> _Marks:
    """What tells prints with one face apart; None where the source does not know."""
    if isinstance(event, Trade):
        return event.exchange, event.sequence or None
    if isinstance(event, Quote):
        return event.bid_exchange, event.ask_exchange, event.sequence or None
    return ()


class Bag:
    """Prints of one symbol, counted.

    Examples
    --------
    >>> bag = Bag([Trade("AAPL", 1, 5.0, sequence=9), Trade("AAPL", 1, 5.0)])
    >>> [bag.take(Trade("AAPL", 1, 5.0, sequence=n)) for n in (9, 8, 7)]
    [True, True, False]
    """

    __slots__ = ("_prints", "n")

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self._prints: dict[tuple[Any, ...], list[_Marks]] = {}
        self.n = 0
        for event in events:
            self.add(event)

    def add(self, event: Event) -> None:
        self._prints.setdefault(face(event), []).append(marks(event))
        self.n += 1

    def take_same(self, event: Event) -> bool:
        """Take out a print that says exactly the same; False when there is none."""
        there = self._prints.get(face(event))
        told = marks(event)
        if not there or told not in there:
            return False
        there.remove(told)
        self.n -= 1
        return True

    def take(self, event: Event) -> bool:
        """Take out the print that agrees best in what both know; False when none agrees."""
        there = self._prints.get(face(event))
        if not there:
            return False
        told = marks(event)
        agreeing = [
            known for known in there if all(a is None or b is None or a == b for a, b in zip(told, known, strict=True))
        ]
        if not agreeing:
            return False
        there.remove(max(agreeing, key=lambda known: sum(a == b for a, b in zip(told, known, strict=True))))
        self.n -= 1
        return True
