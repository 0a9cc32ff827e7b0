"""Trading sessions of US stocks, from `exchange_calendars` (XNYS): holidays, half days and daylight saving included.

All instants are UTC nanoseconds; dates are New York trading dates. The calendar library knows the regular session; the
extended hours around it (04:00 to the open, the close to 20:00, New York) are the vendor's.
"""

from __future__ import annotations

import datetime as dt
import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal
from zoneinfo import ZoneInfo

from massive_lab.errors import InvalidRequest

if TYPE_CHECKING:
    from exchange_calendars import ExchangeCalendar

__all__ = [
    "NEW_YORK",
    "Closure",
    "Phase",
    "Session",
    "closures",
    "new_york_ns",
    "phase_at",
    "session",
    "sessions",
    "trading_date",
]

NEW_YORK = ZoneInfo("America/New_York")

Phase = Literal["closed", "early", "regular", "late"]

_FIRST = dt.date(1990, 1, 2)
_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Session:
    """One trading day. Bounds are half open, in UTC nanoseconds."""

    date: dt.date
    early_ns: int
    """04:00 New York: first extended-hours print."""
    open_ns: int
    close_ns: int
    late_ns: int
    """20:00 New York; 17:00 on half days."""

    @property
    def is_half_day(self) -> bool:
        return self.close_ns - self.open_ns < 6 * 3600 * _NS


def new_york_ns(date: dt.date, hour: int = 0, minute: int = 0) -> int:
    """The UTC nanosecond of a New York wall-clock time.

    Examples
    --------
    >>> new_york_ns(dt.date(2025, 6, 2)) == int(dt.datetime(2025, 6, 2, 4, tzinfo=dt.UTC).timestamp()) * 10**9
    True
    """
    moment = dt.datetime(date.year, date.month, date.day, hour, minute, tzinfo=NEW_YORK)
    return int(moment.timestamp()) * _NS


def trading_date(ts_ns: int) -> dt.date:
    """The New York date of an instant."""
    return dt.datetime.fromtimestamp(ts_ns // _NS, NEW_YORK).date()


@lru_cache(maxsize=1)
def _calendar() -> ExchangeCalendar:
    import exchange_calendars  # pulls in pandas: only for those who ask for sessions

    with warnings.catch_warnings():
        # The library reads a pandas attribute that pandas 3.1 deprecates; its users can do nothing about it.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        return exchange_calendars.get_calendar("XNYS", start=_FIRST.isoformat())


@lru_cache(maxsize=8192)
def session(date: dt.date) -> Session | None:
    """The session of a New York date, or None when the exchange is closed all day.

    Raises
    ------
    InvalidRequest
        For dates the calendar does not cover (before 1990, or more than about a year ahead).

    Examples
    --------
    >>> session(dt.date(2025, 11, 28)).is_half_day
    True
    >>> session(dt.date(2025, 12, 25)) is None
    True
    """
    calendar = _covering(date)
    if not calendar.is_session(date.isoformat()):
        return None
    opening = calendar.session_open(date.isoformat()).value
    closing = calendar.session_close(date.isoformat()).value
    late_hour = 17 if closing - opening < 6 * 3600 * _NS else 20
    return Session(date, new_york_ns(date, 4), opening, closing, new_york_ns(date, late_hour))


def sessions(start: dt.date, end: dt.date) -> list[dt.date]:
    """Trading dates in ``[start, end)``, ascending.

    Examples
    --------
    >>> [d.isoformat() for d in sessions(dt.date(2025, 7, 3), dt.date(2025, 7, 8))]
    ['2025-07-03', '2025-07-07']
    """
    if _date(end) <= _date(start):
        return []
    last = end - dt.timedelta(days=1)
    calendar = _covering(start)
    _covering(last)
    return [stamp.date() for stamp in calendar.sessions_in_range(start.isoformat(), last.isoformat())]


def phase_at(ts_ns: int) -> Phase:
    """Where in the trading day an instant falls.

    Examples
    --------
    >>> phase_at(new_york_ns(dt.date(2025, 6, 2), 10)), phase_at(new_york_ns(dt.date(2025, 6, 1), 10))
    ('regular', 'closed')
    """
    today = session(trading_date(ts_ns))
    if today is None or not today.early_ns <= ts_ns < today.late_ns:
        return "closed"
    if ts_ns < today.open_ns:
        return "early"
    return "regular" if ts_ns < today.close_ns else "late"


@dataclass(frozen=True, slots=True)
class Closure:
    """A day on which the exchange is closed, or closes early: then with its bounds in UTC nanoseconds."""

    date: dt.date
    name: str
    open_ns: int | None = None
    close_ns: int | None = None


@lru_cache(maxsize=256)
def closures(start: dt.date, end: dt.date) -> tuple[Closure, ...]:
    """Holidays and half days in ``[start, end)``, ascending; cut where the calendar ends.

    Examples
    --------
    >>> [(c.date.isoformat(), c.name, c.close_ns is None) for c in closures(dt.date(2025, 11, 27), dt.date(2025, 12, 26))]
    [('2025-11-27', 'Thanksgiving', True), ('2025-11-28', 'Day after Thanksgiving', False),
     ('2025-12-24', 'Christmas Eve', False), ('2025-12-25', 'Christmas', True)]
    """
    calendar = _calendar()
    start = max(start, calendar.first_session.date())
    end = min(end, calendar.last_session.date() + dt.timedelta(days=1))
    if end <= start:
        return ()
    first, last = start.isoformat(), (end - dt.timedelta(days=1)).isoformat()
    named = calendar.regular_holidays.holidays(first, last, return_name=True)
    found = {stamp.date(): Closure(stamp.date(), str(name)) for stamp, name in named.items()}
    for stamp in calendar.adhoc_holidays:
        if start <= stamp.date() < end:
            found.setdefault(stamp.date(), Closure(stamp.date(), "Special closure"))
    for date in sessions(start, end):
        day = session(date)
        if day is not None and day.is_half_day:
            found[date] = Closure(date, _half_day_name(date), day.open_ns, day.close_ns)
    return tuple(found[date] for date in sorted(found))


def _half_day_name(date: dt.date) -> str:
    names = {7: "Day before Independence Day", 11: "Day after Thanksgiving", 12: "Christmas Eve"}
    return names.get(date.month, "Early close")


def _date(date: object) -> dt.date:
    if isinstance(date, dt.datetime) or not isinstance(date, dt.date):
        raise InvalidRequest(
            f"{date!r} is not a date.", hint="Give a datetime.date: an instant's New York date is trading_date(ts_ns)."
        )
    return date


def _covering(date: dt.date) -> ExchangeCalendar:
    """The calendar, if it knows the date.

    `get_calendar` covers whole years back to `_FIRST` and about one ahead; beyond, "no session" would be a guess.
    """
    calendar = _calendar()
    date = _date(date)
    first, last = calendar.first_session.date(), calendar.last_session.date()
    if not first <= date <= last:
        raise InvalidRequest(f"The trading calendar covers {first} to {last}; {date} is outside.")
    return calendar
