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
from massive_lab.loaders.when import parse_date
from massive_lab.schema.session import session as trading_session
from massive_lab.schema.session import trading_date

if TYPE_CHECKING:
    from massive_lab.regime.label import Regime

__all__ = ["load_regime"]

_SYMBOLS = ("I:SPX", "I:NDX", "I:VIX")
_MOST_YEARS = 100
_STAND_IN = "SANDBOX: the Nasdaq Composite stands in for the Nasdaq 100 (NDX)."


async def load_regime(session: Session, as_of: object, years: int) -> Regime:
    """Daily bars of the three indices up to `as_of`, included, and the regime they make."""
    from massive_lab.regime.label import latest
    from massive_lab.regime.classifier import classify

    if not isinstance(years, Real) or not 1 <= years <= _MOST_YEARS:
        raise InvalidRequest(
            f"years is {years!r}; a number from 1 to {_MOST_YEARS} is needed, 2 to warm every feature up."
        )
    if as_of is None:
        async with session.load("regime", ()) as load:
            last = _last_finished(await server_now_ns(load))
    else:
        last = parse_date(as_of, name="as_of")
    start = max(last - dt.timedelta(days=round(365.25 * years)), dt.date(1970, 1, 1))
    frame = await bars(session, _SYMBOLS, "1d", start, last + dt.timedelta(days=1))
    spx, ndx, vix = (frame.filter(pl.col("symbol") == symbol) for symbol in _SYMBOLS)
    notes = [_STAND_IN] if session.settings.sandbox else []
    return latest(classify(spx, ndx, vix), source_notes=notes)


def _last_finished(now_ns: int) -> dt.date:
    """The last session whose close has passed: a day bar that still changes is not used."""
    day = trading_date(now_ns)
    while True:
        today = trading_session(day)
        if today is not None and today.close_ns <= now_ns:
            return day
        day -= dt.timedelta(days=1)
