"""SMA, EMA, RSI and MACD as the vendor's server computes them, from base bars."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from massive_lab.sandbox.api import Columns, RestAnswer
from massive_lab.sandbox.rest.aggs import bar_rows, stamps_ms
from massive_lab.sandbox.rest.entitle import clip, history_start_ns, require_index
from massive_lab.sandbox.rest.envelope import Ask, asset_class_of, bad_request, encode, ok
from massive_lab.sandbox.rest.paging import next_url
from massive_lab.sandbox.rest.params import choice, flag, integer, limit, ranged, span_of
from massive_lab.sandbox.rest.reading import joined, read_bars, sliced
from massive_lab.sandbox.rest.windows import Grid, fold
from massive_lab.schema.plans import MAX_INDICATOR_LIMIT

__all__ = ["ema", "ema_series", "macd", "macd_series", "rsi", "rsi_series", "sma", "sma_series"]

Floats = npt.NDArray[np.float64]

_MS = 1_000_000
_FAR = 2**62
_CHICAGO_NS = 3_600_000_000_000
_SPANS = ("minute", "hour", "day", "week", "month", "quarter", "year")
_HALVINGS = 50
"""Warm-up: the weight of the seed is halved this often before the first value, if there are so many bars."""


def sma_series(values: Floats, window: int) -> Floats:
    """Rolling mean; NaN before `window` values."""
    out = np.full(len(values), np.nan)
    if len(values) >= window:
        # Window by window: a running total would carry rounding from bar to bar, and so from page to page.
        out[window - 1 :] = np.lib.stride_tricks.sliding_window_view(values, window).mean(axis=1)
    return out


def _recursion(values: Floats, alpha: float, seed: float, start: int) -> Floats:
    """``y += alpha * (x - y)`` from `start` on, where it is `seed`; NaN before."""
    out = np.full(len(values), np.nan)
    level = seed
    out[start] = level
    for i, x in enumerate(values[start + 1 :].tolist(), start + 1):
        level += alpha * (x - level)
        out[i] = level
    return out


def ema_series(values: Floats, window: int) -> Floats:
    """Exponential mean with ``2 / (window + 1)``, seeded by the mean of the first `window` values."""
    if len(values) < window:
        return np.full(len(values), np.nan)
    return _recursion(values, 2 / (window + 1), float(values[:window].mean()), window - 1)


def rsi_series(values: Floats, window: int) -> Floats:
    """Wilder's RSI: gains and losses smoothed with ``1 / window``, seeded by the mean of the first `window` changes."""
    if len(values) <= window:
        return np.full(len(values), np.nan)
    change = np.diff(values, prepend=values[0])
    gain, loss = np.maximum(change, 0.0), np.maximum(-change, 0.0)
    up = _recursion(gain, 1 / window, float(gain[1 : window + 1].mean()), window)
    down = _recursion(loss, 1 / window, float(loss[1 : window + 1].mean()), window)
    total = up + down
    with np.errstate(invalid="ignore", divide="ignore"):
        # Nothing moved at all: neither strong nor weak.
        return np.where(total == 0, 50.0, 100 * up / total)


def macd_series(values: Floats, short: int, long: int, signal: int) -> tuple[Floats, Floats]:
    """MACD line and signal.

    The signal runs from 0 over the zero-filled line: where the long mean does not exist yet the line counts as the short
    one alone. Only with a long warm-up does that fade.
    """
    fast, slow = ema_series(values, short), ema_series(values, long)
    filled = np.nan_to_num(fast) - np.nan_to_num(slow)
    if len(filled) == 0:
        return filled, filled
    smoothed = _recursion(np.concatenate(([0.0], filled)), 2 / (signal + 1), 0.0, 0)[1:]
    return np.where(np.isnan(slow), np.nan, fast - slow), smoothed


class _Value(Struct):
    timestamp: int
    value: float


class _MacdValue(Struct):
    timestamp: int
    value: float
    signal: float
    histogram: float


Compute = Callable[[Floats], tuple[Floats, Floats | None]]


@dataclass(frozen=True, slots=True)
class _Spec:
    """One indicator with its parameters."""

    compute: Compute
    length: int
    """Bars until the first value."""
    warmup: int
    """Bars before the first value asked for."""
    window: int
    """What the limit in ``underlying.url`` is reckoned from."""


def _window(ask: Ask, name: str, default: int) -> int:
    text = ask.query.get(name, "")
    value = integer(text, name) if text else default
    if not 1 <= value <= 1_000:
        raise bad_request(f"The parameter '{name}' must be between 1 and 1000")
    return value


def _fade(alpha: float, length: int) -> int:
    """Bars after which what came before has faded."""
    return length + (int(-_HALVINGS * np.log(2) / np.log1p(-alpha)) + 1 if alpha < 1 else 1)


def sma(ask: Ask) -> RestAnswer:
    n = _window(ask, "window", 50)
    return _indicator(ask, _Spec(lambda x: (sma_series(x, n), None), n, n, n))


def ema(ask: Ask) -> RestAnswer:
    n = _window(ask, "window", 50)
    return _indicator(ask, _Spec(lambda x: (ema_series(x, n), None), n, _fade(2 / (n + 1), n), n))


def rsi(ask: Ask) -> RestAnswer:
    n = _window(ask, "window", 14)
    return _indicator(ask, _Spec(lambda x: (rsi_series(x, n), None), n + 1, _fade(1 / n, n), n))


def macd(ask: Ask) -> RestAnswer:
    short, long, signal = (
        _window(ask, name, default)
        for name, default in (("short_window", 12), ("long_window", 26), ("signal_window", 9))
    )
    if short >= long:
        raise bad_request("The parameter 'short_window' must be less than 'long_window'")
    warmup = _fade(2 / (long + 1), long) + _fade(2 / (signal + 1), signal)
    return _indicator(ask, _Spec(lambda x: macd_series(x, short, long, signal), long, warmup, long))


def _indicator(ask: Ask, spec: _Spec) -> RestAnswer:
    symbol = ask.parts["symbol"]
    asset_class = asset_class_of(symbol)
    plan = ask.plan(asset_class)
    grid = Grid(1, choice(ask.query, "timespan", _SPANS, "day"))
    series = choice(ask.query, "series_type", ("open", "high", "low", "close"), "close")
    descending = choice(ask.query, "order", ("asc", "desc"), "desc") == "desc"
    size = limit(ask.query, 10, MAX_INDICATOR_LIMIT)
    expand = flag(ask.query, "expand_underlying", False)
    adjusted = flag(ask.query, "adjusted", True)
    require_index(plan, symbol)
    first_ns, last_ns = _bounds(ask, symbol, grid)
    values: list[Any] = []
    bars: Columns | None = None
    following = None
    stamps = np.empty(0, dtype=np.int64)
    span = (max(0, first_ns), max(0, min(last_ns, ask.now_ns)))
    if first_ns <= last_ns:
        asked = clip(plan, max(first_ns, history_start_ns(plan, ask.now_ns)), last_ns + 1, ask.now_ns)
        found = _windows(ask, symbol, grid, asked, spec, size, descending)
        values, rows, more = _values(symbol, spec, grid, found, asked, series, size, descending)
        bars = sliced(found, rows)
        stamps = stamps_ms(symbol, grid, np.asarray(bars["start_ns"], dtype=np.int64))
        if more:
            following = _continue(ask, symbol, bars, stamps, descending, size)
    if len(stamps):
        span = (int(stamps[0]) * _MS, int(stamps[-1]) * _MS)
    # The documented samples: 240 for 53 and one value, 226 for 50, 66 for 14, 121 for a MACD of 26 and two values.
    n_base = (spec.window + 1) * 40 // 9 + size - 1
    where = f"{ask.request.base_url}/v2/aggs/ticker/{symbol}/range/1/{grid.timespan}/{span[0] // _MS}/{span[1] // _MS}"
    tail = "" if adjusted else "&adjusted=false"
    underlying: dict[str, Any] = {"url": f"{where}?limit={n_base}&sort={'desc' if descending else 'asc'}{tail}"}
    if expand:
        expanded = bar_rows(symbol, bars, stamps.tolist()) if bars is not None else []
        underlying["aggregates"] = expanded[::-1] if descending else expanded
    results: dict[str, Any] = {"underlying": underlying}
    if values:
        results["values"] = values
    return ok(ask, results=results, next_url=following)


def _bounds(ask: Ask, symbol: str, grid: Grid) -> tuple[int, int]:
    """First and last nanosecond of the stamps asked for."""
    stamp = ranged(ask.query, "timestamp", lambda text, name: span_of(text, name, _MS))
    first, last = -_FAR, _FAR
    for bound in (stamp.eq, stamp.gte):
        if bound is not None:
            first = max(first, bound[0])
    if stamp.gt is not None:
        first = max(first, stamp.gt[1] + 1)
    for bound in (stamp.eq, stamp.lte):
        if bound is not None:
            last = min(last, bound[1])
    if stamp.lt is not None:
        last = min(last, stamp.lt[0] - 1)
    if symbol.startswith("I:") and grid.base == "day":
        # Index days are stamped an hour after the midnight their bars start at.
        first, last = first - _CHICAGO_NS, last - _CHICAGO_NS
    return first, last


_BASES = {"minute": 1, "hour": 60, "day": 1, "week": 5, "month": 23, "quarter": 69, "year": 262}
"""Base bars of one window, at most."""


def _windows(
    ask: Ask, symbol: str, grid: Grid, asked: tuple[int, int, int], spec: _Spec, size: int, descending: bool
) -> Columns:
    """Folded bars: those asked for with one more than a page, as far as there are, and the warm-up before them."""
    start_ns, end_ns, cutoff = asked
    oldest = history_start_ns(ask.plan(asset_class_of(symbol)), ask.now_ns)
    start_ns = min(end_ns, start_ns)
    # Whole windows: the first starts in the range, the last is complete however the range ends.
    head = grid.floor(start_ns)
    head = grid.after(head) if head < start_ns else head
    stop = max(head, grid.after(grid.floor(end_ns - 1)))

    def read(lo: int, hi: int, n: int, *, backward: bool) -> Columns:
        n_base = (n + 1) * _BASES[grid.timespan]
        lo = max(lo, oldest)
        bars = read_bars(ask.market, symbol, grid.base, lo, max(lo, hi), cutoff, n_base, descending=backward)
        folded, first = fold(bars, grid)
        if grid.is_base or len(bars["start_ns"]) < n_base or not len(first):
            return folded
        # The outermost window may have been read in part.
        return sliced(folded, slice(1, None) if backward else slice(0, -1))

    if descending:
        return read(oldest, stop, size + 1 + spec.warmup, backward=True)
    warm = read(oldest, head, spec.warmup, backward=True)
    # A page may begin before the first value exists: read as many bars more.
    return joined([warm, read(head, stop, size + 1 + spec.length, backward=False)])


def _values(
    symbol: str,
    spec: _Spec,
    grid: Grid,
    found: Columns,
    asked: tuple[int, int, int],
    series: str,
    size: int,
    descending: bool,
) -> tuple[list[Any], slice, bool]:
    """The page of values, the rows of `found` it is about, and whether there are more."""
    starts = np.asarray(found["start_ns"], dtype=np.int64)
    line, signal = spec.compute(np.asarray(found[series], dtype=np.float64))
    usable = np.flatnonzero(~np.isnan(line) & (starts >= asked[0]) & (starts < asked[1]))
    more = len(usable) > size
    chosen = usable[-size:] if descending else usable[:size]
    if len(chosen) == 0:
        return [], slice(0, 0), False
    stamps = stamps_ms(symbol, grid, starts[chosen]).tolist()
    if signal is None:
        rows: list[Any] = list(map(_Value, stamps, line[chosen].tolist()))
    else:
        histogram = line - signal
        rows = list(map(_MacdValue, stamps, line[chosen].tolist(), signal[chosen].tolist(), histogram[chosen].tolist()))
    if descending:
        rows.reverse()
    return rows, slice(int(chosen[0]), int(chosen[-1]) + 1), more


def _continue(ask: Ask, symbol: str, bars: Columns, stamps: npt.NDArray[np.int64], descending: bool, size: int) -> str:
    """All parameters, the last aggregate, and the bound that moved past it."""
    edge = 0 if descending else -1
    last = bar_rows(symbol, sliced(bars, slice(0, 1) if descending else slice(-1, None)), [int(stamps[edge])])[0]
    params = {
        **ask.query,
        "limit": str(size),
        "order": "desc" if descending else "asc",
        "ap": encode(last).decode(),
        "as": "",
        "timestamp.lt" if descending else "timestamp.gt": str(int(stamps[edge])),
    }
    return next_url(ask, params)
