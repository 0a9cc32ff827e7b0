"""Which option contracts are listed on a date.

An expiration passes through stages as it comes nearer (leap, month, week, near); each stage adds strikes around the close
before the stage began, finer and narrower than the last. So strikes are only ever added, and a contract's first day follows
from its symbol alone.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from massive_lab.errors import InvalidRequest
from massive_lab.sandbox.market.instruments import OPTION_UNDERLYINGS, OptionRoot
from massive_lab.sandbox.market.rng import Bools, Floats, Ints
from massive_lab.schema.session import session

__all__ = ["ADJUSTED_MULTIPLIER", "ContractTable", "Listing", "contract_key", "is_session", "roots_of"]

ADJUSTED_MULTIPLIER = 150.0
"""Shares of an adjusted contract: a three-for-two split turned 100 into 150."""

_DAY = dt.timedelta(days=1)
_INTERVALS = (0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0)
_LAYERS: dict[str, tuple[float, int]] = {"leap": (0.5, 20), "month": (0.3, 5), "week": (0.12, 2), "near": (0.05, 1)}
"""Half width as a fraction of the price, and interval as a multiple of the finest."""


@lru_cache(maxsize=16384)
def is_session(date: dt.date) -> bool:
    """Whether the exchange opens; any weekday where the calendar does not reach."""
    try:
        return session(date) is not None
    except InvalidRequest:
        return date.weekday() < 5


def _on_or_before(date: dt.date) -> dt.date:
    while not is_session(date):
        date -= _DAY
    return date


@lru_cache(maxsize=4096)
def _third_friday(year: int, month: int) -> dt.date:
    first = dt.date(year, month, 1)
    return first + dt.timedelta(days=(4 - first.weekday()) % 7 + 14)


def _month_after(year: int, month: int) -> tuple[int, int]:
    return (year + 1, 1) if month == 12 else (year, month + 1)


@lru_cache(maxsize=4096)
def _monthly(style: str, year: int, month: int) -> dt.date:
    """The monthly expiration: the third Friday, or for the VIX 30 days before the next month's."""
    if style == "vix":
        return _on_or_before(_third_friday(*_month_after(year, month)) - dt.timedelta(days=30))
    return _on_or_before(_third_friday(year, month))


@lru_cache(maxsize=16384)
def _stages(underlying: str, expiry: dt.date) -> Mapping[str, tuple[tuple[str, dt.date], ...]]:
    """Roots that list an expiration, each with its stages and their first dates, in time order."""
    root = OPTION_UNDERLYINGS[underlying]
    style = "vix" if underlying == "I:VIX" else ""
    friday = 2 if style else 4
    monthly = expiry == _monthly(style, expiry.year, expiry.month)
    week_end = _on_or_before(expiry + dt.timedelta(days=friday - expiry.weekday()))
    weekly = expiry == week_end

    def begins(days: int) -> dt.date:
        return expiry - dt.timedelta(days=days)

    long: list[tuple[str, dt.date]] = []
    if monthly and root.leaps_years and expiry.month in (1, 6, 12):
        long.append(("leap", begins(366 * root.leaps_years)))
    if monthly:
        long.append(("month", begins(31 * root.monthlies)))
    short: list[tuple[str, dt.date]] = []
    if weekly:
        short.append(("week", begins(7 * root.weeklies)))
    if root.dailies or weekly:
        short.append(("near", begins(max(root.dailies, 8) * 7 // 5)))
    out: dict[str, tuple[tuple[str, dt.date], ...]] = {}
    if not is_session(expiry):
        return out
    if root.monthly == root.weekly or style:
        name = root.monthly if monthly else root.weekly
        if long or short:
            out[name] = (*long, *short)
    else:
        if long:
            out[root.monthly] = (*long, *short[:1])
        if short:
            out[root.weekly] = tuple(short)
    if root.adjusted and monthly and expiry.month % 3 == 0:
        out[root.adjusted] = (("month", begins(31 * 4)),)
    return out


def roots_of(underlying: str, expiry: dt.date) -> Mapping[str, tuple[tuple[str, dt.date], ...]]:
    """Roots that list an expiration, each with its stages and their first dates.

    Examples
    --------
    >>> sorted(roots_of("I:SPX", dt.date(2025, 12, 19)))
    ['SPX', 'SPXW']
    """
    return _stages(underlying, expiry)


@dataclass(frozen=True)
class ContractTable:
    """Contracts of one underlying on one date, ascending by ticker."""

    columns: Mapping[str, npt.NDArray[Any]]
    rows: Mapping[str, int]
    expiry_day: Ints
    key: npt.NDArray[np.uint64]

    @property
    def strike(self) -> Floats:
        strikes: Floats = self.columns["strike"]
        return strikes

    @property
    def is_call(self) -> Bools:
        calls: Bools = self.columns["is_call"]
        return calls

    @property
    def nbytes(self) -> int:
        return 400 * len(self.expiry_day)


class Listing:
    """Contracts by underlying and date.

    Parameters
    ----------
    close_before : callable
        Close of an underlying on the session before a date.
    """

    def __init__(self, close_before: Callable[[str, dt.date], float]) -> None:
        self._close_before = close_before
        self._cached: dict[tuple[str, str, dt.date], frozenset[int]] = {}

    def _layer(self, underlying: str, stage: str, begins: dt.date) -> frozenset[int]:
        """Strikes, in thousandths, that a stage adds."""
        key = (underlying, stage, begins)
        found = self._cached.get(key)
        if found is None:
            spot = self._close_before(underlying, begins)
            width, multiple = _LAYERS[stage]
            if underlying == "I:VIX":
                width = {"month": 0.9, "week": 0.6, "near": 0.3}.get(stage, 0.9)
            target = spot * OPTION_UNDERLYINGS[underlying].step
            finest = min(_INTERVALS, key=lambda interval: abs(np.log(interval / target)))
            step = finest * multiple if finest * multiple < 100 else 100.0
            low = max(1, int(spot * (1 - width) / step))
            high = int(spot * (1 + (width if width < 0.9 else 3.0)) / step) + 1
            found = frozenset(round(k * step * 1000) for k in range(low, high + 1))
            if len(self._cached) > 20_000:
                self._cached.clear()
            self._cached[key] = found
        return found

    def first_day(self, underlying: str, root: str, expiry: dt.date, strike: float) -> dt.date | None:
        """The date a contract was or will be listed; None when it never is, or not yet known."""
        thousandths = round(strike * 1000)
        for stage, begins in roots_of(underlying, expiry).get(root, ()):
            if thousandths in self._layer(underlying, stage, begins):
                return begins
        return None

    def expirations(self, underlying: str, as_of: dt.date) -> list[dt.date]:
        """Dates with at least one listed root, ascending."""
        root = OPTION_UNDERLYINGS[underlying]
        style = "vix" if underlying == "I:VIX" else ""
        near = max(root.dailies * 7 // 5, root.weeklies * 7) + 3
        candidates = {as_of + dt.timedelta(days=i) for i in range(near + 1)}
        year, month = as_of.year, as_of.month
        for _ in range(12 * root.leaps_years + root.monthlies + 2):
            candidates.add(_monthly(style, year, month))
            year, month = _month_after(year, month)
        return sorted(
            date
            for date in candidates
            if date >= as_of and any(stages[0][1] <= as_of for stages in roots_of(underlying, date).values() if stages)
        )

    def table(self, underlying: str, as_of: dt.date) -> ContractTable:
        """All contracts listed on a date."""
        root = OPTION_UNDERLYINGS.get(underlying)
        rows: list[tuple[str, str, dt.date, int, bool]] = []
        if root is not None:
            for expiry in self.expirations(underlying, as_of):
                for name, stages in roots_of(underlying, expiry).items():
                    strikes: set[int] = set()
                    for stage, begins in stages:
                        if begins <= as_of:
                            strikes |= self._layer(underlying, stage, begins)
                    head = f"O:{name}{expiry:%y%m%d}"
                    for call in (True, False):
                        letter = "C" if call else "P"
                        rows += [(f"{head}{letter}{k:08d}", name, expiry, k, call) for k in strikes]
        rows.sort()
        return _as_table(root, rows)


def contract_key(names: list[str], days: Ints, thousandths: Ints, calls: Bools) -> npt.NDArray[np.uint64]:
    """One word for each contract, from which its random numbers are addressed."""
    codes = {name: sum(ord(c) * 131**i for i, c in enumerate(name)) % 65521 for name in set(names)}
    code = np.array([codes[name] for name in names], dtype=np.uint64)
    key = (code << np.uint64(47)) ^ (days.astype(np.uint64) << np.uint64(27)) ^ thousandths.astype(np.uint64)
    return np.asarray((key << np.uint64(1)) | calls.astype(np.uint64))


def _as_table(root: OptionRoot | None, rows: list[tuple[str, str, dt.date, int, bool]]) -> ContractTable:
    def objects(values: list[Any]) -> npt.NDArray[Any]:
        out = np.empty(len(values), dtype=object)
        out[:] = values
        return out

    tickers = [row[0] for row in rows]
    names = [row[1] for row in rows]
    thousandths = np.array([row[3] for row in rows], dtype=np.int64)
    calls = np.array([row[4] for row in rows], dtype=np.bool_)
    days = np.array([row[2].toordinal() for row in rows], dtype=np.int64)
    adjusted = np.array([bool(root and root.adjusted and name == root.adjusted) for name in names], dtype=np.bool_)
    key = contract_key(names, days, thousandths, calls)
    columns = {
        "ticker": objects(tickers),
        "root": objects(names),
        "expiration": objects([row[2] for row in rows]),
        "style": objects([root.style if root else ""] * len(rows)),
        "mic": objects(["XCBO" if root and root.underlying[:2] == "I:" else "BATO"] * len(rows)),
        "strike": thousandths / 1000.0,
        "multiplier": np.where(adjusted, ADJUSTED_MULTIPLIER, 100.0),
        "is_call": calls,
    }
    return ContractTable(columns, {ticker: i for i, ticker in enumerate(tickers)}, days, key)
