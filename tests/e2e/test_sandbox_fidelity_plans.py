"""Ticks, snapshots and what each plan sees of them, against what is known of the vendor's wire."""

from __future__ import annotations

import itertools
import json
import math
import re

import pytest

from massive_lab.sandbox import SandboxProcess
from tests.e2e.wire import (
    BARS,
    CALL,
    MINUTES,
    NS,
    SNAPSHOTS,
    ask,
    get,
    local,
    pages,
    rows_of,
)


def test_rows_of_ticks(sandbox: SandboxProcess) -> None:
    stock = {"price", "size", "decimal_size", "exchange", "sip_timestamp", "participant_timestamp", "sequence_number"}
    optional = {"conditions", "correction", "tape", "trf_id", "trf_timestamp"}
    day = "timestamp.gte=2018-12-18&timestamp.lt=2018-12-19&order=asc&limit=50000"
    trades = get(sandbox, f"/v3/trades/AAPL?{day}")["results"]
    assert all(stock | {"id"} <= set(row) <= stock | {"id"} | optional for row in trades)
    assert all(row["conditions"] for row in trades if "conditions" in row)
    assert all(("trf_id" in row) == ("trf_timestamp" in row) for row in trades)
    assert all(row["participant_timestamp"] <= row["sip_timestamp"] for row in trades)
    sequence = [row["sequence_number"] for row in trades]
    assert sequence == sorted(set(sequence))
    assert len({(row["id"], row["exchange"], row.get("trf_id")) for row in trades}) == len(trades)
    option = get(sandbox, f"/v3/trades/{CALL}?{day}")["results"]
    assert {row["exchange"] // 100 for row in option} == {3}
    assert not {"participant_timestamp", "id", "tape", "trf_id"} & set().union(*option)
    quotes = get(sandbox, f"/v3/quotes/{CALL}?{day}")["results"]
    assert not {"participant_timestamp", "conditions", "indicators", "tape"} & set().union(*quotes)
    # Time bounds: dates are New York days; gt and lt leave their own instants out.
    first, last = trades[0]["sip_timestamp"], trades[-1]["sip_timestamp"]
    inner = get(sandbox, f"/v3/trades/AAPL?timestamp.gt={first}&timestamp.lt={last}&limit=50000&order=asc")["results"]
    assert inner == trades[1:-1]
    assert get(sandbox, f"/v3/trades/AAPL?timestamp={first}")["results"] == trades[:1]


def test_the_last_of_each_is_the_newest_row(sandbox: SandboxProcess) -> None:
    row = get(sandbox, "/v3/trades/AAPL?limit=1")["results"][0]
    last = get(sandbox, "/v2/last/trade/AAPL")["results"]
    assert {"T", "p", "i", "q", "t", "x", "y", "ds", "s"} <= set(last) <= set("TpiqtxysceFfrz") | {"ds"}
    assert (last["p"], last["i"], last["t"], last["q"]) == (
        *(row["price"], row["id"]),
        *(row["sip_timestamp"], row["sequence_number"]),
    )
    option = get(sandbox, f"/v2/last/trade/{CALL}")["results"]
    assert (option["T"], option["i"]) == (CALL, "")
    nbbo = get(sandbox, "/v2/last/nbbo/AAPL")["results"]
    quote_row = get(sandbox, "/v3/quotes/AAPL?limit=1")["results"][0]
    assert (nbbo["P"], nbbo["p"], nbbo["t"]) == (
        *(quote_row["ask_price"], quote_row["bid_price"]),
        quote_row["sip_timestamp"],
    )


def test_the_chain(sandbox: SandboxProcess) -> None:
    target = "/v3/snapshot/options/{}?expiration_date=2018-12-21&limit=250"
    rows = rows_of(pages(sandbox, target.format("AAPL")))
    assert [row["details"]["ticker"] for row in rows] == sorted({row["details"]["ticker"] for row in rows})
    always = {"break_even_price", "day", "details", "open_interest", "underlying_asset"}
    for row in rows:
        assert always <= set(row) <= always | {"greeks", "implied_volatility", "last_quote", "last_trade"}
        assert set(row.get("greeks", {})) <= {"delta", "gamma", "theta", "vega"}
        assert "price" in row["underlying_asset"]
        change = row["break_even_price"] - row["underlying_asset"]["price"]
        assert math.isclose(row["underlying_asset"]["change_to_break_even"], change, abs_tol=1e-3)
        if row["day"]:
            assert local(row["day"]["last_updated"] // 1_000_000) == "2018-12-19 00:00:00"
    assert any("greeks" not in row for row in rows)
    assert any(row["day"] == {} for row in rows)
    index = get(sandbox, target.format("I:SPX"))["results"]
    assert all("value" in row["underlying_asset"] and "price" not in row["underlying_asset"] for row in index)
    assert get(sandbox, target.format("SPX"))["results"] == []
    one = get(sandbox, f"/v3/snapshot/options/AAPL/{CALL}")
    assert one["results"] == next(row for row in rows if row["details"]["ticker"] == CALL)
    assert "next_url" not in one


def test_the_chain_has_no_past_and_contracts_have_one(sandbox: SandboxProcess) -> None:
    assert get(sandbox, "/v3/snapshot/options/AAPL?expiration_date=2018-12-14")["results"] == []
    contracts = "/v3/reference/options/contracts?underlying_ticker={}&expiration_date=2018-12-14&limit=1000"
    assert get(sandbox, contracts.format("AAPL"))["results"] == []
    past = get(sandbox, f"{contracts.format('AAPL')}&expired=true")["results"]
    then = get(sandbox, f"{contracts.format('AAPL')}&as_of=2018-12-13")["results"]
    assert past
    assert {row["ticker"] for row in then} <= {row["ticker"] for row in past}
    single = f"/v3/reference/options/contracts/{past[0]['ticker']}"
    assert ask(sandbox, single)[0] == 404
    assert get(sandbox, f"{single}?as_of=2018-12-13")["results"]["ticker"] == past[0]["ticker"]
    both = rows_of(pages(sandbox, "/v3/reference/options/contracts?underlying_ticker=SPX&limit=1000"))
    assert {row["ticker"][2:].rstrip("0123456789CP")[:4] for row in both} >= {"SPX", "SPXW"}
    assert get(sandbox, "/v3/reference/options/contracts?underlying_ticker=I:SPX")["results"] == []


def test_status_words(sandbox: SandboxProcess) -> None:
    now = get(sandbox, "/v1/marketstatus/now")
    assert (now["market"], now["earlyHours"], now["afterHours"]) == ("open", False, False)
    assert re.fullmatch(r"2018-12-19T\d\d:\d\d:\d\d-05:00", now["serverTime"])
    assert set(now["indicesGroups"]) == {
        *("s_and_p", "societe_generale", "cgi", "msci", "ftse_russell"),
        *("mstar", "mstarc", "cccy", "nasdaq", "dow_jones"),
    }
    coming = get(sandbox, "/v1/marketstatus/upcoming")
    eve = [day for day in coming if day["date"] == "2018-12-24"]
    assert {day["exchange"] for day in eve} == {"NYSE", "NASDAQ", "OTC"}
    assert {(day["status"], day["close"]) for day in eve} == {("early-close", "2018-12-24T18:00:00.000Z")}
    christmas = [day for day in coming if day["date"] == "2018-12-25"]
    assert {(day["status"], "open" in day) for day in christmas} == {("closed", False)}
    assert min(day["date"] for day in coming) > "2018-12-18"


@pytest.mark.parametrize(
    ("tier", "seconds", "snapshots", "trades", "quotes", "delay_s"),
    [
        ("basic", False, False, False, False, None),
        ("starter", True, True, False, False, 900),
        ("developer", True, True, True, False, 900),
        ("advanced", True, True, True, True, 0),
        ("business", True, True, True, True, 0),
    ],
)
def test_each_plan_shows_its_row_of_the_table(
    sandbox: SandboxProcess, tier: str, seconds: bool, snapshots: bool, trades: bool, quotes: bool, delay_s: int | None
) -> None:
    keys = (f"row-{tier}-{n}" for n in itertools.count())

    def status(target: str) -> int:
        key = next(keys)
        sandbox.control.add_account(key, plan=tier)  # a fresh one: the free plan has five calls a minute
        return ask(sandbox, target, key=key)[0]

    def code(allowed: bool) -> int:
        return 200 if allowed else 403

    assert status(MINUTES) == 200
    assert status(BARS.format("AAPL", 1, "second", "2018-12-18", "2018-12-18?limit=5")) == code(seconds)
    for target in (f"{SNAPSHOTS}/tickers?tickers=AAPL", f"{SNAPSHOTS}/gainers", f"{SNAPSHOTS}/tickers/AAPL"):
        assert status(target) == code(snapshots)
    for target in ("/v3/snapshot", "/v3/snapshot/indices", "/v3/snapshot/options/AAPL"):
        assert status(target) == code(snapshots)
    for target in ("/v3/trades/AAPL?limit=1", f"/v3/trades/{CALL}?limit=1", "/v2/last/trade/AAPL"):
        assert status(target) == code(trades)
    for target in ("/v3/quotes/AAPL?limit=1", f"/v3/quotes/{CALL}?limit=1", "/v2/last/nbbo/AAPL"):
        assert status(target) == code(quotes)
    for target in ("/v3/reference/tickers/AAPL", "/v1/marketstatus/now", "/v1/indicators/sma/AAPL"):
        assert status(target) == 200

    key = next(keys)
    sandbox.control.add_account(key, plan=tier)
    both = get(sandbox, f"/v3/snapshot?ticker.any_of=AAPL,{CALL}", key=key)["results"]
    today = BARS.format("AAPL", 1, "minute", "2018-12-19", "2018-12-19?sort=desc&limit=1")
    if delay_s is None:
        refused = {"error": "NOT_ENTITLED", "message": "Not entitled to this ticker."}
        assert both == [{"ticker": "AAPL", **refused}, {"ticker": CALL, **refused}]
        assert ask(sandbox, today, key=key)[0] == 403
        return
    for row in both:
        assert (("last_trade" in row), ("last_quote" in row)) == (trades, quotes)
        assert row["timeframe"] == ("DELAYED" if delay_s else "REAL-TIME")
        assert ("fmv" in row) == (tier == "business")
    now_ns = sandbox.control.status()["now_ns"]
    page = get(sandbox, today, key=key)
    assert page["status"] == ("DELAYED" if delay_s else "OK")
    age_s = now_ns / NS - page["results"][0]["t"] / 1000
    assert delay_s <= age_s <= delay_s + 180
    # Greeks are of now on every plan that has a chain; prices are not.
    chain = f"/v3/snapshot/options/AAPL/{CALL}"
    mine, best = get(sandbox, chain, key=key)["results"], get(sandbox, chain)["results"]
    assert (mine["greeks"], mine["implied_volatility"]) == (best["greeks"], best["implied_volatility"])
    assert mine["underlying_asset"]["last_updated"] <= now_ns - delay_s * NS
    assert (mine["underlying_asset"] == best["underlying_asset"]) == (delay_s == 0)


def test_history_is_clipped_without_a_word_and_five_calls_are_a_minute(sandbox: SandboxProcess) -> None:
    sandbox.control.add_account("free", plan="basic")
    clipped = get(sandbox, BARS.format("AAPL", 1, "day", "2016-12-01", "2018-12-19"), key="free")
    assert clipped["status"] == "OK"
    assert [local(clipped["results"][at]["t"])[:10] for at in (0, -1)] == ["2016-12-19", "2018-12-18"]
    # Each class of assets has an allowance of its own.
    index = BARS.format("I:NDX", 1, "day", "2018-12-17", "2018-12-18")
    licensed = index.replace("NDX", "SPX")
    assert [ask(sandbox, target, key="free")[0] for target in [index] * 4 + [licensed]] == [200] * 4 + [403]
    status, headers, body = ask(sandbox, index, key="free")
    told = json.loads(body)
    assert (status, told["status"], set(told)) == (429, "ERROR", {"status", "request_id", "error"})
    assert told["error"].startswith("You've exceeded the maximum requests per minute, please wait or upgrade")
    assert not any(name.lower() == "retry-after" or name.lower().startswith("x-ratelimit") for name in headers)
    assert ask(sandbox, "/v2/aggs/ticker/AAPL/prev", key="free")[0] == 200


def test_the_underlying_of_a_chain_needs_its_own_plan(sandbox: SandboxProcess) -> None:
    sandbox.control.add_account("options-only", plans={"options": "advanced"})
    for underlying in ("AAPL", "I:SPX"):
        row = get(sandbox, f"/v3/snapshot/options/{underlying}?limit=1", key="options-only")["results"][0]
        assert row["underlying_asset"] == {"ticker": underlying}
        assert "last_quote" in row
