"""Trades, quotes, and the last of each."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import UNSET, Struct

from massive_lab.sandbox.api import Columns, RestAnswer
from massive_lab.sandbox.rest.entitle import clip, cutoff_ns, history_start_ns, require
from massive_lab.sandbox.rest.envelope import Ask, asset_class_of, bad_request, not_found, ok
from massive_lab.sandbox.rest.paging import next_url
from massive_lab.sandbox.rest.params import choice, limit, ranged, span_of
from massive_lab.sandbox.rest.reading import read_ticks, sliced
from massive_lab.schema.plans import MAX_TICKS_LIMIT

__all__ = ["decimal", "last_quote", "last_row", "last_trade", "number", "optional", "quotes", "trades"]

_DEFAULT_LIMIT = 1_000
_FAR = 2**62
_RECENT_NS = 5 * 86_400_000_000_000
"""Option ticks older than this have lost what is finer than a millisecond, and their sequence numbers."""


class _Trade(Struct):
    price: float
    size: Any
    decimal_size: str
    exchange: int
    sip_timestamp: int
    participant_timestamp: Any = UNSET
    sequence_number: Any = UNSET
    id: Any = UNSET
    conditions: Any = UNSET
    correction: Any = UNSET
    tape: Any = UNSET
    trf_id: Any = UNSET
    trf_timestamp: Any = UNSET


class _Quote(Struct):
    sip_timestamp: int
    sequence_number: int
    ask_price: Any
    ask_size: Any
    ask_exchange: Any
    bid_price: Any
    bid_size: Any
    bid_exchange: Any
    participant_timestamp: Any = UNSET
    conditions: Any = UNSET
    indicators: Any = UNSET
    tape: Any = UNSET


def number(value: float) -> float | int:
    """A whole number without its fraction."""
    return int(value) if value == int(value) else value


def decimal(value: float) -> str:
    """The exact text beside a rounded number."""
    return f"{value:.6f}".rstrip("0").rstrip(".")


def numbers(values: npt.NDArray[Any]) -> list[Any]:
    floats = np.asarray(values, dtype=np.float64)
    if (floats == np.floor(floats)).all():
        whole: list[Any] = floats.astype(np.int64).tolist()
        return whole
    return [number(value) for value in floats.tolist()]


def optional(values: npt.NDArray[Any]) -> list[Any]:
    """Integers; negative ones are absent."""
    out: list[Any] = np.asarray(values).tolist()
    for i in np.flatnonzero(np.asarray(values) < 0).tolist():
        out[i] = UNSET
    return out


def trades(ask: Ask) -> RestAnswer:
    return _ticks(ask, "trade")


def quotes(ask: Ask) -> RestAnswer:
    return _ticks(ask, "quote")


def _ticks(ask: Ask, kind: str) -> RestAnswer:
    symbol = ask.parts["symbol"]
    plan = require(ask, asset_class_of(symbol), "trades" if kind == "trade" else "quotes")
    size = limit(ask.query, _DEFAULT_LIMIT, MAX_TICKS_LIMIT)
    choice(ask.query, "sort", ("timestamp",), "timestamp")
    descending = choice(ask.query, "order", ("asc", "desc"), "desc") == "desc"
    start_ns, end_ns = _bounds(ask)
    rows: list[Any] = []
    following = None
    if start_ns < end_ns:
        start_ns, end_ns, _ = clip(plan, start_ns, end_ns, ask.now_ns)
        if not symbol.startswith("I:"):
            rows, following = _page(ask, kind, symbol, start_ns, end_ns, size, descending)
    return ok(ask, results=rows, next_url=following)


def _bounds(ask: Ask) -> tuple[int, int]:
    """The half-open range that the filters on `timestamp` leave; a date is a whole day."""
    stamp = ranged(ask.query, "timestamp", lambda text, name: span_of(text, name, 1))
    start, end = -_FAR, _FAR
    for bound in (stamp.eq, stamp.gte):
        if bound is not None:
            start = max(start, bound[0])
    if stamp.gt is not None:
        start = max(start, stamp.gt[1] + 1)
    for bound in (stamp.eq, stamp.lte):
        if bound is not None:
            end = min(end, bound[1] + 1)
    if stamp.lt is not None:
        end = min(end, stamp.lt[0])
    return start, end


def _page(
    ask: Ask, kind: str, symbol: str, start_ns: int, end_ns: int, size: int, descending: bool
) -> tuple[list[Any], str | None]:
    # Several ticks may share a nanosecond: the cursor holds the last one's time and how many of that time were sent.
    skip = 0
    if ask.position:
        at, sent = ask.position.get("ap", ""), ask.position.get("as", "")
        if not (re.fullmatch(r"\d{1,19}", at) and re.fullmatch(r"\d{1,9}", sent)):
            raise bad_request("The parameter 'cursor' is not valid")
        skip = int(sent)
        if descending:
            end_ns = min(end_ns, int(at) + 1)
        else:
            start_ns = max(start_ns, int(at))
    n = skip + size + 1
    found = read_ticks(ask.market, symbol, kind, start_ns, end_ns, n, descending=descending)
    height = len(found["sip_ns"])
    more = height == n
    rows = slice(int(more), max(int(more), height - skip)) if descending else slice(skip, height - int(more))
    page = sliced(found, rows)
    times = np.asarray(page["sip_ns"], dtype=np.int64)
    following = None
    if more:
        edge = int(times[0] if descending else times[-1])
        sent_now = int((times == edge).sum())
        if ask.position.get("ap") == str(edge):
            sent_now += skip
        position = {"ap": str(edge), "as": str(sent_now)}
        keep = {"limit": str(size), "order": "desc" if descending else "asc", "sort": "timestamp"}
        following = next_url(ask, {**ask.query, **keep, **position})
    if descending:
        page = {name: column[::-1] for name, column in page.items()}
    build = _trade_rows if kind == "trade" else _quote_rows
    return build(symbol, page, ask.now_ns), following


def _aged(columns: Columns, now_ns: int) -> tuple[list[int], npt.NDArray[np.bool_]]:
    sip = np.asarray(columns["sip_ns"], dtype=np.int64)
    old = sip < now_ns - _RECENT_NS
    return np.where(old, sip // 1_000_000 * 1_000_000, sip).tolist(), old


def _trade_rows(symbol: str, t: Columns, now_ns: int) -> list[Any]:
    prices, sizes = np.asarray(t["price"]).tolist(), np.asarray(t["size"], dtype=np.float64)
    conditions = [tuple(codes) if len(codes) else UNSET for codes in t["conditions"].tolist()]
    texts = [decimal(value) for value in sizes.tolist()]
    exchanges, sequence = np.asarray(t["exchange"]).tolist(), np.asarray(t["sequence"]).tolist()
    corrections = optional(t["correction"])
    if symbol.startswith("O:"):
        sip, old = _aged(t, now_ns)
        sequence = np.where(old, 0, np.asarray(t["sequence"])).tolist()
        n = len(sip)
        blank: list[Any] = [UNSET] * n
        return list(
            map(_Trade, prices, numbers(sizes), texts, exchanges, sip, blank, sequence, blank, conditions, corrections)
        )
    return list(
        map(
            _Trade,
            prices,
            numbers(sizes),
            texts,
            exchanges,
            np.asarray(t["sip_ns"]).tolist(),
            np.asarray(t["participant_ns"]).tolist(),
            sequence,
            t["id"].tolist(),
            conditions,
            corrections,
            optional(t["tape"]),
            optional(t["trf_id"]),
            optional(t["trf_ns"]),
        )
    )


def _quote_rows(symbol: str, q: Columns, now_ns: int) -> list[Any]:
    sides = [
        np.asarray(q["ask_price"]).tolist(),
        numbers(q["ask_size"]),
        optional(q["ask_exchange"]),
        np.asarray(q["bid_price"]).tolist(),
        numbers(q["bid_size"]),
        optional(q["bid_exchange"]),
    ]
    sequence = np.asarray(q["sequence"]).tolist()
    if symbol.startswith("O:"):
        sip, _ = _aged(q, now_ns)
        return list(map(_Quote, sip, sequence, *sides))
    return list(
        map(
            _Quote,
            np.asarray(q["sip_ns"]).tolist(),
            sequence,
            *sides,
            np.asarray(q["participant_ns"]).tolist(),
            _lists(q["condition"]),
            _lists(q["indicator"]),
            optional(q["tape"]),
        )
    )


def _lists(codes: npt.NDArray[Any]) -> list[Any]:
    return [UNSET if code < 0 else (code,) for code in np.asarray(codes).tolist()]


def last_row(ask: Ask, kind: str, symbol: str, since_ns: int, cutoff: int) -> dict[str, Any] | None:
    """The last trade or quote published in ``[since_ns, cutoff]``, as Python values by column name."""
    found = read_ticks(ask.market, symbol, kind, since_ns, cutoff + 1, 1, descending=True)
    if len(found["sip_ns"]) == 0:
        return None
    return {name: column[-1:].tolist()[0] for name, column in found.items()}


def last_trade(ask: Ask) -> RestAnswer:
    symbol = ask.parts["symbol"]
    asset_class = asset_class_of(symbol)
    plan = require(ask, asset_class, "trades")
    row = None
    if asset_class != "indices":
        row = last_row(ask, "trade", symbol, history_start_ns(plan, ask.now_ns), cutoff_ns(plan, ask.now_ns))
    if row is None:
        raise not_found("Ticker not found.")
    is_stock = asset_class == "stocks"
    results: dict[str, Any] = {
        "T": symbol,
        "i": row["id"] if is_stock else "",
        "p": row["price"],
        "q": row["sequence"],
        "s": number(row["size"]),
        "t": row["sip_ns"],
        "x": row["exchange"],
        "y": row["participant_ns"],
    }
    if len(row["conditions"]):
        results["c"] = list(row["conditions"])
    if is_stock:
        results["ds"] = decimal(row["size"])
    for wire, name in (("e", "correction"), ("f", "trf_ns"), ("r", "trf_id"), ("z", "tape")):
        if row[name] >= 0:
            results[wire] = row[name]
    return ok(ask, results=results)


def last_quote(ask: Ask) -> RestAnswer:
    """Stocks only: the NBBO of an option is in its snapshot."""
    symbol = ask.parts["symbol"]
    asset_class = asset_class_of(symbol)
    plan = require(ask, asset_class, "quotes")
    row = None
    if asset_class == "stocks":
        row = last_row(ask, "quote", symbol, history_start_ns(plan, ask.now_ns), cutoff_ns(plan, ask.now_ns))
    if row is None:
        raise not_found("Ticker not found.")
    results: dict[str, Any] = {
        "T": symbol,
        "P": row["ask_price"],
        "S": number(row["ask_size"]),
        "p": row["bid_price"],
        "s": number(row["bid_size"]),
        "q": row["sequence"],
        "t": row["sip_ns"],
        "y": row["participant_ns"],
    }
    for wire, name in (("X", "ask_exchange"), ("x", "bid_exchange"), ("z", "tape")):
        if row[name] >= 0:
            results[wire] = row[name]
    for wire, name in (("c", "condition"), ("i", "indicator")):
        if row[name] >= 0:
            results[wire] = [row[name]]
    return ok(ask, results=results)
