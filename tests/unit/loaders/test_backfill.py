from __future__ import annotations

import json

import polars as pl
import pytest

from massive_lab.errors import InvalidRequest, NotEntitled, UpstreamError
from massive_lab.loaders.backfill import Backfiller
from massive_lab.schema.plans import plan

NS = 1_750_000_000_000_000_000
DENIED = {"status": "NOT_AUTHORIZED", "request_id": "q", "message": "You are not entitled to this data."}


def trade(i: int, **more):
    return {"price": 5.0, "size": 1, "exchange": 4, "sip_timestamp": NS + i, "sequence_number": i, **more}


def body(rows, following: str | None = None):
    page = {"status": "OK", "request_id": "q", "results": rows}
    return 200, page | ({"next_url": f"https://elsewhere.test{following}"} if following else {})


def ask(desk, channel="T", symbol="AAPL", cluster="stocks", start=NS, end=NS + 1_000, max_rows=200_000):
    return desk.run(Backfiller(desk.session).fill(cluster, channel, symbol, start, end, max_rows=max_rows))


def test_ticks_come_ascending_though_the_newest_are_asked_for_first(server, desk) -> None:
    server.answer = lambda path, query: body([trade(9), trade(7), trade(3)])
    filled = ask(desk)
    assert filled.frame["sequence"].to_list() == [3, 7, 9]
    assert (filled.is_whole, filled.reason) == (True, "")
    ((path, query),) = server.asked
    assert path == "/v3/trades/AAPL"
    assert query == {
        "timestamp.gte": str(NS), "timestamp.lt": str(NS + 1_000), "order": "desc", "sort": "timestamp", "limit": "50000",
    }  # fmt: skip


def test_an_empty_answer_is_no_error_and_costs_no_other_call(server, desk) -> None:
    server.answer = lambda path, query: body([])
    filled = ask(desk, "Q")
    assert filled.frame.is_empty()
    assert filled.is_whole
    assert server.paths() == ["/v3/quotes/AAPL"]


def test_paging_stops_at_the_bound_and_says_so(server, desk) -> None:
    def answer(path, query):
        page = int(query.get("cursor", "0"))
        return body([trade(100 - page)], f"/v3/trades/AAPL?cursor={page + 1}")

    server.answer = answer
    filled = ask(desk, max_rows=60_000)
    assert len(server.asked) == 2
    assert filled.frame["sequence"].to_list() == [99, 100]
    assert not filled.is_whole
    assert filled.reason == "only the newest 100,000 rows were fetched"


def test_the_pages_before_a_broken_one_are_kept(server, desk) -> None:
    def answer(path, query):
        if "cursor" in query:
            return 500, {"status": "ERROR", "error": "no"}
        return body([trade(1)], "/v3/trades/AAPL?cursor=x")

    server.answer = answer
    filled = ask(desk)
    assert filled.frame.height == 1
    assert not filled.is_whole
    assert filled.reason.startswith("page 2 failed")


def test_the_first_page_fails_as_itself(server, desk) -> None:
    server.answer = lambda path, query: (500, {"status": "ERROR", "error": "no"})
    with pytest.raises(UpstreamError):
        ask(desk)


@pytest.mark.parametrize(("channel", "timespan", "step"), [("A", "second", 1_000), ("AM", "minute", 60_000)])
def test_bars_are_unadjusted_and_only_those_that_start_inside(server, desk, channel, timespan, step) -> None:
    start = NS // 60_000_000_000 * 60_000
    bars = [{"o": 1, "h": 2, "l": 1, "c": 2, "v": 10, "vw": 1.5, "n": 3, "t": start + k * step} for k in (-1, 0, 1, 2)]
    server.answer = lambda path, query: (200, {"status": "OK", "resultsCount": 4, "queryCount": 4, "results": bars})
    filled = ask(desk, channel, start=start * 1_000_000, end=(start + 2 * step) * 1_000_000)
    assert filled.frame["ts_event"].dt.epoch("ms").to_list() == [start, start + step]
    ((path, query),) = server.asked
    assert path == f"/v2/aggs/ticker/AAPL/range/1/{timespan}/{start}/{start + 2 * step - 1}"
    assert query["adjusted"] == "false"


def test_index_bars_have_no_adjustment_to_ask_for(server, desk) -> None:
    server.answer = lambda path, query: (200, {"status": "OK", "resultsCount": 0, "queryCount": 0})
    assert ask(desk, "AM", "I:SPX", "indices").frame.is_empty()
    assert "adjusted" not in server.asked[0][1]


def test_a_plan_without_the_data_is_told_by_the_server(server, desk) -> None:
    server.answer = lambda path, query: (403, DENIED)
    with pytest.raises(NotEntitled):
        ask(desk)


@pytest.mark.parametrize(("tier", "channel"), [("starter", "T"), ("developer", "Q"), ("basic", "A")])
def test_a_known_plan_is_not_asked_for_what_it_lacks(server, desk, tier, channel) -> None:
    desk.session.plan = plan(tier)
    with pytest.raises(NotEntitled, match=tier):
        ask(desk, channel)
    assert server.asked == []


def test_index_values_have_no_history(server, desk) -> None:
    with pytest.raises(InvalidRequest, match="no history of channel V"):
        ask(desk, "V", "I:SPX", "indices")
    assert server.asked == []


def test_the_calls_are_named_after_the_cluster(server, desk) -> None:
    server.answer = lambda path, query: body([trade(1)])
    ask(desk)
    loads = [event for event in desk.events if type(event).__name__ == "LoadDone"]
    assert [(load.loader, load.n_rows) for load in loads] == [("backfill:stocks", 1)]
    assert "backfill:stocks" in {getattr(event, "cause", None) for event in desk.events}


def test_nanoseconds_survive(server, desk) -> None:
    server.answer = lambda path, query: (200, json.dumps(body([trade(7)])[1]).encode())
    frame = ask(desk).frame
    assert frame.select(pl.col("ts_sip").cast(pl.Int64)).item() == NS + 7
