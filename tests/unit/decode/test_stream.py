from __future__ import annotations

import json

import pytest

from massive_lab.decode.stream import IndexValue, MinuteBar, Notice, Quote, SecondBar, Status, StreamDecoder, Trade


def decode(*items, decoder=None):
    decoder = decoder or StreamDecoder()
    events = decoder.decode(json.dumps(items).encode())
    assert decoder.take_faults() == []
    return events


def test_a_stock_trade_field_by_field():
    (event,) = decode(
        {"ev": "T", "sym": "MSFT", "x": 4, "i": "12345", "z": 3, "p": 114.125, "s": 0, "ds": "0.25", "c": [0, 12],
         "t": 1536036818784, "pt": 1536036818783, "q": 3681328, "trfi": 202, "trft": 1536036818785}
    )  # fmt: skip
    assert isinstance(event, Trade)
    assert (event.ts_sip, event.ts_participant, event.ts_trf) == (
        1536036818784000000, 1536036818783000000, 1536036818785000000,
    )  # fmt: skip
    assert (event.size, event.conditions, event.trade_id, event.trf_id) == (0.25, (0, 12), "12345", 202)


def test_a_stock_quote_and_a_missing_side():
    two, one = decode(
        {"ev": "Q", "sym": "MSFT", "bx": 4, "bp": 114.0, "bs": 100, "ax": 7, "ap": 114.5, "as": 160, "c": 0, "i": [604],
         "t": 1536036818784, "q": 50385480, "z": 3},
        {"ev": "Q", "sym": "MSFT", "bp": 0, "bs": 0, "ap": 114.5, "as": 160, "t": 1},
    )  # fmt: skip
    assert isinstance(two, Quote)
    assert (two.mid_price, two.spread, two.indicators, two.conditions) == (114.25, 0.5, (604,), 0)
    assert (one.mid_price, one.spread) == (None, None)


def test_bars_of_both_lengths():
    wire = {"sym": "GTE", "v": 4110, "dv": "4110.5", "av": 9470157, "op": 0.4372, "vw": 0.4488, "o": 0.4488, "c": 0.4486,
            "h": 0.4489, "l": 0.4486, "a": 0.4352, "z": 685.0, "s": 1610144640000}  # fmt: skip
    minute, second = decode({**wire, "ev": "AM", "e": 1610144700000}, {**wire, "ev": "A", "e": 1610144641000})
    assert isinstance(minute, MinuteBar)
    assert isinstance(second, SecondBar)
    assert (minute.ts_close - minute.ts_event, second.ts_close - second.ts_event) == (60 * 10**9, 10**9)
    assert (minute.volume, minute.day_volume, minute.average_size) == (4110.5, 9470157.0, 685.0)


def test_index_bars_end_where_they_start_and_have_no_volume():
    wire = {"sym": "I:SPX", "o": 1, "h": 1, "l": 1, "c": 1, "s": 60_000, "e": 60_000}
    minute, second = decode({"ev": "AM", **wire}, {"ev": "A", **wire})
    assert (minute.ts_close, second.ts_close) == (120 * 10**9, 61 * 10**9)
    assert (minute.volume, minute.vwap, minute.day_volume) == (None, None, None)


def test_an_index_value():
    (event,) = decode({"ev": "V", "val": 3988.5, "T": "I:SPX", "t": 1678220098130})
    assert event == IndexValue("I:SPX", 1678220098130, 3988.5)
    assert event.ts_event == 1678220098130000000


@pytest.mark.parametrize("ev", ["LULD", "NOI", "FMV", "LV"])
def test_other_documented_events_do_no_harm(ev):
    (event,) = decode({"ev": ev, "T": "MSFT", "t": 1757947200000000000, "h": 1.5, "at": 930, "i": [17]})
    assert isinstance(event, Notice)


def test_statuses_may_share_a_frame_with_data():
    said = {"ev": "status", "status": "success", "message": "subscribed to: T.A"}
    status, trade = decode(said, {"ev": "T", "sym": "A", "t": 1, "p": 2})
    assert status == Status("success", "subscribed to: T.A")
    assert isinstance(trade, Trade)


def test_an_option_trade_with_one_condition_and_a_number_as_id():
    wire = {"ev": "T", "sym": "O:AMC210827C00037000", "x": 65, "p": 1.54, "s": 1, "c": 233, "t": 1629820676333}
    (event,) = decode({**wire, "i": 7})
    assert (event.conditions, event.trade_id, event.size) == (233, 7, 1.0)


@pytest.mark.parametrize("stamp", [-1, 1.5, "1", None, 10**19, 1_757_947_200_000_000_000])
def test_a_time_that_cannot_be_milliseconds_is_set_aside(stamp):
    decoder = StreamDecoder()
    assert decoder.decode(json.dumps([{"ev": "T", "sym": "A", "t": stamp, "p": 1}]).encode()) == []
    assert len(decoder.take_faults()) == 1


@pytest.mark.parametrize("bad", [b"", b"xx", b'{"ev":"T"}', b"[" * 100_000, b"\xff", b"[1", b'"T"'])
def test_a_frame_that_is_no_list_is_set_aside_whole(bad):
    decoder = StreamDecoder()
    assert decoder.decode(bad) == []
    (fault,) = decoder.take_faults()
    assert len(fault.excerpt) <= 200


def test_a_number_beyond_a_double_costs_its_item_only():
    decoder = StreamDecoder()
    items = (b'{"ev":"T","sym":"A","t":%d,"p":%s}' % pair for pair in ((1, b"1e999"), (2, b"-Infinity"), (3, b"4")))
    events = decoder.decode(b"[" + b",".join(items) + b"]")
    assert [event.ms for event in events] == [3]
    assert len(decoder.take_faults()) == 2


def test_the_table_of_unknown_events_is_bounded():
    decoder = StreamDecoder()
    decode(*({"ev": f"Z{i}"} for i in range(500)), {"ev": "Y" * 1000}, decoder=decoder)
    assert len(decoder.unknown) <= 65
    assert sum(decoder.unknown.values()) == 501
