from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from massive_lab.schema.session import new_york_ns

CHECKS = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
RANGE = "/v2/aggs/ticker/{}/range/{}/{}/{}/{}"


def rows_of(pages: list[dict[str, Any]]) -> list[Any]:
    return [row for page in pages for row in page.get("results", [])]


@CHECKS
@given(
    symbol=st.sampled_from(["TST", "I:TIN", "O:TST250620C00100000"]),
    multiplier=st.sampled_from([1, 1, 2, 3, 7, 45]),
    timespan=st.sampled_from(["second", "minute", "hour", "day", "week", "month", "quarter", "year"]),
    sort=st.sampled_from(["asc", "desc"]),
    limit=st.integers(1, 400),
    days=st.tuples(st.integers(0, 20), st.integers(0, 20)),
    milliseconds=st.booleans(),
)
def test_pages_of_bars_add_up_to_one_big_page(
    tiny, call, symbol, multiplier, timespan, sort, limit, days, milliseconds
):
    first, last = (dt.date(2025, 5, 17) + dt.timedelta(days=d) for d in sorted(days))
    if milliseconds:
        first, last = new_york_ns(first) // 10**6 + 34_200_777, new_york_ns(last) // 10**6 + 45_000_001
    path = RANGE.format(symbol, multiplier, timespan, first, last)
    caller = call(tiny)
    whole = caller.get(path, {"limit": 50_000, "sort": sort})
    assert "next_url" not in whole
    pages = caller.pages(path, {"limit": limit, "sort": sort})
    assert rows_of(pages) == whole.get("results", [])
    assert all(page["queryCount"] <= limit for page in pages)
    assert all(page["resultsCount"] == len(page.get("results", [])) for page in pages)
    assert len(pages) == 1 or "results" in pages[-1]


@pytest.mark.parametrize("sort", ["asc", "desc"])
def test_a_window_longer_than_a_page_of_base_bars_comes_once_all_of_it_was_read(tiny, call, helpers, sort):
    path = RANGE.format("TST", 1, "month", "2025-05-19", "2025-05-31")
    pages = call(tiny).pages(path, {"limit": 3, "sort": sort})
    assert "results" not in pages[0]
    assert pages[0]["queryCount"] == 3
    assert helpers.cursor_of(pages[0]["next_url"])["ap"] == "3"
    assert len(rows_of(pages)) == 1


def test_limit_counts_base_aggregates(tiny, call):
    day = "2025-06-02"
    minutes = call(tiny).get(RANGE.format("TST", 1, "minute", day, day), {})
    hours = call(tiny).get(RANGE.format("TST", 1, "hour", day, day), {"limit": 10})
    assert hours["queryCount"] == 10
    assert hours["resultsCount"] < 10 < minutes["resultsCount"]


def test_the_cursor_of_bars_holds_no_position_but_the_path_does(tiny, call, helpers):
    path = RANGE.format("TST", 1, "day", "2025-06-02", "2025-06-05")
    page = call(tiny).get(path, {"limit": 2})
    # Wednesday's midnight in New York, in milliseconds.
    start = new_york_ns(dt.date(2025, 6, 4)) // 10**6
    assert f"/range/1/day/{start}/2025-06-05?cursor=" in page["next_url"]
    assert helpers.cursor_of(page["next_url"]) == {"limit": "2", "sort": "asc"}
    desc = call(tiny).get(path, {"limit": 2, "sort": "desc", "adjusted": "false"})
    assert f"/range/1/day/2025-06-02/{start - 1}?cursor=" in desc["next_url"]
    assert helpers.cursor_of(desc["next_url"]) == {"adjusted": "false", "limit": "2", "sort": "desc"}


def test_no_empty_page_after_an_exactly_full_one(tiny, call):
    path = RANGE.format("TST", 1, "day", "2025-06-02", "2025-06-05")
    assert [len(page["results"]) for page in call(tiny).pages(path, {"limit": 2})] == [2, 2]
    assert len(call(tiny).pages("/v3/snapshot/options/TST", {"limit": 3})) == 1


@CHECKS
@given(
    kind=st.sampled_from(["trades", "quotes"]),
    symbol=st.sampled_from(["TST", "O:TST250620C00100000"]),
    order=st.sampled_from(["asc", "desc"]),
    limit=st.integers(1, 60),
    start=st.integers(0, 5),
)
def test_pages_of_ticks_add_up_to_one_big_page(tiny, call, kind, symbol, order, limit, start):
    query = {"timestamp.gte": f"2025-06-0{start + 1}", "timestamp.lt": "2025-06-05", "order": order}
    path = f"/v3/{kind}/{symbol}"
    whole = call(tiny).get(path, {**query, "limit": 50_000})
    pages = call(tiny).pages(path, {**query, "limit": limit})
    assert rows_of(pages) == whole["results"]
    assert all(len(page["results"]) == limit for page in pages[:-1])


@CHECKS
@given(
    name=st.sampled_from(["sma", "ema", "rsi", "macd"]),
    order=st.sampled_from(["asc", "desc"]),
    timespan=st.sampled_from(["minute", "hour", "day", "week"]),
    limit=st.integers(1, 30),
    bounded=st.booleans(),
)
def test_pages_of_indicators_add_up_to_one_big_page(tiny, call, name, order, timespan, limit, bounded):
    windows = {"short_window": 3, "long_window": 5, "signal_window": 2} if name == "macd" else {"window": 3}
    query = {"timespan": timespan, "order": order, **windows}
    query |= {"timestamp.gte": "2025-06-04" if timespan == "minute" else "2025-05-25", "timestamp.lt": "2025-06-06"}
    if not bounded and timespan == "week":
        query = {"timespan": timespan, "order": order, **windows}
    path = f"/v1/indicators/{name}/TST"
    whole = call(tiny).get(path, {**query, "limit": 5000})["results"].get("values", [])
    got = [v for page in call(tiny).pages(path, {**query, "limit": limit}) for v in page["results"].get("values", [])]
    assert [v["timestamp"] for v in got] == [v["timestamp"] for v in whole]
    for mine, theirs in zip(got, whole, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("sort", ["ticker", "expiration_date", "strike_price"])
@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages_of_the_chain_add_up(rest, call, sort, order):
    path, query = "/v3/snapshot/options/AAPL", {"sort": sort, "order": order, "contract_type": "call"}
    query |= {"expiration_date.lte": "2025-06-20"}
    rows = rows_of(call(rest).pages(path, {**query, "limit": 250}))
    small = rows_of(call(rest).pages(path, {**query, "limit": 17}))
    assert small == rows
    keys = [(row["details"][sort], row["details"]["ticker"]) for row in rows]
    assert keys == sorted(keys, reverse=order == "desc")
    assert len(set(keys)) == len(keys) > 17


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/v3/reference/options/contracts", {"underlying_ticker": "AAPL", "expiration_date.lte": "2025-06-20"}),
        ("/v3/reference/tickers", {}),
        ("/v3/reference/conditions", {}),
        ("/v3/reference/conditions", {"sort": "id", "order": "desc"}),
        ("/v3/snapshot", {"type": "indices"}),
        ("/v3/snapshot/indices", {"order": "desc"}),
        ("/v3/snapshot", {"ticker.any_of": "AAPL,I:SPX,NOPE,SPY,MSFT"}),
    ],
)
def test_pages_of_lists_add_up(rest, call, path, query):
    whole = call(rest).get(path, {**query, "limit": 250})["results"]
    pages = call(rest).pages(path, {**query, "limit": 3})
    got = rows_of(pages)
    assert got[: len(whole)] == whole
    assert all(len(page["results"]) == 3 for page in pages[:-1])


def test_reference_cursors_look_like_the_vendors(rest, call, helpers):
    page = call(rest).get("/v3/reference/options/contracts", {"underlying_ticker": "AAPL", "limit": 2})
    cursor = helpers.cursor_of(page["next_url"])
    assert cursor["ap"] == page["results"][-1]["ticker"]
    assert {"ap", "as", "limit", "order", "sort", "underlying_ticker"} == set(cursor)


def test_a_key_never_reaches_a_next_url(rest, call):
    query = {"apiKey": "secret-key", "options": "<massive.rest.models.X object at 0x7f>"}
    body = call(rest).get("/v3/snapshot/options/AAPL", query)
    assert "secret" not in body["next_url"]


@pytest.mark.parametrize("cursor", ["!!!", "bGlt", "YXA9eCZhcz15"])
def test_a_cursor_that_is_none_is_refused(tiny, call, cursor):
    answer = call(tiny)("/v3/trades/TST", {"cursor": cursor})
    assert answer.http == 400
    assert "cursor" in answer.error
