"""Reading parameters: numbers, enums, dates, instants and the range suffixes."""

from __future__ import annotations

import bisect
import datetime as dt
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from massive_lab.sandbox.rest.envelope import bad_request
from massive_lab.schema.session import new_york_ns

__all__ = [
    "DAY",
    "Range",
    "choice",
    "day_end_ns",
    "day_of",
    "flag",
    "integer",
    "limit",
    "ranged",
    "span_of",
    "ticker_list",
]

T = TypeVar("T")

DAY = dt.timedelta(days=1)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_FIRST_YEAR, _LAST_YEAR = 1900, 2199
_FIRST_NS, _LAST_NS = new_york_ns(dt.date(_FIRST_YEAR, 1, 1)), new_york_ns(dt.date(_LAST_YEAR, 12, 31))
"""Instants outside are read as these: 64 bits of nanoseconds hold no more than three centuries each way."""


def integer(text: str, name: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise bad_request(f"The parameter '{name}' must be an integer, not '{text}'") from None


def limit(query: Mapping[str, str], default: int, most: int) -> int:
    """The page size; an empty text counts as absent."""
    text = query.get("limit", "")
    if not text:
        return default
    value = integer(text, "limit")
    if not 1 <= value <= most:
        raise bad_request(f"The parameter 'limit' must be between 1 and {most}")
    return value


def flag(query: Mapping[str, str], name: str, default: bool) -> bool:
    text = query.get(name, "")
    if not text:
        return default
    if text.lower() not in {"true", "false"}:
        raise bad_request(f"The parameter '{name}' must be 'true' or 'false'")
    return text.lower() == "true"


def choice(query: Mapping[str, str], name: str, allowed: Sequence[str], default: str) -> str:
    text = query.get(name, "") or default
    if text not in allowed:
        raise bad_request(f"The parameter '{name}' must be one of: {', '.join(filter(None, allowed))}")
    return text


def day_of(text: str, name: str) -> dt.date:
    """A ``YYYY-MM-DD`` that exists."""
    if _DATE.fullmatch(text):
        try:
            date = dt.date.fromisoformat(text)
        except ValueError:
            date = dt.date.min  # 2025-02-30 has the right form; it is refused like any other
        if _FIRST_YEAR <= date.year <= _LAST_YEAR:
            return date
    raise bad_request(f"The parameter '{name}' is not a valid date: '{text}' (expected YYYY-MM-DD)")


def day_end_ns(date: dt.date) -> int:
    """The midnight that ends a New York day."""
    return new_york_ns(date + DAY)


def span_of(text: str, name: str, unit_ns: int) -> tuple[int, int]:
    """First and last nanosecond of what a parameter names.

    A date is a whole New York day. A number counts `unit_ns`; 16 digits and more are nanoseconds whatever the unit,
    because the vendor's own client sends its datetimes so. An RFC 3339 time is an instant.
    """
    if _DATE.fullmatch(text):
        day = day_of(text, name)
        return new_york_ns(day), day_end_ns(day) - 1
    if re.fullmatch(r"-?\d{1,19}", text):
        value = int(text)
        scale = 1 if abs(value) >= 10**15 else unit_ns
        first = min(max(value * scale, _FIRST_NS), _LAST_NS)
        return first, first + scale - 1
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise bad_request(f"The parameter '{name}' is neither a date nor a timestamp: '{text}'")
    first = min(max(round(moment.timestamp() * 1_000_000) * 1000, _FIRST_NS), _LAST_NS)
    return first, first


def ticker_list(text: str, most: int, name: str) -> list[str]:
    """Comma-joined tickers in their order, repeats dropped."""
    tickers = list(dict.fromkeys(part for part in text.split(",") if part))
    if len(tickers) > most:
        raise bad_request(f"The parameter '{name}' takes at most {most} tickers; {len(tickers)} were given")
    return tickers


@dataclass(frozen=True, slots=True)
class Range(Generic[T]):
    """The conditions ``name``, ``name.gt`` ... ``name.any_of`` put on a value; all that are given must hold."""

    eq: T | None = None
    gt: T | None = None
    gte: T | None = None
    lt: T | None = None
    lte: T | None = None
    any_of: tuple[T, ...] | None = None

    def __bool__(self) -> bool:
        return any(bound is not None for bound in (self.eq, self.gt, self.gte, self.lt, self.lte, self.any_of))

    def accepts(self, value: Any) -> bool:
        return (
            (self.eq is None or value == self.eq)
            and (self.gt is None or value > self.gt)
            and (self.gte is None or value >= self.gte)
            and (self.lt is None or value < self.lt)
            and (self.lte is None or value <= self.lte)
            and (self.any_of is None or value in self.any_of)
        )

    def slice_of(self, ascending: Sequence[Any]) -> slice:
        """The positions of an ascending sequence that the bounds leave (`any_of` aside)."""
        lo, hi = 0, len(ascending)
        for bound in (self.eq, self.gte):
            if bound is not None:
                lo = max(lo, bisect.bisect_left(ascending, bound))
        for bound in (self.eq, self.lte):
            if bound is not None:
                hi = min(hi, bisect.bisect_right(ascending, bound))
        if self.gt is not None:
            lo = max(lo, bisect.bisect_right(ascending, self.gt))
        if self.lt is not None:
            hi = min(hi, bisect.bisect_left(ascending, self.lt))
        return slice(lo, max(lo, hi))


def ranged(query: Mapping[str, str], name: str, read: Callable[[str, str], T]) -> Range[T]:
    """Read a parameter and its suffixes."""

    def one(suffix: str) -> T | None:
        text = query.get(name + suffix, "")
        return read(text, name + suffix) if text else None

    several = query.get(name + ".any_of", "")
    any_of = tuple(read(part, name + ".any_of") for part in several.split(",") if part) if several else None
    return Range(one(""), one(".gt"), one(".gte"), one(".lt"), one(".lte"), any_of)
