from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import polars as pl
import pytest

from massive_lab.errors import DecodeError, UnknownSymbol
from massive_lab.frames import rest
from massive_lab.frames.build import to_schema
from massive_lab.schema.timeframe import parse_timeframe

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "decode"


def golden(name: str) -> bytes:
    return (GOLDEN / f"{name}.json").read_bytes()


def ms(text: str) -> int:
    return int(dt.datetime.fromisoformat(text).timestamp() * 1000)


def page(stamps: list[str], **more: object) -> bytes:
    rows = [{"o": 1, "h": 3, "l": 1, "c": 2 + i / 100, "v": 10, "t": ms(stamp)} for i, stamp in enumerate(stamps)]
    return json.dumps({"status": "OK", "results": rows, **more}).encode()


def times(frame: pl.DataFrame, name: str) -> list[str]:
    return [stamp.strftime("%Y-%m-%dT%H:%M") for stamp in frame[name].to_list()]


def load(stamps: list[str], timeframe: str) -> pl.DataFrame:
    return rest.bars([page(stamps)], symbol="AAPL", timeframe=parse_timeframe(timeframe))


def test_minute_bars():
    frame = rest.bars([golden("aggs_minute")], symbol="AAPL", timeframe=parse_timeframe("1m"))
    assert frame.schema == to_schema("bars")
    assert frame["volume"].to_list() == [12e6, 88341.25, 54000.0, 1.0]
    assert frame["vwap"].to_list() == [201.3456, None, 201.2, 201.1]
    assert frame["trade_count"].to_list() == [90123, 1200, 731, None]
    assert times(frame, "ts_event")[0] == "2025-06-02T13:30"
    assert times(frame, "ts_close")[0] == "2025-06-02T13:31"
    assert frame["low"][0] == 201.0


def test_empty_answers_have_the_schema():
    minute = parse_timeframe("1m")
    for pages in ([], [golden("aggs_empty")], [golden("aggs_empty")] * 2):
        frame = rest.bars(pages, symbol="AAPL", timeframe=minute)
        assert frame.height == 0
        assert frame.schema == to_schema("bars")
    assert rest.previous_close(golden("aggs_empty"), symbol="AAPL").schema == to_schema("bars")
    assert rest.grouped_daily(golden("aggs_empty"), date="2025-06-01").schema == to_schema("bars")
    assert rest.bars([], symbol="I:SPX", timeframe=parse_timeframe("1d")).schema == to_schema("bars")


def test_day_bars_over_the_change_of_clocks():
    frame = rest.bars([golden("aggs_day_dst")], symbol="AAPL", timeframe=parse_timeframe("1d"))
    assert times(frame, "ts_event") == ["2005-04-01T05:00", "2005-04-04T04:00"]
    assert times(frame, "ts_close") == ["2005-04-02T05:00", "2005-04-05T04:00"]


def test_the_day_of_the_change_has_23_or_25_hours():
    frame = load(["2025-03-09T05:00Z", "2025-11-02T04:00Z"], "1d")
    hours = (frame["ts_close"] - frame["ts_event"]).dt.total_hours().to_list()
    assert hours == [23, 25]


@pytest.mark.parametrize(
    "stamp",
    [
        "2025-06-10T04:00Z",  # midnight in New York
        "2025-06-10T05:00Z",  # midnight in Chicago
        "2025-06-10T00:00Z",  # midnight UTC
        "2025-06-10T20:00Z",  # the close
    ],
)
def test_every_stamp_of_a_summer_day_is_that_day(stamp: str):
    assert times(load([stamp], "1d"), "ts_event") == ["2025-06-10T04:00"]


@pytest.mark.parametrize("stamp", ["2025-01-10T05:00Z", "2025-01-10T06:00Z", "2025-01-10T00:00Z", "2025-01-10T21:00Z"])
def test_every_stamp_of_a_winter_day_is_that_day(stamp: str):
    assert times(load([stamp], "1d"), "ts_event") == ["2025-01-10T05:00"]


def test_index_day_bars_and_two_stamps_of_one_day():
    frame = rest.bars([golden("aggs_index_day")], symbol="I:NDX", timeframe=parse_timeframe("1d"))
    assert times(frame, "ts_event") == ["2023-03-09T05:00", "2023-06-13T04:00", "2023-06-14T04:00"]
    assert frame["close"].to_list() == [11830.28, 15200.25, 15251.0]
    for name in ("volume", "vwap", "trade_count"):
        assert frame[name].null_count() == 3


@pytest.mark.parametrize(
    ("timeframe", "start", "end"),
    [
        ("30s", "2025-06-02T13:30", "2025-06-02T13:30"),
        ("5m", "2025-06-02T13:30", "2025-06-02T13:35"),
        ("4h", "2025-03-09T05:00", "2025-03-09T09:00"),
        ("2d", "2025-03-08T05:00", "2025-03-10T04:00"),
        ("1w", "2025-03-09T05:00", "2025-03-16T04:00"),
        ("1mo", "2025-03-01T05:00", "2025-04-01T04:00"),
        ("1q", "2025-01-01T05:00", "2025-04-01T04:00"),
        ("1y", "2025-01-01T05:00", "2026-01-01T05:00"),
    ],
)
def test_bars_end_where_the_next_begins(timeframe: str, start: str, end: str):
    frame = load([start + "Z"], timeframe)
    assert times(frame, "ts_event") == [start]
    assert times(frame, "ts_close") == [end]


def test_order_and_repeats():
    first = page(["2025-06-02T13:32Z", "2025-06-02T13:31Z", "2025-06-02T13:30Z"])
    second = page(["2025-06-02T13:31Z", "2025-06-02T13:29Z"])
    frame = rest.bars([first, second], symbol="AAPL", timeframe=parse_timeframe("1m"))
    assert times(frame, "ts_event") == [f"2025-06-02T13:{m}" for m in (29, 30, 31, 32)]
    assert frame["close"].to_list() == [2.01, 2.02, 2.0, 2.0]  # 13:31 from the page that came last


def test_other_number_of_bars_than_promised():
    with pytest.raises(DecodeError, match="promises 3 bars and holds 1"):
        rest.bars([page(["2025-06-02T13:30Z"], resultsCount=3)], symbol="AAPL", timeframe=parse_timeframe("1m"))
    stamps = [f"2025-06-02T13:{m:02}Z" for m in range(60)] + [f"2025-06-02T14:{m:02}Z" for m in range(60)]
    long = json.dumps(json.loads(page(stamps, resultsCount=121)), separators=(",", ":")).encode()
    with pytest.raises(DecodeError, match="promises 121 bars and holds 120"):
        rest.bars([long], symbol="AAPL", timeframe=parse_timeframe("1m"))


@pytest.mark.parametrize(
    "row",
    [
        '{"h":1,"l":1,"c":1,"t":1}',
        '{"o":1,"h":1,"l":1,"c":1}',
        '{"o":1,"h":1,"l":1,"c":1,"t":null}',
        '{"o":null,"h":1,"l":1,"c":1,"t":1}',
        '{"o":"1","h":1,"l":1,"c":1,"t":1}',
        '{"o":1,"h":1,"l":1,"c":1,"t":1.5}',
        '{"o":1,"h":1,"l":1,"c":1,"t":-1}',
        '{"o":1,"h":1,"l":1,"c":1,"t":1748871000000000000}',
        '{"o":1,"h":1,"l":1,"c":1,"t":1,"n":1.5}',
        '{"o":1e400,"h":1,"l":1,"c":1,"t":1}',
    ],
)
@pytest.mark.parametrize("n", [0, 200])
def test_bar_that_is_none(row: str, n: int):
    good = '{"o":1,"h":1,"l":1,"c":1,"t":1748871000000}'
    body = f'{{"results":[{",".join([good] * n + [row])}]}}'.encode()
    with pytest.raises(DecodeError):
        rest.bars([body], symbol="AAPL", timeframe=parse_timeframe("1m"))


def test_previous_close_starts_at_midnight():
    frame = rest.previous_close(golden("aggs_prev"), symbol="AAPL")
    assert times(frame, "ts_event") == ["2020-11-10T05:00"]
    assert times(frame, "ts_close") == ["2020-11-11T05:00"]
    assert frame["trade_count"].to_list() == [1]


@pytest.mark.parametrize("date", ["2005-04-04", dt.date(2005, 4, 4)])
def test_grouped_daily_is_placed_on_its_date(date: dt.date | str):
    frame = rest.grouped_daily(golden("aggs_grouped"), date=date)
    assert frame["symbol"].to_list() == ["OTCX", "TTMI"]
    assert set(times(frame, "ts_event")) == {"2005-04-04T04:00"}
    assert set(times(frame, "ts_close")) == {"2005-04-05T04:00"}
    assert frame["volume"].to_list() == [10.0, 415500.0]


def test_grouped_daily_needs_tickers():
    with pytest.raises(DecodeError, match="no ticker"):
        rest.grouped_daily(page(["2025-06-02T20:00Z"]), date="2025-06-02")


def test_open_close():
    row = rest.open_close(golden("open_close"), symbol="AAPL").row(0, named=True)
    assert (row["date"], row["close"], row["volume"]) == (dt.date(2005, 4, 1), 1.4604, 642646396.0)
    assert (row["early_price"], row["late_price"]) == (1.5, 1.4589)
    index = rest.open_close(golden("open_close_index"), symbol="I:NDX")
    assert index["date"].to_list() == [dt.date(2023, 3, 10)]
    assert index["volume"].to_list() == [None]
    assert index.schema == to_schema("open_close")
    with pytest.raises(UnknownSymbol):
        rest.open_close(b'{"status":"NOT_FOUND","message":"Data not found."}', symbol="AAPL")
    with pytest.raises(DecodeError):
        rest.open_close(b'{"status":"OK","from":"2005-04-01"}', symbol="AAPL")
