"""What the rules leave: bars made before a print was known, decimals, holes in the trades; and what nothing explains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

__all__ = ["Span", "explain"]

_MS = 1_000_000
_STEPS = ("late_print", "odd_lot", "condition_code")
_LAST_DECIMAL = 1.01e-4
_DELAY = 10 * 10**9
"""A bar comes at most so long after its end."""


@dataclass(frozen=True, slots=True)
class Span:
    """Events of a channel may be missing in ``[start, end)``; of one symbol or of all, ``*``."""

    channel: str
    symbol: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Tick:
    time: int
    sip: int
    price: float
    size: float
    high_low: bool
    open_close: bool
    volume: bool
    is_void: bool
    unknown: str


Told = tuple[str, int, str, str, str]


def explain(
    left: pl.DataFrame, ticks: pl.DataFrame, vendor: pl.DataFrame, within: pl.DataFrame, spans: Sequence[Span], length: int
) -> list[Told]:
    """Symbol, window, field, cause and sentence of each field that is not the vendor's after all rules.

    One account must hold for all fields of a bar: that its high is from before a late print and its volume from after
    it explains nothing.
    """
    groups: dict[tuple[str, int], dict[str, float | None]] = {}
    for symbol, window, field, value in left.select("symbol", "window", "field", "vendor").iter_rows():
        groups.setdefault((symbol, window), {})[field] = value
    keys = left.select("symbol", "window").unique()
    own = _ticks_of(ticks.join(keys, on=("symbol", "window"), how="semi"))
    bars = {
        (row.pop("symbol"), row.pop("window")): row
        for row in vendor.join(keys, on=("symbol", "window"), how="semi").iter_rows(named=True)
    }
    known = {row[0]: (row[1], row[2]) for row in within.select("symbol", "since", "until").iter_rows()}
    told: list[Told] = []
    for (symbol, window), fields in groups.items():
        some = own.get((symbol, window), [])
        bar = bars.get((symbol, window))
        cause, detail = _account(some, bar, fields, window + length)
        own_spans = [span for span in spans if span.symbol in ("*", symbol)]
        if cause == "unexplained" and bar is None and _lost(window + length, own_spans):
            cause, detail = "missing_bar", f"A gap of the bars reaches over it. {detail}"
        elif cause == "unexplained" and _has_more(some, bar):
            hole = _hole(window, window + length, known[symbol], own_spans)
            cause, detail = ("missing_trade", f"{hole} {detail}") if hole else (cause, detail)
        told += [(symbol, window, field, cause, detail) for field in fields]
    return told


def _ticks_of(ticks: pl.DataFrame) -> dict[tuple[str, int], list[_Tick]]:
    allowed = [
        pl.all_horizontal(pl.col(f"{step}_{flag}") for step in _STEPS).alias(flag)
        for flag in ("high_low", "open_close", "volume")
    ]
    rows = ticks.sort("time", "sequence", maintain_order=True).select(
        "symbol", "window", "time", "sip", "price", "size", *allowed, (~pl.col("correction_volume")).alias("void"), "unknown"
    )
    found: dict[tuple[str, int], list[_Tick]] = {}
    for symbol, window, *rest in rows.iter_rows():
        found.setdefault((symbol, window), []).append(_Tick(*rest))
    return found


def _lost(end: int, spans: Sequence[Span]) -> bool:
    """Whether the bar of an interval may have come in a gap: seconds after its end."""
    return any(span.channel != "T" and span.start < end + _DELAY and span.end > end for span in spans)


def _has_more(ticks: list[_Tick], bar: dict[str, Any] | None) -> bool:
    """Whether the vendor counted what is not here; a field that it does not tell says nothing against it."""
    if bar is None:
        return False
    counted = [tick for tick in ticks if tick.volume and not tick.is_void]
    n, volume = bar.get("trade_count"), bar.get("volume")
    more = volume is None or volume > sum(tick.size for tick in counted) + _LAST_DECIMAL
    return more and (n is None or n > len(counted))


def _hole(start: int, end: int, known: tuple[int, int], spans: Sequence[Span]) -> str:
    if any(span.channel in ("*", "T") and span.start < end and span.end > start for span in spans):
        return "A gap reaches into it."
    if start < known[0]:
        return "The trades begin within it."
    return "The trades end within it." if known[1] < end else ""


def _account(
    ticks: list[_Tick], bar: dict[str, Any] | None, fields: dict[str, float | None], end: int
) -> tuple[str, str]:
    standing = [tick for tick in ticks if not tick.is_void]
    if _is(bar, standing):
        return "rounding", "A last decimal, or the order within a millisecond, which is not told."
    for before, subset in _earlier(standing, end):
        if _is(bar, subset):
            return "late_print", f"It is from before a print that was published {(before - end) / 1e9:.3g} s after its end."
    if len(standing) < len(ticks):
        if _is(bar, ticks):
            return "correction", "It counts a trade that was corrected or cancelled."
        for before, subset in _earlier(ticks, end):
            if _is(bar, subset):
                said = f"It is from before a print that was published {(before - end) / 1e9:.3g} s after its end"
                return "correction", f"{said}, and counts a trade that was corrected or cancelled."
    unknown = sorted({tick.unknown for tick in standing if tick.unknown})
    if unknown:
        for silent in (_no_price, _nothing):
            if _is(bar, [silent(tick) if tick.unknown else tick for tick in standing]):
                what = "set no price" if silent is _no_price else "do not count"
                return "condition_code", f"Trades of conditions {', '.join(unknown)}, which the table lacks, {what}."
    if fields.keys() == {"vwap"} and bar is not None:
        counted = [tick for tick in standing if tick.volume]
        weight = sum(tick.size for tick in counted)
        if weight and _near(sum(t.price * t.size for t in counted) / weight, bar["vwap"], _LAST_DECIMAL):
            return "condition_code", "Its VWAP weighs all trades that count in the volume."
    return "unexplained", _missing(standing, bar)


def _missing(standing: list[_Tick], bar: dict[str, Any] | None) -> str:
    if bar is None:
        return "There are trades that make a bar, and the vendor has none."
    counted = [tick for tick in standing if tick.volume]
    if not standing:
        return "There is no trade of it."
    said = []
    if bar.get("trade_count") is not None and (n := int(bar["trade_count"]) - len(counted)):
        said.append(f"{abs(n)} trades {'more' if n > 0 else 'fewer'}")
    if bar.get("volume") is not None:
        volume = bar["volume"] - sum(tick.size for tick in counted)
        if abs(volume) > _LAST_DECIMAL:
            said.append(f"a volume {abs(volume):,.10g} {'higher' if volume > 0 else 'lower'}")
    return f"The vendor has {' and '.join(said)}." if said else "Volume and count agree."


def _earlier(ticks: list[_Tick], end: int) -> Iterator[tuple[int, list[_Tick]]]:
    """The trades as they were known before each of those that were published after the end, the last one first."""
    for before in sorted({tick.sip for tick in ticks if tick.sip >= end}, reverse=True):
        yield before, [tick for tick in ticks if tick.sip < before]


def _no_price(tick: _Tick) -> _Tick:
    return _Tick(tick.time, tick.sip, tick.price, tick.size, False, False, tick.volume, tick.is_void, "")


def _nothing(tick: _Tick) -> _Tick:
    return _Tick(tick.time, tick.sip, tick.price, tick.size, False, False, False, tick.is_void, "")


def _is(bar: dict[str, Any] | None, ticks: list[_Tick]) -> bool:
    """Whether these trades make this bar, or none where there is none."""
    setters = [tick for tick in ticks if tick.open_close]
    if bar is None or not setters:
        return bar is None and not setters
    movers = [tick for tick in ticks if tick.high_low or tick.open_close]
    counted = [tick for tick in ticks if tick.volume]
    # Where no time says more than the millisecond, the order within one is not known.
    unit = 1 if any(tick.time % _MS for tick in ticks) else _MS
    first, last = setters[0].time // unit, setters[-1].time // unit
    opens = {setters[0].price} if unit == 1 else {tick.price for tick in setters if tick.time // unit == first}
    closes = {setters[-1].price} if unit == 1 else {tick.price for tick in setters if tick.time // unit == last}
    if not (_among(bar["open"], opens) and _among(bar["close"], closes)):
        return False
    prices = [tick.price for tick in movers]
    if not (_near(max(prices), bar["high"]) and _near(min(prices), bar["low"])):
        return False
    weight = sum(tick.size for tick in movers)
    vwap = sum(tick.price * tick.size for tick in movers) / weight if weight else None
    return (
        _near(float(len(counted)), bar.get("trade_count"))
        and _near(sum(tick.size for tick in counted), bar.get("volume"), _LAST_DECIMAL)
        and (vwap is None or _near(vwap, bar.get("vwap"), _LAST_DECIMAL))
    )


def _among(value: float, prices: set[float]) -> bool:
    return any(_near(price, value) for price in prices)


def _near(value: float, vendor: float | None, room: float = 0.0) -> bool:
    """Whether a value is the vendor's; of a field that the vendor does not tell, any is."""
    return vendor is None or abs(value - vendor) <= room + 1e-9 * max(abs(vendor), 1.0)
