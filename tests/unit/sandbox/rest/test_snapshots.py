from __future__ import annotations

import datetime as dt

import pytest

from massive_lab.schema.session import new_york_ns

CHANGES = {"change", "change_percent"}
SESSION = {"open", "high", "low", "close", "previous_close"} | CHANGES


@pytest.fixture(scope="module")
def near(rest, call):
    query = {"expiration_date": "2025-06-20", "strike_price.gte": 230, "strike_price.lte": 300, "limit": 250}
    return call(rest).get("/v3/snapshot/options/AAPL", query)["results"]


def test_rows_of_the_chain(near):
    fields = {"break_even_price", "day", "details", "open_interest", "underlying_asset"}
    details = {"contract_type", "exercise_style", "expiration_date", "shares_per_contract", "strike_price", "ticker"}
    for row in near:
        assert fields <= set(row) <= fields | {"greeks", "implied_volatility", "last_quote", "last_trade"}
        assert set(row["details"]) == details
        assert set(row.get("greeks", {})) <= {"delta", "gamma", "theta", "vega"}
        assert set(row["underlying_asset"]) == {"ticker", "change_to_break_even", "price", "last_updated", "timeframe"}
    solved = [row for row in near if "greeks" in row]
    assert solved
    for row in solved:
        assert (row["greeks"]["delta"] > 0) == (row["details"]["contract_type"] == "call")
        assert 0 < row["implied_volatility"] < 5
    traded = next(row for row in near if "last_trade" in row and row["day"])
    assert {"price", "size", "decimal_size", "sip_timestamp", "timeframe", "exchange"} <= set(traded["last_trade"])
    assert {"open", "high", "low", "close", "volume", "vwap", "last_updated"} <= set(traded["day"])
    quoted = next(row for row in near if "last_quote" in row)["last_quote"]
    assert {"bid", "ask", "bid_size", "ask_size", "midpoint", "last_updated", "timeframe"} <= set(quoted)
    assert quoted["timeframe"] == "REAL-TIME"


def test_an_option_without_a_day_or_greeks(tiny, call, helpers):
    row = call(tiny).get(f"/v3/snapshot/options/TST/{helpers.CALL}")["results"]
    assert row["day"] == {}
    assert "greeks" not in row
    assert "implied_volatility" not in row
    assert row["break_even_price"] == pytest.approx(102.1)


def test_filters_of_the_chain(rest, call, near):
    assert {row["details"]["expiration_date"] for row in near} == {"2025-06-20"}
    assert all(230 <= row["details"]["strike_price"] <= 300 for row in near)
    puts = call(rest).get("/v3/snapshot/options/AAPL", {"contract_type": "put", "limit": 250})["results"]
    assert {row["details"]["contract_type"] for row in puts} == {"put"}
    strike = near[0]["details"]["strike_price"]
    exact = call(rest).get("/v3/snapshot/options/AAPL", {"strike_price": strike, "limit": 250})["results"]
    assert {row["details"]["strike_price"] for row in exact} == {strike}
    assert len(call(rest).get("/v3/snapshot/options/AAPL")["results"]) == 10


def test_index_options_need_the_prefix_in_the_chain_and_go_without_it_in_the_reference(rest, call):
    assert call(rest).get("/v3/snapshot/options/SPX")["results"] == []
    rows = call(rest).get("/v3/snapshot/options/I:SPX", {"limit": 250, "sort": "expiration_date"})["results"]
    roots = {row["details"]["ticker"][2:6] for row in rows}
    assert {row["underlying_asset"]["ticker"] for row in rows} == {"I:SPX"}
    assert {row["details"]["exercise_style"] for row in rows} == {"european"}
    assert "value" in rows[0]["underlying_asset"]
    assert "price" not in rows[0]["underlying_asset"]
    assert "SPXW" in roots
    contracts = call(rest).get("/v3/reference/options/contracts", {"underlying_ticker": "SPX"})["results"]
    assert {row["underlying_ticker"] for row in contracts} == {"SPX"}
    assert call(rest).get("/v3/reference/options/contracts", {"underlying_ticker": "I:SPX"})["results"] == []


def test_a_single_contract_is_its_row_in_the_chain(rest, call, near):
    for row in near[:3]:
        path = f"/v3/snapshot/options/AAPL/{row['details']['ticker']}"
        assert call(rest).get(path)["results"] == row
    assert call(rest)(f"/v3/snapshot/options/MSFT/{near[0]['details']['ticker']}").http == 404


def test_the_unified_snapshot_mixes_classes_and_errors(rest, call, near):
    option = next(row for row in near if row["day"])["details"]["ticker"]
    asked = ["SPY", "I:SPX", option, "NOPE", "O:AAPL250620C00000001"]
    rows = call(rest).get("/v3/snapshot", {"ticker.any_of": ",".join(asked)})["results"]
    assert [row["ticker"] for row in rows] == sorted(asked)
    by_ticker = {row["ticker"]: row for row in rows}
    missing = {"error": "NOT_FOUND", "message": "Ticker not found."}
    assert by_ticker["NOPE"] == {"ticker": "NOPE", **missing}
    assert by_ticker[asked[-1]] == {"ticker": asked[-1], **missing}
    stock, index, contract = by_ticker["SPY"], by_ticker["I:SPX"], by_ticker[option]
    assert (stock["type"], index["type"], contract["type"]) == ("stocks", "indices", "options")
    assert SESSION | {"price", "volume", "decimal_volume"} <= set(stock["session"])
    assert {"last_trade", "last_quote", "last_minute", "timeframe", "market_status", "name"} <= set(stock)
    assert set(index["session"]) == SESSION
    assert {"value", "last_updated", "timeframe", "market_status"} <= set(index)
    assert {"session", "details", "open_interest", "break_even_price", "underlying_asset"} <= set(contract)
    assert contract["details"]["underlying_ticker"] == "AAPL"


def test_the_snapshot_takes_at_most_250_tickers(rest, call):
    tickers = [f"T{i}" for i in range(251)]
    answer = call(rest)("/v3/snapshot", {"ticker.any_of": ",".join(tickers)})
    assert answer.http == 400
    rows = call(rest).get("/v3/snapshot", {"ticker.any_of": ",".join(tickers[:250]), "limit": 250})["results"]
    assert len(rows) == 250


def test_indices(rest, call):
    rows = call(rest).get("/v3/snapshot/indices", {"ticker.any_of": "I:SPX,I:VIX,AAPL"})["results"]
    assert rows[0] == {"ticker": "AAPL", "error": "NOT_FOUND", "message": "Ticker not found."}
    for row in rows[1:]:
        fields = {"ticker", "name", "type", "value", "market_status", "session", "last_updated", "timeframe"}
        assert set(row) == fields
        assert row["market_status"] == "regular_trading"
        assert row["session"]["change"] == pytest.approx(row["value"] - row["session"]["previous_close"], abs=1e-3)


def test_snapshot_of_one_class(rest, call):
    rows = call(rest).get("/v3/snapshot", {"type": "indices", "limit": 250})["results"]
    assert {row["type"] for row in rows} == {"indices"}
    assert call(rest).get("/v3/snapshot", {"type": "crypto"})["results"] == []
    some = call(rest).get("/v3/snapshot", {"type": "stocks", "ticker.gte": "S", "ticker.lt": "T", "limit": 250})
    assert some["results"]
    assert all(row["ticker"].startswith("S") for row in some["results"])


def test_v2_snapshots(rest, call):
    body = call(rest).get("/v2/snapshot/locale/us/markets/stocks/tickers", {"tickers": "MSFT,AAPL,NOPE,msft"})
    assert body["count"] == 2
    assert [row["ticker"] for row in body["tickers"]] == ["AAPL", "MSFT"]
    row = body["tickers"][0]
    fields = {
        "ticker",
        "todaysChange",
        "todaysChangePerc",
        "updated",
        "day",
        "prevDay",
        "min",
        "lastTrade",
        "lastQuote",
    }
    assert set(row) == fields
    assert set(row["day"]) == {"o", "h", "l", "c", "v", "vw", "dv"}
    assert set(row["prevDay"]) == {"o", "h", "l", "c", "v", "vw"}
    assert {"o", "h", "l", "c", "v", "vw", "av", "n", "t", "dv", "dav"} == set(row["min"])
    assert {"P", "S", "p", "s", "t"} == set(row["lastQuote"])
    assert float(row["day"]["dv"]) == row["day"]["v"]
    single = call(rest).get("/v2/snapshot/locale/us/markets/stocks/tickers/AAPL")
    assert set(single) == {"status", "request_id", "ticker"}
    assert single["ticker"] == row
    assert call(rest)("/v2/snapshot/locale/us/markets/stocks/tickers/NOPE").body["status"] == "NOT_FOUND"


def test_movers(rest, call):
    where = "/v2/snapshot/locale/us/markets/stocks/"
    up = call(rest).get(where + "gainers")["tickers"]
    down = call(rest).get(where + "losers")["tickers"]
    assert 0 < len(up) <= 20
    assert {row["ticker"] for row in up}.isdisjoint(row["ticker"] for row in down)
    gains = [row["day"]["c"] / row["prevDay"]["c"] for row in up]
    assert gains == sorted(gains, reverse=True)
    assert call(rest).raw(where + "sideways").status == 404


def test_the_day_is_cleared_at_half_past_three(rest, call):
    path = "/v2/snapshot/locale/us/markets/stocks/tickers/AAPL"
    friday = dt.date(2025, 6, 6)
    at_three = call(rest, now_ns=new_york_ns(friday, 3)).get(path)["ticker"]
    at_four = call(rest, now_ns=new_york_ns(friday, 3, 59)).get(path)["ticker"]
    assert at_three["day"]["o"] == at_four["prevDay"]["o"] > 0
    assert at_four["day"] == {"o": 0, "h": 0, "l": 0, "c": 0, "v": 0, "vw": 0, "dv": "0"}
    assert at_four["todaysChange"] == 0
    saturday = call(rest, now_ns=new_york_ns(dt.date(2025, 6, 7), 12)).get(path)["ticker"]
    assert saturday["day"]["c"] > 0


@pytest.mark.parametrize(
    ("hour", "stock", "index"), [(3, "closed", "closed"), (8, "early_trading", "closed"), (12, "open", "open")]
)
def test_market_status_of_a_row(rest, call, hour, stock, index):
    caller = call(rest, now_ns=new_york_ns(dt.date(2025, 6, 6), hour))
    rows = caller.get("/v3/snapshot", {"ticker.any_of": "AAPL,I:SPX"})["results"]
    assert [row["market_status"] for row in rows] == [stock, index]
    assert all(set(row["session"]) >= SESSION for row in rows)
