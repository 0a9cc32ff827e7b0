"""Market status now, and the holidays and half days to come."""

from __future__ import annotations

import datetime as dt

from massive_lab.sandbox.api import RestAnswer
from massive_lab.sandbox.rest.envelope import Ask, encode
from massive_lab.schema.session import NEW_YORK, closures, phase_at, trading_date

__all__ = ["market_status_now", "upcoming"]

_GROUPS = (
    "s_and_p",
    "societe_generale",
    "cgi",
    "msci",
    "ftse_russell",
    "mstar",
    "mstarc",
    "cccy",
    "nasdaq",
    "dow_jones",
)
_EXCHANGES = ("NYSE", "NASDAQ", "OTC")
_HORIZON_DAYS = 330
"""How far ahead holidays are announced."""


def market_status_now(ask: Ask) -> RestAnswer:
    """A bare object: no envelope."""
    phase = phase_at(ask.now_ns)
    word = {"closed": "closed", "regular": "open"}.get(phase, "extended-hours")
    local = dt.datetime.fromtimestamp(ask.now_ns // 1_000_000_000, NEW_YORK)
    body = {
        "afterHours": phase == "late",
        "currencies": {"crypto": "open", "fx": "open" if _fx_open(local) else "closed"},
        "earlyHours": phase == "early",
        "exchanges": {"nasdaq": word, "nyse": word, "otc": word},
        "indicesGroups": dict.fromkeys(_GROUPS, "open" if phase == "regular" else "closed"),
        "market": word,
        "serverTime": local.isoformat(timespec="seconds"),
    }
    return RestAnswer(200, encode(body))


def _fx_open(local: dt.datetime) -> bool:
    """Sunday 17:00 to Friday 17:00 New York."""
    hours = local.weekday() * 24 + local.hour
    return hours < 4 * 24 + 17 or hours >= 6 * 24 + 17


def upcoming(ask: Ask) -> RestAnswer:
    """A bare array, one entry for each exchange and day."""
    today = trading_date(ask.now_ns)
    rows = []
    for closure in closures(today, today + dt.timedelta(days=_HORIZON_DAYS)):
        for exchange in _EXCHANGES:
            row = {"date": closure.date.isoformat(), "exchange": exchange, "name": closure.name, "status": "closed"}
            if closure.open_ns is not None and closure.close_ns is not None:
                row["status"] = "early-close"
                row["open"], row["close"] = _utc(closure.open_ns), _utc(closure.close_ns)
            rows.append(row)
    return RestAnswer(200, encode(rows))


def _utc(ns: int) -> str:
    return dt.datetime.fromtimestamp(ns // 1_000_000_000, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
