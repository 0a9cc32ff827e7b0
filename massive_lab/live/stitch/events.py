"""Rows of REST as the events of the stream, marked ``backfill``."""

from __future__ import annotations

from typing import Any

import polars as pl

from massive_lab.decode.stream import Event, MinuteBar, Quote, SecondBar, Trade

__all__ = ["to_events"]

_MS = 1_000_000


def to_events(channel: str, frame: pl.DataFrame) -> list[Event]:
    """One event a row, in order.

    Parameters
    ----------
    channel : {"T", "Q", "A", "AM"}
    frame : polars.DataFrame
        Table ``trades``, ``quotes`` or ``bars``. Nanoseconds are kept: `ms` is the floor, `sub_ns` the rest.
    """
    times = [name for name, dtype in frame.schema.items() if dtype == pl.Datetime("ns", "UTC")]
    rows = frame.with_columns(pl.col(times).cast(pl.Int64)).iter_rows(named=True)
    if channel == "T":
        return [_trade(row) for row in rows]
    if channel == "Q":
        return [_quote(row) for row in rows]
    make = SecondBar if channel == "A" else MinuteBar
    return [_bar(make, row) for row in rows]


def _codes(codes: list[int] | None) -> tuple[int, ...] | None:
    return tuple(codes) if codes else None


def _trade(row: dict[str, Any]) -> Trade:
    ms, sub = divmod(row["ts_sip"], _MS)
    return Trade(
        row["symbol"], ms, row["price"], whole=row["size"], conditions=_codes(row["conditions"]),
        exchange=row["exchange"], tape=row["tape"], sequence=row["sequence"], trade_id=row["trade_id"],
        participant=row["ts_participant"], trf_id=row["trf_id"], trf=row["ts_trf"], source="backfill", sub_ns=sub,
    )  # fmt: skip


def _quote(row: dict[str, Any]) -> Quote:
    ms, sub = divmod(row["ts_sip"], _MS)
    return Quote(
        row["symbol"], ms, bid_price=row["bid_price"], bid_size=row["bid_size"], bid_exchange=row["bid_exchange"],
        ask_price=row["ask_price"], ask_size=row["ask_size"], ask_exchange=row["ask_exchange"],
        conditions=_codes(row["conditions"]), indicators=_codes(row["indicators"]), tape=row["tape"],
        sequence=row["sequence"], participant=row["ts_participant"], source="backfill", sub_ns=sub,
    )  # fmt: skip


def _bar(make: type[SecondBar | MinuteBar], row: dict[str, Any]) -> SecondBar | MinuteBar:
    return make(
        row["symbol"], row["ts_event"] // _MS, row["open"], row["high"], row["low"], row["close"],
        end_ms=row["ts_close"] // _MS, whole=row["volume"], vwap=row["vwap"], source="backfill",
    )  # fmt: skip
