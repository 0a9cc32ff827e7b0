"""What the macro context begins with, and which day is the running one."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING

from massive_lab.schema.session import session, trading_date

if TYPE_CHECKING:
    import polars as pl

__all__ = ["SYMBOLS", "Loaded", "last_finished", "running_day"]

SYMBOLS = ("I:SPX", "I:NDX", "I:VIX")


def last_finished(now_ns: int) -> dt.date:
    """The last session whose close has passed: a day bar that still changes is not used.

    Examples
    --------
    >>> from massive_lab.schema.session import new_york_ns
    >>> last_finished(new_york_ns(dt.date(2025, 11, 28), 12, 59)), last_finished(new_york_ns(dt.date(2025, 11, 28), 13))
    (datetime.date(2025, 11, 26), datetime.date(2025, 11, 28))
    """
    day = trading_date(now_ns)
    while True:
        today = session(day)
        if today is not None and today.close_ns <= now_ns:
            return day
        day -= dt.timedelta(days=1)


def running_day(now_ns: int) -> dt.date | None:
    """The date of the session that is open now."""
    day = trading_date(now_ns)
    today = session(day)
    return day if today is not None and today.open_ns <= now_ns < today.close_ns else None


@dataclass(frozen=True, slots=True)
class Loaded:
    """What REST gave.

    Attributes
    ----------
    now_ns : int
        The server's time.
    last : datetime.date
        The last finished session at that time.
    days : polars.DataFrame
        Daily bars of the three indices up to `last`, included: table ``bars``.
    indices : polars.DataFrame
        Table ``indices``: the running day so far.
    minutes : polars.DataFrame or None
        Minute bars, table ``bars``, for the indicators on them.
    notes : tuple of str
        What to know about the data.
    """

    now_ns: int
    last: dt.date
    days: pl.DataFrame
    indices: pl.DataFrame
    minutes: pl.DataFrame | None = None
    notes: tuple[str, ...] = ()
