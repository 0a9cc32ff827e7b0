"""Loads what the regime needs and hands it to the pure rules."""

from __future__ import annotations

import datetime as dt
from numbers import Real
from typing import TYPE_CHECKING

import polars as pl

from massive_lab.errors import InvalidRequest
from massive_lab.live.macro.input import SYMBOLS, Loaded, last_finished, running_day
from massive_lab.loaders.history import bars
from massive_lab.loaders.reference import server_now_ns
from massive_lab.loaders.session import Session
from massive_lab.loaders.snapshots import indices
from massive_lab.loaders.when import parse_date
from massive_lab.schema.session import NEW_YORK

if TYPE_CHECKING:
    from massive_lab.regime.classifier import LiveValues
    from massive_lab.regime.label import Regime

__all__ = ["check_stale", "check_years", "load_macro", "load_regime"]

_MOST_YEARS = 100
_STAND_IN = "SANDBOX: the Nasdaq Composite stands in for the Nasdaq 100 (NDX)."


async def load_regime(session: Session, as_of: object, years: int, live: bool) -> Regime:
    """Daily bars of the three indices up to `as_of`, included, and the regime they make; `live` adds the running day."""
    from massive_lab.regime.classifier import classify
    from massive_lab.regime.label import latest
    from massive_lab.regime.rules import STRICT_RULES

    check_years(years)
    if not isinstance(live, bool):
        raise InvalidRequest(f"live is {live!r}.", hint="Use True or False.")
    if live and as_of is not None:
        raise InvalidRequest("as_of names a finished day; live adds the running one.", hint="Leave one of them out.")
    running: dt.date | None = None
    if as_of is None:
        async with session.load("regime", ()) as load:
            now = await server_now_ns(load)
        last = last_finished(now)
        running = running_day(now) if live else None
    else:
        last = parse_date(as_of, name="as_of")
    frame = await _daily(session, last, years)
    spx, ndx, vix = (frame.filter(pl.col("symbol") == symbol) for symbol in SYMBOLS)
    notes = _about(session)
    values, said = await _values(session, running) if running is not None else (None, ())
    if live and running is None:
        said = ("No session is running: the last finished day is shown.",)
    labelled = classify(spx, ndx, vix, rules=STRICT_RULES, live=values)
    return latest(labelled, source_notes=[*notes, *said], rules=STRICT_RULES)


async def load_macro(session: Session, years: int, *, minutes: bool) -> Loaded:
    """What `massive_lab.live.macro.macro.Macro` begins with: as `load_regime`, with bars of the minutes since the last close."""
    async with session.load("macro", SYMBOLS) as load:
        now = await server_now_ns(load)
    last = last_finished(now)
    days = await _daily(session, last, years)
    snapshot = await indices(session, list(SYMBOLS))
    end = dt.datetime.fromtimestamp(now // 10**9, dt.UTC) + dt.timedelta(minutes=1)
    recent = await bars(session, SYMBOLS, "1m", last, end) if minutes else None
    return Loaded(now, last, days, snapshot, recent, tuple(_about(session)))


def check_years(years: object) -> None:
    """Refuse what is no length of history."""
    if not isinstance(years, Real) or not 1 <= float(years) <= _MOST_YEARS:
        raise InvalidRequest(
            f"years is {years!r}; a number from 1 to {_MOST_YEARS} is needed, 2 to warm every feature up."
        )


def check_stale(stale_s: object) -> None:
    """Refuse what is no age."""
    if not isinstance(stale_s, Real) or not float(stale_s) > 0:
        raise InvalidRequest(f"stale_s is {stale_s!r}.", hint="Give a number of seconds above 0.")


async def _daily(session: Session, last: dt.date, years: int) -> pl.DataFrame:
    start = max(last - dt.timedelta(days=round(365.25 * years)), dt.date(1970, 1, 1))
    return await bars(session, SYMBOLS, "1d", start, last + dt.timedelta(days=1))


def _about(session: Session) -> list[str]:
    return [_STAND_IN] if session.settings.sandbox else []


async def _values(session: Session, day: dt.date) -> tuple[LiveValues | None, tuple[str, ...]]:
    """Index values of a running day, and what to say of those that are missing or of another day."""
    from massive_lab.regime.running import Value, values_of

    found: dict[str, Value | None] = {}
    for row in (await indices(session, list(SYMBOLS))).iter_rows(named=True):
        if row["value"] is not None and row["ts_updated"] is not None:
            at = row["ts_updated"].astimezone(NEW_YORK)
            found[row["symbol"]] = Value(row["value"], at.date(), at.time(), row["timeframe"])
    return values_of(day, found)
