from __future__ import annotations

import datetime as dt
import json

import numpy as np
import pytest

from massive_lab.sandbox.rest.aggs import volumes
from massive_lab.sandbox.rest.envelope import encode
from massive_lab.sandbox.rest.windows import Grid
from massive_lab.schema.session import new_york_ns

RANGE = "/v2/aggs/ticker/{}/range/{}/{}/{}/{}"
STOCK_FIELDS = {"v", "vw", "o", "c", "h", "l", "t", "n"}
INDEX_FIELDS = {"o", "c", "h", "l", "t"}


@pytest.mark.parametrize(("symbol", "fields"), [("TST", STOCK_FIELDS), ("I:TIN", INDEX_FIELDS)])
@pytest.mark.parametrize("timespan", ["minute", "day", "month"])
def test_fields_of_bars(tiny, call, symbol, fields, timespan):
    body = call(tiny).get(RANGE.format(symbol, 1, timespan, "2025-06-02", "2025-06-05"))
    assert {frozenset(row) for row in body["results"]} == {frozenset(fields)}
    envelope = {"ticker", "queryCount", "resultsCount", "count", "status", "request_id", "results"}
    assert set(body) == envelope | ({"adjusted"} if symbol == "TST" else set())
    assert body["count"] == body["resultsCount"] == len(body["results"])
    assert body["status"] == "OK"
    assert len(body["request_id"]) == 32


def test_bars_fold_their_base_bars(tiny, call):
    minutes = call(tiny).get(RANGE.format("TST", 1, "minute", "2025-06-02", "2025-06-02"))["results"]
    (day,) = call(tiny).get(RANGE.format("TST", 1, "day", "2025-06-02", "2025-06-02"))["results"]
    hours = call(tiny).get(RANGE.format("TST", 1, "hour", "2025-06-02", "2025-06-02"))["results"]
    for bars in (minutes, hours):
        assert bars[0]["o"] == day["o"]
        assert bars[-1]["c"] == day["c"]
        assert max(bar["h"] for bar in bars) == day["h"]
        assert min(bar["l"] for bar in bars) == day["l"]
        assert sum(bar["v"] for bar in bars) == pytest.approx(day["v"])
        assert sum(bar["n"] for bar in bars) == day["n"]
        vwap = sum(bar["vw"] * bar["v"] for bar in bars) / day["v"]
        assert vwap == pytest.approx(day["vw"], abs=1e-3)
    assert {bar["t"] % 3_600_000 for bar in hours} == {0}


def test_where_windows_start(tiny, call, helpers):
    def first(symbol, timespan):
        return helpers.ny(
            call(tiny).get(RANGE.format(symbol, 1, timespan, "2025-06-04", "2025-06-04"))["results"][0]["t"]
        )

    assert first("TST", "day") == dt.datetime(2025, 6, 4, tzinfo=helpers.ny(0).tzinfo)
    assert first("TST", "week").strftime("%A %H:%M") == "Sunday 00:00"
    assert first("TST", "month").day == 1
    assert (first("TST", "quarter").month, first("TST", "quarter").day) == (4, 1)
    assert (first("TST", "year").month, first("TST", "year").day) == (1, 1)
    # Indices are stamped at midnight in Chicago.
    assert first("I:TIN", "day").hour == 1
    assert first("I:TIN", "minute").hour >= 9


@pytest.mark.parametrize("timespan", ["second", "minute", "hour", "day", "week", "month", "quarter", "year"])
@pytest.mark.parametrize("multiplier", [1, 2, 5, 13])
def test_windows_tile_time(timespan, multiplier):
    grid = Grid(multiplier, timespan)
    for date in (dt.date(2025, 3, 9), dt.date(2025, 11, 2), dt.date(1969, 12, 31), dt.date(2024, 2, 29)):
        for ns in (new_york_ns(date), new_york_ns(date, 23, 59), new_york_ns(date, 3, 17) + 1):
            start = grid.floor(ns)
            assert start <= ns < grid.after(start)
            assert grid.floor(start) == start
            assert grid.floor(grid.after(start) - 1) == start
            assert grid.floor(grid.after(start)) == grid.after(start)


def test_ranges_snap_outwards_to_whole_windows(tiny, call):
    noon = new_york_ns(dt.date(2025, 6, 3), 12) // 10**6
    by_ms = call(tiny).get(RANGE.format("TST", 1, "day", noon, noon))
    by_date = call(tiny).get(RANGE.format("TST", 1, "day", "2025-06-03", "2025-06-03"))
    assert by_ms["results"] == by_date["results"]
    week = call(tiny).get(RANGE.format("TST", 1, "week", "2025-06-04", "2025-06-04"))
    assert week["queryCount"] == 5


def test_nothing_in_the_range_is_an_answer_without_results(tiny, call):
    for path in (
        RANGE.format("TST", 1, "day", "2025-05-31", "2025-06-01"),
        RANGE.format("NOPE", 1, "day", "2025-06-02", "2025-06-05"),
        RANGE.format("tst", 1, "day", "2025-06-02", "2025-06-05"),
        RANGE.format("TST", 1, "minute", "2030-01-01", "2031-01-01"),
        RANGE.format("O:TST250620C00100000", 1, "minute", "1990-01-01", "1991-01-01"),
    ):
        body = call(tiny).get(path)
        assert (body["queryCount"], body["resultsCount"]) == (0, 0)
        assert "results" not in body
        assert "next_url" not in body


def test_adjusted_is_an_echo(tiny, call):
    path = RANGE.format("TST", 1, "day", "2025-06-02", "2025-06-05")
    assert call(tiny).get(path, {"adjusted": "false"})["adjusted"] is False
    assert call(tiny).get(path)["adjusted"] is True


def test_previous_day(tiny, call, helpers):
    body = call(tiny).get("/v2/aggs/ticker/TST/prev")
    (row,) = body["results"]
    assert set(row) == STOCK_FIELDS | {"T"}
    # Stamped at the end of the session, unlike bars of a range.
    assert helpers.ny(row["t"]).strftime("%F %H:%M") == "2025-06-05 16:00"
    (index,) = call(tiny).get("/v2/aggs/ticker/I:TIN/prev")["results"]
    assert set(index) == INDEX_FIELDS | {"T"}
    assert "results" not in call(tiny).get("/v2/aggs/ticker/NOPE/prev")


def test_previous_day_after_a_half_day_is_stamped_at_its_early_close(rest, call, helpers):
    caller = call(rest, now_ns=new_york_ns(dt.date(2024, 12, 26), 10))
    (row,) = caller.get("/v2/aggs/ticker/AAPL/prev")["results"]
    assert helpers.ny(row["t"]).strftime("%F %H:%M") == "2024-12-24 13:00"


def test_grouped_daily(rest, call, helpers):
    body = call(rest).get("/v2/aggs/grouped/locale/us/market/stocks/2025-06-04", {"include_otc": "false"})
    assert body["resultsCount"] == len(body["results"]) > 40
    assert "ticker" not in body
    for row in body["results"]:
        assert set(row) == STOCK_FIELDS | {"T"}
        assert helpers.ny(row["t"]).strftime("%F %H:%M") == "2025-06-04 16:00"
    apple = next(row for row in body["results"] if row["T"] == "AAPL")
    (day,) = call(rest).get(RANGE.format("AAPL", 1, "day", "2025-06-04", "2025-06-04"))["results"]
    assert {k: v for k, v in apple.items() if k not in "Tt"} == {k: v for k, v in day.items() if k != "t"}
    for closed in ("2025-06-01", "2025-06-06", "2026-06-01"):  # a Sunday, the running session, the future
        assert "results" not in call(rest).get(f"/v2/aggs/grouped/locale/us/market/stocks/{closed}")


def test_open_close(tiny, call):
    body = call(tiny).get("/v1/open-close/TST/2025-06-04")
    names = {"status", "symbol", "from", "open", "high", "low", "close", "volume", "preMarket"}
    assert set(body) == names
    assert body["from"] == "2025-06-04"
    index = call(tiny).get("/v1/open-close/I:TIN/2025-06-04")
    assert set(index) == names - {"volume", "preMarket"}
    assert index["from"] == "2025-06-04T00:00:00.000Z"


def test_volumes_are_whole_fractional_or_scientific():
    values = np.array([100.0, 0.5, 4_000_000.0, 1_234_568.0, 1_234_567.0])
    text = encode(volumes(values)).decode()
    assert text == "[100,0.5,4.0e+06,1.234568e+06,1234567]"
    assert json.loads(text) == values.tolist()
