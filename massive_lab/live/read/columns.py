"""Events to the columns of the ``live_`` tables.

In two steps, because an event is cheap only while it is young: a few hundred events at a time are packed, one attribute
after the other, into buffers of plain numbers, and die; some thousand rows of buffers later these become a Polars frame.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import polars as pl

from massive_lab.decode.stream import Event, IndexValue, Quote, Trade
from massive_lab.decode.stream_events import decimal_or, to_ns
from massive_lab.frames.build import to_schema
from massive_lab.live.topics import Kind

__all__ = ["BATCH", "TABLES", "Columns", "newest_frame", "to_frame"]

TABLES: dict[Kind, str] = {
    "trades": "live_trades",
    "quotes": "live_quotes",
    "bars": "live_bars",
    "values": "live_values",
}
_SCHEMAS = {kind: to_schema(name) for kind, name in TABLES.items()}
_MS = 1_000_000
BATCH = 1_024
"""Events packed at a time: few enough that they are still in the processor's cache, and their memory is used again."""
_FLOAT, _INT, _CODE = "d", "q", "I"
_TYPES: dict[str, Any] = {_FLOAT: np.float64, _INT: np.int64, _CODE: np.uint32}
# What the buffers hold in place of a null; JSON has no NaN, and the parser refuses this integer.
_NO_FLOAT, _NO_INT = float("nan"), -(2**63)
_Part: TypeAlias = "bytes | int"
"""Values of a column, or how many nulls."""


@lru_cache(maxsize=2 * BATCH)
def _packer(n: int, code: str) -> struct.Struct:
    return struct.Struct(f"={n}{code}")


def _packed(values: list[Any], code: str) -> _Part:
    if values[0] is None and values.count(None) == len(values):
        return len(values)
    packer = _packer(len(values), code)
    try:
        return packer.pack(*values)
    except struct.error:  # a null among them, or a time beyond the year 2262, which becomes one
        if code == _FLOAT:
            return packer.pack(*[_NO_FLOAT if value is None else value for value in values])
        return packer.pack(*[_NO_INT if value is None or value >= 2**63 else value for value in values])


def _series(parts: list[_Part], code: str) -> pl.Series:
    nulls = sum(part for part in parts if isinstance(part, int))
    whole = b"".join([part if isinstance(part, bytes) else _no_values(part, code) for part in parts])
    numbers = np.frombuffer(whole, _TYPES[code])
    column = pl.Series(numbers)
    # Most columns hold no null, and looking for one in the plain numbers is far cheaper than marking none.
    if code == _FLOAT:
        return column.fill_nan(None) if np.isnan(numbers).any() else column
    if code == _INT and (nulls or numbers.min() == _NO_INT):
        return column.set(column == _NO_INT, None)
    return column


def _no_values(n: int, code: str) -> bytes:
    return _packer(1, code).pack(_NO_FLOAT if code == _FLOAT else _NO_INT) * n


def _nulls(n: int, dtype: pl.DataType) -> pl.Series:
    return pl.Series([None], dtype=dtype).new_from_index(0, n)


def _text(values: list[Any]) -> pl.Series:
    try:
        return pl.Series(values, dtype=pl.String)
    except TypeError:  # a trade id that came as a number
        return pl.Series([None if value is None else str(value) for value in values], dtype=pl.String)


def _sizes(decimals: list[str | None], wholes: list[float | None]) -> list[float | None]:
    if decimals[0] is None and decimals.count(None) == len(decimals):
        return wholes
    return [w if d is None else decimal_or(d, w) for d, w in zip(decimals, wholes, strict=True)]


def _by_magnitude(stamps: list[int | None]) -> list[int | None]:
    if stamps[0] is None and stamps.count(None) == len(stamps):
        return stamps
    return [None if stamp is None else to_ns(stamp) for stamp in stamps]


class Columns:
    """Events of one kind on their way to a frame.

    Not safe for several threads at once.

    Attributes
    ----------
    n_rows : int
        Events added since the last `take`.

    Examples
    --------
    >>> columns = Columns("values")
    >>> columns.add([IndexValue("I:VIX", 1_000, 17.5), IndexValue("I:SPX", 1_001, 6000.0)])
    >>> columns.take()["value"].to_list(), columns.n_rows
    ([17.5, 6000.0], 0)
    """

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._reset()

    def _reset(self) -> None:
        self.n_rows = 0
        self._parts: dict[str, tuple[str, list[_Part]]] = {}
        self._distinct: dict[str, dict[Any, int]] = {}
        self._texts: dict[str, list[Any]] = {}

    def add(self, events: Sequence[Any], symbols: Sequence[str] | None = None, *, streamed: bool = False) -> None:
        """Take the values of some events.

        Parameters
        ----------
        events : sequence of Event
        symbols : sequence of str, optional
            Theirs, where the caller has read them.
        streamed : bool
            Known to come from the stream, all of them: their source need not be read, nor what only REST knows.
        """
        for start in range(0, len(events), BATCH):
            batch = events[start : start + BATCH]
            n = len(batch)
            self._code("symbol", [e.symbol for e in batch] if symbols is None else symbols[start : start + BATCH])
            self._number("ts_recv", [e.ts_recv for e in batch], _INT)
            if streamed:
                code = self._distinct.setdefault("source", {}).setdefault("stream", len(self._distinct["source"]))
                self._part("source", _packer(1, _CODE).pack(code) * n, _CODE)
            else:
                self._code("source", [e.source for e in batch])
            if self._kind != "bars":
                fine = 0 if streamed else sum(e.sub_ns for e in batch)
                self._number("sub_ns", [e.sub_ns for e in batch] if fine else [None] * n, _INT)
            _ADDERS[self._kind](self, batch)
            self.n_rows += n

    def take(self) -> pl.DataFrame:
        """What was added, as the exact ``live_`` table of the kind; begins anew."""
        schema, n = _SCHEMAS[self._kind], self.n_rows
        if not n:
            return schema.to_frame()
        # A column of nulls alone is left out here, and made at the end.
        held = {name: held for name, held in self._parts.items() if not all(isinstance(part, int) for part in held[1])}
        columns = {name: _series(parts, code) for name, (code, parts) in held.items()}
        looked_up = [_values_of(list(v)).gather(columns[name]).alias(name) for name, v in self._distinct.items()]
        columns |= dict(zip(self._distinct, pl.select(looked_up), strict=True))
        columns |= {name: _text(values) for name, values in self._texts.items()}
        self._reset()
        self._finish(columns)
        series = []
        for name, dtype in schema.items():
            column = columns[name] if name in columns else _nulls(n, dtype)
            series.append((column if column.dtype == dtype else column.cast(dtype)).alias(name))
        return pl.DataFrame(series)

    def _number(self, name: str, values: list[Any], code: str) -> None:
        self._part(name, _packed(values, code), code)

    def _part(self, name: str, part: _Part, code: str) -> None:
        if name not in self._parts:
            self._parts[name] = code, []
        self._parts[name][1].append(part)

    def _code(self, name: str, values: Sequence[Any]) -> None:
        """Values that repeat: each distinct one is built once."""
        distinct = self._distinct.setdefault(name, {})
        try:
            codes = [distinct[value] for value in values]
        except KeyError:
            codes = [distinct.setdefault(value, len(distinct)) for value in values]
        self._number(name, codes, _CODE)

    def _trades(self, batch: Sequence[Trade]) -> None:
        self._number("ts_sip", [e.ms for e in batch], _INT)
        self._number("ts_participant", _by_magnitude([e.participant for e in batch]), _INT)
        self._number("ts_trf", _by_magnitude([e.trf for e in batch]), _INT)
        self._number("price", [e.price for e in batch], _FLOAT)
        self._number("size", _sizes([e.decimal for e in batch], [e.whole for e in batch]), _FLOAT)
        self._code("conditions", [e.conditions for e in batch])
        self._number("exchange", [e.exchange for e in batch], _INT)
        self._number("tape", [e.tape for e in batch], _INT)
        self._number("sequence", [e.sequence for e in batch], _INT)
        self._number("trf_id", [e.trf_id for e in batch], _INT)
        self._texts.setdefault("trade_id", []).extend([e.trade_id for e in batch])

    def _quotes(self, batch: Sequence[Quote]) -> None:
        self._number("ts_sip", [e.ms for e in batch], _INT)
        self._number("ts_participant", _by_magnitude([e.participant for e in batch]), _INT)
        self._number("bid_price", [e.bid_price for e in batch], _FLOAT)
        self._number("bid_size", [e.bid_size for e in batch], _FLOAT)
        self._number("bid_exchange", [e.bid_exchange for e in batch], _INT)
        self._number("ask_price", [e.ask_price for e in batch], _FLOAT)
        self._number("ask_size", [e.ask_size for e in batch], _FLOAT)
        self._number("ask_exchange", [e.ask_exchange for e in batch], _INT)
        self._code("conditions", [e.conditions for e in batch])
        self._code("indicators", [e.indicators for e in batch])
        self._number("tape", [e.tape for e in batch], _INT)
        self._number("sequence", [e.sequence for e in batch], _INT)

    def _bars(self, batch: Sequence[Any]) -> None:
        self._number("ts_event", [e.ms for e in batch], _INT)
        self._number("ts_close", [e.end_ms if e.end_ms > e.ms else e.ms + e.span_ms for e in batch], _INT)
        self._number("open", [e.open for e in batch], _FLOAT)
        self._number("high", [e.high for e in batch], _FLOAT)
        self._number("low", [e.low for e in batch], _FLOAT)
        self._number("close", [e.close for e in batch], _FLOAT)
        self._number("volume", _sizes([e.decimal for e in batch], [e.whole for e in batch]), _FLOAT)
        self._number("vwap", [e.vwap for e in batch], _FLOAT)
        self._number("day_volume", _sizes([e.day_decimal for e in batch], [e.day_whole for e in batch]), _FLOAT)
        self._number("day_vwap", [e.day_vwap for e in batch], _FLOAT)
        self._number("day_open", [e.day_open for e in batch], _FLOAT)
        self._number("average_size", [e.average_size for e in batch], _FLOAT)

    def _values(self, batch: Sequence[IndexValue]) -> None:
        self._number("ts_event", [e.ms for e in batch], _INT)
        self._number("value", [e.value for e in batch], _FLOAT)

    def _finish(self, columns: dict[str, pl.Series]) -> None:
        """What is reckoned for a whole column at once."""
        for name in ("ts_sip", "ts_event"):
            if name in columns:
                columns[name] = columns[name] * _MS
                if "sub_ns" in columns:
                    columns[name] += columns.pop("sub_ns").fill_null(0)
        if self._kind == "bars":
            columns["ts_close"] = columns["ts_close"] * _MS
        if self._kind == "quotes":
            # The vendor writes 0 for a side that is missing.
            n, missing = len(columns["ts_sip"]), pl.Float64()
            bid, ask = (_present(columns.get(name, _nulls(n, missing))) for name in ("bid_price", "ask_price"))
            columns |= {"bid_price": bid, "ask_price": ask, "mid_price": (bid + ask) / 2, "spread": ask - bid}


_ADDERS: dict[Kind, Callable[[Columns, Any], None]] = {
    "trades": Columns._trades,
    "quotes": Columns._quotes,
    "bars": Columns._bars,
    "values": Columns._values,
}


def _present(prices: pl.Series) -> pl.Series:
    missing = prices == 0.0
    return prices.set(missing, None) if missing.any() else prices


def _values_of(distinct: list[Any]) -> pl.Expr:
    if all(isinstance(value, str) for value in distinct):
        return pl.lit(pl.Series(distinct, dtype=pl.String))
    lists = [None if v is None else [v] if isinstance(v, int) else list(v) for v in distinct]
    return pl.lit(pl.Series(lists, dtype=pl.List(pl.Int64)))


def to_frame(kind: Kind, events: Sequence[Any]) -> pl.DataFrame:
    """Events of one kind as the exact ``live_`` table of that kind, in the order given.

    Examples
    --------
    >>> to_frame("values", [IndexValue("I:VIX", 1_000, 17.5)])["ts_event"].dt.epoch("ms").to_list()
    [1000]
    """
    columns = Columns(kind)
    columns.add(events)
    return columns.take()


_NEWEST = pl.Schema(
    {
        "channel": pl.String(), "symbol": pl.String(), "price": pl.Float64(), "ts_event": pl.Datetime("ns", "UTC"),
        "source": pl.String(), "ts_recv": pl.Datetime("ns", "UTC"), "staleness_s": pl.Float64(), "age_s": pl.Float64(),
    }
)  # fmt: skip


def newest_frame(newest: Mapping[str, Sequence[Event]], now_ns: int) -> pl.DataFrame:
    """Events by channel as one table of prices and ages; columns as `massive_lab.live.session.Live.last`.

    Examples
    --------
    >>> newest_frame({"V": [IndexValue("I:VIX", 1_000, 17.5, ts_recv=1_500_000_000)]}, now_ns=3_000_000_000).row(0)[-2:]
    (0.5, 2.0)
    """
    rows = []
    for channel, events in newest.items():
        for event in events:
            since = event.ts_recv - event.staleness_ns
            ages = event.staleness_ns / 1e9, (now_ns - since) / 1e9
            rows.append((channel, event.symbol, _price(event), since, event.source, event.ts_recv, *ages))
    return pl.DataFrame(rows, schema=_NEWEST, orient="row")


def _price(event: Event) -> float | None:
    if isinstance(event, Trade):
        return event.price
    if isinstance(event, Quote):
        return event.mid_price
    return event.value if isinstance(event, IndexValue) else event.close
