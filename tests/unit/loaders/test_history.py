from __future__ import annotations

import polars as pl
import pytest

from massive_lab.errors import (
    IncompletePagination,
    InvalidRequest,
    NotEntitled,
    UnknownSymbol,
    UpstreamError,
)
from massive_lab.loaders import history
from massive_lab.schema.plans import plan
from massive_lab.telemetry import LoadDone

MINUTE = 60_000
OPEN = 1_545_143_400_000  # 2018-12-18 09:30 New York


def row(i: int, **extra: float) -> dict[str, float]:
    return {"t": OPEN + i * MINUTE, "o": 10.0, "h": 11.0, "l": 9.0, "c": 10.5, "v": 100, **extra}


def page(rows: list[dict[str, float]], symbol: str = "AAPL", **extra: object) -> dict[str, object]:
    n = len(rows)
    body: dict[str, object] = {"ticker": symbol, "status": "OK", "request_id": "q", "queryCount": n, "resultsCount": n}
    return {**body, **({"results": rows} if rows else {}), **extra}


def test_pages_are_followed_to_an_explicit_last_one_and_the_key_stays_in_the_header(server, desk) -> None:
    def answer(path, query):
        if "cursor" in query:
            return 200, page([row(1)])
        # The host of next_url is not ours: only its path and query may be followed, on the configured host.
        return 200, page([row(0)], next_url=f"https://elsewhere.example{path}?cursor=abc&apiKey=stolen")

    server.answer = answer
    frame = desk.run(history.bars(desk.session, "AAPL", "1m", "2018-12-18", "2018-12-19"))
    assert frame.height == 2
    assert server.keys == ["Bearer canary-key"] * 2
    assert server.asked[1][1] == {"cursor": "abc"}
    assert server.asked[0][0] == "/v2/aggs/ticker/AAPL/range/1/minute/2018-12-18/2018-12-18"
    assert server.asked[0][1] == {"adjusted": "true", "sort": "asc", "limit": "50000"}


def test_a_broken_second_page_raises_with_the_frame_of_the_first(server, desk) -> None:
    def answer(path, query):
        if "cursor" in query:
            return 200, b'{"status":"OK","results":[{"t":1'
        return 200, page([row(0)], next_url=f"{server.url}{path}?cursor=abc")

    server.answer = answer
    with pytest.raises(IncompletePagination) as caught:
        desk.run(history.bars(desk.session, "AAPL", "1m", "2018-12-18", "2018-12-19"))
    assert isinstance(caught.value.partial, pl.DataFrame)
    assert caught.value.partial.height == 1
    assert caught.value.n_pages == 1
    assert caught.value.symbol == "AAPL"


def test_a_refused_second_page_raises_too_and_says_why(server, desk) -> None:
    def answer(path, query):
        if "cursor" in query:
            return 500, b"<html><title>500 Oops</title></html>"
        return 200, page([row(0)], next_url=f"{server.url}{path}?cursor=abc")

    server.answer = answer
    with pytest.raises(IncompletePagination) as caught:
        desk.run(history.bars(desk.session, "AAPL", "1m", "2018-12-18", "2018-12-19"))
    assert isinstance(caught.value.__cause__, UpstreamError)
    assert caught.value.__cause__.status == 500


def test_what_the_vendor_adds_around_the_range_is_cut_off(server, desk) -> None:
    server.answer = lambda path, query: (200, page([row(i) for i in range(-2, 5)]))
    frame = desk.run(history.bars(desk.session, "AAPL", "1m", "2018-12-18T09:30:00-05:00", "2018-12-18T09:33:00-05:00"))
    assert frame.height == 3
    assert frame["ts_event"].dt.epoch("ms").to_list() == [OPEN, OPEN + MINUTE, OPEN + 2 * MINUTE]


def test_an_empty_answer_for_a_listed_symbol_is_an_empty_frame(server, desk) -> None:
    def answer(path, query):
        if path == "/v3/reference/tickers/AAPL":
            return 200, {"status": "OK", "results": {"ticker": "AAPL"}}
        return 200, page([])

    server.answer = answer
    frame = desk.run(history.bars(desk.session, "AAPL", "1m", "2018-12-18", "2018-12-19"))
    assert frame.is_empty()
    assert frame.columns[:2] == ["symbol", "ts_event"]


def test_an_empty_answer_for_an_unlisted_symbol_is_an_error(server, desk) -> None:
    def answer(path, query):
        if path.startswith("/v3/reference/"):
            return 404, {"status": "NOT_FOUND", "message": "Ticker not found.", "request_id": "z"}
        return 200, page([])

    server.answer = answer
    with pytest.raises(UnknownSymbol) as caught:
        desk.run(history.bars(desk.session, "NOSUCH", "1m", "2018-12-18", "2018-12-19"))
    assert caught.value.symbol == "NOSUCH"


def test_an_expired_contract_is_looked_up_as_of_a_day_it_was_alive(server, desk) -> None:
    def answer(path, query):
        if path.startswith("/v3/reference/options/contracts/"):
            return 200, {"status": "OK", "results": {"ticker": path.rsplit("/", 1)[1]}}
        return 200, page([])

    server.answer = answer
    desk.run(history.bars(desk.session, "O:AAPL181221C00160000", "1m", "2018-12-18", "2018-12-19"))
    assert server.asked[-1] == ("/v3/reference/options/contracts/O:AAPL181221C00160000", {"as_of": "2018-12-18"})


def test_many_symbols_come_back_sorted_and_the_first_failure_stops_the_rest(server, desk) -> None:
    server.answer = lambda path, query: (200, page([row(0)], symbol=path.split("/")[4]))
    frame = desk.run(history.bars(desk.session, ["MSFT", "AAPL", "I:SPX"], "1m", "2018-12-18", "2018-12-19"))
    assert frame["symbol"].to_list() == ["AAPL", "I:SPX", "MSFT"]
    assert all("adjusted" not in query for path, query in server.asked if "I:SPX" in path)

    refusal = {"status": "NOT_AUTHORIZED", "message": "You are not entitled to this data."}
    server.answer = lambda path, query: (403, refusal) if "MSFT" in path else (200, page([row(0)]))
    with pytest.raises(NotEntitled) as caught:
        desk.run(history.bars(desk.session, ["AAPL", "MSFT"], "1m", "2018-12-18", "2018-12-19"))
    assert caught.value.symbol == "MSFT"
    assert desk.session.transport.n_in_flight == 0


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((["AAPL"], "5x", "2018-12-18", "2018-12-19"), "not a timeframe"),
        (([], "1m", "2018-12-18", "2018-12-19"), "empty"),
        (("AAPL", "1m", "2018-12-19", "2018-12-18"), "reversed"),
        (("AAPL", "1m", "2018-12-18T09:30:00", "2018-12-19"), "time zone"),
        (("X:BTCUSD", "1m", "2018-12-18", "2018-12-19"), "crypto"),
    ],
)
def test_bad_input_is_refused_before_anything_is_sent(server, desk, arguments, match) -> None:
    with pytest.raises((InvalidRequest, UnknownSymbol), match=match):
        desk.run(history.bars(desk.session, *arguments))
    assert server.asked == []


def test_an_unknown_adjustment_is_refused(server, desk) -> None:
    with pytest.raises(InvalidRequest, match="dividends"):
        desk.run(history.bars(desk.session, "AAPL", "1m", "2018-12-18", "2018-12-19", adjustment="all"))


def test_a_range_the_plan_does_not_reach_is_refused_instead_of_silently_clipped(server, desk) -> None:
    desk.session.plan = plan("basic")
    server.answer = lambda path, query: (
        200,
        {"market": "open", "serverTime": "2018-12-19T10:30:00-05:00", "exchanges": {}, "currencies": {}},
    )
    with pytest.raises(InvalidRequest, match="reaches back 2 years"):
        desk.run(history.bars(desk.session, "AAPL", "1d", "2015-01-02", "2018-12-18"))
    assert server.paths() == ["/v1/marketstatus/now"]


def test_every_load_is_told_with_its_rows_and_outcome(server, desk) -> None:
    server.answer = lambda path, query: (200, page([row(0), row(1)]))
    desk.run(history.bars(desk.session, "AAPL", "1m", "2018-12-18", "2018-12-19"))
    server.answer = lambda path, query: (400, {"status": "ERROR", "error": "bad"})
    with pytest.raises(UpstreamError):
        desk.run(history.grouped_daily(desk.session, "2018-12-18"))
    told = [(e.loader, e.n_rows, e.n_pages, e.outcome) for e in desk.events if isinstance(e, LoadDone)]
    assert told == [("bars", 2, 1, "ok"), ("grouped_daily", 0, 0, "error")]
