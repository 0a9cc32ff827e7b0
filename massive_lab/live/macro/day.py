"""The running day of one index, from values and bars in any order."""

from __future__ import annotations

__all__ = ["DayBar"]


class DayBar:
    """Open, high, low and last of a day that is not over.

    Whatever the order they come in: a value replaces the one of the same instant and a bar the one of the same start; the
    last price is that of the latest instant, the extremes are those of all that stands, and the open is the official one
    where a bar or REST tells it, else the earliest price.

    Examples
    --------
    >>> day = DayBar()
    >>> day.value(2_000, 11.0, "stream"); day.value(1_000, 9.0, "stream"); day.value(2_000, 10.0, "stream")
    >>> day.open, day.high, day.low, day.close, day.ts_ns
    (9.0, 10.0, 9.0, 10.0, 2000)
    """

    __slots__ = ("_bars", "_first", "_high", "_low", "_newest", "_newest_value", "_official", "_seed", "_values")

    def __init__(self) -> None:
        self._values: dict[int, tuple[float, str]] = {}
        self._bars: dict[tuple[str, int], tuple[int, float, float, float, float, str]] = {}
        self._seed: tuple[float, float] | None = None
        self._newest_value = -1
        self._high = float("-inf")
        self._low = float("inf")
        self._first: tuple[tuple[int, int, int], float] | None = None
        self._newest: tuple[tuple[int, int, int], int | tuple[str, int]] | None = None
        self._official: tuple[int, float] | None = None

    def seed(
        self, ts_ns: int, value: float, open_: float | None, high: float | None, low: float | None, *, origin: str
    ) -> None:
        """What REST says of the day so far."""
        self._seed = (high if high is not None else value, low if low is not None else value)
        if open_ is not None and (self._official is None or self._official[0] <= ts_ns):
            self._official = ts_ns, open_
        self._widen(*self._seed)
        self.value(ts_ns, value, origin)

    def value(self, ts_ns: int, value: float, origin: str) -> None:
        """A value at an instant."""
        before = self._values.get(ts_ns)
        self._newest_value = max(self._newest_value, ts_ns)
        self._values[ts_ns] = value, origin
        self._reach(ts_ns, ts_ns, ts_ns, 0, value)
        self._change(None if before is None else (before[0], before[0]), value, value)

    def bar(
        self, span: str, start_ns: int, end_ns: int, open_: float, high: float, low: float, close: float, *,
        day_open: float | None, origin: str,
    ) -> None:  # fmt: skip
        """A bar of a second or a minute, ``[start_ns, end_ns)``."""
        before = self._bars.get((span, start_ns))
        self._bars[span, start_ns] = end_ns, open_, high, low, close, origin
        if day_open is not None and day_open > 0 and (self._official is None or self._official[0] <= end_ns):
            self._official = end_ns, day_open
        self._reach((span, start_ns), end_ns - 1, start_ns, end_ns - start_ns, open_)
        self._change(None if before is None else (before[2], before[3]), high, low)

    def _reach(self, ref: int | tuple[str, int], last_ns: int, start_ns: int, length_ns: int, price: float) -> None:
        # At one instant a value is newer than a bar, and of bars the shortest decides; at the start the same the other way.
        rank = -1 if isinstance(ref, tuple) else 0
        if self._newest is None or (last_ns, rank, -length_ns) >= self._newest[0]:
            self._newest = (last_ns, rank, -length_ns), ref
        key = start_ns, -rank, length_ns
        if self._first is None or key <= self._first[0]:
            self._first = key, price

    def _change(self, before: tuple[float, float] | None, high: float, low: float) -> None:
        self._widen(high, low)
        if before is not None and (high < before[0] == self._high or low > before[1] == self._low):
            self._high, self._low = self._seed or (float("-inf"), float("inf"))
            for value, _ in self._values.values():
                self._widen(value, value)
            for _, _, top, bottom, _, _ in self._bars.values():
                self._widen(top, bottom)

    def _widen(self, high: float, low: float) -> None:
        self._high = max(self._high, high)
        self._low = min(self._low, low)

    @property
    def open(self) -> float:
        if self._official is not None:
            return self._official[1]
        assert self._first is not None, "a day begins with a price"
        return self._first[1]

    @property
    def high(self) -> float:
        return self._high

    @property
    def low(self) -> float:
        return self._low

    @property
    def close(self) -> float:
        return self._last()[0]

    @property
    def origin(self) -> str:
        """Where the last price is from: ``stream``, ``poll``, ``backfill``, or what REST calls it."""
        return self._last()[1]

    @property
    def ts_ns(self) -> int:
        """Instant of the last price, UTC ns; of a bar, its newest value, or its last nanosecond where none has come."""
        assert self._newest is not None, "a day begins with a price"
        (last_ns, *_), ref = self._newest
        return self._newest_value if isinstance(ref, tuple) and self._newest_value >= ref[1] else last_ns

    def _last(self) -> tuple[float, str]:
        assert self._newest is not None, "a day begins with a price"
        ref = self._newest[1]
        if isinstance(ref, tuple):
            *_, close, origin = self._bars[ref]
            return close, origin
        return self._values[ref]
