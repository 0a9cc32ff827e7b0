"""Laws of the market as a whole: ticks, quotes, bars and days are one truth, and nobody sees the future."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from massive_lab.sandbox.api import MarketData
from massive_lab.sandbox.market.conditions import STOCK_CONDITIONS
from massive_lab.sandbox.market.instruments import INDICES, STOCKS
from massive_lab.sandbox.market.market import Market
from massive_lab.schema.session import Session, new_york_ns, session

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
DATE = dt.date(2026, 3, 4)
HALF = dt.date(2025, 11, 28)
FAR = new_york_ns(dt.date(2026, 9, 1))

Columns = Mapping[str, np.ndarray[Any, Any]]


def day_of(date: dt.date) -> Session:
    found = session(date)
    assert found is not None
    return found


DAY = day_of(DATE)
MIDNIGHT = new_york_ns(DATE)


@pytest.fixture(scope="module")
def market() -> Market:
    return Market(7, density=0.4)


def naive_bars(trades: Columns, day: Session, span: int, now_ns: int) -> dict[int, list[float]]:
    """Bars by the documented rules, print by print; the day when `span` is 0."""
    order = np.argsort(trades["participant_ns"], kind="stable")
    out: dict[int, list[float]] = {}
    waiting: dict[int, list[float]] = {}
    for i in order.tolist():
        if trades["sip_ns"][i] > now_ns:
            continue
        conditions = trades["conditions"][i]
        rules = [STOCK_CONDITIONS[code] for code in conditions]
        form_t = conditions == (12,)
        if span and ({8, 15, 16} & set(conditions)):
            continue
        prices = all(rule.open_close for rule in rules) or bool(span and form_t)
        moves = all(rule.high_low for rule in rules) or prices
        start = int(trades["participant_ns"][i]) // span * span if span else 0
        price, size = float(trades["price"][i]), float(trades["size"][i])
        bar = waiting.setdefault(start, [np.nan, -np.inf, np.inf, np.nan, 0.0, 0, 0.0, 0.0])
        if prices:
            bar[0] = price if np.isnan(bar[0]) else bar[0]
            bar[3] = price
            out[start] = bar
        if moves:
            bar[1], bar[2] = max(bar[1], price), min(bar[2], price)
            bar[6] += price * size
            bar[7] += size
        if all(rule.volume for rule in rules):
            bar[4] += size
            bar[5] += 1
    return out


def assert_same(bars: Columns, expected: dict[int, list[float]], spans: bool = True) -> None:
    assert len(bars["start_ns"]) == len(expected)
    for i, start in enumerate(sorted(expected)):
        bar = expected[start]
        if spans:
            assert bars["start_ns"][i] == start
        assert [bars[name][i] for name in ("open", "high", "low", "close")] == bar[:4]
        assert bars["volume"][i] == pytest.approx(bar[4], abs=1e-3)
        assert bars["trade_count"][i] == bar[5]
        assert bars["vwap"][i] == pytest.approx(bar[6] / bar[7], abs=1e-3)


def test_it_is_the_market_the_sandbox_asks_for(market: Market) -> None:
    seam: MarketData = market
    assert seam.universe("stocks", FAR) == sorted(STOCKS)
    assert seam.universe("indices", FAR) == sorted(INDICES)
    assert seam.knows("AAPL", FAR)
    assert seam.knows("I:NDX", FAR)
    for symbol in ("aapl", "NOPE", "I:NOPE", "O:AAPL", "O:NOPE260320C00100000", "X:BTCUSD", ""):
        assert not seam.knows(symbol, FAR)


@pytest.mark.parametrize("symbol", ["AAPL", "SPY", "WEYS"])
@pytest.mark.parametrize("date", [DATE, HALF])
def test_bars_reconcile_with_ticks(market: Market, symbol: str, date: dt.date) -> None:
    day, midnight = day_of(date), new_york_ns(date)
    trades = market.trades(symbol, midnight, day.late_ns)
    for unit, span in (("second", SECOND), ("minute", MINUTE)):
        bars = market.base_bars(symbol, unit, midnight, day.late_ns, FAR)
        assert_same(bars, naive_bars(trades, day, span, FAR))
    bars = market.base_bars(symbol, "day", midnight, midnight + 1, FAR)
    assert bars["start_ns"].tolist() == [midnight]
    assert_same(bars, naive_bars(trades, day, 0, FAR), spans=False)


@settings(max_examples=15, deadline=None)
@given(st.integers(DAY.early_ns, DAY.late_ns))
def test_unfinished_bars_come_of_published_prints_alone(market: Market, now_ns: int) -> None:
    trades = market.trades("MSFT", MIDNIGHT, now_ns + 1)
    assert (trades["sip_ns"] <= now_ns).all()
    assert_same(market.base_bars("MSFT", "minute", MIDNIGHT, FAR, now_ns), naive_bars(trades, DAY, MINUTE, now_ns))
    expected = naive_bars(trades, DAY, 0, now_ns)
    assert_same(market.base_bars("MSFT", "day", MIDNIGHT, FAR, now_ns), expected, spans=False)
    so_far = market.session_prices("MSFT", DATE, now_ns)
    if expected:
        assert so_far is not None
        assert [so_far[name] for name in ("open", "high", "low", "close")] == expected[0][:4]


@pytest.mark.parametrize("symbol", sorted(STOCKS))
def test_the_day_of_a_stock_is_what_was_drawn(market: Market, symbol: str) -> None:
    bars = market.base_bars(symbol, "day", MIDNIGHT, MIDNIGHT + 1, FAR)
    assert [bars[name][0] for name in ("open", "high", "low", "close")] == list(market.ohlc(symbol, DATE) or ())
    minutes = market.base_bars(symbol, "minute", DAY.open_ns, DAY.close_ns, FAR)
    assert (minutes["high"].max(), minutes["low"].min()) == (bars["high"][0], bars["low"][0])
    assert minutes["open"][0] == bars["open"][0]
    assert (minutes["low"] <= minutes["vwap"]).all()
    assert (minutes["vwap"] <= minutes["high"]).all()


@pytest.mark.parametrize("symbol", ["AAPL", "SPY", "F", "WEYS"])
@pytest.mark.parametrize("date", [DATE, HALF])
def test_trades_are_at_or_inside_the_quote_in_force(market: Market, symbol: str, date: dt.date) -> None:
    day = day_of(date)
    trades = market.trades(symbol, day.early_ns, day.late_ns)
    quotes = market.quotes(symbol, day.early_ns, day.late_ns)
    at = np.searchsorted(quotes["sip_ns"], trades["sip_ns"], side="right") - 1
    good = ~trades["late"]
    assert (at[good] >= 0).all()
    assert (quotes["bid_price"][at] <= trades["price"])[good].all()
    assert (trades["price"] <= quotes["ask_price"][at])[good].all()
    assert (quotes["bid_price"] < quotes["ask_price"]).all()
    assert (quotes["participant_ns"] < quotes["sip_ns"]).all()
    assert (quotes["bid_size"] % 100 == 0).all()


def test_the_tape_looks_like_one(market: Market) -> None:
    trades = market.trades("SPY", DAY.early_ns, DAY.late_ns)
    assert (np.diff(trades["sip_ns"]) > 0).all()
    assert (np.diff(trades["sequence"]) > 0).all()
    assert (np.diff(trades["sequence"]) > 1).any()
    assert len(set(trades["id"])) == len(trades["id"])
    assert (trades["participant_ns"] <= trades["sip_ns"]).all()
    same_second = trades["participant_ns"] // SECOND == trades["sip_ns"] // SECOND
    assert same_second[~trades["late"]].all()
    assert 0 < trades["late"].mean() < 0.01
    assert (trades["sip_ns"] - trades["participant_ns"])[trades["late"]].min() > SECOND
    assert (trades["correction"] == 12).any()
    assert not (trades["correction"][~trades["late"]] != -1).any()
    assert np.array_equal(trades["exchange"] == 4, trades["trf_id"] != -1)
    assert np.array_equal(trades["trf_ns"] != -1, trades["trf_id"] != -1)
    assert set(trades["tape"]) == {2}
    odd = trades["size"] < 100
    assert 0.2 < odd.mean() < 0.6
    assert all(37 in c or 12 in c or 13 in c for c in trades["conditions"][odd])
    assert (trades["size"] % 1 != 0).any(), "fractional shares are reported since 2026-02-23"
    outside = (trades["participant_ns"] < DAY.open_ns) | (trades["participant_ns"] > DAY.close_ns + SECOND)
    assert all(c[0] in (12, 13) for c in trades["conditions"][outside])
    assert np.array_equal(np.round(trades["price"], 2), trades["price"])


def test_the_closing_cross_is_in_the_day_and_in_no_minute(market: Market) -> None:
    trades = market.trades("AAPL", DAY.early_ns, DAY.late_ns)
    cross = [i for i, c in enumerate(trades["conditions"]) if 8 in c]
    assert len(cross) == 1
    size = trades["size"][cross[0]]
    day = market.base_bars("AAPL", "day", MIDNIGHT, MIDNIGHT + 1, FAR)["volume"][0]
    minutes = market.base_bars("AAPL", "minute", MIDNIGHT, DAY.late_ns, FAR)["volume"].sum()
    assert minutes <= day - size
    assert trades["price"][cross[0]] == market.base_bars("AAPL", "day", MIDNIGHT, MIDNIGHT + 1, FAR)["close"][0]


def test_an_illiquid_stock_has_minutes_without_a_bar(market: Market) -> None:
    bars = market.base_bars("WEYS", "minute", DAY.open_ns, DAY.close_ns, FAR)
    assert 5 < len(bars["start_ns"]) < 200


@pytest.mark.parametrize("symbol", sorted(INDICES))
@pytest.mark.parametrize("date", [DATE, HALF, dt.date(2008, 10, 10)])
def test_index_values_make_the_day(market: Market, symbol: str, date: dt.date) -> None:
    day, midnight = day_of(date), new_york_ns(date)
    values = market.values(symbol, midnight, day.late_ns)
    assert (np.diff(values["ts_ns"]) > 0).all()
    assert values["ts_ns"][0] >= day.open_ns
    assert values["ts_ns"][-1] < day.close_ns
    v = values["value"]
    assert (v[0], v.max(), v.min(), v[-1]) == market.ohlc(symbol, date)
    assert np.array_equal(np.round(v, 2), v)
    minutes = market.base_bars(symbol, "minute", midnight, day.late_ns, FAR)
    assert (minutes["open"][0], minutes["high"].max(), minutes["low"].min(), minutes["close"][-1]) == market.ohlc(
        symbol, date
    )
    assert np.isnan(minutes["volume"]).all()
    assert set(minutes["trade_count"].tolist()) == {-1}


@settings(max_examples=25, deadline=None)
@given(st.integers(DAY.early_ns, DAY.late_ns))
def test_the_unfinished_day_of_an_index_is_made_of_its_values(market: Market, now_ns: int) -> None:
    seen = market.values("I:SPX", MIDNIGHT, now_ns + 1)["value"]
    bars = market.base_bars("I:SPX", "day", MIDNIGHT - 10**15, FAR, now_ns)
    today = bars["start_ns"] == MIDNIGHT
    assert bool(today.any()) == bool(len(seen))
    if len(seen):
        got = tuple(bars[name][today][0] for name in ("open", "high", "low", "close"))
        assert got == (seen[0], seen.max(), seen.min(), seen[-1])
    assert (market.session_prices("I:SPX", DATE, now_ns) is None) == (not len(seen))


def test_a_day_without_session_has_nothing(market: Market) -> None:
    sunday = new_york_ns(dt.date(2026, 3, 1))
    end = sunday + 20 * 3600 * SECOND
    for symbol in ("AAPL", "I:SPX", "NOPE", "O:NOPE260320C00100000"):
        assert len(market.trades(symbol, sunday, end)["sip_ns"]) == 0
        assert len(market.quotes(symbol, sunday, end)["sip_ns"]) == 0
        assert len(market.values(symbol, sunday, end)["ts_ns"]) == 0
        assert len(market.live_bars(symbol, SECOND, sunday, end)["emit_ns"]) == 0
        assert market.session_prices(symbol, dt.date(2026, 3, 1), FAR) is None
        for unit in ("second", "minute"):
            assert len(market.base_bars(symbol, unit, sunday, end, FAR)["start_ns"]) == 0
    assert set(market.trades("AAPL", sunday, end)) == set(market.trades("AAPL", DAY.open_ns, DAY.open_ns + MINUTE))
    assert len(market.trades("AAPL", end, sunday)["sip_ns"]) == 0


def test_early_and_late_prices(market: Market) -> None:
    morning = market.session_prices("AAPL", DATE, DAY.open_ns - SECOND)
    assert morning is not None
    assert np.isnan(morning["open"])
    assert "early_price" in morning
    assert "late_price" not in morning
    night = market.session_prices("AAPL", DATE, DAY.late_ns)
    assert night is not None
    assert night["early_price"] == morning["early_price"]
    trades = market.trades("AAPL", DAY.close_ns, DAY.late_ns)
    last = [float(p) for p, c in zip(trades["price"], trades["conditions"], strict=True) if c == (12,)][-1]
    assert night["late_price"] == last
    assert night["previous_close"] == market.previous_close("AAPL", DATE)


@pytest.mark.parametrize(("symbol", "span"), [("AAPL", SECOND), ("AAPL", MINUTE), ("WEYS", MINUTE)])
def test_the_stream_ends_where_rest_does(market: Market, symbol: str, span: int) -> None:
    live = market.live_bars(symbol, span, DAY.early_ns, DAY.late_ns + 1000 * SECOND)
    assert (np.diff(live["emit_ns"]) >= 0).all()
    assert (live["end_ns"] - live["start_ns"] == span).all()
    assert (live["emit_ns"] > live["end_ns"]).all()
    unit = "second" if span == SECOND else "minute"
    rest = market.base_bars(symbol, unit, DAY.early_ns, DAY.late_ns, FAR)
    last = {int(start): i for i, start in enumerate(live["start_ns"].tolist())}
    for i, start in enumerate(rest["start_ns"].tolist()):
        for name in ("open", "high", "low", "close", "volume", "vwap", "trade_count"):
            assert live[name][last[start]] == rest[name][i]
    assert set(last) == set(rest["start_ns"].tolist())
    if symbol == "AAPL" and span == MINUTE:
        assert len(live["start_ns"]) > len(last), "some bar is sent again"
    assert (np.diff(live["day_volume"]) >= 0).all()
    opened = live["emit_ns"] > DAY.open_ns + MINUTE
    assert set(live["day_open"][opened]) == {market.ohlc(symbol, DATE)[0]}  # type: ignore[index]
    assert np.isnan(live["day_open"][live["emit_ns"] < DAY.open_ns]).all()


def test_streamed_bars_of_an_index(market: Market) -> None:
    live = market.live_bars("I:SPX", MINUTE, DAY.early_ns, DAY.late_ns)
    rest = market.base_bars("I:SPX", "minute", DAY.early_ns, DAY.late_ns, FAR)
    assert live["start_ns"].tolist() == rest["start_ns"].tolist()
    assert live["close"].tolist() == rest["close"].tolist()
    assert np.isnan(live["volume"]).all()


def everything(market: Market, jobs: list[int]) -> dict[int, list[bytes]]:
    ticker = "O:SPY260320C00600000"
    made: dict[int, Any] = {
        0: lambda: market.trades("AAPL", DAY.open_ns, DAY.open_ns + 10 * MINUTE),
        1: lambda: market.quotes("AAPL", DAY.open_ns, DAY.open_ns + 10 * MINUTE),
        2: lambda: market.base_bars("SPY", "minute", MIDNIGHT - 10**14, DAY.late_ns, FAR),
        3: lambda: market.values("I:VIX", DAY.open_ns, DAY.close_ns),
        4: lambda: market.live_bars("AAPL", SECOND, DAY.open_ns, DAY.open_ns + 30 * MINUTE),
        5: lambda: market.chain("SPY", list(market.contracts("SPY", DATE)["ticker"][:300]), DAY.close_ns),
        6: lambda: market.trades(ticker, DAY.open_ns, DAY.close_ns),
        7: lambda: market.quotes(ticker, DAY.open_ns, DAY.close_ns),
    }
    out = {}
    for job in jobs:
        columns = made[job]()
        out[job] = [repr(a.tolist()).encode() if a.dtype == object else a.tobytes() for a in columns.values()]
    return out


@settings(max_examples=4, deadline=None)
@given(st.permutations(range(8)))
def test_the_order_of_questions_changes_no_byte(order: list[int]) -> None:
    assert everything(Market(7, density=0.2), order) == everything(Market(7, density=0.2), list(range(8)))


def test_another_seed_is_another_market() -> None:
    one, other = everything(Market(7, 0.1), [0, 3]), everything(Market(8, 0.1), [0, 3])
    assert one[0] != other[0]
    assert one[3] != other[3]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(DAY.early_ns, DAY.late_ns), min_size=1, max_size=4))
def test_stretches_join_without_loss(market: Market, cuts: list[int]) -> None:
    edges = [DAY.early_ns, *sorted(cuts), DAY.late_ns]
    for ask, key in ((market.trades, "sequence"), (market.quotes, "sequence")):
        whole = ask("NATH", DAY.early_ns, DAY.late_ns)[key]
        parts = [ask("NATH", lo, hi)[key] for lo, hi in itertools.pairwise(edges)]
        assert np.concatenate(parts).tolist() == whole.tolist()
