"""Custom bars, previous day, grouped daily and open-close."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import UNSET, Raw, Struct

from massive_lab.sandbox.api import Columns, RestAnswer
from massive_lab.sandbox.rest.entitle import clip, cutoff_ns, envelope_status, require_index
from massive_lab.sandbox.rest.envelope import (
    Ask,
    asset_class_of,
    bad_request,
    not_entitled,
    not_found,
    ok,
)
from massive_lab.sandbox.rest.paging import next_url
from massive_lab.sandbox.rest.params import choice, day_end_ns, day_of, flag, integer, limit, span_of
from massive_lab.sandbox.rest.prices import given, previous_session
from massive_lab.sandbox.rest.reading import read_bars, sliced
from massive_lab.sandbox.rest.windows import TIMESPANS, Grid, fold
from massive_lab.schema.plans import MAX_AGGREGATES_LIMIT
from massive_lab.schema.session import new_york_ns, session, trading_date

__all__ = ["aggs_grouped", "aggs_prev", "aggs_range", "bar_rows", "open_close", "stamps_ms", "volumes"]

_MS = 1_000_000
_CHICAGO_NS = 3_600_000_000_000
"""Chicago's midnight is an hour after New York's, on days of a time change too."""
_DEFAULT_LIMIT = 5_000
_SCIENTIFIC = 1e6
"""Volumes from here on are now and then written with an exponent."""


class _Bar(Struct):
    v: Any
    vw: Any
    o: float
    c: float
    h: float
    l: float  # noqa: E741  the wire's name
    t: int
    n: Any


class _IndexBar(Struct):
    o: float
    c: float
    h: float
    l: float  # noqa: E741  the wire's name
    t: int


class _NamedBar(Struct):
    T: str
    v: Any
    vw: Any
    o: float
    c: float
    h: float
    l: float  # noqa: E741  the wire's name
    t: int
    n: Any


class _NamedIndexBar(Struct):
    T: str
    o: float
    c: float
    h: float
    l: float  # noqa: E741  the wire's name
    t: int


def volumes(values: npt.NDArray[np.float64]) -> list[Any]:
    """Whole volumes as integers, others as they are; some large ones in scientific notation, as the vendor's are."""
    whole = values == np.floor(values)
    out: list[Any] = values.astype(np.int64).tolist() if whole.all() else _mixed(values, whole)
    for i in np.flatnonzero(whole & (values >= _SCIENTIFIC) & (values % 4 == 0)).tolist():
        out[i] = Raw(_exponent(values[i]).encode())
    return out


def _mixed(values: npt.NDArray[np.float64], whole: npt.NDArray[np.bool_]) -> list[Any]:
    pairs = zip(values.tolist(), whole.tolist(), strict=True)
    return [int(v) if w else v if given(v) else UNSET for v, w in pairs]


def _exponent(value: float) -> str:
    """Shortest exact scientific notation."""
    mantissa, _, exponent = f"{value:.16e}".partition("e")
    digits = len(mantissa.rstrip("0")) - 2
    text = f"{value:.{max(digits, 1)}e}"
    return text if float(text) == value else f"{mantissa}e{exponent}"


def stamps_ms(symbol: str, grid: Grid, starts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Window starts as the wire has them: index bars of a day and longer are stamped at midnight in Chicago."""
    shift = _CHICAGO_NS if symbol.startswith("I:") and grid.base == "day" else 0
    stamps: npt.NDArray[np.int64] = (np.asarray(starts, dtype=np.int64) + shift) // _MS
    return stamps


def bar_rows(symbol: str, bars: Columns, stamps: list[int], *, named: bool = False) -> list[Any]:
    """One row a bar; an index has neither volume nor VWAP nor count."""
    o, c, h, low = (np.round(bars[name], 6).tolist() for name in ("open", "close", "high", "low"))
    names = [symbol] * len(stamps)
    if symbol.startswith("I:"):
        return list(map(_NamedIndexBar, names, o, c, h, low, stamps) if named else map(_IndexBar, o, c, h, low, stamps))
    v = volumes(np.asarray(bars["volume"], dtype=np.float64))
    vwap = np.round(bars["vwap"], 4)
    vw: list[Any] = vwap.tolist()
    for i in np.flatnonzero(np.isnan(vwap)).tolist():
        vw[i] = UNSET  # no trade of the window counted towards the price
    count = np.asarray(bars["trade_count"], dtype=np.int64)
    n: list[Any] = count.tolist()
    for i in np.flatnonzero(count < 0).tolist():
        n[i] = UNSET
    if named:
        return list(map(_NamedBar, names, v, vw, o, c, h, low, stamps, n))
    return list(map(_Bar, v, vw, o, c, h, low, stamps, n))


def aggs_range(ask: Ask) -> RestAnswer:
    """Custom bars. `limit` counts base aggregates; a window is returned once all of it was read."""
    symbol = ask.parts["symbol"]
    asset_class = asset_class_of(symbol)
    plan = ask.plan(asset_class)
    grid = _grid(ask)
    first_ns, _ = span_of(ask.parts["start"], "from", _MS)
    _, last_ns = span_of(ask.parts["end"], "to", _MS)
    if last_ns < first_ns:
        raise bad_request("The parameter 'to' cannot be a time that occurs before 'from'")
    descending = choice(ask.query, "sort", ("asc", "desc"), "asc") == "desc"
    adjusted = flag(ask.query, "adjusted", True)
    size = limit(ask.query, _DEFAULT_LIMIT, MAX_AGGREGATES_LIMIT)
    if grid.timespan == "second" and not plan.seconds:
        raise not_entitled()
    require_index(plan, symbol)
    start_ns, end_ns = grid.floor(first_ns), grid.after(grid.floor(last_ns))
    start_ns, end_ns, cutoff = clip(plan, start_ns, end_ns, ask.now_ns)

    # Base bars of the first window that earlier pages have read without reaching its end.
    carried = max(0, integer(ask.position.get("ap") or "0", "cursor"))
    wanted = carried + size
    read = read_bars(ask.market, symbol, grid.base, start_ns, end_ns, cutoff, wanted + 1, descending=descending)
    bars, more, n_base = _whole_windows(read, grid, wanted, descending)
    following = None
    folded, _ = fold(bars, grid)
    starts = np.asarray(folded["start_ns"], dtype=np.int64)
    if more:
        following = _continue(ask, grid, starts, wanted, descending, adjusted, size)
    stamps = stamps_ms(symbol, grid, starts).tolist()
    rows = bar_rows(symbol, folded, stamps)
    if descending:
        rows.reverse()
    return ok(
        ask,
        status=envelope_status(plan),
        ticker=symbol,
        queryCount=max(0, n_base - carried),
        resultsCount=len(rows),
        adjusted=None if asset_class == "indices" else adjusted,
        results=rows or None,
        count=len(rows) or None,
        next_url=following,
    )


def _grid(ask: Ask) -> Grid:
    timespan = ask.parts["timespan"]
    if timespan not in TIMESPANS:
        raise bad_request(f"The parameter 'timespan' must be one of: {', '.join(TIMESPANS)}")
    multiplier = integer(ask.parts["multiplier"], "multiplier")
    if not 1 <= multiplier <= 100_000:
        raise bad_request("The parameter 'multiplier' must be a positive integer")
    return Grid(multiplier, timespan)


def _whole_windows(read: Columns, grid: Grid, wanted: int, descending: bool) -> tuple[Columns, bool, int]:
    """Base bars of the windows a page holds whole; whether there are more; how many base bars were read for it.

    `read` has one bar more than wanted when there are more: it tells whether the last window is complete.
    """
    n = len(read["start_ns"])
    if n <= wanted:
        return read, False, n
    extra, edge = (0, 1) if descending else (n - 1, n - 2)
    starts = grid.starts(np.asarray(read["start_ns"], dtype=np.int64))
    if starts[extra] == starts[edge]:
        keep = np.flatnonzero(starts != starts[extra])
        rows = slice(int(keep[0]), int(keep[-1]) + 1) if len(keep) else slice(0, 0)
    else:
        rows = slice(1, None) if descending else slice(0, n - 1)
    return sliced(read, rows), True, wanted


def _continue(
    ask: Ask,
    grid: Grid,
    starts: npt.NDArray[np.int64],
    wanted: int,
    descending: bool,
    adjusted: bool,
    size: int,
) -> str:
    """The next address: one side of the range moves past the last bar; the cursor keeps the rest."""
    params = {"limit": str(size), "sort": "desc" if descending else "asc"}
    if not adjusted:
        params["adjusted"] = "false"
    parts = dict(ask.parts)
    if len(starts) == 0:
        params["ap"] = str(wanted)
    elif descending:
        parts["end"] = str(int(starts[0]) // _MS - 1)
    else:
        parts["start"] = str(grid.after(int(starts[-1])) // _MS)
    path = "/v2/aggs/ticker/{symbol}/range/{multiplier}/{timespan}/{start}/{end}".format_map(parts)
    return next_url(ask, params, path)


def aggs_prev(ask: Ask) -> RestAnswer:
    """The bar of the last session before today; stamped at that session's end."""
    symbol = ask.parts["symbol"]
    asset_class = asset_class_of(symbol)
    plan = ask.plan(asset_class)
    require_index(plan, symbol)
    adjusted = flag(ask.query, "adjusted", True)
    cutoff = cutoff_ns(plan, ask.now_ns)
    date = previous_session(trading_date(cutoff))
    rows = _day_row(ask, symbol, date, cutoff)
    return ok(
        ask,
        status=envelope_status(plan),
        ticker=symbol,
        queryCount=len(rows),
        resultsCount=len(rows),
        adjusted=None if asset_class == "indices" else adjusted,
        results=rows or None,
        count=len(rows) or None,
    )


def _day_row(ask: Ask, symbol: str, date: dt.date, cutoff: int) -> list[Any]:
    trading = session(date)
    if trading is None or cutoff < trading.close_ns:
        return []
    bars = read_bars(ask.market, symbol, "day", new_york_ns(date), day_end_ns(date), cutoff, 1)
    return bar_rows(symbol, bars, [trading.close_ns // _MS] * len(bars["start_ns"]), named=True)


def aggs_grouped(ask: Ask) -> RestAnswer:
    """All stocks of one finished session, stamped at its end."""
    plan = ask.plan("stocks")
    date = day_of(ask.parts["date"], "date")
    adjusted = flag(ask.query, "adjusted", True)
    flag(ask.query, "include_otc", False)
    _, _, cutoff = clip(plan, new_york_ns(date), day_end_ns(date), ask.now_ns)
    rows: list[Any] = []
    if _has_session(date, cutoff):
        for symbol in ask.market.universe("stocks", cutoff):
            rows += _day_row(ask, symbol, date, cutoff)
    return ok(
        ask,
        status=envelope_status(plan),
        queryCount=len(rows),
        resultsCount=len(rows),
        adjusted=adjusted,
        results=rows or None,
        count=len(rows) or None,
    )


def _has_session(date: dt.date, cutoff: int) -> bool:
    """Whether a session of that date is over (and so within the calendar)."""
    if not dt.date(1990, 1, 2) <= date <= trading_date(cutoff):
        return False
    trading = session(date)
    return trading is not None and trading.close_ns <= cutoff


def open_close(ask: Ask) -> RestAnswer:
    """One finished session of one ticker, its fields beside the status."""
    symbol = ask.parts["symbol"]
    asset_class = asset_class_of(symbol)
    plan = ask.plan(asset_class)
    date = day_of(ask.parts["date"], "date")
    flag(ask.query, "adjusted", True)
    require_index(plan, symbol)
    _, _, cutoff = clip(plan, new_york_ns(date), day_end_ns(date), ask.now_ns)
    prices = None
    if ask.market.knows(symbol, cutoff) and _has_session(date, cutoff):
        prices = ask.market.session_prices(symbol, date, cutoff)
    if prices is None:
        raise not_found("Data not found.")
    is_index = asset_class == "indices"
    early, late = prices.get("early_price", np.nan), prices.get("late_price", np.nan)
    return ok(
        ask,
        with_id=False,
        **{"from": f"{date}T00:00:00.000Z" if is_index else date.isoformat()},
        symbol=symbol,
        open=prices["open"],
        high=prices["high"],
        low=prices["low"],
        close=prices["close"],
        volume=None if is_index else volumes(np.array([prices["volume"]]))[0],
        preMarket=None if is_index or not given(early) else early,
        afterHours=None if is_index or not given(late) else late,
    )
