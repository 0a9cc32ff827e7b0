"""Bad parameters, plans, and the future."""

from __future__ import annotations

import datetime as dt
import json

import pytest

from massive_lab.sandbox.rest.entitle import cutoff_ns
from massive_lab.schema.endpoints import ENDPOINTS
from massive_lab.schema.plans import plan
from massive_lab.schema.session import new_york_ns

BARS = "/v2/aggs/ticker/TST/range/1/day/2025-06-02/2025-06-05"
DATA = "You are not entitled to this data. Please upgrade your plan at https://massive.com/pricing"
TIMEFRAME = "Your plan doesn't include this data timeframe. Please upgrade your plan at https://massive.com/pricing"


@pytest.mark.parametrize(
    ("path", "query", "text"),
    [
        (
            "/v2/aggs/ticker/TST/range/1/day/2025-06-05/2025-06-02",
            {},
            "'to' cannot be a time that occurs before 'from'",
        ),
        ("/v2/aggs/ticker/TST/range/0/day/2025-06-02/2025-06-05", {}, "'multiplier'"),
        ("/v2/aggs/ticker/TST/range/x/day/2025-06-02/2025-06-05", {}, "'multiplier'"),
        ("/v2/aggs/ticker/TST/range/1/decade/2025-06-02/2025-06-05", {}, "'timespan'"),
        ("/v2/aggs/ticker/TST/range/1/day/2025-02-30/2025-06-05", {}, "'from'"),
        ("/v2/aggs/ticker/TST/range/1/day/2025-06-02/tomorrow", {}, "'to'"),
        (BARS, {"limit": 50_001}, "'limit'"),
        (BARS, {"limit": 0}, "'limit'"),
        (BARS, {"limit": "many"}, "'limit'"),
        (BARS, {"sort": "up"}, "'sort'"),
        (BARS, {"adjusted": "yes"}, "'adjusted'"),
        ("/v3/trades/TST", {"limit": 50_001}, "'limit'"),
        ("/v3/trades/TST", {"order": "up"}, "'order'"),
        ("/v3/trades/TST", {"sort": "price"}, "'sort'"),
        ("/v3/quotes/TST", {"timestamp.gte": "noon"}, "'timestamp.gte'"),
        ("/v3/quotes/TST", {"timestamp": "2025-06-02T09:30:00"}, "'timestamp'"),
        ("/v3/snapshot/options/TST", {"limit": 251}, "'limit'"),
        ("/v3/snapshot/options/TST", {"strike_price.gte": "high"}, "'strike_price.gte'"),
        ("/v3/snapshot/options/TST", {"expiration_date": "June"}, "'expiration_date'"),
        ("/v3/snapshot/options/TST", {"contract_type": "future"}, "'contract_type'"),
        ("/v3/snapshot", {"limit": 251}, "'limit'"),
        ("/v3/snapshot", {"type": "bonds"}, "'type'"),
        ("/v3/snapshot/indices", {"limit": 251}, "'limit'"),
        ("/v3/reference/options/contracts", {"limit": 1001}, "'limit'"),
        ("/v3/reference/options/contracts", {"as_of": "1/2/2025"}, "'as_of'"),
        ("/v3/reference/tickers", {"limit": 1001}, "'limit'"),
        ("/v3/reference/conditions", {"id": "x"}, "'id'"),
        ("/v1/indicators/sma/TST", {"limit": 5001}, "'limit'"),
        ("/v1/indicators/sma/TST", {"window": 0}, "'window'"),
        ("/v1/indicators/sma/TST", {"timespan": "second"}, "'timespan'"),
        ("/v1/indicators/macd/TST", {"short_window": 30}, "'short_window'"),
        ("/v1/open-close/TST/20250602", {}, "'date'"),
    ],
)
def test_a_bad_parameter_is_named(tiny, call, path, query, text):
    answer = call(tiny)(path, query)
    assert answer.http == 400
    assert set(answer.body) == {"status", "request_id", "error"}
    assert answer.body["status"] == "ERROR"
    assert text in answer.body["error"]


@pytest.mark.parametrize(
    "path",
    [
        "/v1/open-close/NOPE/2025-06-04",
        "/v1/open-close/TST/2025-06-01",
        "/v2/last/trade/NOPE",
        "/v2/last/nbbo/NOPE",
        "/v2/snapshot/locale/us/markets/stocks/tickers/NOPE",
        "/v3/snapshot/options/TST/O:TST250620C00999000",
        "/v3/reference/options/contracts/O:TST250620C00999000",
        "/v3/reference/tickers/NOPE",
    ],
)
def test_single_objects_that_do_not_exist(tiny, call, path):
    answer = call(tiny)(path)
    assert answer.http == 404
    assert set(answer.body) == {"status", "request_id", "message"}
    assert answer.body["status"] == "NOT_FOUND"


@pytest.mark.parametrize("path", ["/", "/v2/aggs", "/v3/trades/", "/v3/trades/A/B", "/v9/anything", "/v3/snapshot/"])
def test_unrouted_paths_are_plain_text(tiny, call, path):
    answer = call(tiny).raw(path)
    assert (answer.status, answer.body, answer.content_type) == (404, b"404 page not found", "text/plain")


def test_every_endpoint_answers(rest, call):
    parts = {
        "symbol": "AAPL", "multiplier": "1", "timespan": "day", "start": "2025-06-02", "end": "2025-06-05",
        "date": "2025-06-04", "underlying": "AAPL", "direction": "gainers",
    }  # fmt: skip
    contract = call(rest).get("/v3/reference/options/contracts", {"underlying_ticker": "AAPL"})["results"][0]["ticker"]
    for name, template in ENDPOINTS.items():
        answer = call(rest)(template.format(**parts, contract=contract), {"unknown": "1", "options": "<object>"})
        assert answer.http == 200, name


REFUSED = {
    "second bars": ("/v2/aggs/ticker/AAPL/range/1/second/2025-06-05/2025-06-05", "basic"),
    "chain": ("/v3/snapshot/options/AAPL", "basic"),
    "unified": ("/v3/snapshot", "basic"),
    "indices": ("/v3/snapshot/indices", "basic"),
    "stocks": ("/v2/snapshot/locale/us/markets/stocks/tickers", "basic"),
    "stock": ("/v2/snapshot/locale/us/markets/stocks/tickers/AAPL", "basic"),
    "movers": ("/v2/snapshot/locale/us/markets/stocks/gainers", "basic"),
    "trades": ("/v3/trades/AAPL", "basic starter"),
    "last trade": ("/v2/last/trade/AAPL", "basic starter"),
    "quotes": ("/v3/quotes/AAPL", "basic starter developer"),
    "last quote": ("/v2/last/nbbo/AAPL", "basic starter developer"),
    "index bars": ("/v2/aggs/ticker/I:SPX/range/1/day/2025-06-02/2025-06-05", "basic"),
    "free index bars": ("/v2/aggs/ticker/I:NDX/range/1/day/2025-06-02/2025-06-05", ""),
    "bars": ("/v2/aggs/ticker/AAPL/range/1/minute/2025-06-05/2025-06-05", ""),
    "previous day": ("/v2/aggs/ticker/AAPL/prev", ""),
    "contracts": ("/v3/reference/options/contracts", ""),
    "indicator": ("/v1/indicators/sma/AAPL", ""),
    "status": ("/v1/marketstatus/now", ""),
}


@pytest.mark.parametrize("tier", ["basic", "starter", "developer", "advanced", "business"])
@pytest.mark.parametrize("what", REFUSED)
def test_what_a_plan_may_ask_for(rest, call, what, tier):
    path, refused = REFUSED[what]
    answer = call(rest, tier)(path)
    if tier in refused.split():
        assert answer.http == 403
        assert answer.body["status"] == "NOT_AUTHORIZED"
        assert set(answer.body) == {"status", "request_id", "message"}
        assert answer.body["message"] == DATA
    else:
        assert answer.http == 200


def test_rows_a_plan_does_not_cover_are_errors_of_their_own(rest, call):
    caller = call(rest, "advanced", indices="basic")
    rows = caller.get("/v3/snapshot", {"ticker.any_of": "AAPL,I:SPX"})["results"]
    assert rows[0]["type"] == "stocks"
    assert rows[1] == {"ticker": "I:SPX", "error": "NOT_ENTITLED", "message": "Not entitled to this ticker."}


def test_history_is_clipped_in_silence_and_refused_outside(rest, call, helpers):
    path = "/v2/aggs/ticker/AAPL/range/1/day/{}/{}"
    clipped = call(rest, "basic").get(path.format("2023-05-01", "2023-06-30"))["results"]
    assert helpers.ny(clipped[0]["t"]).date() == dt.date(2023, 6, 6)
    whole = call(rest, "starter").get(path.format("2023-05-01", "2023-06-30"))["results"]
    assert whole[-len(clipped) :] == clipped
    assert len(whole) > len(clipped)
    refused = call(rest, "basic")(path.format("2023-05-01", "2023-06-05"))
    assert (refused.http, refused.error) == (403, TIMEFRAME)
    today = call(rest, "basic")(path.format("2025-06-06", "2025-06-06"))
    assert (today.http, today.error) == (403, TIMEFRAME)
    until = call(rest, "basic").get(path.format("2025-06-04", "2025-06-06"))
    assert until["resultsCount"] == 2
    trades = call(rest, "developer")("/v3/trades/AAPL", {"timestamp.lt": "2010-01-01"})
    assert (trades.http, trades.error) == (403, TIMEFRAME)


def test_delayed_plans_miss_the_last_quarter_of_an_hour(rest, call, helpers):
    edge = helpers.NOW_NS - 15 * 60 * 10**9
    path = "/v2/aggs/ticker/SPY/range/1/minute/2025-06-06/2025-06-06"
    late, live = call(rest, "developer").get(path), call(rest).get(path)
    assert (late["status"], live["status"]) == ("DELAYED", "OK")
    assert late["results"][-1]["t"] * 10**6 <= edge < live["results"][-1]["t"] * 10**6
    trades = call(rest, "developer").get("/v3/trades/SPY", {"limit": 1})["results"]
    assert trades[0]["sip_timestamp"] <= edge
    row = call(rest, "developer").get("/v3/snapshot", {"ticker.any_of": "SPY"})["results"][0]
    assert row["timeframe"] == row["last_trade"]["timeframe"] == "DELAYED"
    assert row["last_updated"] <= edge
    assert "last_quote" not in row


def test_what_the_plan_leaves_out_of_a_row(rest, call):
    query = {"ticker.any_of": "AAPL", "expiration_date": "2025-06-20", "strike_price.gte": 250}
    starter = call(rest, "starter").get("/v3/snapshot", query)["results"][0]
    assert {"last_trade", "last_quote"}.isdisjoint(starter)
    business = call(rest, "business").get("/v3/snapshot", query)["results"][0]
    assert {"last_trade", "last_quote", "fmv", "fmv_last_updated"} <= set(business)
    chain = call(rest, "advanced", stocks="basic").get("/v3/snapshot/options/AAPL", query)["results"]
    assert {frozenset(row["underlying_asset"]) for row in chain} == {frozenset({"ticker"})}
    poor = call(rest, "starter").get("/v3/snapshot/options/AAPL", query)["results"]
    assert all({"last_trade", "last_quote"}.isdisjoint(row) for row in poor)


# The future

PATHS = [
    ("/v2/aggs/ticker/AAPL/range/1/minute/2025-06-06/2025-06-09", {}),
    ("/v2/aggs/ticker/AAPL/range/1/day/2025-06-02/2026-06-06", {}),
    ("/v2/aggs/ticker/I:SPX/range/1/day/2025-06-02/2026-06-06", {}),
    ("/v2/aggs/ticker/I:SPX/range/1/hour/2025-06-06/2025-06-06", {"sort": "desc"}),
    ("/v3/trades/AAPL", {"timestamp.gte": "2025-06-06", "limit": 50_000}),
    ("/v3/quotes/AAPL", {"limit": 10}),
    ("/v1/indicators/ema/I:SPX", {"timespan": "day"}),
    ("/v3/snapshot", {"ticker.any_of": "AAPL,I:VIX"}),
]


def _numbers(value, name=""):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _numbers(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from _numbers(inner, name)
    elif isinstance(value, int) and not isinstance(value, bool):
        yield name, value


@pytest.mark.parametrize("tier", ["starter", "advanced"])
@pytest.mark.parametrize(("path", "query"), PATHS)
def test_no_time_in_an_answer_lies_after_what_the_plan_shows(rest, call, helpers, tier, path, query):
    answer = call(rest, tier)(path, query)
    if answer.http == 403:
        assert tier == "starter"
        return
    edge = cutoff_ns(plan(tier), helpers.NOW_NS)
    times = [(k, v) for k, v in _numbers(answer.body) if k in {"t", "timestamp"} or "updated" in k or "timestamp" in k]
    assert times
    for name, value in times:
        assert value * (1 if value > 10**15 else 10**6) <= edge, name


def test_the_past_does_not_change_when_time_goes_on(rest, call, helpers):
    later = helpers.NOW_NS + 3 * 86_400 * 10**9
    for path, query in (
        ("/v2/aggs/ticker/AAPL/range/1/day/2025-05-01/2025-06-05", {}),
        ("/v3/trades/AAPL", {"timestamp": "2025-06-05", "order": "asc", "limit": 500}),
        ("/v1/open-close/AAPL/2025-06-05", {}),
        ("/v1/indicators/macd/I:SPX", {"timestamp.lte": "2025-06-05"}),
    ):
        assert call(rest, now_ns=later).get(path, query) == call(rest).get(path, query)


def test_a_running_bar_grows_with_what_is_published(rest, call):
    path = "/v2/aggs/ticker/SPY/range/1/day/2025-06-06/2025-06-06"
    counts = []
    for minute in (0, 20, 40):
        now = new_york_ns(dt.date(2025, 6, 6), 12, minute)
        counts.append(call(rest, now_ns=now).get(path)["results"][0]["n"])
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]


def test_equal_questions_get_equal_bytes(rest, call):
    first = call(rest).raw("/v3/snapshot/options/I:SPX", {"limit": 50})
    again = call(rest).raw("/v3/snapshot/options/I:SPX", {"limit": 50})
    other = call(rest).raw("/v3/snapshot/options/I:SPX", {"limit": 49})
    assert first == again
    ids = {json.loads(answer.body)["request_id"] for answer in (first, again, other)}
    assert len(ids) == 2
