"""Aggregate rows (custom bars, previous close, grouped daily) and daily open-close: bytes to wire columns."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from massive_lab.decode.bars_quick import read_bars
from massive_lab.decode.fields import MAX_MS, Float, Int, Text, decode, iso_date, ms_to_ns, to_ints
from massive_lab.decode.lines import cut_rows
from massive_lab.decode.pages import Envelope, read_envelope, read_rows
from massive_lab.errors import DecodeError

__all__ = ["BAR_WIRE", "OpenClose", "bar_columns", "bar_columns_exact", "open_close"]

BAR_WIRE: dict[str, Any] = {
    "ticker": pl.String,
    "ts": pl.Int64,
    "open": pl.Float64,
    "high": pl.Float64,
    "low": pl.Float64,
    "close": pl.Float64,
    "volume": pl.Float64,
    "vwap": pl.Float64,
    "trade_count": pl.Int64,
}
"""Columns of `bar_columns`. `ts` is the vendor's stamp in nanoseconds, start or end of the window as the endpoint has it;
`ticker` is null where the rows carry none."""


class _Bar(msgspec.Struct, gc=False):
    o: float
    h: float
    l: float  # noqa: E741 - the vendor's name
    c: float
    t: Int
    v: Float = None
    vw: Float = None
    n: Int = None
    T: Text = None


_BARS = msgspec.json.Decoder(list[_Bar])


def bar_columns(body: bytes, *, endpoint: str, symbol: str | None = None) -> pl.DataFrame:
    """Rows of one aggregates answer, in the order they came, with the columns of `BAR_WIRE`.

    Raises
    ------
    DecodeError
        Bad JSON, a wrong type, a row without price or time, or another number of rows than the envelope counts.
    """
    found = cut_rows(body, endpoint=endpoint, symbol=symbol)
    if found is not None:
        envelope, start, end = found
        values = read_bars(body, start, end)
        if values is not None and values[0].max() <= MAX_MS:
            check_count(envelope, values.shape[1], endpoint=endpoint, symbol=symbol)
            return _frame(values)
    return bar_columns_exact(body, endpoint=endpoint, symbol=symbol)


def _frame(values: npt.NDArray[np.float64]) -> pl.DataFrame:
    names = list(BAR_WIRE)[1:]  # in the order of `massive_lab.decode.bars_quick.FIELDS`
    columns = [pl.Series(name, row) for name, row in zip(names, values, strict=True)]
    columns = [column.fill_nan(None) if column.is_nan().any() else column for column in columns]
    columns[0] = columns[0].cast(pl.Int64) * 1_000_000
    columns[-1] = columns[-1].cast(pl.Int64)
    return pl.DataFrame([pl.Series("ticker", [None], pl.String).new_from_index(0, values.shape[1]), *columns])


def bar_columns_exact(body: bytes, *, endpoint: str, symbol: str | None = None) -> pl.DataFrame:
    """`bar_columns` by msgspec alone: the reference for anything faster."""
    envelope, raw = read_rows(body, endpoint=endpoint, symbol=symbol)
    rows: list[_Bar] = decode(_BARS, raw, endpoint=endpoint, symbol=symbol)
    check_count(envelope, len(rows), endpoint=endpoint, symbol=symbol)
    stamps = to_ints([row.t for row in rows], field="t", endpoint=endpoint)
    if None in stamps:
        raise DecodeError("A bar has no time.", endpoint=endpoint, symbol=symbol)
    columns: dict[str, list[Any]] = {
        "ticker": [row.T for row in rows],
        "ts": ms_to_ns(stamps, field="t", endpoint=endpoint),
        "open": [row.o for row in rows],
        "high": [row.h for row in rows],
        "low": [row.l for row in rows],
        "close": [row.c for row in rows],
        "volume": [row.v for row in rows],
        "vwap": [row.vw for row in rows],
        "trade_count": to_ints([row.n for row in rows], field="n", endpoint=endpoint),
    }
    return pl.DataFrame(columns, schema=BAR_WIRE)


def check_count(envelope: Envelope, n_rows: int, *, endpoint: str, symbol: str | None) -> None:
    """Raise when the envelope promises another number of bars than came."""
    promised = to_ints([envelope.results_count], field="resultsCount", endpoint=endpoint)[0]
    if promised is not None and promised != n_rows:
        raise DecodeError(
            f"The answer promises {promised} bars and holds {n_rows}.",
            endpoint=endpoint,
            symbol=symbol,
            request_id=envelope.request_id,
            hint="Ask again; part of the answer is missing.",
        )


class _OpenClose(msgspec.Struct, kw_only=True):
    from_: str = msgspec.field(name="from")
    open: float
    high: float
    low: float
    close: float
    symbol: Text = None
    volume: Float = None
    early_price: Float = msgspec.field(default=None, name="preMarket")
    late_price: Float = msgspec.field(default=None, name="afterHours")


_OPEN_CLOSE = msgspec.json.Decoder(_OpenClose)


@dataclass(frozen=True, slots=True)
class OpenClose:
    """The one row of ``/v1/open-close``."""

    symbol: str | None
    date: dt.date | None
    open: float
    high: float
    low: float
    close: float
    volume: float | None
    early_price: float | None
    late_price: float | None


def open_close(body: bytes, *, symbol: str) -> OpenClose:
    """The fields of ``/v1/open-close``, which stand beside the status instead of in a list of rows."""
    read_envelope(body, endpoint="open_close", symbol=symbol)
    row: _OpenClose = decode(_OPEN_CLOSE, body, endpoint="open_close", symbol=symbol)
    date = iso_date(row.from_, field="from", endpoint="open_close")
    return OpenClose(
        row.symbol, date, row.open, row.high, row.low, row.close, row.volume, row.early_price, row.late_price
    )
