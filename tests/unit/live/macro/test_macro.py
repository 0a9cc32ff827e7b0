"""The macro context against the batch: whatever comes, in whatever order, it is what classify and apply give."""

from __future__ import annotations

import asyncio
import datetime as dt
import random
from collections.abc import Callable

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from massive_lab.clock import ManualClock
from massive_lab.decode.stream import IndexValue, MinuteBar, SecondBar
from massive_lab.errors import InvalidRequest, SubscriptionFailed, UpstreamError
from massive_lab.frames.build import build, sort
from massive_lab.indicators import apply
from massive_lab.live.macro.day import DayBar
from massive_lab.live.macro.input import SYMBOLS, Loaded, last_finished, running_day
from massive_lab.live.macro.macro import _Engine
from massive_lab.live.macro.state import MacroState
from massive_lab.live.topics import topics_for
from massive_lab.regime import STRICT_RULES, LiveValues, Rules, classify
from massive_lab.schema.session import new_york_ns, session, sessions, trading_date
from massive_lab.schema.symbols import parse_many
from massive_lab.transports.runner import Runner

SPECS = ["ema_5", "rsi_4", "atr_4", "macd_3_6_3"]
S = 10**9
LEVELS = {"I:SPX": 4000.0, "I:NDX": 15000.0, "I:VIX": 20.0}
RULES = Rules(
    version="short", vix_required=True, trend_sessions=8, fast_sessions=3, momentum_sessions=10, vol_sessions=3,
    vol_history=6, vix_history=6,
)  # fmt: skip
DAY = dt.date(2025, 11, 26)  # before Thanksgiving; the next session is a half day
HALF = dt.date(2025, 11, 28)


def bars_of(rows: list[tuple[str, int, int, float, float, float, float]]) -> pl.DataFrame:
    names = ("symbol", "ts_event", "ts_close", "open", "high", "low", "close")
    columns = {name: [row[i] for row in rows] for i, name in enumerate(names)}
    return sort("bars", build("bars", columns))


def daily(rng: random.Random, days: list[dt.date]) -> pl.DataFrame:
    rows = []
    for symbol, first in LEVELS.items():
        level = first
        for day in days:
            level *= 1 + rng.gauss(0, 0.05 if symbol == "I:VIX" else 0.01)
            spread = level * 0.01
            start = new_york_ns(day)
            rows.append((symbol, start, start + 23 * 3600 * S, level, level + spread, level - spread, level))
    return bars_of(rows)


def none_yet() -> pl.DataFrame:
    return build("indices", {"symbol": []})


def snapshot(rows: dict[str, tuple[float, int]]) -> pl.DataFrame:
    return build("indices", {
        "symbol": list(rows), "value": [row[0] for row in rows.values()], "ts_updated": [row[1] for row in rows.values()],
        "timeframe": ["REAL-TIME"] * len(rows),
    })  # fmt: skip


def loaded(rng: random.Random, now_ns: int, indices: pl.DataFrame | None = None, n: int = 25) -> Loaded:
    last = last_finished(now_ns)
    days = sessions(last - dt.timedelta(days=60), last + dt.timedelta(days=1))[-n:]
    return Loaded(now_ns, last, daily(rng, days), none_yet() if indices is None else indices)


class Batch:
    """What was told, kept whole; every answer is computed from all of it."""

    def __init__(self, history: Loaded) -> None:
        self.history = history
        self.values: dict[str, dict[int, float]] = {symbol: {} for symbol in SYMBOLS}
        self.bars: dict[str, dict[str, dict[int, tuple[float, ...]]]] = {s: {"1s": {}, "1m": {}} for s in SYMBOLS}

    def tell(self, event: IndexValue | SecondBar | MinuteBar) -> None:
        if isinstance(event, IndexValue):
            self.values[event.symbol][event.ts_event] = event.value
        else:
            span = "1m" if isinstance(event, MinuteBar) else "1s"
            self.bars[event.symbol][span][event.ts_event] = (event.open, event.high, event.low, event.close)

    def day(self, symbol: str, day: dt.date) -> tuple[float, float, float, float] | None:
        opening = session(day).open_ns
        points = [
            (ts, 1, ts, price, price, price, price)
            for ts, price in self.values[symbol].items() if ts >= opening and trading_date(ts) == day
        ]  # fmt: skip
        for length, rank, span in ((S, 0, "1s"), (60 * S, -1, "1m")):
            points += [
                (start + length - 1, rank, start, *bar)
                for start, bar in self.bars[symbol][span].items() if start >= opening and trading_date(start) == day
            ]  # fmt: skip
        if not points:
            return None
        first = min(points, key=lambda p: (p[2], -p[1]))
        close = max(points, key=lambda p: p[:2])[6]
        return first[3], max(p[4] for p in points), min(p[5] for p in points), close

    def live(self, day: dt.date) -> LiveValues | None:
        bars = [self.day(symbol, day) for symbol in SYMBOLS]
        closes = [None if bar is None else bar[3] for bar in bars]
        return None if closes[0] is None else LiveValues(day, *closes)

    def own(self, symbol: str) -> pl.DataFrame:
        return self.history.days.filter(pl.col("symbol") == symbol)

    def regime(self, day: dt.date | None) -> pl.DataFrame:
        live = None if day is None else self.live(day)
        return classify(*(self.own(symbol) for symbol in SYMBOLS), rules=RULES, live=live)

    def indicators(self, symbol: str, timeframe: str, day: dt.date | None) -> dict[str, float | None]:
        columns = ["high", "low", "close"]
        if timeframe == "1d":
            rows = self.own(symbol).select(columns).rows()
            bar = None if day is None else self.day(symbol, day)
            rows += [] if bar is None else [bar[1:]]
        else:
            rows = [bar[1:] for _, bar in sorted(self.bars[symbol][timeframe].items())]
        if not rows:
            return {}
        frame = pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.Float64), orient="row")
        return apply(frame, SPECS).drop(columns).row(-1, named=True)


def same(state: MacroState, batch: Batch, now_ns: int) -> None:
    assert state.regime(now_ns).history.equals(batch.regime(state.day))
    for timeframe in ("1d", "1m", "1s"):
        for row in state.frame(timeframe, now_ns).iter_rows(named=True):
            expected = batch.indicators(row["symbol"], timeframe, state.day)
            assert {name: row[name] for name in expected} == expected, (timeframe, row["symbol"])
            bar = None if state.day is None else batch.day(row["symbol"], state.day)
            assert (row["open"], row["high"], row["low"], row["value"]) == (bar or (None,) * 4)


def event(rng: random.Random, symbol: str, ts: int) -> IndexValue | SecondBar | MinuteBar:
    level = LEVELS[symbol] * (1 + rng.gauss(0, 0.01)) * (1.6 if rng.random() < 0.1 else 1.0)
    kind = rng.choice("VVVAM")
    if kind == "V":
        return IndexValue(symbol, ts // 10**6, level)
    length = S if kind == "A" else 60 * S
    start = ts // length * length // 10**6
    made = SecondBar if kind == "A" else MinuteBar
    return made(symbol, start, level, level * (1 + rng.random() / 50), level * (1 - rng.random() / 50), level * 1.001)


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 3))
def test_whatever_comes_in_whatever_order_it_is_the_batch(seed, n):
    rng = random.Random(seed)
    opening = session(DAY).open_ns
    history = loaded(rng, opening)
    state, batch = MacroState(SPECS, rules=RULES), Batch(history)
    state.load(history, opening)
    told = []
    now = opening
    for _ in range(n):
        now += rng.randrange(0, 90) * S
        group = []
        for _ in range(rng.randrange(1, 6)):
            # Now, minutes ago, or the same as before with another price; some before the open, which count for no day.
            ts = now - rng.choice([0, 0, 0, 1, 7, 130, 3600]) * S
            repeat = rng.choice(told) if told and rng.random() < 0.3 else None
            symbol = repeat.symbol if repeat else rng.choice(SYMBOLS)
            group.append(event(rng, symbol, repeat.ts_event if repeat else ts))
        told += group
        for each in group:
            batch.tell(each)
        rows = state.n_rows
        state.take(group, now)
        assert state.n_rows - rows <= 1
        same(state, batch, now)
    # The order they came in leaves no trace, but for which of two versions of one instant is the later one.
    last = {(type(each), each.symbol, each.ms): each for each in told}
    shuffled = list(last.values())
    rng.shuffle(shuffled)
    again = MacroState(SPECS, rules=RULES)
    again.load(history, opening)
    again.take(shuffled, now)
    same(again, batch, now)


def test_a_day_changes_over_a_holiday_and_a_half_day_ends_early():
    rng = random.Random(4)
    opening, close = session(DAY).open_ns, session(DAY).close_ns
    history = loaded(rng, opening)
    state, batch = MacroState(SPECS, rules=RULES), Batch(history)
    state.load(history, opening)

    def tell(ts: int, *symbols: str) -> None:
        group = [IndexValue(symbol, ts // 10**6, LEVELS[symbol] * (1 + rng.random() / 100)) for symbol in symbols]
        for each in group:
            batch.tell(each)
        state.take(group, ts)

    tell(close - S, *SYMBOLS)
    same(state, batch, close - S)
    assert not state.needs_history(close - S)
    assert state.needs_history(close)
    assert f"The session of {DAY} is over; its final bars are not loaded yet." in state.regime(close).source_notes

    # The next session begins before the bars have come: its values wait, and the label is still of the day before.
    half = session(HALF)
    assert (half.is_half_day, last_finished(half.open_ns)) == (True, DAY)
    tell(new_york_ns(dt.date(2025, 11, 27), 11), "I:SPX")  # Thanksgiving: no session, no day
    tell(half.open_ns + S, *SYMBOLS)
    shown = state.regime(half.open_ns + S)
    assert (shown.date, shown.is_final) == (DAY, False)
    assert f"The values of {HALF} wait for them." in shown.source_notes

    batch.history = again = loaded(random.Random(5), half.open_ns + 2 * S)
    state.load(again, half.open_ns + 2 * S)
    assert again.days["ts_event"].dt.convert_time_zone("America/New_York").dt.date().max() == DAY
    assert (state.day, state.regime(half.open_ns + 2 * S).date) == (HALF, HALF)
    same(state, batch, half.open_ns + 2 * S)
    assert not state.needs_history(half.close_ns - 1)
    assert state.needs_history(half.close_ns)

    late = state.n_late
    state.take([IndexValue("I:SPX", (close - 5 * S) // 10**6, 1.0)], half.open_ns + 3 * S)
    assert state.n_late == late + 1
    same(state, batch, half.open_ns + 3 * S)


def test_no_value_yet_is_the_history_and_says_so():
    rng = random.Random(1)
    now = session(DAY).open_ns + 60 * S
    history = loaded(rng, now)
    state, batch = MacroState(SPECS, rules=RULES), Batch(history)
    state.load(history, now)
    regime = state.regime(now)
    assert regime.history.equals(batch.regime(None))
    assert regime.source_notes == (
        *(f"{symbol} has no value of {DAY} yet." for symbol in sorted(SYMBOLS)),
        "Without SPX the running day has no row: the last finished day is shown.",
    )
    frame = state.frame("1d", now)
    assert frame["value"].to_list() == [None] * 3
    assert frame["previous_close"].null_count() == 0
    # NDX and VIX alone give no row; SPX alone gives one without a label, never one with yesterday's VIX.
    state.take([IndexValue("I:VIX", now // 10**6, 30.0), IndexValue("I:NDX", now // 10**6, 15000.0)], now)
    assert state.regime(now).date < DAY
    other = MacroState(SPECS, rules=RULES)
    other.load(history, now)
    other.take([IndexValue("I:SPX", now // 10**6, 4000.0)], now)
    lone = other.regime(now)
    assert (lone.date, lone.label, lone.inputs["vix"]) == (DAY, "unknown", None)
    assert other.changes[-1].label == "unknown"
    assert "no label" in other.changes[-1].reason


def test_before_the_open_and_on_a_closed_day_there_is_no_running_day():
    rng = random.Random(1)
    for now in (new_york_ns(DAY, 8), new_york_ns(dt.date(2025, 11, 27), 12)):
        history = loaded(rng, now, snapshot({"I:SPX": (4000.0, now)}))
        state = MacroState(SPECS, rules=RULES)
        state.load(history, now)
        state.take([IndexValue("I:SPX", now // 10**6, 4000.0)], now)
        assert (state.day, running_day(now)) == (None, None)
        assert state.regime(now).source_notes == ("No session is running: the last finished day is shown.",)


def test_the_values_of_rest_begin_the_day_and_those_of_another_day_do_not():
    rng = random.Random(2)
    now = session(DAY).open_ns + 3600 * S
    rows = {"I:SPX": (4000.0, now - S), "I:NDX": (15000.0, now - 2 * S), "I:VIX": (21.0, now - 86_400 * S)}
    state = MacroState(SPECS, rules=RULES)
    state.load(loaded(rng, now, snapshot(rows)), now)
    regime = state.regime(now)
    assert (regime.inputs["spx"], regime.inputs["vix"], regime.label) == (4000.0, None, "unknown")
    assert f"I:VIX has no value of {DAY} yet." in regime.source_notes
    assert state.frame("1d", now)["source"].to_list() == ["REAL-TIME", "REAL-TIME", None]
    assert state.frame("1d", now)["is_stale"].to_list() == [False, False, True]


def test_a_stale_input_is_named_and_the_market_s_time_is_not_ours():
    rng = random.Random(3)
    opening = session(DAY).open_ns
    state = MacroState(SPECS, stale_s=30.0, rules=RULES)
    ours = 5 * S  # our clock is decades behind the market's
    state.load(loaded(rng, opening), ours)
    state.take([IndexValue(symbol, (opening + S) // 10**6, LEVELS[symbol]) for symbol in SYMBOLS], ours + S)
    assert state.market_ns(ours + S) == opening + S
    assert not [note for note in state.regime(ours + S).source_notes if "stale" in note]
    # The others go on, the VIX does not.
    state.take([IndexValue(s, (opening + 41 * S) // 10**6, LEVELS[s]) for s in SYMBOLS[:2]], ours + 2 * S)
    assert [note for note in state.regime(ours + 2 * S).source_notes if "stale" in note] == [
        "I:VIX is stale: its newest value is 40 s old."
    ]
    # Nobody says anything: time passes all the same.
    assert state.frame("1d", ours + 40 * S)["is_stale"].to_list() == [True, True, True]
    assert state.frame("1d", ours + 2 * S)["age_s"].to_list() == [0.0, 0.0, 40.0]


def test_what_is_no_price_is_counted_and_changes_nothing():
    rng = random.Random(3)
    opening = session(DAY).open_ns
    state = MacroState(SPECS, rules=RULES)
    state.load(loaded(rng, opening), opening)
    state.take([IndexValue(symbol, opening // 10**6, LEVELS[symbol]) for symbol in SYMBOLS], opening)
    before = state.regime(opening).history
    bad = [IndexValue("I:VIX", opening // 10**6, value) for value in (0.0, -1.0, float("nan"), float("inf"))]
    state.take([*bad, IndexValue("I:DJI", opening // 10**6, 1.0)], opening)
    assert (state.n_refused, state.n_rows) == (4, 1)
    assert state.regime(opening).history.equals(before)


def test_the_label_s_changes_have_a_time_and_a_reason():
    opening = session(DAY).open_ns
    rng = random.Random(3)
    calm = loaded(rng, opening)
    state = MacroState(SPECS, rules=RULES)
    state.load(calm, opening)
    (first,) = state.changes
    assert (first.before, first.is_final, first.date) == (None, True, last_finished(opening))
    labels = {first.label}
    for i, (spx, vix) in enumerate([(9000.0, 12.0), (9000.0, 12.5), (1000.0, 45.0), (9000.0, 12.0)]):
        values = {"I:SPX": spx, "I:NDX": 4 * spx, "I:VIX": vix}
        state.take([IndexValue(s, (opening + i * S) // 10**6, v) for s, v in values.items()], opening + i * S)
        labels.add(state.changes[-1].label)
    frame = state.history()
    assert (frame["label"] != frame["label"].shift()).fill_null(value=True).all()
    assert frame["before"].to_list() == [None, *frame["label"].to_list()[:-1]]
    assert {"risk_on", "risk_off"} <= labels
    fall = frame.filter(pl.col("label") == "risk_off").row(-1, named=True)
    assert fall["ts"].timestamp() == opening / S + 2
    assert "vix_level: calm to stressed (45)" in fall["reason"]
    assert state.n_changes == frame.height == len(state.changes)


def test_the_rules_are_those_of_the_batch_by_default():
    assert MacroState(SPECS).rules is STRICT_RULES
    with pytest.raises(InvalidRequest):
        MacroState(["rolling_vwap_30m"])


def test_a_day_bar_keeps_the_official_open_and_lets_go_of_a_corrected_extreme():
    bar = DayBar()
    bar.value(5 * S, 10.0, "stream")
    bar.bar("1s", 4 * S, 5 * S, 9.0, 30.0, 8.0, 9.5, day_open=None, origin="stream")
    assert (bar.open, bar.high, bar.low, bar.close, bar.ts_ns) == (9.0, 30.0, 8.0, 10.0, 5 * S)
    bar.bar("1s", 4 * S, 5 * S, 9.0, 11.0, 8.5, 9.5, day_open=8.75, origin="stream")
    assert (bar.open, bar.high, bar.low) == (8.75, 11.0, 8.5)
    bar.seed(6 * S, 12.0, 8.8, 13.0, 7.0, origin="REAL-TIME")
    assert (bar.open, bar.high, bar.low, bar.close, bar.origin) == (8.8, 13.0, 7.0, 12.0, "REAL-TIME")
    bar.value(6 * S, 14.0, "stream")
    bar.value(6 * S, 9.0, "stream")
    assert (bar.high, bar.close) == (13.0, 9.0)


class Rest:
    """What loads the history, under the test's thumb."""

    def __init__(self, *answers: Loaded | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[bool] = []
        self.block: asyncio.Event | None = None

    async def __call__(self, minutes: bool) -> Loaded:
        self.asked.append(minutes)
        if self.block is not None:
            await self.block.wait()
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


async def settled(condition: Callable[[], object]) -> None:
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("the condition never came true")


def engine(rest: Rest, clock: ManualClock, runner: Runner) -> _Engine:
    topics = topics_for(parse_many(SYMBOLS), ("V",))
    return _Engine(MacroState(SPECS, rules=RULES), clock, runner, rest, topics)


def test_events_that_come_while_the_history_loads_are_taken_afterwards():
    now = session(DAY).open_ns
    rest, clock = Rest(loaded(random.Random(1), now)), ManualClock(start_ns=now)

    async def main() -> None:
        rest.block = asyncio.Event()
        made = engine(rest, clock, runner)
        beginning = asyncio.ensure_future(made.begin())
        await settled(lambda: rest.asked)
        made.inbox.inbox.extend(IndexValue(symbol, now // 10**6, LEVELS[symbol]) for symbol in SYMBOLS)
        made.inbox.flush()
        assert not made.state.is_loaded
        rest.block.set()
        await beginning
        assert made.state.regime(now).date == DAY
        assert (await made.changes.aget()).before is None

    with Runner("test-macro") as runner:
        runner.call(main())


def test_after_the_close_history_is_asked_for_and_a_refusal_is_tried_again_later_and_later():
    close = session(DAY).close_ns
    before, after = loaded(random.Random(1), close - S), loaded(random.Random(1), close + 9 * S)
    late = [UpstreamError("Not now.", status=503, request_id="r")] * 2
    rest, clock = Rest(before, *late, after), ManualClock(start_ns=close - S)

    async def main() -> None:
        made = engine(rest, clock, runner)
        await made.begin()
        made.take([IndexValue(symbol, (close - S) // 10**6, LEVELS[symbol]) for symbol in SYMBOLS])
        assert rest.asked == [True]
        clock.advance(2.0)
        made.take([IndexValue("I:SPX", (close + S) // 10**6, LEVELS["I:SPX"])])
        await settled(lambda: made.refusal)
        made.look()
        assert rest.asked == [True, False]
        for wait_s, n in ((59.0, 2), (1.0, 3), (60.0, 3), (60.0, 4)):
            clock.advance(wait_s)
            made.look()
            made.look()
            await settled(lambda: not made._is_asking)
            assert len(rest.asked) == n, wait_s
        assert (made.state.regime(clock.now_ns()).is_final, made.refusal) == (True, None)
        assert made.state.regime(clock.now_ns()).date == DAY
        clock.advance(7_200.0)
        made.look()
        assert len(rest.asked) == 4

    with Runner("test-macro") as runner:
        runner.call(main())


def test_closing_ends_a_load_that_is_under_way_and_an_error_reaches_who_waits():
    close = session(DAY).close_ns
    rest, clock = Rest(loaded(random.Random(1), close - S)), ManualClock(start_ns=close - S)

    async def main() -> None:
        made = engine(rest, clock, runner)
        await made.begin()
        rest.block = asyncio.Event()
        clock.advance(2.0)
        made.look()
        await settled(lambda: len(rest.asked) == 2)
        made.inbox.close()
        await settled(lambda: not made._is_asking)
        await settled(lambda: len(asyncio.all_tasks()) == 1)
        assert (await made.changes.aget()).before is None
        assert await made.changes.aget() is None

    async def lose() -> None:
        made = engine(Rest(loaded(random.Random(1), close - S)), clock, runner)
        await made.begin()
        topics = topics_for(parse_many(SYMBOLS), ("V",))
        refused = SubscriptionFailed("V.I:VIX", "not authorized")
        for topic in topics[:-1]:
            made.failed(topic, refused)
        assert not made.changes.is_closed
        made.failed(topics[-1], refused)
        await made.changes.aget()
        with pytest.raises(SubscriptionFailed):
            await made.changes.aget()

    with Runner("test-macro") as runner:
        runner.call(main())
        runner.call(lose())
