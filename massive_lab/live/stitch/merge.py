"""Which rows of a history are missing from what was delivered."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from massive_lab.decode.stream import Bar, Event
from massive_lab.live.stitch.keys import Bag

B = TypeVar("B", bound=Bar)

__all__ = ["missing_bars", "missing_ticks", "says_more"]


def missing_ticks(rows: Sequence[Event], delivered: Iterable[Event]) -> list[Event]:
    """Rows of one symbol that were not delivered, in order; each delivered print accounts for one row.

    Parameters
    ----------
    rows : sequence of Event
        Trades or quotes of the history.
    delivered : iterable of Event
        Streamed, polled or filled earlier. What is not in the history is no concern here.

    Examples
    --------
    >>> from massive_lab.decode.stream import Trade
    >>> rows = [Trade("AAPL", 1, 5.0, sequence=n) for n in (7, 8, 9)]
    >>> told = [Trade("AAPL", 1, 5.0, source="poll"), Trade("AAPL", 1, 5.0, sequence=7)]
    >>> [row.sequence for row in missing_ticks(rows, told)]
    [9]
    """
    bag = Bag(delivered)
    # What says exactly the same first, or a vague print would be taken for one that has its own.
    left = [row for row in rows if not bag.take_same(row)]
    return [row for row in left if not bag.take(row)]


def missing_bars(
    rows: Sequence[B], before: Iterable[B], since: Iterable[B], closed_ms: int, known_ms: int = -1
) -> list[B]:
    """Bars of one symbol that were not delivered, or that were revised while nobody listened.

    Parameters
    ----------
    rows : sequence of Bar
        Of the history.
    before : iterable of Bar
        Delivered before the loss or by an earlier fill: replaced by a row that holds more.
    since : iterable of Bar
        Streamed after the return: they win.
    known_ms : int
        UTC ms; a bar that starts earlier was delivered at some time, and only what is in `before` can be compared.
    closed_ms : int
        UTC ms; a bar that ends later is still being made, and the stream will tell it.
    """
    known = {bar.ms: bar for bar in before}
    told = {bar.ms for bar in since}
    return [
        row
        for row in rows
        if row.ts_close <= closed_ms * 1_000_000
        and row.ms not in told
        and (says_more(row, known[row.ms]) if row.ms in known else row.ms >= known_ms)
    ]


def says_more(row: Bar, known: Bar) -> bool:
    """Whether a bar holds prints that another of the same interval lacks; a copy that lags behind does not.

    Examples
    --------
    >>> from massive_lab.decode.stream import SecondBar
    >>> old, new = (SecondBar("AAPL", 0, 1.0, 2.0, 1.0, 2.0, whole=volume) for volume in (5.0, 6.0))
    >>> says_more(new, old), says_more(old, new), says_more(old, old)
    (True, False, False)
    """
    if row.volume is not None and known.volume is not None:
        return row.volume > known.volume
    return row.high > known.high or row.low < known.low
