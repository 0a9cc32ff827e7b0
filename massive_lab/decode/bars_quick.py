"""The quick way through a page of bars: its shape proven and its numbers read by numpy, a quarter megabyte at a time.

A page of 50,000 bars is five megabytes of JSON in which nothing but numbers varies. Instead of parsing objects, the colons are
found; around each must stand one of the eight keys, and between them separators and nothing else. What is left are the values:
up to eight characters of each fit a 64-bit word, and a dozen multiplications and masks turn all words of a block into numbers at
once (arithmetic inside a register). A decimal of at most 15 digits is an integer below 2^53 over a power of ten, both exact in a
double, and one division rounds correctly: the doubles are the nearest ones.

Nothing is taken on trust. Keys, quotes, separators and row ends are compared byte by byte and every character of a value is
checked; the few numbers of another form (exponents, signs, more digits) are read one by one. A page that fails (unknown fields,
texts, nulls, spaces, nested objects, anything broken) gives None: the caller reads it with msgspec, which is slower and decides
what it is. The two agree to the last bit, and a property test holds them to it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["FIELDS", "read_bars"]

_Bytes: TypeAlias = npt.NDArray[np.uint8]
_Ints: TypeAlias = npt.NDArray[np.intp]
_Words: TypeAlias = npt.NDArray[np.uint64]
_Floats: TypeAlias = npt.NDArray[np.float64]
_Flags: TypeAlias = npt.NDArray[np.bool_]

FIELDS = ("t", "o", "h", "l", "c", "v", "vw", "n")
"""The rows of the array `read_bars` returns."""

_BLOCK = 1 << 18
_UNKNOWN = 255
_T, _N = FIELDS.index("t"), FIELDS.index("n")
_REQUIRED = 5
_MAX_DIGITS = 15  # below 2**53, so exact in a double
_MAX_SLOW = 0.05
_COLON, _QUOTE, _COMMA, _OPEN, _CLOSE, _ZERO, _POINT = (ord(c) for c in ':",{}0.')
_V, _W = ord("v"), ord("w")
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")

# The last letter of a key names it: v and vw are told apart by it.
_COLUMN = np.full(256, _UNKNOWN, np.uint8)
_COLUMN[[ord(name[-1]) for name in FIELDS]] = np.arange(len(FIELDS), dtype=np.uint8)

_U = np.uint64
_ZEROS = _U(0x3030303030303030)
_HIGH = _U(0x8080808080808080)
_OVER_NINE = _U(0x7676767676767676)  # a byte above 9 plus 0x76 sets its high bit
_DOT = _U(0x2E ^ 0x30)
_PLACES = _U(0x0807060504030201)  # times 256**i: one more than the digits behind byte i, in the top byte
_POWERS = np.array([1.0, *(10.0**k for k in range(17))])  # by that number: 0 when there is no point


def read_bars(body: bytes, start: int, end: int) -> _Floats | None:
    """Values of a JSON list of bars by field and row, NaN where a row lacks it; None when it must be read the exact way.

    Parameters
    ----------
    body : bytes
    start, end : int
        The list is ``body[start:end]``, from ``[{`` to ``}]``; not yet checked in any way.

    Returns
    -------
    numpy.ndarray of shape (8, rows), float64, or None
        In the order of `FIELDS`. Times (milliseconds) and counts are whole and exact.
    """
    parts: list[_Floats] = []
    for block in _blocks(body, start + 1, end - 1):
        part = _read_block(block)
        if part is None:
            return None
        parts.append(part)
    return np.concatenate(parts, axis=1)


def _blocks(body: bytes, begin: int, last: int) -> Iterator[bytes]:
    """The rows without their brackets, cut between two of them.

    Small blocks keep the temporary arrays in the processor's cache. A cut inside a text that looks like the end of a row
    gives two blocks that do not pass for rows.
    """
    while last - begin > _BLOCK:
        cut = body.find(b"},{", begin + _BLOCK, last)
        if cut < 0:
            break
        yield body[begin : cut + 1]
        begin = cut + 2
    yield body[begin:last]


def _read_block(block: bytes) -> _Floats | None:
    padded = np.frombuffer(block + bytes(8), np.uint8)  # so that a word may be read at every value
    text = padded[: len(block)]
    colon = np.flatnonzero(text == _COLON)
    if colon.size == 0 or colon[0] < 4:
        return None
    shape = _shape(text, colon)
    if shape is None:
        return None
    column, starts, length = shape
    values = _numbers(padded, block, colon, length, column)
    return None if values is None else _arrange(values, column, starts)


def _shape(text: _Bytes, colon: _Ints) -> tuple[_Bytes, _Ints, _Ints] | None:
    """Field of every value, first values of the rows, and lengths, when keys and separators are all there is between."""
    letter = text.take(colon - 2)
    column = _COLUMN.take(letter)
    wide = np.flatnonzero(letter == _W)
    quote = colon - 3
    quote[wide] -= 1
    if quote[0] != 1 or column.max() == _UNKNOWN:
        return None
    before = text.take(quote - 1)
    starts = np.flatnonzero(before == _OPEN)
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
        and text[-1] == _CLOSE
        and np.count_nonzero(before == _COMMA) + starts.size == colon.size
        and (text.take(colon - 1) == _QUOTE).all()
        and (text.take(quote) == _QUOTE).all()
        and (text.take(colon[wide] - 3) == _V).all()
        and (text.take(quote[turn] - 2) == _COMMA).all()
        and (text.take(quote[turn] - 3) == _CLOSE).all()
        and length.min() > 0
    )
    return (column, starts, length) if good else None


def _numbers(padded: _Bytes, block: bytes, colon: _Ints, length: _Ints, column: _Bytes) -> _Floats | None:
    """The doubles of all values; None when one is no number, or an integer field is not written as one."""
    begin = colon + 1
    at, size = begin.copy(), np.minimum(length, 8)
    long = np.flatnonzero(length > 8)
    if long.size:  # the last eight characters here, those before them below
        at[long] += length[long] - 8
    whole, point, good = _decimal(_load(padded, at, size))
    digits = whole.astype(np.float64)
    if long.size:
        _put_before(padded, begin[long], length[long], long, digits, point, good)
    lead = padded.take(begin)
    good &= (lead - _ZERO) <= 9  # unsigned: what is less than a zero becomes large
    good &= point != 1
    zero = np.flatnonzero(lead == _ZERO)
    zero = zero[length[zero] > 1]
    good[zero] &= padded.take(begin[zero] + 1) == _POINT
    integer = np.flatnonzero((column == _T) | (column == _N))
    if not good[integer].all() or point[integer].any() or length[integer].max(initial=0) > _MAX_DIGITS:
        return None
    digits /= _POWERS.take(point, mode="clip")
    odd = np.flatnonzero(~good)
    return digits if odd.size == 0 or _one_by_one(digits, block, begin, length, odd) else None


def _put_before(
    padded: _Bytes, begin: _Ints, length: _Ints, long: _Ints, digits: _Floats, point: _Ints, good: _Flags
) -> None:
    """Add to the long values what stands before their last eight characters, in place."""
    whole, first, fine = _decimal(_load(padded, begin, np.minimum(length - 8, 8)))
    last = point[long]
    # Seven digits follow when the point is among them, eight otherwise.
    digits[long] += whole.astype(np.float64) * np.where(last > 0, 1e7, 1e8)
    point[long] = np.where(first > 0, first + 8, last)
    good[long] &= fine & (length <= _MAX_DIGITS + (point[long] > 0)) & ((first == 0) | (last == 0))


def _load(padded: _Bytes, at: _Ints, size: _Ints) -> _Words:
    """Up to eight characters as digits, the last in the top byte, zeros before the first."""
    every = np.ndarray((padded.size - 7,), "<u8", padded, 0, (1,))
    words: _Words = every[at].astype(np.uint64, copy=False)
    words ^= _ZEROS
    words <<= ((8 - size) << 3).view(np.uint64)
    return words


def _decimal(words: _Words) -> tuple[_Words, _Ints, _Flags]:
    """Digits of every word as an integer, 1 + digits behind the point (0 without one), and whether it is digits and a point."""
    odd = words + _OVER_NINE
    odd |= words
    odd &= _HIGH
    odd >>= _U(7)  # 1 in every byte that is no digit
    words = words ^ (odd * _DOT)
    below = np.maximum(odd, _U(1)) - _U(1)
    wrong = words & (odd * _U(0xFF))  # a point has become 0, anything else has not
    wrong |= odd & below  # more than one
    point = (odd * _PLACES) >> _U(56)
    words += (words & below) * _U(0xFF)  # close the gap the point left
    words *= _U(10 * 2**8 + 1)
    words >>= _U(8)
    words &= _U(0x00FF00FF00FF00FF)
    words *= _U(100 * 2**16 + 1)
    words >>= _U(16)
    words &= _U(0x0000FFFF0000FFFF)
    words *= _U(10000 * 2**32 + 1)
    words >>= _U(32)
    return words, point.view(np.intp), wrong == 0


def _one_by_one(values: _Floats, block: bytes, begin: _Ints, length: _Ints, odd: _Ints) -> bool:
    if odd.size > _MAX_SLOW * values.size + 8:
        return False
    for i in odd.tolist():
        text = block[begin[i] : begin[i] + length[i]]
        if not _NUMBER.fullmatch(text):
            return False
        values[i] = float(text) if text != b"-0" else 0.0  # an integer, and those have no negative zero
        if not math.isfinite(values[i]):
            return False
    return True


def _arrange(values: _Floats, column: _Bytes, starts: _Ints) -> _Floats | None:
    """Values by field and row; None when a row lacks a required field or has one twice."""
    flags = np.zeros(column.size, np.intp)
    flags[starts] = 1
    place = np.cumsum(flags)
    place -= 1
    place += column.astype(np.intp) * starts.size
    flat = np.full(len(FIELDS) * starts.size, np.nan)
    flat[place] = values
    empty = np.isnan(flat)
    if np.count_nonzero(empty) + values.size != flat.size or empty[: _REQUIRED * starts.size].any():
        return None
    return flat.reshape(len(FIELDS), starts.size)
