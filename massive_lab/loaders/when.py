"""What a user means by a moment, as UTC nanoseconds or a New York date.

A date (``"2025-06-02"``, `datetime.date`) is a New York trading date. An instant is an aware `datetime` or an ISO text with
an offset. A naive datetime is refused: the zone of the machine it runs on must never decide which day is asked for. So is
what lies outside 1970 to 2261, where nanoseconds since 1970 end.
"""

from __future__ import annotations

import datetime as dt
import re

from massive_lab.errors import InvalidRequest
from massive_lab.schema.session import new_york_ns

__all__ = ["Range", "parse_date", "parse_moment", "parse_range"]

_FIRST, _LAST = dt.date(1970, 1, 1), dt.date(2261, 12, 31)
_NANOSECONDS = re.compile(r"(.*[.,]\d{6})(\d{1,3})([Zz+-].*)")
_EXAMPLES = "Use a New York date like '2025-06-02', or an instant with its offset like '2025-06-02T09:30:00-04:00'."


class Range:
    """A half-open range ``[start_ns, end_ns)``; `by_date` when both ends were given as dates."""

    __slots__ = ("by_date", "end", "end_ns", "start", "start_ns")

    def __init__(self, start: dt.date | int, end: dt.date | int) -> None:
        self.by_date = isinstance(start, dt.date) and isinstance(end, dt.date)
        self.start = start
        self.end = end
        self.start_ns = start if isinstance(start, int) else new_york_ns(start)
        self.end_ns = end if isinstance(end, int) else new_york_ns(end)

    def path_segments(self) -> tuple[str, str]:
        """``from`` and ``to`` of the aggregates path, both inclusive on the wire."""
        if self.by_date:
            assert isinstance(self.start, dt.date)
            assert isinstance(self.end, dt.date)
            return self.start.isoformat(), (self.end - dt.timedelta(days=1)).isoformat()
        return str(self.start_ns // 1_000_000), str((self.end_ns - 1) // 1_000_000)


def parse_moment(value: object, *, name: str = "moment") -> dt.date | int:
    """A New York date, or UTC nanoseconds for an instant.

    Raises
    ------
    InvalidRequest
        For naive datetimes, what lies outside 1970 to 2261, and anything else that is neither.

    Examples
    --------
    >>> parse_moment("2025-06-02"), parse_moment("1970-01-01T00:00:01Z")
    (datetime.date(2025, 6, 2), 1000000000)
    """
    # What `datetime` cannot hold: nanoseconds beyond the microsecond, as pandas has them and the vendor writes them.
    beyond = getattr(value, "nanosecond", 0)
    if isinstance(value, str):
        text = value.strip()
        if (long := _NANOSECONDS.fullmatch(text)) is not None:
            text, beyond = long[1] + long[3], int(long[2].ljust(3, "0"))
        try:
            value = dt.date.fromisoformat(text) if len(text) == 10 else dt.datetime.fromisoformat(text)
        except ValueError:
            raise InvalidRequest(f"{name} {text[:40]!r} is neither a date nor an instant.", hint=_EXAMPLES) from None
    if isinstance(value, dt.datetime):
        if value.tzinfo is None or value.utcoffset() is None:
            raise InvalidRequest(f"{name} {value.isoformat()!r} has no time zone.", hint=_EXAMPLES)
        delta = value - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
        if not 0 <= delta.days <= (_LAST - _FIRST).days:
            raise _outside(value, name)
        return (delta.days * 86_400 + delta.seconds) * 1_000_000_000 + delta.microseconds * 1_000 + beyond
    if isinstance(value, dt.date):
        if not _FIRST <= value <= _LAST:
            raise _outside(value, name)
        return value
    raise InvalidRequest(f"{name} is a {type(value).__name__}, not a date or an instant.", hint=_EXAMPLES)


def _outside(value: dt.date, name: str) -> InvalidRequest:
    return InvalidRequest(f"{name} {value.isoformat()!r} is outside {_FIRST.year} to {_LAST.year}.", hint=_EXAMPLES)


def parse_date(value: object, *, name: str = "date") -> dt.date:
    """A New York date.

    Examples
    --------
    >>> parse_date("2025-06-02")
    datetime.date(2025, 6, 2)
    """
    moment = parse_moment(value, name=name)
    if isinstance(moment, int):
        raise InvalidRequest(f"{name} is an instant; a date is wanted.", hint="Use a New York date like '2025-06-02'.")
    return moment


def parse_range(start: object, end: object) -> Range:
    """``[start, end)``.

    Raises
    ------
    InvalidRequest
        When the range is empty or reversed, or an end is naive.

    Examples
    --------
    >>> parse_range("2025-06-02", "2025-06-07").path_segments()
    ('2025-06-02', '2025-06-06')
    """
    result = Range(parse_moment(start, name="start"), parse_moment(end, name="end"))
    if result.end_ns <= result.start_ns:
        raise InvalidRequest(
            f"The range [{start}, {end}) is empty or reversed.",
            hint="start comes first; end is exclusive, so one day is [d, d + 1).",
        )
    return result
