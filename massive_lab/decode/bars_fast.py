"""The quick way through a page of bars: prove its shape with numpy, then let Polars read all numbers as one column.

A page of 50,000 bars is five megabytes of JSON in which nothing but numbers varies. Instead of parsing objects, the colons are
found; around each must stand one of the eight keys, and between them separators and nothing else. What is left are the values,
which one `bytes.translate` turns into a column of lines for `polars.read_csv`.

Nothing is taken on trust. Keys, quotes, separators and row ends are compared byte by byte; the values must consist of number
characters and each must be written as JSON allows; every row must have its prices and its time once. A page that fails any
of this (unknown fields, strings, nulls, spaces, nested objects, negative numbers, anything broken) is not read here: the
caller reads it with msgspec, which is slower and decides what it is. The two agree to the last bit, and a property test
holds them to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

__all__ = ["MARK", "find_rows", "read_rows_fast"]

_Bytes: TypeAlias = npt.NDArray[np.uint8]
_Ints: TypeAlias = npt.NDArray[np.intp]
_Floats: TypeAlias = npt.NDArray[np.float64]

_OPEN = b'"results":[{'
MARK = b'["rows are read apart"]'

# The last letter of a key names it: v and vw are told apart by it. Order of the columns as read here.
_LETTERS = b"tohlcvwn"
_T, _N = _LETTERS.index(b"t"), _LETTERS.index(b"n")
_REQUIRED = 5
_UNKNOWN = 255
_COLUMN = np.full(256, _UNKNOWN, np.uint8)
_COLUMN[np.frombuffer(_LETTERS, np.uint8)] = np.arange(len(_LETTERS), dtype=np.uint8)
_NAMES = ("ts", "open", "high", "low", "close", "volume", "vwap", "trade_count")

_NUMBER = b"0123456789.eE+-"
_DROP = bytes(set(range(256)) - set(_NUMBER) - {ord(",")})
_LINES = bytes(ord("\n") if byte == ord(",") else byte for byte in range(256))

_COLON, _QUOTE, _COMMA, _BRACE, _END, _ZERO, _POINT = (ord(c) for c in ':",{}0.')
_BLOCK = 1 << 18
_EXACT_CHARS = 15  # a decimal of that many characters is exact in a double, and so is whether it is whole


def find_rows(body: bytes) -> tuple[bytes, bytes] | None:
    """The rows of a page as text, and the page with a mark in their place; None when there is no plain list of objects.

    The caller decodes the marked page: when the mark comes back as its rows, these were the rows, and all around them is
    valid JSON.
    """
    start = body.find(_OPEN)
    end = body.rfind(b"}]") + 2
    if start < 0 or end < start:
        return None
    start += len(_OPEN) - 2
    head, tail = body[:start], body[end:]
    return None if MARK in head or MARK in tail else (body[start:end], head + MARK + tail)


def read_rows_fast(rows: bytes) -> pl.DataFrame | None:
    """Wire columns of a JSON list of bars, or None when it must be read the exact way.

    Parameters
    ----------
    rows : bytes
        From ``[{`` to ``}]``; not yet checked in any way.
    """
    lines: list[bytes] = []
    columns: list[_Bytes] = []
    starts: list[_Ints] = []
    n_values = 0
    for block in _blocks(rows):
        proven = _prove(block)
        if proven is None:
            return None
        lines.append(proven[0])
        columns.append(proven[1])
        starts.append(proven[2] + n_values)
        n_values += proven[1].size
    values = _parse(b"\n".join(lines), n_values)
    return None if values is None else _arrange(values, np.concatenate(columns), np.concatenate(starts))


def _blocks(rows: bytes) -> Iterator[bytes]:
    """The rows without their brackets, cut between two of them every quarter megabyte.

    Small blocks keep the temporary arrays in the processor's cache. A cut inside a text that looks like the end of a row gives two
    blocks that do not pass for rows.
    """
    begin, last = 1, len(rows) - 1
    while last - begin > _BLOCK:
        cut = rows.find(b"},{", begin + _BLOCK, last)
        if cut < 0:
            break
        yield rows[begin : cut + 1]
        begin = cut + 2
    yield rows[begin:last]


def _prove(block: bytes) -> tuple[bytes, _Bytes, _Ints] | None:
    """The values of ``{...},{...}`` as lines, the column of each, and the first values of the rows; None when not proven."""
    text = np.frombuffer(block, np.uint8)
    colon = np.flatnonzero(text == _COLON)
    if colon.size == 0 or colon[0] < 4:
        return None
    shape = _shape(text, colon)
    if shape is None:
        return None
    column, starts, length = shape
    lines = block.translate(_LINES, _DROP)
    # All value characters are number characters exactly when dropping the others dropped only what is around values.
    if len(lines) != int(length.sum()) + colon.size - 1 or not _plain(text, colon, length):
        return None
    if not _signs_and_exponents(text, block, lines, colon, column):
        return None
    whole = length[(column == _T) | (column == _N)]
    return None if int(whole.max(initial=0)) > _EXACT_CHARS else (lines, column, starts)


def _shape(text: _Bytes, colon: _Ints) -> tuple[_Bytes, _Ints, _Ints] | None:
    """Column of every value, first values of the rows, and lengths, when keys and separators are all there is between."""
    letter = text.take(colon - 2)
    column = _COLUMN.take(letter)
    wide = np.flatnonzero(letter == ord("w"))
    quote = colon - 3
    quote[wide] -= 1
    if quote[0] != 1 or column.max() == _UNKNOWN:
        return None
    before = text.take(quote - 1)
    starts = np.flatnonzero(before == _BRACE)
    turn = starts[1:]
    # A value ends before the comma of the next key, or before the `},{` of the next row.
    length = np.empty_like(colon)
    np.subtract(quote[1:], colon[:-1], out=length[:-1])
    length[-1] = text.size - colon[-1]
    length -= 2
    length[turn - 1] -= 2
    good = (
        starts.size > 0
        and starts[0] == 0
        and text[-1] == _END
        and np.count_nonzero(before == _COMMA) + starts.size == colon.size
        and (text.take(colon - 1) == _QUOTE).all()
        and (text.take(quote) == _QUOTE).all()
        and (text.take(colon[wide] - 3) == ord("v")).all()
        and (text.take(quote[turn] - 2) == _COMMA).all()
        and (text.take(quote[turn] - 3) == _END).all()
        and length.min() > 0
    )
    return (column, starts, length) if good else None


def _plain(text: _Bytes, colon: _Ints, length: _Ints) -> bool:
    """Whether every value starts and ends with a digit and has no needless leading zero, as JSON wants it."""
    head = text.take(colon + 1)
    if ((head - _ZERO) > 9).any() or ((text.take(colon + length) - _ZERO) > 9).any():
        return False
    led = np.flatnonzero(head == _ZERO)
    led = led[length[led] > 1]
    return bool((text.take(colon[led] + 2) == _POINT).all())


def _signs_and_exponents(text: _Bytes, block: bytes, lines: bytes, colon: _Ints, column: _Bytes) -> bool:
    """Whether exponents, if there are any, are written as JSON allows and stand only where fractions may."""
    if not any(sign in lines for sign in (b"e", b"E", b"-", b"+")):
        return True
    try:
        msgspec.json.decode(b"[%b]" % block, type=msgspec.Raw)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False
    # No key has an e or a sign, so each of these belongs to the value of the last colon before it.
    at = np.flatnonzero((text == ord("e")) | (text == ord("E")) | (text == ord("-")) | (text == ord("+")))
    found = column[np.searchsorted(colon, at) - 1]
    return not ((found == _T) | (found == _N)).any()


def _parse(lines: bytes, n_values: int) -> _Floats | None:
    try:
        frame = pl.read_csv(lines, has_header=False, schema={"x": pl.Float64}, quote_char=None)
    except pl.exceptions.PolarsError:
        return None
    if frame.height != n_values or frame["x"].null_count():
        return None
    values = frame["x"].to_numpy()
    return values if np.isfinite(values).all() else None


def _arrange(values: _Floats, column: _Bytes, starts: _Ints) -> pl.DataFrame | None:
    """Values to columns; None when a row lacks a required field or has one twice."""
    n_rows = starts.size
    rows: npt.NDArray[np.int32] | None = None
    columns: dict[str, pl.Series] = {}
    for key, name in enumerate(_NAMES):
        at = np.flatnonzero(column == key)
        if at.size == n_rows and (at >= starts).all() and (at[:-1] < starts[1:]).all():
            found = values.take(at)  # one in every row
        elif key < _REQUIRED:
            return None
        else:
            if rows is None:
                flags = np.zeros(column.size, np.int8)
                flags[starts] = 1
                rows = np.cumsum(flags, dtype=np.int32) - 1
            row = rows.take(at)
            if (np.diff(row) == 0).any():
                return None
            found = np.full(n_rows, np.nan)
            found[row] = values.take(at)
        series = pl.Series(name, found)
        series = series if at.size == n_rows else series.fill_nan(None)
        if key in (_T, _N):
            whole = series.cast(pl.Int64)
            if (whole.cast(pl.Float64) != series).any():
                return None
            series = whole
        columns[name] = series
    columns["ts"] = columns["ts"] * 1_000_000
    return pl.DataFrame(columns)
