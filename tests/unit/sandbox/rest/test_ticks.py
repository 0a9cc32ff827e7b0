from __future__ import annotations

import datetime as dt

import pytest

from massive_lab.schema.session import new_york_ns


def test_trades_of_a_stock(tiny, call, helpers):
    body = call(tiny).get("/v3/trades/TST")
    required = {
        "price", "size", "decimal_size", "exchange", "sip_timestamp", "participant_timestamp", "sequence_number", "id", "tape",
    }  # fmt: skip
    for row in body["results"]:
        assert required <= set(row) <= required | {"conditions", "trf_id", "trf_timestamp"}
        assert float(row["decimal_size"]) == row["size"]
        assert isinstance(row["decimal_size"], str)
    times = [row["sip_timestamp"] for row in body["results"]]
    assert times == sorted(times, reverse=True)
    assert times[0] <= helpers.NOW_NS
    assert any("conditions" not in row for row in body["results"])


def test_the_default_page_is_a_thousand_newest_first(rest, call):
    body = call(rest).get("/v3/trades/SPY")
    assert len(body["results"]) == 1000
    assert "next_url" in body


def test_trades_of_an_option_lose_what_is_fine_when_old(tiny, call, helpers):
    rows = call(tiny).get(f"/v3/trades/{helpers.CALL}", {"limit": 50_000})["results"]
    fields = {"price", "size", "decimal_size", "exchange", "sip_timestamp", "sequence_number"}
    assert all(fields <= set(row) <= fields | {"conditions"} for row in rows)
    assert rows[0]["sequence_number"] > 0
    assert rows[-1]["sequence_number"] == 0
    assert rows[-1]["sip_timestamp"] % 1_000_000 == 0


def test_quotes(tiny, call, helpers):
    sides = {f"{side}_{what}" for side in ("bid", "ask") for what in ("price", "size", "exchange")}
    stock = call(tiny).get("/v3/quotes/TST")["results"][0]
    assert set(stock) == sides | {"sip_timestamp", "sequence_number", "participant_timestamp", "conditions", "tape"}
    option = call(tiny).get(f"/v3/quotes/{helpers.CALL}")["results"][0]
    assert set(option) == sides | {"sip_timestamp", "sequence_number"}


@pytest.mark.parametrize("unit", [1, 10**3, 10**9])
def test_timestamps_filter_in_nanoseconds_or_by_new_york_days(tiny, call, unit):
    day = call(tiny).get("/v3/trades/TST", {"timestamp": "2025-06-03", "limit": 5000})["results"]
    first = new_york_ns(dt.date(2025, 6, 3))
    last = new_york_ns(dt.date(2025, 6, 4))
    assert {first <= row["sip_timestamp"] < last for row in day} == {True}
    assert len(day) == 45
    bounds = {"timestamp.gte": first, "timestamp.lt": last, "limit": 5000}
    assert call(tiny).get("/v3/trades/TST", bounds)["results"] == day
    at = day[20]["sip_timestamp"]
    same = [row for row in day if row["sip_timestamp"] == at]
    assert call(tiny).get("/v3/trades/TST", {"timestamp": at})["results"] == same
    after = call(tiny).get("/v3/trades/TST", {"timestamp.gt": at, "timestamp.lte": last // unit * unit, "limit": 5000})
    assert after["results"] == [row for row in day if row["sip_timestamp"] > at]


def test_rfc_3339_times_are_instants(tiny, call):
    query = {"timestamp.gte": "2025-06-03T09:30:00-04:00", "timestamp.lt": "2025-06-03T14:00:00Z", "limit": 5000}
    rows = call(tiny).get("/v3/trades/TST", query)["results"]
    lo, hi = new_york_ns(dt.date(2025, 6, 3), 9, 30), new_york_ns(dt.date(2025, 6, 3), 10)
    assert rows
    assert all(lo <= row["sip_timestamp"] < hi for row in rows)


def test_no_ticks_are_an_empty_list(tiny, call):
    for path, query in (
        ("/v3/trades/NOPE", {}),
        ("/v3/trades/I:TIN", {}),
        ("/v3/quotes/TST", {"timestamp.gte": "2030-01-01"}),
        ("/v3/quotes/TST", {"timestamp.gte": "2025-06-03", "timestamp.lt": "2025-06-02"}),
    ):
        body = call(tiny).get(path, query)
        assert body["results"] == []
        assert "next_url" not in body


def test_last_trade_and_quote(tiny, call, helpers):
    stock = call(tiny).get("/v2/last/trade/TST")["results"]
    newest = call(tiny).get("/v3/trades/TST", {"limit": 1})["results"][0]
    assert {"T", "p", "i", "q", "t", "x", "y", "ds", "s", "z"} <= set(stock)
    assert (stock["t"], stock["p"], stock["T"]) == (newest["sip_timestamp"], newest["price"], "TST")
    option = call(tiny).get(f"/v2/last/trade/{helpers.CALL}")["results"]
    assert option["i"] == ""
    assert "ds" not in option
    quote = call(tiny).get("/v2/last/nbbo/TST")["results"]
    assert {"T", "q", "t", "y", "P", "S", "X", "p", "s", "x", "c", "z"} == set(quote)
    assert quote["P"] > quote["p"]
    for path in ("/v2/last/trade/NOPE", "/v2/last/nbbo/NOPE", f"/v2/last/nbbo/{helpers.CALL}", "/v2/last/trade/I:TIN"):
        assert call(tiny)(path).http == 404
