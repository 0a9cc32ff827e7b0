"""Every endpoint, read from answers written after the vendor's documentation, quirks included."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from massive_lab.errors import DecodeError, NotEntitled, UnknownSymbol
from massive_lab.frames import rest
from massive_lab.frames.build import to_schema

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "decode"
CALLS: dict[str, tuple[str, Any]] = {
    "trades": ("trades", lambda b: rest.trades([b], symbol="AAPL")),
    "quotes": ("quotes", lambda b: rest.quotes([b], symbol="AAPL")),
    "last_trade": ("trades", lambda b: rest.last_trade(b, symbol="AAPL")),
    "last_quote": ("quotes", lambda b: rest.last_quote(b, symbol="AAPL")),
    "chain": ("chain", lambda b: rest.chain([b], underlying="AAPL")),
    "chain_contract_index": ("chain", rest.chain_contract),
    "snapshot": ("snapshot", lambda b: rest.snapshot([b])),
    "snapshot_indices": ("indices", lambda b: rest.indices([b])),
    "contracts": ("contracts", lambda b: rest.contracts([b])),
    "tickers": ("tickers", lambda b: rest.tickers([b])),
    "exchanges": ("exchanges", rest.exchanges),
    "conditions": ("conditions", lambda b: rest.conditions([b])),
    "indicator_macd": ("server_indicator", lambda b: rest.server_indicator([b], symbol="SPY")),
    "market_status": ("market_status", rest.market_status),
    "market_holidays": ("holidays", rest.holidays),
}
PAGED = ["trades", "quotes", "chain", "snapshot", "snapshot_indices", "contracts", "tickers", "conditions"]


def load(name: str) -> pl.DataFrame:
    frame: pl.DataFrame = CALLS[name][1]((GOLDEN / f"{name}.json").read_bytes())
    return frame


def ns(frame: pl.DataFrame, column: str) -> list[int | None]:
    return frame[column].cast(pl.Int64).to_list()


@pytest.mark.parametrize("name", CALLS)
def test_schema_is_exact(name: str):
    assert load(name).schema == to_schema(CALLS[name][0])


@pytest.mark.parametrize("name", PAGED)
def test_empty_results_are_an_empty_frame(name: str):
    table, call = CALLS[name]
    frame = call(b'{"results":[],"status":"OK","request_id":"1"}')
    assert frame.height == 0
    assert frame.schema == to_schema(table)


@pytest.mark.parametrize("name", CALLS)
def test_error_bodies_and_broken_ones(name: str):
    _, call = CALLS[name]
    with pytest.raises(NotEntitled):
        call(b'{"status":"NOT_AUTHORIZED","message":"You are not entitled to this data.","request_id":"1"}')
    with pytest.raises(UnknownSymbol):
        call(b'{"status":"NOT_FOUND","message":"Ticker not found.","request_id":"1"}')
    for bad in (b"", b"{", b"<html></html>", b'{"results":5,"market":5,"status":"OK"}', b'{"status":"OK"}'):
        with pytest.raises(DecodeError):
            call(bad)
    whole = (GOLDEN / f"{name}.json").read_bytes().rstrip()
    for cut in range(1, len(whole), 97):
        with pytest.raises(DecodeError):
            call(whole[:cut])


@pytest.mark.parametrize("name", PAGED)
def test_pages_are_put_together_and_sorted(name: str):
    table, call = CALLS[name]
    whole = json.loads((GOLDEN / f"{name}.json").read_bytes())
    halves = [json.dumps({**whole, "results": [row]}).encode() for row in reversed(whole["results"])]
    pages = {
        "trades": lambda p: rest.trades(p, symbol="AAPL"),
        "quotes": lambda p: rest.quotes(p, symbol="AAPL"),
        "chain": lambda p: rest.chain(p, underlying="AAPL"),
        "snapshot": rest.snapshot,
        "snapshot_indices": rest.indices,
        "contracts": rest.contracts,
        "tickers": rest.tickers,
        "conditions": rest.conditions,
    }[name]
    whole_frame = call(json.dumps(whole).encode())  # through json.dumps as well, which rounds 19-digit exponents
    assert pages(halves).equals(whole_frame)
    assert whole_frame.height == len(whole["results"])
    assert pages([]).schema == to_schema(table)
    assert call(b'{"results":[]}').height == 0


def test_trades():
    frame = load("trades")
    assert ns(frame, "ts_sip") == [1748871000123000000, 1748871000123456789, 1748871000123456789]
    assert frame["sequence"].to_list() == [0, 1062, 1063]
    assert frame["size"].to_list() == [10.0, 100.0, 1.25]
    assert frame["conditions"].to_list() == [None, None, [12, 41]]
    assert frame["trade_id"].to_list() == [None, None, "2"]
    assert frame["correction"].to_list() == [None, 1, None]
    assert ns(frame, "ts_participant") == [None, None, 1748871000000000123]
    assert frame["symbol"].unique().to_list() == ["AAPL"]


@pytest.mark.parametrize(
    "row",
    [
        '{"price":1,"size":1}',
        '{"price":1,"sip_timestamp":1}',
        '{"size":1,"sip_timestamp":1}',
        '{"price":1,"size":1,"sip_timestamp":null}',
        '{"price":1,"decimal_size":"x","sip_timestamp":1}',
        '{"price":1,"size":1,"sip_timestamp":1.5}',
    ],
)
def test_trade_without_what_makes_it_one(row: str):
    with pytest.raises(DecodeError):
        rest.trades([f'{{"results":[{row}]}}'.encode()], symbol="AAPL")


def test_quotes():
    frame = load("quotes")
    assert frame["sequence"].to_list() == [4, 5, 6]
    assert frame["bid_price"].to_list() == [10.5, 10.5, 10.0]
    assert frame["ask_price"].to_list() == [9.5, None, 10.25]
    assert frame["mid_price"].to_list() == [10.0, None, 10.125]
    assert frame["spread"].to_list() == [-1.0, None, 0.25]
    assert frame["indicators"].to_list() == [None, None, [604]]


def test_last_trade_and_quote():
    trade, quote = load("last_trade").row(0, named=True), load("last_quote").row(0, named=True)
    assert (trade["price"], trade["size"], trade["trade_id"], trade["tape"]) == (129.8473, 25.5, "118749", 3)
    assert ns(load("last_trade"), "ts_sip") == [1748871000000000003]
    assert ns(load("last_trade"), "ts_participant") == [1748871000000000002]
    assert ns(load("last_trade"), "ts_trf") == [1748871000000000001]
    assert (quote["bid_price"], quote["bid_size"], quote["bid_exchange"]) == (127.96, 1.0, 11)
    assert (quote["ask_price"], quote["ask_size"], quote["ask_exchange"]) == (127.98, 7.0, 19)
    assert quote["conditions"] == [1]
    assert quote["indicators"] == [604]


def test_chain():
    adjusted, plain = load("chain").sort("contract").to_dicts()
    if adjusted["multiplier"] == 100:
        adjusted, plain = plain, adjusted
    assert plain["contract"] == "O:AAPL250620C00150000"
    assert (plain["expiration"], plain["strike"], plain["option_type"]) == (dt.date(2025, 6, 20), 150.0, "call")
    assert (plain["delta"], plain["vega"], plain["implied_vol"]) == (
        0.5520187372272933,
        0.7274811132998142,
        0.3048997097864957,
    )
    assert (plain["bid_price"], plain["ask_price"], plain["mid_price"]) == (20.9, 21.25, 21.075)
    assert plain["spread"] == pytest.approx(0.35)
    assert plain["open_interest"] == 8921
    assert (plain["day_close"], plain["day_volume"], plain["previous_close"]) == (21.4, 37.0, 22.45)
    assert (plain["underlying_price"], plain["timeframe"]) == (147.0, "REAL-TIME")
    assert ns(load("chain").filter(pl.col("strike") == 150), "ts_quote") == [1636573458756383500]
    # the adjusted contract: its own multiplier, no greeks, no trade, no bid, an empty day
    assert (adjusted["multiplier"], adjusted["underlying"], adjusted["strike"]) == (10.0, "AAPL", 17.5)
    for name in (
        "delta",
        "gamma",
        "theta",
        "vega",
        "implied_vol",
        "bid_price",
        "mid_price",
        "spread",
        "trade_price",
        "day_open",
        "day_volume",
        "underlying_price",
        "ts_underlying",
    ):
        assert adjusted[name] is None, name
    assert (adjusted["ask_price"], adjusted["open_interest"], adjusted["timeframe"]) == (1.5, 0, "DELAYED")


def test_contract_of_an_index():
    row = load("chain_contract_index").row(0, named=True)
    assert (row["underlying"], row["underlying_price"], row["exercise_style"]) == ("I:SPX", 5900.5, "european")
    assert (row["delta"], row["day_close"], row["day_open"], row["timeframe"]) == (None, 12.0, None, "DELAYED")


def test_contract_facts_left_out_are_read_from_the_symbol():
    frame = rest.chain_contract(b'{"results":{"details":{"ticker":"O:SPXW251219P05000000"}}}')
    row = frame.row(0, named=True)
    assert (row["underlying"], row["strike"], row["option_type"], row["multiplier"]) == ("I:SPX", 5000.0, "put", 100.0)
    for bad in (b'{"results":{}}', b'{"results":{"details":{"ticker":"AAPL"}}}'):
        with pytest.raises(DecodeError, match="which contract"):
            rest.chain_contract(bad)


def test_snapshot():
    rows = {row["symbol"]: row for row in load("snapshot").to_dicts()}
    assert list(rows) == ["AAPL", "I:DJI", "NOPE", "O:AAPL250620C00150000"]
    assert [name for name, value in rows["NOPE"].items() if value is not None] == ["symbol", "error"]
    assert rows["NOPE"]["error"] == "NOT_FOUND"
    stock, index, option = rows["AAPL"], rows["I:DJI"], rows["O:AAPL250620C00150000"]
    assert (stock["last_price"], stock["volume"], stock["session_close"], stock["mid_price"]) == (
        21.5,
        37.25,
        21.4,
        21.075,
    )
    assert (index["last_price"], index["volume"], index["market_status"], index["timeframe"]) == (
        29580.15,
        None,
        "regular_trading",
        "DELAYED",
    )
    assert (option["gamma"], option["implied_vol"], option["open_interest"], option["underlying_price"]) == (
        0.0,
        5.0,
        1543,
        147.5,
    )
    assert option["last_price"] == 6.65
    assert ns(load("snapshot"), "ts_updated") == [1675280958783136800, 1679597116344223500, None, None]


def test_indices():
    rows = {row["symbol"]: row for row in load("snapshot_indices").to_dicts()}
    assert (rows["I:SPX"]["value"], rows["I:SPX"]["session_low"], rows["I:SPX"]["error"]) == (3822.39, 0.0, None)
    assert (rows["APx"]["error"], rows["APy"]["error"]) == ("NOT_FOUND", "NOT_ENTITLED")
    assert rows["APy"]["value"] is None


@pytest.mark.parametrize("call", [rest.snapshot, rest.indices])
def test_snapshot_row_without_ticker(call: Any):
    with pytest.raises(DecodeError, match="no ticker"):
        call([b'{"results":[{"value":1}]}'])


def test_contracts():
    rows = {row["contract"]: row for row in load("contracts").to_dicts()}
    adjusted = rows["O:AAPL1211119C00085000"]
    assert (adjusted["multiplier"], adjusted["underlying"], adjusted["primary_exchange"]) == (150.0, "AAPL", "BATO")
    assert json.loads(adjusted["additional_underlyings"])[1] == {
        "amount": 6.53,
        "type": "currency",
        "underlying": "USD",
    }
    index = rows["O:SPXW251219P05000000"]
    assert (index["underlying"], index["correction"], index["additional_underlyings"]) == ("I:SPX", 2, None)
    bare = rows["O:SPY251219C00650000"]
    assert (bare["underlying"], bare["strike"], bare["expiration"], bare["multiplier"]) == (
        "SPY",
        650.0,
        dt.date(2025, 12, 19),
        100.0,
    )


def test_multiplier_of_an_adjusted_contract_is_not_guessed():
    frame = rest.contracts([b'{"results":[{"ticker":"O:SOXS1251219C00010000"}]}'])
    assert frame["multiplier"].to_list() == [None]


def test_reference():
    tickers = load("tickers")
    assert tickers["symbol"].to_list() == ["A", "I:SPX"]
    assert tickers["name"].to_list()[1] == 'S&P "500" — Index'
    assert tickers["currency"].to_list() == ["usd", None]
    assert ns(tickers, "ts_updated") == [1619308800500000000, None]
    assert load("exchanges")["exchange"].to_list() == [301, 1]
    conditions = load("conditions")
    assert conditions["condition"].to_list() == [1, 2]
    assert conditions["data_types"].to_list() == ["bbo,nbbo", "trade"]
    assert conditions["updates_volume"].to_list() == [None, True]


def test_server_indicator_is_ascending():
    frame = load("indicator_macd")
    assert ns(frame, "ts_event") == [1660795200000000000, 1660881600000000000]
    assert frame["histogram"].to_list() == [None, -42.62916021370436]
    empty = rest.server_indicator([b'{"results":{"underlying":{"url":"x"}},"status":"OK"}'], symbol="SPY")
    assert empty.height == 0
    with pytest.raises(DecodeError, match="no time"):
        rest.server_indicator([b'{"results":{"values":[{"value":1,"timestamp":null}]}}'], symbol="SPY")


def test_market_status():
    frame = load("market_status")
    rows = {row["market"]: row for row in frame.to_dicts()}
    assert frame["market"][0] == "stocks"
    assert (rows["stocks"]["status"], rows["stocks"]["is_late"], rows["stocks"]["is_early"]) == (
        "extended-hours",
        True,
        False,
    )
    assert (rows["exchange:otc"]["status"], rows["indices:s_and_p"]["status"]) == ("closed", "closed")
    assert (rows["currency:fx"]["status"], rows["currency:fx"]["is_late"]) == ("open", False)
    assert ns(frame, "ts_server")[0] == 1748899927000000000
    with pytest.raises(DecodeError, match="no text"):
        rest.market_status(b'{"market":"open","serverTime":"2025-06-02T17:32:07-04:00","exchanges":{"nyse":1}}')


def test_holidays():
    frame = load("market_holidays")
    assert frame["date"].to_list() == [dt.date(2026, 11, 26), dt.date(2026, 11, 27)]
    assert frame["status"].to_list() == ["closed", "early-close"]
    assert ns(frame, "ts_close") == [None, 1795802400000000000]
    assert rest.holidays(b"[]").schema == to_schema("holidays")
