"""The label of a running day, again and again: what the history says is computed once, a new value costs one row.

One definition: the row is made by the functions that make the rows of `massive_lab.regime.classify`, which continue here
from where the history ends; so the result is that of `classify`, bit for bit.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from massive_lab.errors import FrameInvariantError, InvalidRequest
from massive_lab.indicators import SMA
from massive_lab.regime.classifier import LiveValues, Memory, bare_trends, classify, joined, labelled, unfinished
from massive_lab.regime.features import closes, fear_features, index_features, ladder, percentile, scaled, trends
from massive_lab.regime.rules import DEFAULT_RULES, Rules

__all__ = ["Running", "Value", "values_of"]

_NAMES = {"SPX": "I:SPX", "NDX": "I:NDX", "VIX": "I:VIX"}


class Running:
    """The history before a day, and the row of that day for whatever values it has.

    Parameters
    ----------
    spx, ndx, vix : polars.DataFrame
        As `classify` takes them. A bar of `day` itself stands in where the day has no live value.
    day : datetime.date
        The running day.
    rules : Rules

    Attributes
    ----------
    day : datetime.date
    history : polars.DataFrame
        What `classify` gives for the dates before `day`.

    Raises
    ------
    FrameInvariantError
        As `classify`.
    InvalidRequest
        There is a bar after `day`.

    Examples
    --------
    >>> days = [dt.date(2020, 1, 1) + dt.timedelta(days=i) for i in range(300)]
    >>> index = pl.DataFrame({"date": days, "close": [100.0 + i for i in range(300)]})
    >>> calm = pl.DataFrame({"date": days, "close": [12.0] * 300})
    >>> running = Running(index, index, calm, dt.date(2020, 10, 27))
    >>> [running.row(LiveValues(running.day, spx, 401.0, vix))["regime"][0] for spx, vix in ((401.0, 13.0), (150.0, 31.0))]
    ['risk_on', 'neutral']
    """

    def __init__(
        self, spx: pl.DataFrame, ndx: pl.DataFrame, vix: pl.DataFrame, day: dt.date, *, rules: Rules = DEFAULT_RULES
    ) -> None:
        self.day = day
        self._rules = rules
        before: dict[str, pl.DataFrame] = {}
        self._given: dict[str, float | None] = {}
        for what, frame in (("SPX", spx), ("NDX", ndx), ("VIX", vix)):
            data = closes(frame, what)
            unfinished(frame, data, what)
            if data.height and data["date"][-1] > day:
                raise InvalidRequest(f"The running day is {day}, and {what} has a bar of {data['date'][-1]}.")
            is_before = data["date"] < day
            before[what] = frame.filter(is_before)
            own = data.filter(~is_before)["close"]
            self._given[what] = float(own[0]) if len(own) else None
        self.history = classify(before["SPX"], before["NDX"], before["VIX"], rules=rules)
        data_of = {what: closes(frame, what) for what, frame in before.items()}
        self._indices = {what: _Index.of(data_of[what], rules) for what in ("SPX", "NDX")}
        self._returns = data_of["SPX"].select(returns=pl.col("close").log().diff())["returns"]
        self._closes_spx = data_of["SPX"]["close"]
        volatility = self.history["realised_vol"]
        self._volatility = volatility.tail(rules.vol_history - 1)
        self._fear = data_of["VIX"]["close"].tail(rules.vix_history - 1)
        self._band = _last(fear_features(data_of["VIX"], rules)["vix_band"])
        streaks = _streak(self.history["vix_level"].to_list(), rules)
        bare = tuple(_last(trend) for trend in bare_trends(self.history))
        self._memory = Memory(_last(self.history["regime"]), streaks, _last(self.history["vix_level"]), (bare[0], bare[1]))

    def row(self, live: LiveValues) -> pl.DataFrame:
        """The row of the running day: the last one of ``classify(..., live=live)``.

        Raises
        ------
        InvalidRequest
            The values are of another day.
        FrameInvariantError
            A value is no price (rule ``price``).
        """
        if live.date != self.day:
            raise InvalidRequest(f"The values are of {live.date}; the running day is {self.day}.")
        values = {
            what: self._given[what] if value is None else _price(value, what)
            for what, value in (("SPX", live.spx), ("NDX", live.ndx), ("VIX", live.vix))
        }
        date = pl.Series("date", [self.day], dtype=pl.Date)
        spx, ndx = (self._indices[what].row(date, values[what], self._rules) for what in ("SPX", "NDX"))
        frame = joined(spx, ndx, self._fear_row(date, values["VIX"]), self._volatility_row(date, values["SPX"]))
        return labelled(frame.with_columns(is_final=pl.lit(value=False)), self._rules, self._memory)

    def frame(self, live: LiveValues) -> pl.DataFrame:
        """All dates, the running one last: ``classify(..., live=live)``."""
        return pl.concat([self.history, self.row(live)])

    def _volatility_row(self, date: pl.Series, spx: float | None) -> pl.DataFrame:
        assert spx is not None, "a row begins with SPX"
        # Over all returns, as `classify` does it: the running sums of a shorter stretch would round differently.
        tail = pl.concat([self._closes_spx.tail(1), pl.Series("close", [spx])]).to_frame()
        change = tail.select(returns=pl.col("close").log().diff())["returns"].tail(1)
        returns = pl.concat([self._returns, change]).to_frame()
        now = returns.select(realised_vol=scaled(pl.col("returns"), self._rules))["realised_vol"].tail(1)
        ranked = pl.concat([self._volatility, now]).to_frame()
        rank = ranked.select(realised_vol_percentile=percentile("realised_vol", self._rules.vol_history))
        return pl.DataFrame([date, now, rank["realised_vol_percentile"].tail(1)])

    def _fear_row(self, date: pl.Series, vix: float | None) -> pl.DataFrame:
        rules = self._rules
        if vix is None:
            none = pl.Series([None], dtype=pl.Float64)
            bands = pl.Series("vix_band", [None], dtype=pl.String)
            return pl.DataFrame([date, none.alias("vix"), none.alias("vix_percentile"), bands])
        ranked = pl.concat([self._fear, pl.Series("close", [vix])]).to_frame()
        rank = ranked.select(percentile("close", rules.vix_history).tail(1))["close"].alias("vix_percentile")
        band = ladder(rank.to_list(), rules.vix_bands, rules.vix_band_margin, self._band)
        bands = pl.Series("vix_band", band, dtype=pl.String)
        return pl.DataFrame([date, pl.Series("vix", [vix]), rank, bands])


@dataclass(frozen=True, slots=True)
class _Index:
    """One index at the end of its history."""

    mean: SMA
    fast: SMA
    before: float | None
    last: tuple[str | None, str | None]

    @classmethod
    def of(cls, data: pl.DataFrame, rules: Rules) -> _Index:
        mean, fast = SMA(rules.trend_sessions), SMA(rules.fast_sessions)
        for close in data["close"].to_list():
            mean.update(close)
            fast.update(close)
        n = rules.momentum_sessions
        before = float(data["close"][-n]) if data.height >= n else None
        features = index_features(data, rules)
        return cls(mean, fast, before, (_last(features["trend"]), _last(features["fast_trend"])))

    def row(self, date: pl.Series, close: float | None, rules: Rules) -> pl.DataFrame:
        numbers = [None] * 4 if close is None else [close, self.mean.peek(close), self.fast.peek(close), self.before]
        columns = zip(("close", "mean", "fast_mean", "before"), numbers, strict=True)
        made = pl.DataFrame([date, *(pl.Series(name, [value], dtype=pl.Float64) for name, value in columns)])
        return trends(made, rules, self.last)


def _last(states: pl.Series) -> Any:
    known = states.drop_nulls()
    return known[-1] if len(known) else None


def _streak(levels: list[str | None], rules: Rules) -> int:
    top, run = rules.vix_levels[-1][0], 0
    while run < len(levels) and levels[-1 - run] == top:
        run += 1
    return run


def _price(value: float, what: str) -> float:
    if not (math.isfinite(value) and value > 0):
        raise FrameInvariantError(f"The live value of {what} is {value!r}.", rule="price")
    return float(value)


@dataclass(frozen=True, slots=True)
class Value:
    """The newest value of an index.

    Attributes
    ----------
    value : float
    date : datetime.date
        New York date of it.
    time : datetime.time
        New York time of it.
    origin : str or None
        Shown with it: ``REAL-TIME``, ``stream`` ...
    """

    value: float
    date: dt.date
    time: dt.time
    origin: str | None = None


def values_of(day: dt.date, found: Mapping[str, Value | None]) -> tuple[LiveValues | None, tuple[str, ...]]:
    """The values that count for a running day, and what to say of those that are missing or of another day.

    Parameters
    ----------
    day : datetime.date
    found : mapping
        By symbol, such as ``I:SPX``; what is missing or None has no value.

    Returns
    -------
    LiveValues or None
        None without one of SPX: the day then has no row.
    tuple of str
        A note for each index, in the order of their symbols.

    Examples
    --------
    >>> found = {"I:SPX": Value(4000.0, dt.date(2025, 6, 2), dt.time(10), "stream")}
    >>> live, notes = values_of(dt.date(2025, 6, 2), found)
    >>> live.vix, notes[1:]
    (None, ('I:SPX is as of 10:00:00 New York (stream).', 'I:VIX has no value of 2025-06-02 yet.'))
    """
    numbers: dict[str, float] = {}
    said: list[str] = []
    for symbol in sorted(_NAMES.values()):
        value = found.get(symbol)
        if value is not None and value.date == day:
            numbers[symbol] = value.value
            said.append(f"{symbol} is as of {value.time:%H:%M:%S} New York ({value.origin}).")
        else:
            said.append(f"{symbol} has no value of {day} yet.")
    if "I:SPX" not in numbers:
        return None, (*said, "Without SPX the running day has no row: the last finished day is shown.")
    return LiveValues(day, numbers["I:SPX"], numbers.get("I:NDX"), numbers.get("I:VIX")), tuple(said)
