"""Bars as the stream emits them: once when the window is over, again when a late print revises it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from massive_lab.sandbox.market.bars import Bars, aggregate
from massive_lab.sandbox.market.rng import Bools, Floats, Ints

__all__ = ["LIVE_COLUMNS", "Prints", "emitted"]

LIVE_COLUMNS = (
    *("emit_ns", "start_ns", "end_ns", "open", "high", "low", "close", "volume", "vwap", "trade_count"),
    *("day_volume", "day_vwap", "day_open", "average_size"),
)

_SECOND = 1_000_000_000
_REVISABLE_NS = 15 * 60 * _SECOND
"""A print later than this changes no streamed bar any more."""


class Prints:
    """What bars are made of, ascending by time of trade. For an index, `size` is None and every value counts."""

    __slots__ = ("high_low", "late", "open_close", "price", "sip", "size", "time", "volume")

    def __init__(
        self,
        time: Ints,
        sip: Ints,
        price: Floats,
        size: Floats | None,
        flags: tuple[Bools, Bools, Bools],
        late: Bools,
    ) -> None:
        self.time, self.sip, self.price, self.size = time, sip, price, size
        self.high_low, self.open_close, self.volume = flags
        self.late = late

    def bars(self, span_ns: int, rows: Ints | Bools | slice = slice(None)) -> Bars:
        """Bars of even windows, of some of the prints. Session bounds and UTC windows share the grid of seconds."""
        time = self.time[rows]
        size = None if self.size is None else self.size[rows]
        flags = (self.high_low[rows], self.open_close[rows], self.volume[rows])
        return aggregate(time - time % span_ns, self.price[rows], size, *flags)


def emitted(prints: Prints, span_ns: int, day_open: Callable[[int], float]) -> dict[str, npt.NDArray[Any]]:
    """Every emission of one session, ascending by ``emit_ns``.

    Parameters
    ----------
    day_open : callable
        The official open as known at an instant; NaN before.
    """
    # Second bars wait two seconds for stragglers, minute bars one.
    delay = 2 * _SECOND if span_ns <= _SECOND else _SECOND
    due = prints.time - prints.time % span_ns + span_ns + delay
    in_time = prints.sip <= due
    bars = prints.bars(span_ns, in_time)
    emit = bars.start + span_ns + delay
    parts, emits = [bars], [emit]
    revisions = np.flatnonzero(~in_time & (prints.sip - prints.time <= _REVISABLE_NS))
    for row in revisions.tolist():
        start = int(prints.time[row]) // span_ns * span_ns
        known = int(prints.sip[row])
        lo, hi = np.searchsorted(prints.time, [start, start + span_ns])
        rows = np.arange(lo, hi)[prints.sip[lo:hi] <= known]
        revised = prints.bars(span_ns, rows)
        if len(revised):
            parts.append(revised)
            emits.append(np.array([known + _SECOND // 2], dtype=np.int64))
    names = Bars.__dataclass_fields__
    whole = Bars(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))
    emit = np.concatenate(emits)
    order = np.argsort(emit, kind="stable")
    whole, emit = whole.take(order), emit[order]
    n = len(emit)
    if prints.size is None:
        none = np.full(n, np.nan)
        day_volume = day_vwap = average = none
    else:
        by_sip = np.argsort(prints.sip, kind="stable")
        size = np.where(prints.volume, prints.size, 0.0)[by_sip]
        priced = np.where(prints.high_low | prints.open_close, prints.size, 0.0)[by_sip]
        at = np.searchsorted(prints.sip[by_sip], emit, side="right") - 1
        day_volume = np.round(np.cumsum(size)[at], 4)
        day_vwap = np.round(np.cumsum(priced * prints.price[by_sip])[at] / np.cumsum(priced)[at], 4)
        average = np.round(whole.volume / np.maximum(whole.count, 1))
    return {
        "emit_ns": emit,
        "start_ns": whole.start,
        "end_ns": whole.start + span_ns,
        "open": whole.open,
        "high": whole.high,
        "low": whole.low,
        "close": whole.close,
        "volume": whole.volume,
        "vwap": whole.vwap,
        "trade_count": whole.count,
        "day_volume": day_volume,
        "day_vwap": day_vwap,
        "day_open": np.array([day_open(int(t)) for t in emit.tolist()], dtype=np.float64),
        "average_size": average,
    }
