"""The grid of bars: ``"1m"``, ``"5m"``, ``"1h"``, ``"1d"``, ``"1w"``, ``"1mo"``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from massive_lab.errors import InvalidRequest

__all__ = ["Timeframe", "parse_timeframe"]

Unit = Literal["s", "m", "h", "d", "w", "mo", "q", "y"]
Timespan = Literal["second", "minute", "hour", "day", "week", "month", "quarter", "year"]

_TIMESPANS: dict[str, Timespan] = {
    "s": "second",
    "m": "minute",
    "h": "hour",
    "d": "day",
    "w": "week",
    "mo": "month",
    "q": "quarter",
    "y": "year",
}
_SECONDS = {"s": 1, "m": 60, "h": 3600}
_PATTERN = re.compile(r"([1-9][0-9]{0,3})(s|mo|m|h|d|w|q|y)")


@dataclass(frozen=True, slots=True)
class Timeframe:
    """A bar length.

    Attributes
    ----------
    multiplier : int
        At least 1.
    unit : {"s", "m", "h", "d", "w", "mo", "q", "y"}
    """

    multiplier: int
    unit: Unit

    def __str__(self) -> str:
        return f"{self.multiplier}{self.unit}"

    @property
    def timespan(self) -> Timespan:
        """The vendor's word for the unit."""
        return _TIMESPANS[self.unit]

    @property
    def is_intraday(self) -> bool:
        return self.unit in _SECONDS

    @property
    def duration_ns(self) -> int | None:
        """Nanoseconds of one bar; None for calendar units, whose length varies."""
        seconds = _SECONDS.get(self.unit)
        return None if seconds is None else self.multiplier * seconds * 1_000_000_000

    @property
    def calendar_offset(self) -> str | None:
        """The length of a calendar bar as a Polars offset (``"1d"``, ``"3mo"``); None for intraday bars."""
        if self.is_intraday:
            return None
        if self.unit == "q":
            return f"{3 * self.multiplier}mo"
        return f"{self.multiplier}{self.unit}"


def parse_timeframe(text: object) -> Timeframe:
    """Read a timeframe.

    Parameters
    ----------
    text : str
        A number and a unit: ``s m h d w mo q y``. ``m`` is minutes, ``mo`` months.

    Raises
    ------
    InvalidRequest
        When it is anything else.

    Examples
    --------
    >>> parse_timeframe("5m").timespan, parse_timeframe("1mo").timespan
    ('minute', 'month')
    """
    if isinstance(text, Timeframe):
        return text
    if not isinstance(text, str):
        raise _not_one(text)
    return _parse(text)


@lru_cache(maxsize=256)
def _parse(text: str) -> Timeframe:
    match = _PATTERN.fullmatch(text)
    if match is None:
        raise _not_one(text)
    return Timeframe(int(match[1]), match[2])  # type: ignore[arg-type]


def _not_one(value: object) -> InvalidRequest:
    return InvalidRequest(
        f"{repr(value)[:80]} is not a timeframe.",
        hint="Use a number and a unit: 1s 1m 5m 1h 1d 1w 1mo 1q 1y ('m' minutes, 'mo' months).",
    )
