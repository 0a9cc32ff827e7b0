"""Reading the market in steps: only as much of a wide range as a page needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from massive_lab.errors import UnknownSymbol
from massive_lab.sandbox.api import Columns, MarketData
from massive_lab.schema.session import new_york_ns
from massive_lab.schema.symbols import OptionSymbol, parse_symbol

__all__ = ["joined", "read_bars", "read_ticks", "sliced", "trimmed"]

_DAY = 86_400_000_000_000
_PER_DAY = {"second": 20_000, "minute": 700, "day": 1, "trade": 10_000, "quote": 30_000, "value": 20_000}
"""Rows of a busy day, a little too few: the first step then usually suffices."""
_LONGEST = {"second": 4, "minute": 64, "day": 16_384, "trade": 16, "quote": 8, "value": 4}
"""Days in one step at most."""

_BARS = ("start_ns", "open", "high", "low", "close", "volume", "vwap", "trade_count")
_COLUMNS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("second", "minute", "day"), _BARS),
    "trade": (
        *("sip_ns", "participant_ns", "trf_ns", "price", "size", "exchange", "tape", "sequence"),
        *("trf_id", "correction", "late", "id", "conditions"),
    ),
    "quote": (
        *("sip_ns", "participant_ns", "bid_price", "bid_size", "bid_exchange"),
        *("ask_price", "ask_size", "ask_exchange", "sequence", "tape", "condition", "indicator"),
    ),
    "value": ("ts_ns", "value"),
}
"""What comes back when nothing is read: an unknown symbol is never asked for."""


def sliced(columns: Columns, rows: slice) -> Columns:
    return {name: column[rows] for name, column in columns.items()}


def joined(parts: list[Columns]) -> Columns:
    """Parts one after the other; at least one part."""
    if len(parts) == 1:
        return parts[0]
    full = [part for part in parts if len(next(iter(part.values())))] or parts[:1]
    return {name: np.concatenate([part[name] for part in full]) for name in full[0]} if len(full) > 1 else full[0]


def _height(columns: Columns) -> int:
    return len(next(iter(columns.values())))


def trimmed(market: MarketData, symbol: str, start_ns: int, end_ns: int) -> tuple[int, int]:
    """Narrow a range to the days in which a symbol was listed, so that no empty years are read."""
    try:
        parsed = parse_symbol(symbol)
    except UnknownSymbol:
        return start_ns, start_ns
    if isinstance(parsed, OptionSymbol):
        day = parsed.expiration
        end_ns = min(end_ns, new_york_ns(day) + 2 * _DAY)
    if end_ns <= start_ns or not market.knows(symbol, end_ns - 1):
        return start_ns, start_ns
    if market.knows(symbol, start_ns):
        return start_ns, end_ns
    unknown, known = start_ns, end_ns - 1
    while known - unknown > _DAY:
        middle = (unknown + known) // 2
        if market.knows(symbol, middle):
            known = middle
        else:
            unknown = middle
    # A day bar starts at the midnight before the symbol is first known.
    return max(start_ns, unknown - _DAY), end_ns


def _steps(kind: str, start_ns: int, end_ns: int, n: int, descending: bool) -> Iterator[tuple[int, int]]:
    """Cut ``[start_ns, end_ns)`` into spans that grow until `n` rows are likely found, nearest end first."""
    longest = _LONGEST[kind]
    days = min(1 + n // _PER_DAY[kind] * (2 if kind == "day" else 1), longest)
    while start_ns < end_ns:
        width = days * _DAY
        if descending:
            yield max(start_ns, end_ns - width), end_ns
            end_ns -= width
        else:
            yield start_ns, min(end_ns, start_ns + width)
            start_ns += width
        days = min(days * 2, longest)


def _gather(
    kind: str, read: Callable[[int, int], Columns], start_ns: int, end_ns: int, n: int, descending: bool
) -> Columns:
    parts: list[Columns] = []
    found = 0
    for lo, hi in _steps(kind, start_ns, end_ns, n, descending):
        part = read(lo, hi)
        parts.append(part)
        found += _height(part)
        if found >= n:
            break
    if not parts:
        return dict.fromkeys(_COLUMNS[kind], np.empty(0, dtype=np.int64))
    whole = joined(parts[::-1] if descending else parts)
    excess = _height(whole) - n
    if excess <= 0:
        return whole
    return sliced(whole, slice(excess, None) if descending else slice(n))


def read_bars(
    market: MarketData,
    symbol: str,
    base: str,
    start_ns: int,
    end_ns: int,
    cutoff_ns: int,
    n: int,
    *,
    descending: bool = False,
) -> Columns:
    """The first `n` base bars of a range, or the last `n`; ascending either way."""
    start_ns, end_ns = trimmed(market, symbol, start_ns, end_ns)

    def read(lo: int, hi: int) -> Columns:
        return market.base_bars(symbol, base, lo, hi, cutoff_ns)

    return _gather(base, read, start_ns, end_ns, n, descending)


def read_ticks(
    market: MarketData, symbol: str, kind: str, start_ns: int, end_ns: int, n: int, *, descending: bool = False
) -> Columns:
    """The first `n` trades, quotes or values (`kind`, in the singular) of a range, or the last `n`; ascending."""
    sources: dict[str, Callable[[str, int, int], Columns]]
    sources = {"trade": market.trades, "quote": market.quotes, "value": market.values}
    read_all = sources[kind]
    start_ns, end_ns = trimmed(market, symbol, start_ns, end_ns)

    def read(lo: int, hi: int) -> Columns:
        return read_all(symbol, lo, hi)

    return _gather(kind, read, start_ns, end_ns, n, descending)
