"""Volume-weighted average price since the start of the session.

=========== ===========================================================================================
formula     ``sum(typical * volume) / sum(volume)`` since the session began; ``typical = (high + low + close) / 3``
source      the usual intraday definition, on typical prices; the vendor's `vwap` of one bar is another column
smoothing   none; sums run from the first bar of the session in the order of the bars
seed        none
first value the first bar of a session with a volume; ``warmup`` is 0
null rule   a row with a null in high, low, close or volume is skipped and stays null; while the session's volume is
            still 0 the value is null
=========== ===========================================================================================

The anchor says where the sums begin anew and which bars count, in New York time, half days and daylight saving included:

========== ==============================================================================================
regular    the opening auction to the close (09:30 to 16:00, or to the early close)
extended   04:00 to 20:00 (17:00 on half days)
day        midnight to midnight, every calendar day
an instant from that instant on, without end: an aware `datetime`, or its ISO text with an offset
========== ==============================================================================================

A bar belongs to a session when it starts inside it. A bar outside is null: its price is no part of that session. So an
hour bar of the vendor that starts at 09:00 is outside the regular session; daily bars are refused.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from massive_lab.errors import FrameInvariantError, InvalidRequest
from massive_lab.indicators._engine import Array, Spec, expressions
from massive_lab.indicators._incremental import Incremental, number
from massive_lab.schema.session import new_york_ns, session, sessions, trading_date

__all__ = ["Anchor", "SessionVWAP", "session_vwap", "spec"]

Anchor: TypeAlias = Literal["regular", "extended", "day"]

_INPUTS = ("ts_event", "high", "low", "close", "volume")
_DAY = dt.timedelta(days=1)
_SHORT = 64
_LARGE = 500
_FOR_EVER = 2**63 - 1


def _anchor(anchor: object) -> str:
    """A named anchor, or the ISO text in UTC of an instant."""
    if isinstance(anchor, str) and anchor in get_args(Anchor):
        return anchor
    try:
        moment = dt.datetime.fromisoformat(anchor) if isinstance(anchor, str) else anchor
    except ValueError:
        moment = None
    if not isinstance(moment, dt.datetime) or moment.utcoffset() is None:
        raise InvalidRequest(
            f"{anchor!r} is no anchor of a session VWAP.",
            hint="Use regular, extended, day, or an instant with its offset like '2025-06-02T09:30:00-04:00'.",
        )
    return moment.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")


@lru_cache(maxsize=64)
def _instant(anchor: str) -> int | None:
    """UTC nanoseconds of an anchor that is an instant; None for the named ones."""
    if anchor in get_args(Anchor):
        return None
    since = dt.datetime.fromisoformat(anchor) - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    return since // dt.timedelta(microseconds=1) * 1_000


def _bounds_of(date: dt.date, anchor: str) -> tuple[int, int] | None:
    """The window of one New York date in UTC nanoseconds, half open; None when there is none."""
    if (instant := _instant(anchor)) is not None:
        return instant, _FOR_EVER
    if anchor == "day":
        return new_york_ns(date), new_york_ns(date + _DAY)
    today = session(date)
    if today is None:
        return None
    return (today.open_ns, today.close_ns) if anchor == "regular" else (today.early_ns, today.late_ns)


@lru_cache(maxsize=64)
def _windows(first: dt.date, last: dt.date, anchor: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Starts and ends of the windows of the dates ``first`` to ``last``, both included."""
    if (instant := _instant(anchor)) is not None:
        return np.array([instant]), np.array([_FOR_EVER])
    n_days = (last - first).days + 1
    dates = [first + _DAY * i for i in range(n_days)] if anchor == "day" else sessions(first, last + _DAY)
    windows = [window for date in dates if (window := _bounds_of(date, anchor))]
    table = np.array(windows, dtype=np.int64).reshape(-1, 2)
    return table[:, 0].copy(), table[:, 1].copy()


def _kernel(anchor: str, arrays: Sequence[NDArray[Any]], bounds: NDArray[np.int64]) -> tuple[Array, ...]:
    ts, high, low, close, volume = arrays
    _refuse_negative(volume)
    starts, ends = _windows(trading_date(int(ts.min())), trading_date(int(ts.max())), anchor)
    find = _runs_by_group if len(ts) >= _LARGE * (len(bounds) - 1) else _runs_by_row
    first, last = find(ts, bounds, starts, ends)
    if len(first) == 0 and anchor in ("regular", "extended"):
        _refuse_daily(ts)
    money = high + low
    money += close
    money /= 3.0
    money *= volume
    weight = volume.copy()
    _sum_up((money, weight), first, last)
    with np.errstate(divide="ignore", invalid="ignore"):
        money /= weight
    # What lies between two runs is outside the session.
    for start, end in zip(np.append(0, last).tolist(), np.append(first, len(ts)).tolist(), strict=True):
        if start < end:
            money[start:end] = np.nan
    return (money,)


_Runs: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int64]]


def _runs_by_group(
    ts: NDArray[np.int64], bounds: NDArray[np.int64], starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> _Runs:
    """First and last (excluded) row of each session of each symbol: the sessions are looked up in the rows."""
    first, last = [], []
    for begin, end in pairwise(bounds.tolist()):
        rows = ts[begin:end]
        some = slice(int(ends.searchsorted(rows[0], side="right")), int(starts.searchsorted(rows[-1], side="right")))
        first.append(np.searchsorted(rows, starts[some]) + begin)
        last.append(np.searchsorted(rows, ends[some]) + begin)
    heads, tails = np.concatenate(first), np.concatenate(last)
    filled = heads < tails
    return heads[filled], tails[filled]


def _runs_by_row(
    ts: NDArray[np.int64], bounds: NDArray[np.int64], starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> _Runs:
    """The same for many symbols of few rows each: the rows are looked up in the sessions."""
    if len(starts) == 0:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    which = np.searchsorted(starts, ts, side="right") - 1
    which[(which >= 0) & (ts >= ends[which])] = -1
    head = np.empty(len(ts), dtype=bool)
    head[0] = True
    np.not_equal(which[1:], which[:-1], out=head[1:])
    head[bounds[:-1]] = True
    first = np.flatnonzero(head)
    last = np.append(first[1:], len(ts))
    inside = which[first] >= 0
    return first[inside], last[inside]


def _sum_up(columns: Sequence[Array], first: NDArray[np.int64], last: NDArray[np.int64]) -> None:
    """Running sums in place from the start of each run, strictly from left to right as the incremental twin adds."""
    lengths = last - first
    long = lengths > _SHORT
    for start, end in zip(first[long].tolist(), last[long].tolist(), strict=True):
        for column in columns:
            run = column[start:end]
            np.add.accumulate(run, out=run)
    short, length = first[~long], lengths[~long]
    for step in range(1, int(length.max(initial=0))):  # at most _SHORT steps over all short runs at once
        at = short[length > step] + step
        for column in columns:
            column[at] += column[at - 1]


def _refuse_negative(volume: Array) -> None:
    if volume.min() < 0:
        raise FrameInvariantError(
            f"session_vwap got a negative volume, {volume.min()}.", rule="volume", hint="Mend the source of the bars."
        )


def _refuse_daily(ts: NDArray[np.int64]) -> None:
    starts, ends = _windows(trading_date(int(ts.min())), trading_date(int(ts.max())), "extended")
    which = np.searchsorted(starts, ts, side="right") - 1
    if len(ends) == 0 or not ((which >= 0) & (ts < ends[which])).any():
        raise FrameInvariantError(
            "session_vwap got bars of which none starts within trading hours: daily bars, or times in a wrong zone.",
            rule="intraday",
            rows=pl.DataFrame({"ts_event": pl.Series(ts[:5]).cast(pl.Datetime("ns", "UTC"))}),
            hint='A session VWAP needs intraday bars. With anchor="day" every calendar day counts in full.',
        )


def spec(anchor: object = "regular") -> Spec:
    """The session VWAP of bars with its anchor, for `massive_lab.indicators.apply`."""
    known = _anchor(anchor)

    def kernel(arrays: Sequence[NDArray[Any]], bounds: NDArray[np.int64]) -> tuple[Array, ...]:
        return _kernel(known, arrays, bounds)

    text = "session_vwap" if known == "regular" else f"session_vwap_{known}"
    return Spec(text, _INPUTS, (text,), kernel, clock="ts_event", volume="volume")


def session_vwap(
    *,
    anchor: Anchor | str | dt.datetime = "regular",
    ts_event: str = "ts_event",
    high: str | pl.Expr = "high",
    low: str | pl.Expr = "low",
    close: str | pl.Expr = "close",
    volume: str | pl.Expr = "volume",
    by: str | None = "symbol",
    name: str | None = None,
) -> pl.Expr:
    """Volume-weighted average price since the start of the session, per symbol.

    Parameters
    ----------
    anchor : {"regular", "extended", "day"} or an instant
        The session, in New York time, or an aware `datetime` (or its ISO text) from which on to sum; see the module's
        docstring.
    ts_event : str
        Start of the bar, ``Datetime`` with a zone; strictly ascending per symbol.
    high, low, close, volume : str or polars.Expr
        Prices and volume of the bar.
    by : str or None
        Column that names the symbol; None when all rows are one series.
    name : str, optional
        Name of the result; ``session_vwap``, or ``session_vwap_<anchor>`` for the other anchors.

    Returns
    -------
    polars.Expr
        Float64 in price units; null outside the session, before the first volume, and where an input is null.

    Raises
    ------
    InvalidRequest
        Unknown anchor, or dates the exchange calendar does not cover.
    FrameInvariantError
        When evaluated: a symbol without any volume, or a negative one (rule ``volume``), times out of order
        (``sorted``), daily bars (``intraday``), NaN or infinity (``finite``), wrong types (``dtype``).

    Examples
    --------
    >>> from massive_lab.schema.session import new_york_ns
    >>> open_ns = new_york_ns(dt.date(2025, 6, 2), 9, 30)
    >>> bars = pl.DataFrame({
    ...     "symbol": ["A"] * 3, "ts_event": [open_ns - 60 * 10**9, open_ns, open_ns + 60 * 10**9],
    ...     "high": [9.0, 12.0, 15.0], "low": [9.0, 8.0, 9.0], "close": [9.0, 10.0, 12.0], "volume": [5.0, 100.0, 300.0],
    ... }).with_columns(pl.col("ts_event").cast(pl.Datetime("ns", "UTC")))
    >>> bars.with_columns(session_vwap())["session_vwap"].to_list()
    [None, 10.0, 11.5]
    """
    made = spec(anchor)
    return expressions(made, (ts_event, high, low, close, volume), by, (name or made.outputs[0],))[0]


class SessionVWAP(Incremental):
    """Volume-weighted average price since the start of the session, one bar at a time; bit for bit the batch result.

    Parameters
    ----------
    anchor : {"regular", "extended", "day"} or an instant

    Examples
    --------
    >>> from massive_lab.schema.session import new_york_ns
    >>> vwap, open_ns = SessionVWAP(), new_york_ns(dt.date(2025, 6, 2), 9, 30)
    >>> vwap.update(open_ns, 12.0, 8.0, 10.0, 100.0), vwap.update(open_ns + 60 * 10**9, 15.0, 9.0, 12.0, 300.0)
    (10.0, 11.5)
    """

    __slots__ = ("_end", "_money", "_start", "_ts", "_weight", "anchor")

    PARAMETERS = ("anchor",)

    def __init__(self, anchor: Anchor | str | dt.datetime = "regular") -> None:
        super().__init__()
        self.anchor = _anchor(anchor)
        self._start = self._end = 0
        self._money = self._weight = 0.0
        self._ts: int | None = None

    @property
    def warmup(self) -> int:
        """Always 0: the first bar with a volume gives a value."""
        return 0

    @property
    def value(self) -> float | None:
        """The result of the last bar; None outside the session."""
        return self._value  # type: ignore[no-any-return]

    def update(
        self, ts_event: int | None, high: float | None, low: float | None, close: float | None, volume: float | None
    ) -> float | None:
        """Take the next bar; a bar with a None is skipped and gives None.

        Parameters
        ----------
        ts_event : int
            Start of the bar, UTC nanoseconds; later than that of the bar before.
        high, low, close, volume : float

        Raises
        ------
        FrameInvariantError
            Time not ascending (rule ``sorted``), negative volume (``volume``), NaN or infinity (``finite``).
        """
        if ts_event is None or high is None or low is None or close is None or volume is None:
            self._before = self._state()
            return None
        high, low, close, volume = number(high), number(low), number(close), number(volume)
        if volume < 0:
            raise FrameInvariantError(f"SessionVWAP got a negative volume, {volume}.", rule="volume")
        if self._ts is not None and ts_event <= self._ts:
            raise FrameInvariantError(
                f"SessionVWAP got a bar at {ts_event} after one at {self._ts}.",
                rule="sorted",
                hint="Feed the bars of one symbol in ascending order of ts_event; a bar sent again is for amend.",
            )
        self._before = self._state()
        self._ts = ts_event
        if not self._start <= ts_event < self._end:
            window = _bounds_of(trading_date(ts_event), self.anchor)
            if window is None or not window[0] <= ts_event < window[1]:
                self._value = None
                return None
            self._start, self._end = window
            self._money = self._weight = 0.0
        self._money += (high + low + close) / 3.0 * volume
        self._weight += volume
        found = self._money / self._weight if self._weight else None
        self._value = found
        return found

    def peek(
        self, ts_event: int | None, high: float | None, low: float | None, close: float | None, volume: float | None
    ) -> float | None:
        """What `update` would give, without taking the bar."""
        return self.copy().update(ts_event, high, low, close, volume)

    def amend(
        self, ts_event: int | None, high: float | None, low: float | None, close: float | None, volume: float | None
    ) -> float | None:
        """Replace the last bar, and give the result; a bar with a None takes it back.

        Raises
        ------
        InvalidRequest
            There is no last bar.
        FrameInvariantError
            As `update`; the last bar stays.
        """
        before, now = self._before, self._state()
        self._undo()
        try:
            return self.update(ts_event, high, low, close, volume)
        except FrameInvariantError:
            self._before = before
            self._rewind(now)
            raise

    def _state(self) -> tuple[Any, ...]:
        return self._value, self._ts, self._start, self._end, self._money, self._weight

    def _rewind(self, state: Sequence[Any]) -> None:
        self._value, self._ts, self._start, self._end, self._money, self._weight = state
