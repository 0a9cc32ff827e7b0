"""What the macro context knows, and how each batch of index events changes it. Pure: no clock, no thread, no request.

The state is a function of what it has been told and not of the order it was told in: a value or a bar sent again replaces
the one before, an older value never replaces a newer one, and the label is the one that
`massive_lab.regime.classify` gives on the same history and the same values.
"""

from __future__ import annotations

import datetime as dt
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import polars as pl

from massive_lab.decode.stream import Event, IndexValue, MinuteBar, SecondBar
from massive_lab.indicators.track import Track
from massive_lab.live.macro.day import DayBar
from massive_lab.live.macro.input import SYMBOLS, Loaded, last_finished, running_day
from massive_lab.regime.classifier import LiveValues, classify
from massive_lab.regime.label import Regime, latest
from massive_lab.regime.rules import STRICT_RULES, Rules
from massive_lab.regime.running import Running, Value, values_of
from massive_lab.schema.session import NEW_YORK, new_york_ns, session, trading_date

__all__ = ["Change", "MacroState"]

_CHANGES = 10_000
_TS = pl.Datetime("ns", "UTC")


@dataclass(frozen=True, slots=True)
class Change:
    """One change of the label.

    Attributes
    ----------
    ts : int
        Time of the newest input that made it, UTC ns.
    date : datetime.date
        Day that the label is of.
    before, label : str or None, str
        `before` is None for the first label there was.
    bias : str
    score : int or None
    is_final : bool
    reason : str
        The rules whose state changed, with value and threshold.
    """

    ts: int
    date: dt.date
    before: str | None
    label: str
    bias: str
    score: int | None
    is_final: bool
    reason: str


CHANGE_COLUMNS = {
    "ts": _TS, "date": pl.Date(), "before": pl.String(), "label": pl.String(), "bias": pl.String(), "score": pl.Int64(),
    "is_final": pl.Boolean(), "reason": pl.String(),
}  # fmt: skip


class MacroState:
    """The macro context as a value; not thread-safe.

    Parameters
    ----------
    indicators : sequence of str
        As `massive_lab.indicators.track.Track` reads them.
    stale_s : float
        An input whose newest value is older than this, in a running session, is stale.
    rules : Rules

    Attributes
    ----------
    changes : deque of Change
        The last 10,000.
    n_rows : int
        How often the label was computed: at most once a batch.
    n_refused, n_late : int
        Values that are no prices; values of a day that is over.
    """

    def __init__(self, indicators: Sequence[str], *, stale_s: float = 30.0, rules: Rules = STRICT_RULES) -> None:
        self.rules = rules
        self.stale_s = stale_s
        self.indicators = tuple(indicators)
        self.changes: deque[Change] = deque(maxlen=_CHANGES)
        self.n_changes = self.n_rows = self.n_refused = self.n_late = 0
        self._intraday = {(s, span): Track(self.indicators) for s in SYMBOLS for span in ("1s", "1m")}
        self._daily = {symbol: Track(self.indicators) for symbol in SYMBOLS}
        self._days: dict[dt.date, dict[str, DayBar]] = {}
        self._running: Running | None = None
        self._loaded: Loaded | None = None
        self._finished: pl.DataFrame | None = None
        self._row: pl.DataFrame | None = None
        self._shown: tuple[Any, ...] | None = None
        self._lead_ns: int | None = None
        self._newest_ns = 0
        self._evidence: list[dict[str, Any]] | None = None

    # ---- what comes in

    @property
    def is_loaded(self) -> bool:
        return self._loaded is not None

    def load(self, loaded: Loaded, now_ns: int) -> None:
        """Take history, the first time or anew after a session; values of days that are in it are forgotten."""
        self._loaded = loaded
        self._see(loaded.now_ns, now_ns)
        self._running = None
        spx, ndx, vix = self._closes()
        self._finished = classify(spx, ndx, vix, rules=self.rules)
        for day in [day for day in self._days if day <= loaded.last]:
            del self._days[day]
        self._daily = {symbol: Track(self.indicators) for symbol in SYMBOLS}
        for symbol, start, high, low, close in _prices(loaded.days):
            if symbol in self._daily:
                # By date: the running day has one before it has a bar.
                self._daily[symbol].put(trading_date(start).toordinal(), high, low, close)
        for symbol, start, high, low, close in _prices(loaded.minutes):
            self._intraday[symbol, "1m"].put(start, high, low, close)
        running = running_day(loaded.now_ns)
        for row in loaded.indices.with_columns(pl.col("ts_updated").dt.epoch("ms")).iter_rows(named=True):
            if running is None or row["symbol"] not in SYMBOLS or None in (row["value"], row["ts_updated"]):
                continue
            at = row["ts_updated"] * 1_000_000  # as the stream tells it, which may send the same value again
            if trading_date(at) == running and running > loaded.last:
                opened, high, low = (row[f"session_{name}"] for name in ("open", "high", "low"))
                bar = self._bar(row["symbol"], running)
                bar.seed(at, row["value"], opened, high, low, origin=row["timeframe"] or "rest")
        self._settle(set(SYMBOLS))

    def take(self, events: Iterable[Event], now_ns: int) -> None:
        """Take a batch of events; the label is computed at most once, and only when one of its inputs changed.

        Parameters
        ----------
        events : iterable of Event
        now_ns : int
            Local time of their receipt.
        """
        touched: set[str] = set()
        for event in events:
            if event.symbol not in SYMBOLS:
                continue
            if isinstance(event, IndexValue):
                prices: tuple[float, ...] = (event.value,)
            elif isinstance(event, SecondBar | MinuteBar):
                prices = (event.open, event.high, event.low, event.close)
            else:
                continue
            if not all(isfinite(price) and price > 0 for price in prices):
                self.n_refused += 1
                continue
            self._see(event.ts_event, now_ns)
            bar = self._bar_at(event.symbol, event.ts_event)
            if isinstance(event, IndexValue):
                if bar is not None:
                    bar.value(event.ts_event, event.value, event.source)
            else:
                span = "1m" if isinstance(event, MinuteBar) else "1s"
                self._intraday[event.symbol, span].put(event.ts_event, event.high, event.low, event.close)
                if bar is not None:
                    bar.bar(span, event.ts_event, event.ts_close, *prices, day_open=event.day_open, origin=event.source)
            touched.add(event.symbol)
        if touched and self._loaded is not None:
            self._settle(touched)

    def _bar_at(self, symbol: str, ts_ns: int) -> DayBar | None:
        """The bar of the day that an instant counts for."""
        day = trading_date(ts_ns)
        today = session(day)
        if today is None or ts_ns < today.open_ns:
            return None
        if self._loaded is not None and day <= self._loaded.last:
            self.n_late += 1
            return None
        return self._bar(symbol, day)

    def _bar(self, symbol: str, day: dt.date) -> DayBar:
        return self._days.setdefault(day, {}).setdefault(symbol, DayBar())

    def _see(self, ts_ns: int, now_ns: int) -> None:
        # How far the market's time is ahead of ours: the most that any stamp has shown.
        lead = ts_ns - now_ns
        self._lead_ns = lead if self._lead_ns is None else max(self._lead_ns, lead)
        self._newest_ns = max(self._newest_ns, ts_ns)

    # ---- what follows from it

    def market_ns(self, now_ns: int) -> int:
        """The market's time, by the newest stamp seen and the local time since."""
        return now_ns + (self._lead_ns or 0)

    def needs_history(self, now_ns: int) -> bool:
        """Whether a session has ended whose final bars are not all here."""
        assert self._loaded is not None
        wanted = last_finished(self.market_ns(now_ns))
        if wanted > self._loaded.last:
            return True
        newest = {symbol: track.last_start for symbol, track in self._daily.items()}
        return any((newest[symbol] or 0) < wanted.toordinal() for symbol in SYMBOLS)

    @property
    def day(self) -> dt.date | None:
        """The day whose values count: the first one after the history that has any."""
        return min(self._days, default=None)

    def _closes(self) -> list[pl.DataFrame]:
        assert self._loaded is not None
        days = self._loaded.days
        return [days.filter(pl.col("symbol") == symbol) for symbol in SYMBOLS]

    def _settle(self, touched: set[str]) -> None:
        day = self.day
        if day is not None:
            for symbol in touched & self._days[day].keys():
                bar = self._days[day][symbol]
                self._daily[symbol].put(day.toordinal(), bar.high, bar.low, bar.close)
        live = None if day is None else values_of(day, self._values(day))[0]
        shown = (self._loaded, live)
        if shown != self._shown:
            self._shown = shown
            self._row = None if live is None else self._compute(live)
            self._note_change()

    def _compute(self, live: LiveValues) -> pl.DataFrame:
        if self._running is None or self._running.day != live.date:
            spx, ndx, vix = self._closes()
            self._running = Running(spx, ndx, vix, live.date, rules=self.rules)
        self.n_rows += 1
        return self._running.row(live)

    def _values(self, day: dt.date) -> dict[str, Value | None]:
        found: dict[str, Value | None] = {}
        for symbol, bar in self._days[day].items():
            at = dt.datetime.fromtimestamp(bar.ts_ns // 10**9, NEW_YORK)
            found[symbol] = Value(bar.close, day, at.time(), bar.origin)
        return found

    def _note_change(self) -> None:
        assert self._finished is not None
        frame = self._finished if self._row is None else self._row
        if not frame.height:
            return
        row = frame.row(-1, named=True)
        label = row["regime"] or "unknown"
        before = self.changes[-1] if self.changes else None
        if before is not None and before.label == label:
            self._evidence = row["evidence"]
            return
        reason = _reason(self._evidence, row)
        self._evidence = row["evidence"]
        ts = self._newest_ns
        told = before.label if before is not None else None
        bias = row["bias"] or "unknown"
        self.changes.append(Change(ts, row["date"], told, label, bias, row["score"], row["is_final"], reason))
        self.n_changes += 1

    # ---- what is shown

    def regime(self, now_ns: int) -> Regime:
        """The regime as of now, with what to know about its inputs."""
        assert self._loaded is not None
        assert self._finished is not None
        frame = self._finished
        if self._row is not None and self._running is not None:
            frame = pl.concat([self._running.history, self._row])
        return latest(frame, source_notes=[*self._loaded.notes, *self._notes(now_ns)], rules=self.rules)

    def _notes(self, now_ns: int) -> list[str]:
        market, day = self.market_ns(now_ns), self.day
        open_day = running_day(market)
        if day is None:
            if open_day is None:
                return ["No session is running: the last finished day is shown."]
            return list(values_of(open_day, {})[1])
        said = list(values_of(day, self._values(day))[1])
        if open_day == day:
            for symbol, bar in sorted(self._days[day].items()):
                age = (market - bar.ts_ns) / 1e9
                if age > self.stale_s:
                    said.append(f"{symbol} is stale: its newest value is {age:,.0f} s old.")
        else:
            said.append(f"The session of {day} is over; its final bars are not loaded yet.")
            if open_day is not None:
                said.append(f"The values of {open_day} wait for them.")
        return said

    def frame(self, timeframe: str, now_ns: int) -> pl.DataFrame:
        """One row per index; see `massive_lab.live.macro.macro.Macro.frame`."""
        day, market = self.day, self.market_ns(now_ns)
        is_open = day is not None and running_day(market) == day
        rows = []
        for symbol in SYMBOLS:
            bar = self._days[day].get(symbol) if day is not None else None
            previous = self._previous(symbol)
            track = self._daily[symbol] if timeframe == "1d" else self._intraday[symbol, timeframe]
            own: tuple[Any, ...] = (None,) * 8
            if bar is not None:
                change = None if previous is None else bar.close - previous
                share = None if change is None or not previous else 100 * change / previous
                age = max(0.0, (market - bar.ts_ns) / 1e9)
                own = (bar.close, change, share, bar.open, bar.high, bar.low, bar.ts_ns, age)
            stale = is_open and (bar is None or own[-1] > self.stale_s)
            source = None if bar is None else bar.origin
            last = track.last_start
            ts_bar = new_york_ns(dt.date.fromordinal(last)) if last is not None and timeframe == "1d" else last
            rows.append((symbol, day, *own[:6], previous, *own[6:], stale, source, ts_bar, *track.values().values()))
        columns = _COLUMNS | dict.fromkeys(self._daily[SYMBOLS[0]].outputs, pl.Float64())
        return pl.DataFrame(rows, schema=columns, orient="row")

    def _previous(self, symbol: str) -> float | None:
        assert self._loaded is not None
        own = self._loaded.days.filter(pl.col("symbol") == symbol)["close"]
        return float(own[-1]) if len(own) else None

    def history(self) -> pl.DataFrame:
        """The changes of the label; see `massive_lab.live.macro.macro.Macro.history`."""
        rows = [
            (c.ts, c.date, c.before, c.label, c.bias, c.score, c.is_final, c.reason) for c in list(self.changes)
        ]
        return pl.DataFrame(rows, schema=CHANGE_COLUMNS, orient="row")


_COLUMNS: dict[str, Any] = {
    "symbol": pl.String(), "date": pl.Date(), "value": pl.Float64(), "change": pl.Float64(),
    "change_percent": pl.Float64(), "open": pl.Float64(), "high": pl.Float64(), "low": pl.Float64(),
    "previous_close": pl.Float64(), "ts_event": _TS, "age_s": pl.Float64(), "is_stale": pl.Boolean(),
    "source": pl.String(), "ts_bar": _TS,
}  # fmt: skip


def _prices(frame: pl.DataFrame | None) -> Iterable[tuple[str, int, float, float, float]]:
    if frame is None:
        return ()
    return frame.select("symbol", pl.col("ts_event").to_physical(), "high", "low", "close").iter_rows()


def _reason(before: list[dict[str, Any]] | None, row: dict[str, Any]) -> str:
    """What changed between two rows of evidence; of the first label, or one that is unknown, what the row itself says."""
    if before is None or row["regime"] is None:
        lacking = [said for said in row["reasons"] if "no label" in said or " yet." in said]
        return " ".join(lacking) or row["reasons"][-2 if not row["is_final"] else -1]
    said = []
    for old, new in zip(before, row["evidence"], strict=True):
        if old["state"] != new["state"]:
            value = "" if new["value"] is None else f" ({new['value']:.4g})"
            said.append(f"{new['rule']}: {old['state'] or 'unknown'} to {new['state'] or 'unknown'}{value}")
    return "; ".join(said) or "a new day began"
