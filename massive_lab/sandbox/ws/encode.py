"""Market columns to the vendor's event JSON: the sandbox's own reading of the wire.

Numbers follow the vendor's habit: a whole double has no ``.0``, times are milliseconds, an absent field is left out.
"""

from __future__ import annotations

from typing import Any

from massive_lab.sandbox.api import Columns, MarketData
from massive_lab.typing import AssetClass

__all__ = ["Event", "events"]

Event = tuple[int, bytes]
"""Publication time (UTC ns) and the item's JSON."""

_SPANS = {"A": 1_000_000_000, "AM": 60_000_000_000}


def events(
    market: MarketData, cluster: AssetClass, prefix: str, symbol: str, start_ns: int, end_ns: int
) -> list[Event]:
    """Items of one topic published in ``[start_ns, end_ns)``, in order. Topics without synthetic data have none."""
    if prefix == "T" and cluster != "indices":
        columns = market.trades(symbol, start_ns, end_ns)
        return _stock_trades(symbol, columns) if cluster == "stocks" else _option_trades(symbol, columns)
    if prefix == "Q" and cluster != "indices":
        columns = market.quotes(symbol, start_ns, end_ns)
        return _stock_quotes(symbol, columns) if cluster == "stocks" else _option_quotes(symbol, columns)
    if prefix == "V":
        return _values(symbol, market.values(symbol, start_ns, end_ns))
    if prefix in _SPANS:
        columns = market.live_bars(symbol, _SPANS[prefix], start_ns, end_ns)
        return _index_bars(prefix, symbol, columns) if cluster == "indices" else _bars(cluster, prefix, symbol, columns)
    return []


def _number(value: float) -> str:
    return repr(value).removesuffix(".0")


def _rows(columns: Columns, *names: str) -> Any:
    return zip(*(columns[name].tolist() for name in names), strict=True)


def _codes(codes: tuple[int, ...]) -> str:
    return f',"c":[{",".join(map(str, codes))}]' if codes else ""


def _stock_trades(symbol: str, columns: Columns) -> list[Event]:
    out = []
    names = ("sip_ns", "participant_ns", "trf_ns", "price", "size", "exchange", "tape", "sequence", "trf_id")
    for row in _rows(columns, *names, "id", "conditions"):
        sip, participant, trf, price, size, exchange, tape, sequence, trf_id, trade_id, conditions = row
        amount = _number(size)
        late = f',"trfi":{trf_id},"trft":{trf // 1_000_000}' if trf_id >= 0 and trf >= 0 else ""
        out.append(
            (
                sip,
                f'{{"ev":"T","sym":"{symbol}","i":"{trade_id}","x":{exchange},"p":{_number(price)},"s":{amount},'
                f'"ds":"{amount}"{_codes(conditions)},"t":{sip // 1_000_000},"pt":{participant // 1_000_000},'
                f'"q":{sequence},"z":{tape}{late}}}'.encode(),
            )
        )
    return out


def _option_trades(symbol: str, columns: Columns) -> list[Event]:
    return [
        (
            sip,
            f'{{"ev":"T","sym":"{symbol}","x":{exchange},"p":{_number(price)},"s":{_number(size)}{_codes(conditions)},'
            f'"t":{sip // 1_000_000},"q":{sequence}}}'.encode(),
        )
        for sip, price, size, exchange, sequence, conditions in _rows(
            columns, "sip_ns", "price", "size", "exchange", "sequence", "conditions"
        )
    ]


_QUOTE = (
    "sip_ns",
    "bid_exchange",
    "bid_price",
    "bid_size",
    "ask_exchange",
    "ask_price",
    "ask_size",
    "sequence",
)


def _stock_quotes(symbol: str, columns: Columns) -> list[Event]:
    out = []
    for row in _rows(columns, *_QUOTE, "participant_ns", "tape", "condition", "indicator"):
        sip, bx, bp, bs, ax, ap, size, sequence, participant, tape, condition, indicator = row
        codes = (f',"c":{condition}' if condition >= 0 else "") + (f',"i":[{indicator}]' if indicator >= 0 else "")
        out.append(
            (
                sip,
                f'{{"ev":"Q","sym":"{symbol}","bx":{bx},"bp":{_number(bp)},"bs":{_number(bs)},"ax":{ax},'
                f'"ap":{_number(ap)},"as":{_number(size)}{codes},"t":{sip // 1_000_000},'
                f'"pt":{participant // 1_000_000},"q":{sequence},"z":{tape}}}'.encode(),
            )
        )
    return out


def _option_quotes(symbol: str, columns: Columns) -> list[Event]:
    return [
        (
            sip,
            f'{{"ev":"Q","sym":"{symbol}","bx":{bx},"ax":{ax},"bp":{_number(bp)},"ap":{_number(ap)},'
            f'"bs":{_number(bs)},"as":{_number(size)},"t":{sip // 1_000_000},"q":{sequence}}}'.encode(),
        )
        for sip, bx, bp, bs, ax, ap, size, sequence in _rows(columns, *_QUOTE)
    ]


def _values(symbol: str, columns: Columns) -> list[Event]:
    return [
        (ts, f'{{"ev":"V","val":{_number(value)},"T":"{symbol}","t":{ts // 1_000_000}}}'.encode())
        for ts, value in _rows(columns, "ts_ns", "value")
    ]


_BAR = ("emit_ns", "start_ns", "end_ns", "open", "high", "low", "close", "day_open")


def _index_bars(prefix: str, symbol: str, columns: Columns) -> list[Event]:
    return [
        (
            emit,
            f'{{"ev":"{prefix}","sym":"{symbol}","op":{_number(op)},"o":{_number(o)},"c":{_number(c)},'
            f'"h":{_number(h)},"l":{_number(lo)},"s":{start // 1_000_000},"e":{end // 1_000_000}}}'.encode(),
        )
        for emit, start, end, o, h, lo, c, op in _rows(columns, *_BAR)
    ]


def _bars(cluster: AssetClass, prefix: str, symbol: str, columns: Columns) -> list[Event]:
    out = []
    exact = cluster == "stocks"
    for row in _rows(columns, *_BAR, "volume", "vwap", "day_volume", "day_vwap", "average_size"):
        emit, start, end, o, h, lo, c, op, volume, vwap, day_volume, day_vwap, average = row
        v, av = _number(volume), _number(day_volume)
        strings = f',"dv":"{v}","dav":"{av}"' if exact else ""
        out.append(
            (
                emit,
                f'{{"ev":"{prefix}","sym":"{symbol}","v":{v},"av":{av}{strings},"op":{_number(op)},'
                f'"vw":{_number(vwap)},"o":{_number(o)},"c":{_number(c)},"h":{_number(h)},"l":{_number(lo)},'
                f'"a":{_number(day_vwap)},"z":{_number(float(round(average)))},'
                f'"s":{start // 1_000_000},"e":{end // 1_000_000}}}'.encode(),
            )
        )
    return out
