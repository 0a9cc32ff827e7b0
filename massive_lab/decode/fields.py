"""Field types and conversions shared by the row decoders.

The vendor writes integers in any JSON form: ``12000000``, ``1.2e7``, ``12000000.0``. Nanosecond stamps have 19 digits, more
than a double holds, so an integer that is not written as one goes through `decimal.Decimal` and stays exact.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, TypeAlias

import msgspec

from massive_lab.errors import DecodeError

__all__ = [
    "MAX_MS",
    "Float",
    "Int",
    "Text",
    "decode",
    "exact_size",
    "iso_date",
    "iso_ns",
    "malformed",
    "ms_to_ns",
    "positive",
    "scrub",
    "to_ints",
]

Float: TypeAlias = float | None
Int: TypeAlias = int | Decimal | None
Text: TypeAlias = str | None

_INT64_MAX = 2**63 - 1
MAX_MS = _INT64_MAX // 1_000_000
"""The last millisecond whose nanoseconds fit 64 bits."""

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_SECRET = re.compile(r"(?i)(api_?key=|bearer\s+|\"api_?key\"\s*:\s*\")[^&\s\"'<>]+")
_DECIMAL = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_BYTE = re.compile(r"\(byte (\d+)\)")


def scrub(text: str) -> str:
    """Remove anything that looks like a key from vendor text before it enters an error.

    Examples
    --------
    >>> scrub("/v3/trades/AAPL?limit=1&apiKey=abc&sort=asc")
    '/v3/trades/AAPL?limit=1&apiKey=***&sort=asc'
    """
    return _SECRET.sub(r"\1***", text)


def malformed(cause: Exception, body: bytes, *, endpoint: str, symbol: str | None = None) -> DecodeError:
    """The `DecodeError` for bytes msgspec refused, with the text around the place it names."""
    found = _BYTE.search(str(cause))
    at = max(0, int(found[1]) - 100) if found else 0
    # Cut wide, scrub, then cut: a key must not survive because the cut took away the word before it.
    text = bytes(body[max(0, at - 400) : at + 600]).decode("utf-8", "replace")
    excerpt = scrub(text)[min(at, 400) :]
    return DecodeError(
        f"The answer is not what the vendor documents: {scrub(str(cause))}.",
        excerpt=excerpt,
        endpoint=endpoint,
        symbol=symbol,
        hint="Ask again; if it comes back the same, report it with the excerpt.",
    )


def decode(
    decoder: msgspec.json.Decoder[Any], body: bytes | msgspec.Raw, *, endpoint: str, symbol: str | None = None
) -> Any:
    """Run a msgspec decoder and turn its errors into `DecodeError`."""
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as cause:
        raise malformed(cause, bytes(body), endpoint=endpoint, symbol=symbol) from cause


def to_ints(values: Sequence[Int], *, field: str, endpoint: str) -> list[int | None]:
    """Integers of 64 bits from integers written any way JSON allows.

    Raises
    ------
    DecodeError
        For a number that is not whole, or that 64 bits do not hold.

    Examples
    --------
    >>> to_ints([1, None, Decimal("1.2e7")], field="n", endpoint="trades")
    [1, None, 12000000]
    """
    kinds = set(map(type, values))
    out: list[int | None]
    if Decimal in kinds:
        out = [_whole(value, field, endpoint) if isinstance(value, Decimal) else value for value in values]
    else:
        out = list(values)  # type: ignore[arg-type]
    if int in kinds or Decimal in kinds:
        present = [value for value in out if value is not None] if None in out else out
        low, high = min(present), max(present)  # type: ignore[type-var]
        if low < -_INT64_MAX - 1 or high > _INT64_MAX:  # type: ignore[operator]
            raise DecodeError(
                f"Field {field!r} holds a number beyond 64 bits.", excerpt=f"{low} .. {high}", endpoint=endpoint
            )
    return out


def _whole(value: Decimal, field: str, endpoint: str) -> int:
    # `adjusted` bounds the exponent first: int(Decimal("1e999999")) would build the number.
    if value.is_finite() and (not value or value.adjusted() < 20) and value == value.to_integral_value():
        return int(value)
    raise DecodeError(f"Field {field!r} should be a whole number.", excerpt=str(value), endpoint=endpoint)


def ms_to_ns(values: Iterable[int | None], *, field: str, endpoint: str) -> list[int | None]:
    """Milliseconds since the epoch to nanoseconds.

    Raises
    ------
    DecodeError
        For a stamp before 1970 or after 2262, which is a unit mistaken for another.
    """
    out = []
    for value in values:
        if value is not None and not 0 <= value <= MAX_MS:
            raise DecodeError(f"Field {field!r} is no time in milliseconds.", excerpt=str(value), endpoint=endpoint)
        out.append(None if value is None else value * 1_000_000)
    return out


def positive(value: Float) -> Float:
    """A price, or None for the 0 that stands for a missing side."""
    return value or None


def exact_size(size: Float, text: Text, *, field: str, endpoint: str) -> Float:
    """The decimal text when the vendor sent it (exact to the last digit), else the number.

    Examples
    --------
    >>> exact_size(1.0, "1.25", field="size", endpoint="trades"), exact_size(3, None, field="size", endpoint="trades")
    (1.25, 3)
    """
    if text is None or not text:
        return size
    value = float(text) if _DECIMAL.fullmatch(text) else math.nan
    if not math.isfinite(value):
        raise DecodeError(f"Field {field!r} is not a number.", excerpt=scrub(text), endpoint=endpoint)
    return value


def iso_date(text: Text, *, field: str, endpoint: str) -> dt.date | None:
    """The date of ``2025-06-20`` or ``2023-03-10T00:00:00.000Z``, as written."""
    if text is None:
        return None
    try:
        return dt.date.fromisoformat(text[:10])
    except ValueError:
        raise DecodeError(f"Field {field!r} is not a date.", excerpt=scrub(text), endpoint=endpoint) from None


def iso_ns(text: Text, *, field: str, endpoint: str) -> int | None:
    """UTC nanoseconds of an RFC 3339 time; exact to the microsecond."""
    if text is None:
        return None
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise DecodeError(f"Field {field!r} is not a time.", excerpt=scrub(text), endpoint=endpoint) from None
    if moment.tzinfo is None:
        raise DecodeError(f"Field {field!r} has no zone.", excerpt=text, endpoint=endpoint)
    return (moment - _EPOCH) // dt.timedelta(microseconds=1) * 1000
