from __future__ import annotations

import datetime as dt

import pytest

from massive_lab.schema.session import new_york_ns

CONTRACTS = "/v3/reference/options/contracts"


def test_contracts(rest, call):
    query = {"underlying_ticker": "AAPL", "expiration_date": "2025-06-20", "limit": 1000}
    rows = call(rest).get(CONTRACTS, query)["results"]
    fields = {
        "cfi", "contract_type", "exercise_style", "expiration_date", "primary_exchange", "shares_per_contract",
        "strike_price", "ticker", "underlying_ticker",
    }  # fmt: skip
    for row in rows:
        adjusted = row["ticker"].startswith("O:AAPL1")
        assert set(row) == fields | ({"additional_underlyings"} if adjusted else set())
        assert f"{round(row['strike_price'] * 1000):08d}" == row["ticker"][-8:]
    assert {row["contract_type"] for row in rows} == {"call", "put"}
    few = call(rest).get(CONTRACTS, {**query, "strike_price.gt": 250, "contract_type": "put"})["results"]
    assert few == [row for row in rows if row["strike_price"] > 250 and row["contract_type"] == "put"]
    one = call(rest).get(f"{CONTRACTS}/{rows[0]['ticker']}")["results"]
    assert one == rows[0]


def test_an_expired_contract_needs_to_be_asked_for(rest, call):
    query = {"underlying_ticker": "SPY", "expiration_date.gte": "2025-05-28", "expiration_date.lte": "2025-05-30"}
    assert call(rest).get(CONTRACTS, query)["results"] == []
    rows = call(rest).get(CONTRACTS, {**query, "expired": "true"})["results"]
    assert rows
    ticker = rows[0]["ticker"]
    assert call(rest)(f"{CONTRACTS}/{ticker}").http == 404
    assert call(rest).get(f"{CONTRACTS}/{ticker}", {"as_of": "2025-05-28"})["results"]["ticker"] == ticker
    before = call(rest).get(CONTRACTS, {**query, "as_of": "2025-05-28", "limit": 1000})["results"]
    assert ticker in {row["ticker"] for row in before}


def test_what_will_be_listed_is_not_known_yet(rest, call):
    today = call(rest).get(CONTRACTS, {"underlying_ticker": "SPY", "limit": 1000})["results"]
    ahead = call(rest).get(CONTRACTS, {"underlying_ticker": "SPY", "as_of": "2026-01-05", "limit": 1000})["results"]
    assert ahead == today


def test_exchanges_and_conditions_cover_the_tape(rest, call):
    venues = call(rest).get("/v3/reference/exchanges", {"asset_class": "stocks", "locale": "us"})
    ids = {row["id"] for row in venues["results"]}
    assert venues["count"] == len(ids)
    assert {"id", "type", "asset_class", "locale", "name", "operating_mic"} <= set(venues["results"][0])
    trades = call(rest).get("/v3/trades/SPY", {"limit": 5000})["results"]
    assert {row["exchange"] for row in trades} <= ids
    codes = {code for row in trades for code in row.get("conditions", [])}
    listed = call(rest).get("/v3/reference/conditions", {"asset_class": "stocks", "limit": 1000})["results"]
    assert codes <= {row["id"] for row in listed}
    assert all({"consolidated", "market_center"} == set(row["update_rules"]) for row in listed)
    opra = call(rest).get("/v3/reference/conditions", {"sip": "OPRA", "limit": 1000})["results"]
    assert {row["asset_class"] for row in opra} == {"options"}


def test_tickers(rest, call):
    body = call(rest).get("/v3/reference/tickers", {"market": "indices"})
    assert {row["ticker"][:2] for row in body["results"]} == {"I:"}
    found = call(rest).get("/v3/reference/tickers", {"search": "apple"})["results"]
    assert [row["ticker"] for row in found] == ["AAPL"]
    assert call(rest).get("/v3/reference/tickers", {"ticker": "aapl"})["results"] == []
    assert call(rest).get("/v3/reference/tickers", {"active": "false"})["results"] == []
    details = call(rest).get("/v3/reference/tickers/BRK.B")["results"]
    assert details["branding"]["icon_url"].startswith("http://127.0.0.1:9090/")
    assert (details["ticker_root"], details["ticker_suffix"]) == ("BRK", "B")
    assert call(rest)("/v3/reference/tickers/NOPE").body["status"] == "NOT_FOUND"
    types = call(rest).get("/v3/reference/tickers/types")
    assert {"code", "description", "asset_class", "locale"} == set(types["results"][0])


@pytest.mark.parametrize(
    ("date", "hour", "word", "early", "after"),
    [
        ("2025-06-06", 3, "closed", False, False),
        ("2025-06-06", 5, "extended-hours", True, False),
        ("2025-06-06", 12, "open", False, False),
        ("2025-06-06", 17, "extended-hours", False, True),
        ("2025-06-06", 21, "closed", False, False),
        ("2025-06-07", 12, "closed", False, False),
        ("2025-07-03", 14, "extended-hours", False, True),
    ],
)
def test_market_status(rest, call, date, hour, word, early, after):
    now = new_york_ns(dt.date.fromisoformat(date), hour)
    body = call(rest, now_ns=now).get("/v1/marketstatus/now")
    assert (body["market"], body["earlyHours"], body["afterHours"]) == (word, early, after)
    assert set(body["exchanges"].values()) == {word}
    assert set(body["exchanges"]) == {"nyse", "nasdaq", "otc"}
    assert body["serverTime"] == f"{date}T{hour:02d}:00:00-04:00"
    assert len(body["indicesGroups"]) == 10
    assert "status" not in body


def test_upcoming_is_a_bare_array_with_three_entries_a_day(rest, call):
    rows = call(rest, now_ns=new_york_ns(dt.date(2025, 11, 20), 9)).get("/v1/marketstatus/upcoming")
    first = [row for row in rows if row["date"] == "2025-11-27"]
    assert first == rows[:3]
    assert [row["exchange"] for row in first] == ["NYSE", "NASDAQ", "OTC"]
    assert first[0] == {"date": "2025-11-27", "exchange": "NYSE", "name": "Thanksgiving", "status": "closed"}
    half = rows[3]
    assert (half["date"], half["status"]) == ("2025-11-28", "early-close")
    assert (half["open"], half["close"]) == ("2025-11-28T14:30:00.000Z", "2025-11-28T18:00:00.000Z")
    assert [row["date"] for row in rows] == sorted(row["date"] for row in rows)
