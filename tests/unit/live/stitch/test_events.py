from __future__ import annotations

import json

import pytest

from massive_lab.decode.stream import MinuteBar, Quote, SecondBar, StreamDecoder, Trade
from massive_lab.frames import rest
from massive_lab.live.read.columns import to_frame
from massive_lab.live.stitch.events import to_events
from massive_lab.live.stitch.merge import missing_ticks
from massive_lab.schema.timeframe import Timeframe

NS = 1_750_000_000_123_456_789


def page(*rows) -> list[bytes]:
    return [json.dumps({"status": "OK", "resultsCount": len(rows), "queryCount": 1, "results": rows}).encode()]


def test_a_trade_of_the_history_is_that_of_the_stream_to_the_nanosecond():
    row = {
        "price": 5.5, "size": 2, "decimal_size": "2.5", "exchange": 4, "sip_timestamp": NS, "sequence_number": 9, "id": "7",
        "participant_timestamp": NS - 5, "conditions": [14, 41], "tape": 3, "trf_id": 202, "trf_timestamp": NS - 1,
    }  # fmt: skip
    (event,) = to_events("T", rest.trades(page(row), symbol="AAPL"))
    assert isinstance(event, Trade)
    assert (event.ts_event, event.ms, event.source) == (NS, NS // 1_000_000, "backfill")
    assert (event.size, event.conditions, event.trade_id, event.ts_trf) == (2.5, (14, 41), "7", NS - 1)
    wire = f'[{{"ev":"T","sym":"AAPL","x":4,"p":5.5,"s":2,"ds":"2.5","c":[14,41],"t":{NS // 1_000_000},"q":9,"i":"7","z":3}}]'
    assert missing_ticks([event], StreamDecoder().decode(wire.encode())) == []
    table = to_frame("trades", [event])
    assert table["ts_sip"].dt.epoch("ns").item() == NS
    assert table["ts_participant"].dt.epoch("ns").item() == NS - 5


def test_a_quote_of_the_history_is_that_of_the_stream():
    row = {
        "bid_price": 0, "bid_size": 0, "bid_exchange": 0, "ask_price": 5.5, "ask_size": 300, "ask_exchange": 11,
        "sip_timestamp": NS, "participant_timestamp": NS - 5, "sequence_number": 9, "tape": 3,
    }  # fmt: skip
    (event,) = to_events("Q", rest.quotes(page(row), symbol="AAPL"))
    assert isinstance(event, Quote)
    wire = (
        f'[{{"ev":"Q","sym":"AAPL","bx":0,"bp":0,"bs":0,"ax":11,"ap":5.5,"as":300,"t":{NS // 1_000_000},"q":9,"z":3}}]'
    )
    assert missing_ticks([event], StreamDecoder().decode(wire.encode())) == []
    assert (event.bid_price, event.mid_price, event.source) == (None, None, "backfill")


@pytest.mark.parametrize(
    ("channel", "unit", "kind", "span"), [("A", "s", SecondBar, 1_000), ("AM", "m", MinuteBar, 60_000)]
)
def test_a_bar_has_the_span_of_its_channel(channel, unit, kind, span):
    start = NS // 60_000_000_000 * 60_000
    rows = page({"o": 1, "h": 2, "l": 1, "c": 2, "v": 10, "vw": 1.5, "t": start})
    (event,) = to_events(channel, rest.bars(rows, symbol="AAPL", timeframe=Timeframe(1, unit)))
    assert type(event) is kind
    assert (event.ms, event.end_ms, event.volume, event.vwap, event.source) == (
        start,
        start + span,
        10.0,
        1.5,
        "backfill",
    )


@pytest.mark.parametrize(("channel", "empty"), [("T", rest.trades), ("Q", rest.quotes)])
def test_nothing_gives_nothing(channel, empty):
    assert to_events(channel, empty(page(), symbol="AAPL")) == []
