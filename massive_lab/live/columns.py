"""Events to the columns of the ``live_`` tables: one list per attribute, one typed series per list."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl

from massive_lab.decode.stream import Bar, Event, IndexValue, Quote, Trade
from massive_lab.decode.stream_events import decimal_or, to_ns
from massive_lab.frames.build import to_schema
from massive_lab.live.topics import Kind

__all__ = ["TABLES", "newest_frame", "to_frame"]

TABLES: dict[Kind, str] = {
    "trades": "live_trades",
    "quotes": "live_quotes",
    "bars": "live_bars",
    "values": "live_values",
}
_SCHEMAS = {kind: to_schema(name) for kind, name in TABLES.items()}
_MS = 1_000_000
_Columns = dict[str, pl.Series]


def _f64(values: list[Any]) -> pl.Series:
    return pl.Series(values, dtype=pl.Float64)


def _i64(values: list[Any]) -> pl.Series:
    return pl.Series(values, dtype=pl.Int64)


def _text(values: list[Any]) -> pl.Series:
    try:
        return pl.Series(values, dtype=pl.String)
    except TypeError:  # a trade id that came as a number
        return pl.Series([None if value is None else str(value) for value in values], dtype=pl.String)


def _ids(values: list[Any]) -> pl.Series:
    # Conditions repeat: each distinct combination is built once and gathered, 20 times faster than a list per row.
    distinct: dict[Any, int] = {}
    codes = [distinct.setdefault(value, len(distinct)) for value in values]
    lists = [None if v is None else [v] if isinstance(v, int) else list(v) for v in distinct]
    return pl.Series(lists, dtype=pl.List(pl.Int64)).gather(pl.Series(codes, dtype=pl.UInt32))


def _sizes(decimals: list[str | None], wholes: list[float | None]) -> pl.Series:
    if not any(decimals):
        return _f64(wholes)
    return _f64([w if d is None else decimal_or(d, w) for d, w in zip(decimals, wholes, strict=True)])


def _moments(stamps: list[int], sub_ns: list[int] | None = None) -> pl.Series:
    ns = _i64(stamps) * _MS
    return ns + _i64(sub_ns) if sub_ns is not None and any(sub_ns) else ns


def _by_magnitude(stamps: list[int | None]) -> pl.Series:
    if not any(stamps):
        return _i64(stamps)
    return _i64([None if stamp is None else to_ns(stamp) for stamp in stamps])


def _trades(events: Sequence[Trade]) -> _Columns:
    return {
        "ts_sip": _moments([e.ms for e in events], [e.sub_ns for e in events]),
        "ts_participant": _by_magnitude([e.participant for e in events]),
        "ts_trf": _by_magnitude([e.trf for e in events]),
        "price": _f64([e.price for e in events]),
        "size": _sizes([e.decimal for e in events], [e.whole for e in events]),
        "conditions": _ids([e.conditions for e in events]),
        "exchange": _i64([e.exchange for e in events]),
        "tape": _i64([e.tape for e in events]),
        "sequence": _i64([e.sequence for e in events]),
        "trade_id": _text([e.trade_id for e in events]),
        "trf_id": _i64([e.trf_id for e in events]),
    }


def _quotes(events: Sequence[Quote]) -> _Columns:
    # The vendor writes 0 for a side that is missing.
    bid, ask = _f64([e.bid_price or None for e in events]), _f64([e.ask_price or None for e in events])
    return {
        "ts_sip": _moments([e.ms for e in events], [e.sub_ns for e in events]),
        "ts_participant": _by_magnitude([e.participant for e in events]),
        "bid_price": bid,
        "bid_size": _f64([e.bid_size for e in events]),
        "bid_exchange": _i64([e.bid_exchange for e in events]),
        "ask_price": ask,
        "ask_size": _f64([e.ask_size for e in events]),
        "ask_exchange": _i64([e.ask_exchange for e in events]),
        "mid_price": (bid + ask) / 2,
        "spread": ask - bid,
        "conditions": _ids([e.conditions for e in events]),
        "indicators": _ids([e.indicators for e in events]),
        "tape": _i64([e.tape for e in events]),
        "sequence": _i64([e.sequence for e in events]),
    }


def _bars(events: Sequence[Bar]) -> _Columns:
    return {
        "ts_event": _moments([e.ms for e in events]),
        "ts_close": _moments([e.end_ms if e.end_ms > e.ms else e.ms + e.span_ms for e in events]),
        "open": _f64([e.open for e in events]),
        "high": _f64([e.high for e in events]),
        "low": _f64([e.low for e in events]),
        "close": _f64([e.close for e in events]),
        "volume": _sizes([e.decimal for e in events], [e.whole for e in events]),
        "vwap": _f64([e.vwap for e in events]),
        "day_volume": _sizes([e.day_decimal for e in events], [e.day_whole for e in events]),
        "day_vwap": _f64([e.day_vwap for e in events]),
        "day_open": _f64([e.day_open for e in events]),
        "average_size": _f64([e.average_size for e in events]),
    }


def _values(events: Sequence[IndexValue]) -> _Columns:
    return {
        "ts_event": _moments([e.ms for e in events], [e.sub_ns for e in events]),
        "value": _f64([e.value for e in events]),
    }


_BUILDERS: dict[Kind, Callable[[Any], _Columns]] = {
    "trades": _trades,
    "quotes": _quotes,
    "bars": _bars,
    "values": _values,
}


def to_frame(kind: Kind, events: Sequence[Any]) -> pl.DataFrame:
    """Events of one kind as the exact ``live_`` table of that kind, in the order given.

    Examples
    --------
    >>> to_frame("values", [IndexValue("I:VIX", 1_000, 17.5)])["ts_event"].dt.epoch("ms").to_list()
    [1000]
    """
    schema = _SCHEMAS[kind]
    if not events:
        return schema.to_frame()
    columns = _BUILDERS[kind](events)
    columns["symbol"] = _text([e.symbol for e in events])
    columns["ts_recv"] = _i64([e.ts_recv for e in events])
    sources = [e.source for e in events]
    n = len(events)
    # One source is the rule, and repeating a text is cheaper than reading it from each event.
    one = sources.count(sources[0]) == n
    columns["source"] = pl.Series(sources[:1]).new_from_index(0, n) if one else _text(sources)
    series = []
    for name, dtype in schema.items():
        column = columns[name] if name in columns else pl.Series([None], dtype=dtype).new_from_index(0, n)
        series.append((column if column.dtype == dtype else column.cast(dtype)).alias(name))
    return pl.DataFrame(series)


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
