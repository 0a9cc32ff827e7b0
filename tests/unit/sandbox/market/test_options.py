"""Laws of the listed options: what is listed stays, the chain, the tape, the quotes and the bars are one truth."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from massive_lab.sandbox.market.instruments import OPTION_UNDERLYINGS
from massive_lab.sandbox.market.listing import roots_of
from massive_lab.sandbox.market.market import Market
from massive_lab.sandbox.market.optionprice import RATE, price
from massive_lab.schema.session import new_york_ns, session
from massive_lab.schema.symbols import OptionSymbol, parse_symbol

SECOND = 1_000_000_000
DATE = dt.date(2026, 3, 4)
DAY = session(DATE)
assert DAY is not None
NOON = new_york_ns(DATE, 12)
FAR = new_york_ns(dt.date(2026, 9, 1))


@pytest.fixture(scope="module")
def market() -> Market:
    return Market(7, density=0.5)


def busy(market: Market, underlying: str, n: int = 12) -> list[str]:
    names = [name for name in market.universe("options", NOON) if parse_symbol(name).underlying == underlying]  # type: ignore[attr-defined]
    return names[:: max(1, len(names) // n)]


@pytest.mark.parametrize("underlying", sorted(OPTION_UNDERLYINGS))
def test_contracts_are_sorted_unique_and_parse_to_what_they_are(market: Market, underlying: str) -> None:
    table = market.contracts(underlying, DATE)
    tickers = table["ticker"].tolist()
    assert tickers == sorted(set(tickers))
    for i in range(0, len(tickers), 37):
        option = parse_symbol(tickers[i])
        assert isinstance(option, OptionSymbol)
        assert option.underlying == underlying
        assert (option.root, option.expiration, option.strike) == (
            table["root"][i],
            table["expiration"][i],
            table["strike"][i],
        )
        assert (option.option_type == "call") == table["is_call"][i]
        assert (table["multiplier"][i] != 100) == option.is_adjusted
        assert option.expiration >= DATE
        assert market.knows(tickers[i], NOON)


def test_how_many_there_are(market: Market) -> None:
    sizes = {underlying: len(market.contracts(underlying, DATE)["ticker"]) for underlying in OPTION_UNDERLYINGS}
    assert sizes["I:SPX"] > 5000
    assert sizes["SPY"] > 2000
    assert min(sizes.values()) > 200
    assert len(market.contracts("KO", DATE)["ticker"]) == 0
    assert len(market.contracts("NOPE", DATE)["ticker"]) == 0
    assert len(market.contracts("SPY", dt.date(1999, 1, 4))["ticker"]) == 0


def test_roots(market: Market) -> None:
    def roots(underlying: str) -> set[str]:
        return set(market.contracts(underlying, DATE)["root"])

    assert roots("I:SPX") == {"SPX", "SPXW"}
    assert roots("I:VIX") == {"VIX", "VIXW"}
    assert roots("AAPL") == {"AAPL", "AAPL1"}
    assert set(roots_of("I:SPX", dt.date(2026, 3, 20))) == {"SPX", "SPXW"}
    assert roots_of("SPY", dt.date(2026, 3, 7)) == {}
    assert set(market.contracts("I:SPX", DATE)["style"]) == {"european"}
    assert set(market.contracts("SPY", DATE)["style"]) == {"american"}


@settings(max_examples=12, deadline=None)
@given(st.dates(dt.date(2024, 6, 3), dt.date(2026, 6, 1)), st.sampled_from(["SPY", "AAPL", "I:VIX", "I:SPX"]))
def test_what_is_listed_stays_listed_until_it_expires(market: Market, date: dt.date, underlying: str) -> None:
    later = date + dt.timedelta(days=3)
    now = market.contracts(underlying, date)
    then = set(market.contracts(underlying, later)["ticker"])
    alive = {t for t, e in zip(now["ticker"], now["expiration"], strict=True) if e >= later}
    assert alive <= then


def test_a_contract_is_unknown_before_it_is_listed_and_known_after_it_expired(market: Market) -> None:
    name = market.contracts("SPY", DATE)["ticker"][40]
    option = parse_symbol(name)
    assert isinstance(option, OptionSymbol)
    assert not market.knows(name, new_york_ns(option.expiration - dt.timedelta(days=1500)))
    assert market.knows(name, FAR)
    assert not market.knows("O:SPY260304C00000010", NOON)
    assert len(market.trades(name, new_york_ns(option.expiration + dt.timedelta(days=1)), FAR)["sip_ns"]) == 0


@pytest.mark.parametrize("underlying", ["SPY", "NVDA", "I:SPX"])
def test_trades_are_at_or_inside_the_quote_in_force(market: Market, underlying: str) -> None:
    for name in busy(market, underlying):
        trades = market.trades(name, DAY.open_ns, DAY.close_ns)
        quotes = market.quotes(name, DAY.open_ns, DAY.close_ns)
        at = np.searchsorted(quotes["sip_ns"], trades["sip_ns"], side="right") - 1
        assert len(at)
        assert (at >= 0).all()
        assert (quotes["bid_price"][at] <= trades["price"] + 1e-9).all()
        assert (trades["price"] <= quotes["ask_price"][at] + 1e-9).all()
        assert (np.diff(trades["sip_ns"]) > 0).all()
        assert (np.diff(trades["sequence"]) > 0).all()
        assert ((trades["exchange"] >= 301) & (trades["exchange"] <= 323)).all()
        assert {len(c) for c in trades["conditions"]} == {1}


def test_sweeps_take_one_side_on_several_exchanges_within_milliseconds(market: Market) -> None:
    swept = 0
    for name in busy(market, "SPY", 30):
        trades = market.trades(name, DAY.open_ns, DAY.close_ns)
        codes = np.array([c[0] for c in trades["conditions"]])
        rows = np.flatnonzero(codes == 219)
        groups = np.split(rows, np.flatnonzero(np.diff(trades["sip_ns"][rows]) > 10_000_000) + 1)
        for group in groups:
            if len(group) >= 3:
                swept += 1
                assert len(set(trades["price"][group])) <= 2
                assert len(set(trades["exchange"][group])) >= 3
    assert swept > 20


@settings(max_examples=10, deadline=None)
@given(st.integers(DAY.open_ns, DAY.close_ns), st.sampled_from(["AAPL", "I:SPX"]))
def test_the_chain_is_the_last_quote_trade_and_day_bar(market: Market, now_ns: int, underlying: str) -> None:
    names = busy(market, underlying, 5) + market.contracts(underlying, DATE)["ticker"].tolist()[:5]
    chain = market.chain(underlying, names, now_ns)
    midnight = new_york_ns(DATE)
    for i, name in enumerate(names):
        quotes = market.quotes(name, midnight, now_ns + 1)
        if len(quotes["sip_ns"]):
            assert chain["quote_ns"][i] == quotes["sip_ns"][-1]
            for side in ("bid", "ask"):
                for part in ("price", "size", "exchange"):
                    assert chain[f"{side}_{part}"][i] == quotes[f"{side}_{part}"][-1]
        else:
            assert chain["quote_ns"][i] == -1
            assert np.isnan(chain["bid_price"][i])
        trades = market.trades(name, midnight, now_ns + 1)
        bar = market.base_bars(name, "day", midnight, midnight + 1, now_ns)
        if len(trades["sip_ns"]):
            assert chain["trade_ns"][i] == trades["sip_ns"][-1]
            assert chain["trade_price"][i] == trades["price"][-1]
            assert (chain["trade_condition"][i],) == trades["conditions"][-1]
            for part in ("open", "high", "low", "close", "volume"):
                assert chain[f"day_{part}"][i] == bar[part][0]
            assert chain["day_vwap"][i] == pytest.approx(bar["vwap"][0], abs=1e-3)
            assert chain["previous_close"][i] == market.session_prices(name, DATE, now_ns)["previous_close"]  # type: ignore[index]
        else:
            assert np.isnan(chain["day_open"][i])


@pytest.mark.parametrize("underlying", ["SPY", "I:SPX", "I:VIX", "TSLA"])
def test_greeks_belong_to_the_middle_of_the_quote(market: Market, underlying: str) -> None:
    names = market.contracts(underlying, DATE)["ticker"].tolist()
    chain = market.chain(underlying, names, NOON)
    solved = ~np.isnan(chain["iv"])
    assert solved.mean() > 0.4
    assert np.array_equal(solved, ~np.isnan(chain["delta"]))
    assert (chain["bid_price"][solved] > 0).all()
    assert (np.abs(chain["delta"][solved]) <= 1).all()
    assert (chain["gamma"][solved] > 0).all()
    assert (chain["vega"][solved] > 0).all()
    spec = market.options._specs(underlying, market.options.table(underlying, DATE), np.flatnonzero(solved))
    state = market.options.model.state(spec, DAY, chain["quote_ns"][solved])
    middle = (chain["bid_price"] + chain["ask_price"])[solved] / 2
    again = price(state.fwd, spec.strike, state.years, chain["iv"][solved], spec.is_call)
    assert np.allclose(again, middle, atol=1e-6 * state.spot.max())


def test_deep_contracts_have_no_bid_no_trade_and_no_greeks(market: Market) -> None:
    names = market.contracts("SPY", DATE)["ticker"].tolist()
    chain = market.chain("SPY", names, NOON)
    worthless = chain["bid_price"] == 0
    assert worthless.any()
    assert np.isnan(chain["iv"][worthless]).all()
    assert (chain["bid_size"][worthless] == 0).all()
    assert np.isnan(chain["day_open"]).mean() > 0.1
    assert (chain["ask_price"] > chain["bid_price"]).all()
    assert (chain["open_interest"] >= 0).all()


def test_calls_and_puts_agree_on_the_forward(market: Market) -> None:
    table = market.contracts("I:SPX", DATE)
    rows = np.flatnonzero((table["root"] == "SPXW") & (table["expiration"] == dt.date(2026, 3, 20)))
    chain = market.chain("I:SPX", table["ticker"][rows].tolist(), NOON)
    middle = (chain["bid_price"] + chain["ask_price"]) / 2
    calls = dict(zip(table["strike"][rows], middle, strict=True))
    is_call = table["is_call"][rows]
    calls = {k: m for k, m, c in zip(table["strike"][rows], middle, is_call, strict=True) if c}
    puts = {k: m for k, m, c in zip(table["strike"][rows], middle, is_call, strict=True) if not c}
    spot = market.values("I:SPX", DAY.open_ns, NOON)["value"][-1]
    near = [k for k in calls if abs(k / spot - 1) < 0.02]
    forwards = [k + (calls[k] - puts[k]) * np.exp(RATE * 16 / 365) for k in near]
    assert np.ptp(forwards) < 0.004 * spot
    assert np.median(forwards) == pytest.approx(spot, rel=0.004)


def test_before_the_open_the_day_before_still_stands(market: Market) -> None:
    names = busy(market, "SPY", 5)
    early = new_york_ns(DATE, 8)
    chain = market.chain("SPY", names, early)
    known = chain["quote_ns"] >= 0
    assert known.any()
    assert (chain["quote_ns"] < new_york_ns(DATE)).all()
    assert np.isnan(chain["day_open"]).all()
    assert len(market.chain("SPY", [], NOON)["iv"]) == 0


def test_the_wildcard_covers_the_busiest_that_trade(market: Market) -> None:
    names = market.universe("options", NOON)
    assert names == sorted(set(names))
    assert 200 <= len(names) <= 300
    for name in names[::20]:
        assert len(market.trades(name, DAY.open_ns, DAY.close_ns)["sip_ns"])
    assert market.universe("options", new_york_ns(dt.date(1980, 1, 2))) == []


def test_contracts_settled_at_the_open_do_not_trade_that_day(market: Market) -> None:
    expiry = dt.date(2026, 3, 20)
    table = market.contracts("I:SPX", expiry)
    rows = (table["expiration"] == expiry) & table["is_call"]
    spot = market.previous_close("I:SPX", expiry)
    for root, trades in (("SPX", False), ("SPXW", True)):
        mine = np.flatnonzero(rows & (table["root"] == root))
        nearest = table["ticker"][mine[np.argmin(np.abs(table["strike"][mine] - spot))]]
        found = market.trades(nearest, new_york_ns(expiry), new_york_ns(expiry, 20))
        assert bool(len(found["sip_ns"])) is trades
