"""What a plan shows: kinds of data, how recent, how far back."""

from __future__ import annotations

import datetime as dt

from massive_lab.sandbox.rest.envelope import Ask, not_entitled, wrong_timeframe
from massive_lab.schema.plans import Plan
from massive_lab.schema.session import new_york_ns, trading_date
from massive_lab.typing import AssetClass

__all__ = ["clip", "cutoff_ns", "envelope_status", "history_start_ns", "require", "require_index", "timeframe"]

_FREE_INDICES = frozenset({"I:NDX", "I:COMP"})
"""Whose bars the free plan shows; the others are licensed."""


def cutoff_ns(plan: Plan, now_ns: int) -> int:
    """The latest publication time a plan shows: now, 15 minutes ago, or the midnight before today.

    Examples
    --------
    >>> from massive_lab.schema.plans import plan
    >>> noon = new_york_ns(dt.date(2025, 6, 2), 12)
    >>> (noon - cutoff_ns(plan("starter"), noon)) // 10**9, (noon - cutoff_ns(plan("basic"), noon)) // 10**9
    (900, 43200)
    """
    if plan.delay_s is None:
        return new_york_ns(trading_date(now_ns))
    return now_ns - plan.delay_s * 1_000_000_000


def history_start_ns(plan: Plan, now_ns: int) -> int:
    """New York midnight of the first day a plan shows; without a limit, of the first day there is."""
    if plan.history_years is None:
        return new_york_ns(dt.date(1990, 1, 1))
    today = trading_date(now_ns)
    year = today.year - plan.history_years
    leap_day = (today.month, today.day) == (2, 29)
    return new_york_ns(dt.date(year, 3, 1) if leap_day else today.replace(year=year))


def clip(plan: Plan, start_ns: int, end_ns: int, now_ns: int) -> tuple[int, int, int]:
    """Narrow ``[start_ns, end_ns)`` to what a plan shows.

    Returns
    -------
    start_ns, end_ns, cutoff_ns : int
        May be an empty range.

    Raises
    ------
    Refused
        403 when all of it lies before the plan's history or, on the end-of-day plan, in today.
    """
    oldest, cutoff = history_start_ns(plan, now_ns), cutoff_ns(plan, now_ns)
    if (plan.history_years is not None and end_ns <= oldest) or (plan.delay_s is None and start_ns >= cutoff):
        raise wrong_timeframe()
    return max(start_ns, oldest), min(end_ns, cutoff + 1), cutoff


def require(ask: Ask, asset_class: AssetClass, *kinds: str) -> Plan:
    """The plan for a class, when it has these kinds of data (fields of `Plan`); otherwise a 403."""
    plan = ask.plan(asset_class)
    if not all(getattr(plan, kind) for kind in kinds):
        raise not_entitled()
    return plan


def require_index(plan: Plan, symbol: str) -> None:
    """On the free plan only some indices answer."""
    if plan.tier == "basic" and symbol.startswith("I:") and symbol not in _FREE_INDICES:
        raise not_entitled()


def timeframe(plan: Plan) -> str:
    return "REAL-TIME" if plan.delay_s == 0 else "DELAYED"


def envelope_status(plan: Plan) -> str:
    """``DELAYED`` in the envelope of aggregates when the plan lags."""
    return "DELAYED" if plan.delay_s else "OK"
