"""Loads what the regime needs and hands it to the pure rules."""

from __future__ import annotations

import datetime as dt
from numbers import Real
from typing import TYPE_CHECKING

import polars as pl

from massive_lab.errors import InvalidRequest
from massive_lab.loaders.history import bars
from massive_lab.loaders.reference import server_now_ns
from massive_lab.loaders.session import Session
from massive_lab.loaders.snapshots import indices
from massive_lab.loaders.when import parse_date
from massive_lab.schema.session import NEW_YORK, trading_date
from massive_lab.schema.session import session as trading_session

if TYPE_CHECKING:
    from massive_lab.regime.classifier import LiveValues
    from massive_lab.regime.label import Regime

__all__ = ["load_regime"]

_SYMBOLS = ("I:SPX", "I:NDX", "I:VIX")
_MOST_YEARS = 100
_STAND_IN = "SANDBOX: the Nasdaq Composite stands in for the Nasdaq 100 (NDX)."


async def load_regime(session: Session, as_of: object, years: int, live: bool) -> Regime:
    """Daily bars of the three indices up to `as_of`, included, and the regime they make; `live` adds the running day."""
    from massive_lab.regime.classifier import classify
    from massive_lab.regime.label import latest
    from massive_lab.regime.rules import STRICT_RULES

    if not isinstance(years, Real) or not 1 <= years <= _MOST_YEARS:
        raise InvalidRequest(
            f"years is {years!r}; a number from 1 to {_MOST_YEARS} is needed, 2 to warm every feature up."
        )
    if not isinstance(live, bool):
        raise InvalidRequest(f"live is {live!r}.", hint="Use True or False.")
    if live and as_of is not None:
        raise InvalidRequest("as_of names a finished day; live adds the running one.", hint="Leave one of them out.")
    running: dt.date | None = None
    if as_of is None:
        async with session.load("regime", ()) as load:
            now = await server_now_ns(load)
        last = _last_finished(now)
        running = _running(now) if live else None
    else:
        last = parse_date(as_of, name="as_of")
    start = max(last - dt.timedelta(days=round(365.25 * years)), dt.date(1970, 1, 1))
    frame = await bars(session, _SYMBOLS, "1d", start, last + dt.timedelta(days=1))
    spx, ndx, vix = (frame.filter(pl.col("symbol") == symbol) for symbol in _SYMBOLS)
    notes = [_STAND_IN] if session.settings.sandbox else []
    values, said = await _values(session, running) if running is not None else (None, ())
    if live and running is None:
        said = ("No session is running: the last finished day is shown.",)
    labelled = classify(spx, ndx, vix, rules=STRICT_RULES, live=values)
    return latest(labelled, source_notes=[*notes, *said], rules=STRICT_RULES)


def _running(now_ns: int) -> dt.date | None:
    """The date of the session that is open now."""
    day = trading_date(now_ns)
    today = trading_session(day)
    return day if today is not None and today.open_ns <= now_ns < today.close_ns else None


async def _values(session: Session, day: dt.date) -> tuple[LiveValues | None, tuple[str, ...]]:
    """Index values of a running day, and what to say of those that are missing or of another day."""
    from massive_lab.regime.classifier import LiveValues

    found: dict[str, float] = {}
    said: list[str] = []
    for row in (await indices(session, list(_SYMBOLS))).iter_rows(named=True):
        stamp, value = row["ts_updated"], row["value"]
        if value is not None and stamp is not None and stamp.astimezone(NEW_YORK).date() == day:
            found[row["symbol"]] = value
            said.append(
                f"{row['symbol']} is as of {stamp.astimezone(NEW_YORK):%H:%M:%S} New York ({row['timeframe']})."
            )
        else:
            said.append(f"{row['symbol']} has no value of {day} yet.")
    if "I:SPX" not in found:
        return None, (*said, "Without SPX the running day has no row: the last finished day is shown.")
    return LiveValues(day, found["I:SPX"], found.get("I:NDX"), found.get("I:VIX")), tuple(said)


def _last_finished(now_ns: int) -> dt.date:
    """The last session whose close has passed: a day bar that still changes is not used."""
    day = trading_date(now_ns)
    while True:
        today = trading_session(day)
        if today is not None and today.close_ns <= now_ns:
            return day
        day -= dt.timedelta(days=1)
